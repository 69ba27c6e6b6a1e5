//! The table of commands: what may be typed, who may type it, and who answers it.
//!
//! Owns names, directories and help of built-in and registered commands. Invariants: at most [`MAX_COMMANDS`] of them; a
//! built-in command cannot be replaced; looking a line up costs no more than the table is large, however long the line; an
//! operator is shown only what their role may enter.
//!
//! Must not: run a command.

mod complete;
mod suggest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use megamux_telnet::console::{Completion, RegisterCommand, Role};

pub(crate) use complete::{Argument, Completed, fitting};

use crate::access::operators::Operators;
use crate::access::roster::Roster;
use crate::builtin::{BUILTINS, Builtin};
use crate::text;

/// The most commands a console knows; more are refused. Their names and summaries are what `help` has to list.
pub const MAX_COMMANDS: usize = 1024;

/// A typed path longer than this, in bytes, names nothing.
const MAX_PATH: usize = 256;

/// The commands of one console. A clone is the same table: a console that is made anew after a panic gets the old one's,
/// because services register their commands only once.
#[derive(Debug, Clone)]
pub struct Commands {
    table: Arc<Mutex<Table>>,
    roster: Roster,
}

#[derive(Debug)]
struct Table {
    /// By the words that are typed, with one space between them.
    commands: BTreeMap<String, Entry>,
    /// Those whose names are patterns.
    patterns: BTreeSet<String>,
    /// The most words any command has.
    deepest: usize,
    /// Roles by path, of a command or of all in a directory, that stand in for the commands' own.
    roles: Arc<BTreeMap<String, Role>>,
}

#[derive(Debug)]
struct Entry {
    directory: String,
    name: String,
    help: String,
    /// Its own role, and the one that counts.
    own: Role,
    role: Role,
    completion: Completion,
    action: Action,
}

/// Who looks, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) role: Role,
    /// The directory the operator is in, `""` or `"rooms/admin"`.
    pub(crate) directory: &'a str,
    pub(crate) columns: usize,
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
    /// A directory's path, to go to.
    Go(String),
    /// The name of a directory, with the list of its commands.
    Directory(String),
    /// No command, with what to say about it.
    Unknown(String),
}

/// A command as it was entered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entered {
    pub(crate) action: Action,
    pub(crate) role: Role,
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

/// Where the words of a line lead.
struct Walk<'t, 'l> {
    /// The command with the most words, and what follows them.
    found: Option<(&'t Entry, &'l str)>,
    /// The path of all words, if that is a directory.
    directory: Option<String>,
}

impl Default for Commands {
    /// The built-in commands.
    fn default() -> Commands {
        Commands::with_roles(BTreeMap::new())
    }
}

impl Commands {
    /// The built-in commands, with roles that stand in for their own. A path is that of a command or of a directory, with
    /// slashes; the longest that fits counts.
    #[must_use]
    pub fn with_roles(roles: BTreeMap<String, Role>) -> Commands {
        Commands::with_roster(Roster::new(Operators { roles, ..Operators::default() }))
    }

    /// The same with the roles of a list that may change.
    pub(crate) fn with_roster(roster: Roster) -> Commands {
        let roles = roster.roles();
        let mut table = Table { commands: BTreeMap::new(), patterns: BTreeSet::new(), deepest: 0, roles };
        for builtin in BUILTINS {
            table.insert(Entry {
                directory: builtin.directory.to_owned(),
                name: builtin.name.to_owned(),
                help: builtin.help.to_owned(),
                own: builtin.role,
                role: builtin.role,
                completion: Completion::Nothing,
                action: Action::Builtin(builtin.action),
            });
        }
        Commands { table: Arc::new(Mutex::new(table)), roster }
    }

    /// Takes a service's command in, or its new help.
    pub(crate) fn register(&self, command: &RegisterCommand) -> Result<(), Refused> {
        let entry = Entry {
            directory: command.directory().to_owned(),
            name: command.name().to_owned(),
            help: command.help().to_owned(),
            own: command.role(),
            role: command.role(),
            completion: command.completion().clone(),
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

    /// Finds the command a line enters: the one with the most words that the line begins with, in the operator's directory
    /// or in the root.
    pub(crate) fn lookup(&self, line: &str, view: View<'_>) -> Lookup {
        let table = self.table();
        let line = line.trim();
        if line.is_empty() {
            return Lookup::Blank;
        }
        let walks = table.walks(line, view);
        if let Some((entry, arguments)) = walks.iter().find_map(|walk| walk.found) {
            return Lookup::Command(Entered {
                action: entry.action,
                role: entry.role,
                directory: entry.directory.clone(),
                name: entry.name.clone(),
                arguments: arguments.trim().to_owned(),
            });
        }
        match walks.into_iter().find_map(|walk| walk.directory) {
            // A path that is written as one is where to go; a mere name asks what is there.
            Some(path) if line.starts_with(['/', '.']) => Lookup::Go(path.replace(' ', "/")),
            Some(path) => Lookup::Directory(table.list(&path, view).unwrap_or_default()),
            None => Lookup::Unknown(table.unknown(line, view)),
        }
    }

    /// The directory that `path` names from where the operator is.
    pub(crate) fn directory(&self, path: &str, view: View<'_>) -> Result<String, String> {
        let table = self.table();
        let walk = table.walk(&view.directory.replace('/', " "), path);
        match walk.directory {
            Some(found) => Ok(found.replace(' ', "/")),
            None => Err(format!("no such directory: {}\n", text::safe_word(path, 40))),
        }
    }

    /// What is in a directory, each thing with its summary.
    pub(crate) fn list(&self, path: &str, view: View<'_>) -> String {
        match self.directory(path, view) {
            Ok(directory) => self.table().children(&directory.replace('/', " "), view),
            Err(said) => said,
        }
    }

    /// What `help` says about `topic`: everything below the operator's directory, a directory or a command.
    pub(crate) fn help(&self, topic: &str, view: View<'_>) -> String {
        let table = self.table();
        if topic.trim().is_empty() {
            let here = table.list(&view.directory.replace('/', " "), view);
            return here.or_else(|| table.list("", view)).unwrap_or_default();
        }
        for walk in table.walks(topic, view) {
            if let Some((entry, "")) = walk.found {
                let mut out = format!("{}\n", entry.path());
                for line in entry.help.lines() {
                    out.push_str("  ");
                    out.push_str(line);
                    out.push('\n');
                }
                if entry.role > Role::Viewer {
                    out.push_str(&format!("  For {}s and above.\n", entry.role));
                }
                return text::safe(&out);
            }
            if let Some(list) = walk.directory.and_then(|path| table.list(&path, view)) {
                return list;
            }
        }
        table.unknown(topic, view)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let roles = self.roster.roles();
        // Held only for plain reads and inserts: a panic cannot leave the table half changed.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&roles, &table.roles) {
            table.roles = roles;
            table.judge();
        }
        table
    }
}

impl Entry {
    fn path(&self) -> String {
        match self.directory.as_str() {
            "" => self.name.clone(),
            directory => format!("{} {}", directory.replace('/', " "), self.name),
        }
    }

    fn summary(&self) -> &str {
        self.help.lines().next().unwrap_or_default()
    }
}

impl Table {
    fn insert(&mut self, mut entry: Entry) {
        let path = entry.path();
        entry.role = self.role(&path).unwrap_or(entry.own);
        self.deepest = self.deepest.max(path.split(' ').count());
        if entry.name.contains('*') {
            self.patterns.insert(path.clone());
        }
        self.commands.insert(path, entry);
    }

    /// The roles are others.
    fn judge(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        for (path, entry) in &mut commands {
            entry.role = self.role(path).unwrap_or(entry.own);
        }
        self.commands = commands;
    }

    /// The role that was set for a path, or for the nearest directory around it.
    fn role(&self, path: &str) -> Option<Role> {
        let mut path = path;
        loop {
            match (self.roles.get(path), path.rsplit_once(' ')) {
                (Some(&role), _) => return Some(role),
                (None, Some((around, _))) => path = around,
                (None, None) => return None,
            }
        }
    }

    /// Where a line leads from the operator's directory, and from the root.
    fn walks<'l>(&self, line: &'l str, view: View<'_>) -> Vec<Walk<'_, 'l>> {
        let mut walks = vec![self.walk(&view.directory.replace('/', " "), line)];
        if !view.directory.is_empty() {
            walks.push(self.walk("", line));
        }
        walks
    }

    fn walk<'l>(&self, from: &str, line: &'l str) -> Walk<'_, 'l> {
        let mut walk = Walk { found: None, directory: None };
        let mut path = from.to_owned();
        let mut rest = line;
        // A path as one word may go through every directory; one word more than that is an argument.
        for _ in 0..=self.deepest {
            rest = rest.trim_start();
            let (word, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
            if word.is_empty() {
                walk.directory = self.is_directory(&path).then_some(path);
                return walk;
            }
            let is_path = word.contains('/') || word == "." || word == "..";
            if walk.found.is_some() && is_path || !step(&mut path, word) {
                return walk;
            }
            rest = after;
            if let Some((entry, is_pattern)) = self.find(&path) {
                // The word that matched a pattern is the first of the arguments.
                let start = line.len() - rest.len() - if is_pattern { word.len() } else { 0 };
                walk.found = Some((entry, line[start..].trim_start()));
            } else if !self.is_directory(&path) {
                return walk;
            }
        }
        walk
    }

    /// The command with this path, by its name or by a pattern; says whether by a pattern.
    fn find(&self, path: &str) -> Option<(&Entry, bool)> {
        if let Some(entry) = self.commands.get(path) {
            return Some((entry, false));
        }
        let pattern = self.patterns.iter().find(|pattern| matches(pattern, path))?;
        self.commands.get(pattern).map(|entry| (entry, true))
    }

    fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || self.below(path).next().is_some()
    }

    /// The commands below a directory.
    fn below<'t>(&'t self, directory: &str) -> impl Iterator<Item = (&'t str, &'t Entry)> + use<'t> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory} ") };
        let from = self.commands.range(prefix.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, entry)| (path.as_str(), entry))
    }

    /// The commands below `directory` with their summaries, each in a line of the window's width where that is possible;
    /// `None` if there are none.
    fn list(&self, directory: &str, view: View<'_>) -> Option<String> {
        let may = self.below(directory).filter(|(_, entry)| entry.role <= view.role);
        let lines: Vec<_> = may.map(|(path, entry)| (path.to_owned(), entry.summary())).collect();
        (!lines.is_empty()).then(|| summaries(&lines, view))
    }

    /// What is directly in a directory.
    fn children(&self, directory: &str, view: View<'_>) -> String {
        let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let mut lines: Vec<(String, &str)> = Vec::new();
        for (path, entry) in self.below(directory).filter(|(_, entry)| entry.role <= view.role) {
            match path[skip..].split_once(' ') {
                None => lines.push((path[skip..].to_owned(), entry.summary())),
                Some((name, _)) if lines.last().is_none_or(|(last, _)| last.strip_suffix('/') != Some(name)) => {
                    lines.push((format!("{name}/"), ""));
                }
                Some(_) => {}
            }
        }
        summaries(&lines, view)
    }
}

fn summaries(lines: &[(String, &str)], view: View<'_>) -> String {
    let width = lines.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (path, summary) in lines {
        // Two columns of indent, two between, three for what says that the summary was cut.
        let room = view.columns.saturating_sub(width + 7).max(20);
        let summary = text::safe_word(summary, room);
        let line = format!("  {path:<width$}  {summary}");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Goes on from a path by a word that may itself be a path; `false` if that leads too far.
fn step(path: &mut String, word: &str) -> bool {
    if word.starts_with('/') {
        path.clear();
    }
    for name in word.split('/') {
        match name {
            "" | "." => {}
            ".." => path.truncate(path.rfind(' ').unwrap_or(0)),
            name => {
                if !path.is_empty() {
                    path.push(' ');
                }
                path.push_str(name);
            }
        }
    }
    path.len() <= MAX_PATH
}

/// A path as words.
pub(crate) fn words_of(path: &str) -> String {
    let mut words = String::new();
    step(&mut words, path);
    words
}

/// Whether a path is what a pattern means: the same directory, and a name with anything in the star's place.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return false;
    };
    let star = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    star.is_some_and(|star| !star.contains(' '))
}
