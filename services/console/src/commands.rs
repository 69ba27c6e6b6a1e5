//! The table of commands: what may be typed, and who answers it.
//!
//! Owns names, directories and help of built-in and registered commands. Invariants: at most [`MAX_COMMANDS`] of them; a
//! built-in command cannot be replaced; looking a line up costs no more than the table is large, however long the line.
//!
//! Must not: run a command.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use megamux_telnet::console::RegisterCommand;

use crate::builtin::{BUILTINS, Builtin};
use crate::text;

/// The most commands a console knows; more are refused. Their names and summaries are what `help` has to list.
pub const MAX_COMMANDS: usize = 1024;

/// Typed words longer than this, in bytes, resemble no command.
const RESEMBLING: usize = 64;

/// The commands of one console. A clone is the same table: a console that is made anew after a panic gets the old one's,
/// because services register their commands only once.
#[derive(Debug, Clone)]
pub struct Commands(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    /// By the words that are typed, with one space between them.
    commands: BTreeMap<String, Entry>,
    /// The most words any command has.
    deepest: usize,
}

#[derive(Debug)]
struct Entry {
    directory: String,
    name: String,
    help: String,
    action: Action,
}

/// Who answers a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Builtin(Builtin),
    Service,
}

/// What a line turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Nothing but white space.
    Blank,
    Command(Entered),
    /// The name of a directory, with the list of its commands.
    Directory(String),
    /// No command, with what to say about it.
    Unknown(String),
}

/// A command as it was entered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entered {
    pub(crate) action: Action,
    pub(crate) directory: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// Why a command was not taken into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    BuiltIn,
    TooMany,
}

impl Default for Commands {
    /// The built-in commands.
    fn default() -> Commands {
        let mut table = Table { commands: BTreeMap::new(), deepest: 0 };
        for &(builtin, directory, name, help) in BUILTINS {
            table.insert(Entry {
                directory: directory.to_owned(),
                name: name.to_owned(),
                help: help.to_owned(),
                action: Action::Builtin(builtin),
            });
        }
        Commands(Arc::new(Mutex::new(table)))
    }
}

impl Commands {
    /// Takes a service's command in, or its new help.
    pub(crate) fn register(&self, command: &RegisterCommand) -> Result<(), Refused> {
        let entry = Entry {
            directory: command.directory().to_owned(),
            name: command.name().to_owned(),
            help: command.help().to_owned(),
            action: Action::Service,
        };
        let mut table = self.table();
        match table.commands.get(&entry.path()) {
            Some(known) if known.action != Action::Service => return Err(Refused::BuiltIn),
            None if table.commands.len() >= MAX_COMMANDS => return Err(Refused::TooMany),
            _ => {}
        }
        table.insert(entry);
        Ok(())
    }

    /// Finds the command a line enters: the one with the most words that the line begins with.
    pub(crate) fn lookup(&self, line: &str, columns: usize) -> Lookup {
        let table = self.table();
        let line = line.trim();
        if line.is_empty() {
            return Lookup::Blank;
        }
        if let Some((entry, arguments)) = table.longest(line) {
            return Lookup::Command(Entered {
                action: entry.action,
                directory: entry.directory.clone(),
                name: entry.name.clone(),
                arguments: arguments.trim().to_owned(),
            });
        }
        match table.list(&joined(line, table.deepest + 1), columns) {
            Some(list) => Lookup::Directory(list),
            None => Lookup::Unknown(table.unknown(line)),
        }
    }

    /// What `help` says about `topic`: everything, a directory or a command.
    pub(crate) fn help(&self, topic: &str, columns: usize) -> String {
        let table = self.table();
        let path = joined(topic, table.deepest + 1);
        if let Some(entry) = table.commands.get(&path) {
            let mut out = format!("{path}\n");
            for line in entry.help.lines() {
                out.push_str("  ");
                out.push_str(line);
                out.push('\n');
            }
            return text::safe(&out);
        }
        table.list(&path, columns).unwrap_or_else(|| table.unknown(topic))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Held only for plain reads and inserts: a panic cannot leave the table half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn path(&self) -> String {
        match self.directory.as_str() {
            "" => self.name.clone(),
            directory => format!("{} {}", directory.replace('/', " "), self.name),
        }
    }
}

impl Table {
    fn insert(&mut self, entry: Entry) {
        let path = entry.path();
        self.deepest = self.deepest.max(path.split(' ').count());
        self.commands.insert(path, entry);
    }

    /// The command with the most words at the beginning of `line`, and what follows them.
    fn longest<'l>(&self, line: &'l str) -> Option<(&Entry, &'l str)> {
        let mut found = None;
        let mut path = String::new();
        let mut rest = line;
        for _ in 0..self.deepest {
            rest = rest.trim_start();
            let (word, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
            if word.is_empty() {
                break;
            }
            if !path.is_empty() {
                path.push(' ');
            }
            path.push_str(word);
            rest = after;
            if let Some(entry) = self.commands.get(&path) {
                found = Some((entry, rest));
            }
        }
        found
    }

    /// The commands below `directory` with their summaries, each in a line of at most `columns` where that is possible; `None`
    /// if there are none.
    fn list(&self, directory: &str, columns: usize) -> Option<String> {
        let below = |path: &str| {
            let rest = path.strip_prefix(directory);
            directory.is_empty() || rest.is_some_and(|rest| rest.starts_with(' '))
        };
        let listed = || self.commands.iter().filter(|(path, _)| below(path));
        let width = listed().map(|(path, _)| path.len()).max()?;
        let mut out = String::new();
        for (path, entry) in listed() {
            let summary = entry.help.lines().next().unwrap_or_default();
            // Two columns of indent, two between, three for what says that the summary was cut.
            let room = columns.saturating_sub(width + 7).max(20);
            let summary = text::safe_word(summary, room);
            let line = format!("  {path:<width$}  {summary}");
            out.push_str(line.trim_end());
            out.push('\n');
        }
        Some(out)
    }

    fn unknown(&self, line: &str) -> String {
        let shown = text::safe_word(line, 40);
        match self.nearest(line) {
            Some(near) => format!("unknown command: {shown}\ndid you mean: {near}?\n"),
            None => format!("unknown command: {shown}\ntry: help\n"),
        }
    }

    /// The command or directory that the beginning of `line` most resembles, if it resembles any.
    fn nearest(&self, line: &str) -> Option<String> {
        let mut best: Option<(usize, usize, &str)> = None;
        for path in self.commands.keys() {
            // Each directory on the way counts as a name too.
            let ends = path.match_indices(' ').map(|(at, _)| at);
            for name in ends.chain([path.len()]).map(|end| &path[..end]) {
                let words = name.split(' ').count();
                let typed = joined(line, words);
                let allowed = (1 + name.len() / 4).min(3);
                if typed.len() > RESEMBLING || typed.len().abs_diff(name.len()) > allowed {
                    continue;
                }
                let distance = strsim::osa_distance(&typed, name);
                // The name that takes up the most of what was typed says the most; then the nearest one.
                let better = |(most, least, _)| (words, least) > (most, distance);
                if distance <= allowed && best.is_none_or(better) {
                    best = Some((words, distance, name));
                }
            }
        }
        best.map(|(.., name)| name.to_owned())
    }
}

/// The first `most` words of a line, with one space between them.
fn joined(line: &str, most: usize) -> String {
    let words: Vec<&str> = line.split_whitespace().take(most).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(registered: &[(&str, &str)]) -> Commands {
        let commands = Commands::default();
        for &(directory, name) in registered {
            let command = RegisterCommand::new(directory, name, "Does it.\nAt length.").unwrap();
            commands.register(&command).unwrap();
        }
        commands
    }

    #[test]
    fn a_line_enters_the_command_with_the_most_words() {
        let commands = table(&[("", "rooms"), ("rooms", "ban"), ("rooms/ban", "list")]);
        let check = |line: &str, directory: &str, name: &str, arguments: &str| {
            let Lookup::Command(entered) = commands.lookup(line, 80) else { panic!("{line:?}") };
            let found = (&*entered.directory, &*entered.name, &*entered.arguments);
            assert_eq!(found, (directory, name, arguments), "{line:?}");
        };
        check("rooms", "", "rooms", "");
        check("  rooms   lobby  x ", "", "rooms", "lobby  x");
        check("rooms\tban bob", "rooms", "ban", "bob");
        check("rooms ban  list", "rooms/ban", "list", "");
        check("rooms ban listing", "rooms", "ban", "listing");
        assert_eq!(commands.lookup(" \t ", 80), Lookup::Blank);
    }

    #[test]
    fn a_directory_lists_its_commands() {
        let Lookup::Directory(list) = table(&[]).lookup("conns", 80) else { panic!() };
        let names: Vec<_> = list.lines().map(|line| &line[2..12]).collect();
        assert_eq!(names, ["conns kick", "conns list", "conns show"]);
        assert!(matches!(table(&[]).lookup("conn", 80), Lookup::Unknown(_)));
    }

    #[test]
    fn the_nearest_command_is_suggested() {
        let commands = table(&[("rooms/admin", "ban")]);
        let check = |line: &str, expect: &str| {
            let Lookup::Unknown(said) = commands.lookup(line, 80) else { panic!("{line:?}") };
            assert_eq!(said.lines().last(), Some(expect), "{line:?}");
        };
        check("shard", "did you mean: shards?");
        check("hlep", "did you mean: help?");
        check("conns lst --limit 3", "did you mean: conns list?");
        check("con list", "did you mean: conns list?");
        check("rooms admn", "did you mean: rooms admin?");
        check("xyzzy", "try: help");
        check(&"x".repeat(4096), "try: help");
        check(&"x ".repeat(2048), "try: help");
    }

    #[test]
    fn what_was_typed_is_shown_harmlessly() {
        let Lookup::Unknown(said) = table(&[]).lookup("\x1b]0;owned\x07", 80) else { panic!() };
        assert!(!said.contains(['\x1b', '\x07']), "{said:?}");
    }

    #[test]
    fn built_in_commands_stay_and_the_table_is_bounded() {
        let commands = Commands::default();
        let command = |name: &str| RegisterCommand::new("", name, "").unwrap();
        assert_eq!(commands.register(&command("help")), Err(Refused::BuiltIn));
        let room = MAX_COMMANDS - BUILTINS.len();
        for number in 0..room {
            assert_eq!(commands.register(&command(&format!("c{number}"))), Ok(()));
        }
        assert_eq!(commands.register(&command("more")), Err(Refused::TooMany));
        assert_eq!(commands.register(&command("c0")), Ok(()), "known already");
    }

    #[test]
    fn help_tells_of_everything_a_directory_or_a_command() {
        let commands = table(&[("rooms/admin", "ban")]);
        assert!(commands.help("", 80).contains("\n  rooms admin ban  Does it.\n"));
        assert_eq!(commands.help("rooms", 80), "  rooms admin ban  Does it.\n");
        assert_eq!(commands.help(" rooms  admin ban", 80), "rooms admin ban\n  Does it.\n  At length.\n");
        assert!(commands.help("rooms admin bam", 80).contains("did you mean: rooms admin ban?"));
        let narrow = commands.help("", 40);
        assert!(narrow.lines().all(|line| line.chars().count() <= 42), "{narrow}");
    }
}
