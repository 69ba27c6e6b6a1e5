//! How a line may go on: names in the tree, and who knows the arguments of the command in front.

use std::collections::BTreeSet;

use megamux_telnet::console::Completion;

use super::{Action, Commands, Table, View, step};
use crate::builtin::Builtin;

/// What completes a line, or who is to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    /// These words, from this byte on.
    Words(usize, Vec<String>),
    /// An argument of a built-in command.
    Builtin(Builtin, Argument),
    /// An argument of a service's command, in this directory and with this name.
    Service(String, String, Argument),
}

/// The argument that is being typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Argument {
    /// Where it begins in the line, in bytes.
    pub(crate) from: usize,
    /// The arguments before it.
    pub(crate) before: String,
    /// As much of it as was typed.
    pub(crate) word: String,
}

/// Which names of the tree are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    All,
    Directories,
}

impl Commands {
    /// How `line`, up to the cursor, may go on.
    pub(crate) fn complete(&self, line: &str, view: View<'_>) -> Completed {
        let table = self.table();
        let from =
            line.rfind(char::is_whitespace).map_or(0, |at| at + line[at..].chars().next().map_or(0, char::len_utf8));
        let (front, word) = line.split_at(from);
        let here = view.directory.replace('/', " ");
        if front.trim().is_empty() {
            let (at, mut words) = table.names(&here, word, Names::All, view);
            if at == 0 {
                // What is in the root may be typed everywhere.
                words.extend(table.names("", word, Names::All, view).1);
            }
            return Completed::Words(from + at, words.into_iter().collect());
        }
        for walk in table.walks(front, view) {
            let names = walk.directory.map(|path| table.names(&path, word, Names::All, view));
            let (at, words) = names.unwrap_or_default();
            let Some((entry, before)) = walk.found.filter(|(entry, _)| entry.role <= view.role) else {
                if words.is_empty() {
                    continue;
                }
                return Completed::Words(from + at, words.into_iter().collect());
            };
            if !words.is_empty() {
                return Completed::Words(from + at, words.into_iter().collect());
            }
            let argument = Argument { from, before: before.trim().to_owned(), word: word.to_owned() };
            return match (entry.action, &entry.completion) {
                (Action::Builtin(builtin), _) => Completed::Builtin(builtin, argument),
                (Action::Service, Completion::Asked) => {
                    Completed::Service(entry.directory.clone(), entry.name.clone(), argument)
                }
                (Action::Service, Completion::Words(all)) => Completed::Words(from, fitting(all, word)),
                (Action::Service, _) => Completed::Words(from, Vec::new()),
            };
        }
        Completed::Words(from, Vec::new())
    }

    /// Directories that complete an argument, and where in it.
    pub(crate) fn directories(&self, word: &str, view: View<'_>) -> (usize, Vec<String>) {
        let (at, words) = self.table().names(&view.directory.replace('/', " "), word, Names::Directories, view);
        (at, words.into_iter().collect())
    }
}

impl Table {
    /// Names in the tree that a word may be completed to, and where in it they begin: behind its last slash.
    fn names(&self, directory: &str, word: &str, names: Names, view: View<'_>) -> (usize, BTreeSet<String>) {
        let at = word.rfind('/').map_or(0, |slash| slash + 1);
        let mut path = directory.to_owned();
        if at > 0 && !step(&mut path, &word[..at]) {
            return (at, BTreeSet::new());
        }
        let skip = if path.is_empty() { 0 } else { path.len() + 1 };
        let may = self.below(&path).filter(|(_, entry)| entry.role <= view.role);
        let found = may.filter_map(|(path, _)| match path[skip..].split_once(' ') {
            Some((name, _)) => Some(format!("{name}/")),
            None if names == Names::Directories || path.contains('*') => None,
            None => Some(format!("{} ", &path[skip..])),
        });
        (at, found.filter(|name| name.starts_with(&word[at..])).collect())
    }
}

/// Those of all words that a word may be completed to, each complete.
pub(crate) fn fitting<W: AsRef<str>>(all: &[W], word: &str) -> Vec<String> {
    let all = all.iter().map(AsRef::as_ref).filter(|candidate| candidate.starts_with(word));
    all.map(|candidate| format!("{candidate} ")).collect()
}
