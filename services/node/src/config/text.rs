//! Settings as text: the commented default file, and the effective configuration with the origin of each value.
//!
//! Both are TOML that reads back to what it shows. It must not know any setting by name.

use std::fmt::Write as _;

use super::keys::{self, Key};
use super::layer::{Layer, Origin};
use super::value::Value;
use super::{Listener, Settings, features};

/// Origins stand in this column, where the value leaves room.
const ORIGIN_COLUMN: usize = 44;

const HEAD: &str = "\
# megamux: every setting with its default. A file needs only what differs.
# Variables (MEGAMUX_CAPS, MEGAMUX_LOG) win over the file, the command line wins over both.
# Settings marked (live) change with a reload (SIGHUP); the others need a restart.
";

const ENTRIES: &str = "
# Further listeners, as many as are needed: each has the settings of its protocol's table above, and a name.
# [[listen]]
# protocol = \"echo\"                # \"telnet\", \"http\" or \"echo\"
# listen = \"unix:/run/megamux/echo\"
# name = \"echo-local\"              # by default the protocol with a number
";

/// A file that says every default, with comments.
pub fn default_file() -> String {
    let mut out = HEAD.to_owned();
    let mut table = "";
    for (path, of, key) in keys::all() {
        let (inside, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let inside = Listener::ALL.iter().map(|listener| listener.name()).find(|known| *known == inside).unwrap_or(
            // Not a protocol's: the path is the key's own.
            key.path.rsplit_once('.').map_or("", |(table, _)| table),
        );
        if inside != table {
            table = inside;
            // A String takes every write.
            let _ = write!(out, "\n[{table}]\n");
        }
        let mark = if key.is_live { " (live)" } else { "" };
        let help = key.help.replace('\n', "\n# ");
        let _ = write!(out, "\n# {help}{mark}\n{name} = {}\n", key.default(of));
    }
    out + ENTRIES
}

impl Settings {
    /// Every setting with its value and where that came from, as TOML.
    pub fn show(&self) -> String {
        let mut out = format!(
            "# megamux {} with {}\n",
            env!("CARGO_PKG_VERSION"),
            match features().as_slice() {
                [] => "the engine alone".to_owned(),
                features => features.join(" "),
            }
        );
        for (path, of, key) in keys::all() {
            show(&mut out, &path, &self.layer, &path, of, key);
        }
        for entry in self.layer.listeners() {
            let _ = write!(out, "\n[[listen]]\n");
            for key in keys::of_entry(entry.listener).filter(|key| is_shown(key, &entry.settings)) {
                show(&mut out, key.path, &entry.settings, key.path, Some(entry.listener), key);
            }
        }
        out
    }
}

/// A name and a protocol have no default that could stand in a file.
fn is_shown(key: &Key, settings: &Layer) -> bool {
    !matches!(key.path, "name" | "protocol") || settings.get(key.path).is_some()
}

fn show(out: &mut String, name: &str, layer: &Layer, path: &str, of: Option<Listener>, key: &Key) {
    let said: Option<&(Value, Origin)> = layer.get(path);
    let (value, origin) = said.cloned().unwrap_or_else(|| (key.default(of), Origin::Default));
    let line = format!("{name} = {value}");
    let _ = writeln!(out, "{line:ORIGIN_COLUMN$}  # {origin}");
}
