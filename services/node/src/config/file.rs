//! The configuration file: TOML to a layer of settings, or to every mistake in it with its line.
//!
//! It owns where things stand in a file. A mistake says what is wrong, what is allowed, and which known key is nearest;
//! reading goes on behind it, so that one look shows them all. It must not judge settings against each other.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::keys::{self, Key};
use super::layer::{Layer, Origin};
use super::value::Value;

/// A key this alike is what was meant.
const ALIKE: f64 = 0.8;
/// The table of further listeners.
const LISTEN: &str = "listen";

/// Something in a file that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.reason)
    }
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Layer, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    parse(path, &text)
}

/// Reads the text of a file.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let mut reader = Reader { path, text, layer: Layer::default(), mistakes: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.mistake(at, error.message().lines().collect::<Vec<_>>().join(", "));
    }
    // What a parser made of broken text is not worth reading.
    if errors.is_empty() {
        reader.whole(table.get_ref());
    }
    if reader.mistakes.is_empty() {
        return Ok(reader.layer);
    }
    reader.mistakes.sort_by_key(|mistake| mistake.line);
    Err(ConfigError::File(reader.mistakes))
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    layer: Layer,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn whole(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            match (key.get_ref().as_ref(), value.get_ref()) {
                (LISTEN, DeValue::Array(entries)) => {
                    for entry in entries {
                        self.entry(entry);
                    }
                }
                (LISTEN, _) => self.mistake(key.span().start, "further listeners are tables: write [[listen]]".into()),
                _ => self.item("", key, value),
            }
        }
    }

    /// A key at the top or in a table: a setting, or a table of them.
    fn item(&mut self, table: &str, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let name = key.get_ref().as_ref();
        let path = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
        if let Some((path, _, known)) = keys::all().find(|(known, ..)| *known == path) {
            return self.setting(path, known, value);
        }
        let inside = format!("{path}.");
        match value.get_ref() {
            DeValue::Table(inner) if keys::all().any(|(known, ..)| known.starts_with(&inside)) => {
                for (key, value) in inner {
                    self.item(&path, key, value);
                }
            }
            _ => {
                let reason = unknown(name, table, siblings(table));
                self.mistake(key.span().start, reason);
            }
        }
    }

    fn setting(&mut self, path: String, key: &Key, value: &Spanned<DeValue<'_>>) {
        match key.kind.read(value.get_ref()) {
            Ok(read) => self.layer.set(path, read, self.origin(value.span().start)),
            Err(reason) => self.mistake(value.span().start, format!("{path}: {reason}")),
        }
    }

    /// A `[[listen]]` entry.
    fn entry(&mut self, entry: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = entry.get_ref() else {
            return self.mistake(entry.span().start, "an entry of listen is a table: write [[listen]]".into());
        };
        // An entry of a `[[listen]]` spans its keys; its line is the first of them.
        let first = table.keys().map(|key| key.span().start).min().unwrap_or(entry.span().start);
        let protocol = table.iter().find(|(key, _)| key.get_ref() == "protocol").map(|(_, value)| value);
        let listener = match protocol.map(|value| (value, super::value::Kind::Protocol.read(value.get_ref()))) {
            Some((_, Ok(Value::Protocol(listener)))) => listener,
            Some((value, Err(reason))) => return self.mistake(value.span().start, format!("protocol: {reason}")),
            _ => return self.mistake(first, "this [[listen]] lacks its protocol: give telnet, http or echo".into()),
        };
        let mut settings = Layer::default();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match keys::of_entry(listener).find(|known| known.path == name) {
                Some(known) => match known.kind.read(value.get_ref()) {
                    Ok(read) => settings.set(name.to_owned(), read, self.origin(value.span().start)),
                    Err(reason) => self.mistake(value.span().start, format!("{name}: {reason}")),
                },
                None => {
                    let known = keys::of_entry(listener).map(|key| key.path.to_owned()).collect();
                    let table = format!("[listen]] for {}", listener.name());
                    self.mistake(key.span().start, unknown(name, &table, known));
                }
            }
        }
        if settings.get("listen").is_none() {
            self.mistake(first, "this [[listen]] lacks its address: listen = \"127.0.0.1:7000\"".into());
        }
        let origin = self.origin(first);
        self.layer.add_listener(listener, settings, origin);
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File { path: self.path.to_path_buf(), line: self.line(at) }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|&byte| byte == b'\n').count()
    }

    fn mistake(&mut self, at: usize, reason: String) {
        self.mistakes.push(Mistake { path: self.path.to_path_buf(), line: self.line(at), reason });
    }
}

/// Names that may stand in a table; at the top, the tables too.
fn siblings(table: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let prefix = if table.is_empty() { String::new() } else { format!("{table}.") };
    for (path, ..) in keys::all() {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        let name = rest.split('.').next().unwrap_or(rest).to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if table.is_empty() {
        names.push(LISTEN.to_owned());
    }
    names
}

/// Says that a key is unknown, and which was meant: one beside it that is alike, or one of that name elsewhere.
fn unknown(name: &str, table: &str, known: Vec<String>) -> String {
    let place = if table.is_empty() { String::new() } else { format!(" in [{table}]") };
    let alike = |other: &String| strsim::jaro_winkler(name, other);
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|near| alike(near) >= ALIKE);
    if let Some(nearest) = nearest {
        return format!("unknown key {name:?}{place}: did you mean {nearest:?}?");
    }
    if let Some((path, ..)) = keys::all().find(|(path, _, key)| key.name() == name && *path != name) {
        return format!("unknown key {name:?}{place}: it belongs elsewhere, as {path}");
    }
    format!("unknown key {name:?}{place}: known are {}", known.join(", "))
}
