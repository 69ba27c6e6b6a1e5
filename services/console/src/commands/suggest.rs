//! What to say to a line that is no command: the nearest one.

use super::{Table, View};
use crate::text;

/// Typed words longer than this, in bytes, resemble no command.
const RESEMBLING: usize = 64;

impl Table {
    pub(super) fn unknown(&self, line: &str, view: View<'_>) -> String {
        let shown = text::safe_word(line, 40);
        match self.nearest(line, view) {
            Some(near) => format!("unknown command: {shown}\ndid you mean: {near}?\n"),
            None => format!("unknown command: {shown}\ntry: help\n"),
        }
    }

    /// The command or directory that the beginning of `line` most resembles, if it resembles any. It is named as it would be
    /// typed from the operator's directory.
    fn nearest(&self, line: &str, view: View<'_>) -> Option<String> {
        let line = line.replace('/', " ");
        let here = view.directory.replace('/', " ");
        let mut best: Option<(usize, usize, &str)> = None;
        for (path, entry) in &self.commands {
            if entry.role > view.role {
                continue;
            }
            let below = path.strip_prefix(&here).and_then(|path| path.strip_prefix(' '));
            for path in below.into_iter().chain([path.as_str()]) {
                // Each directory on the way counts as a name too.
                let ends = path.match_indices(' ').map(|(at, _)| at);
                for name in ends.chain([path.len()]).map(|end| &path[..end]) {
                    let words = name.split(' ').count();
                    let typed = joined(&line, words);
                    let allowed = (1 + name.len() / 4).min(3);
                    if typed.len() > RESEMBLING || typed.len().abs_diff(name.len()) > allowed {
                        continue;
                    }
                    let distance = strsim::osa_distance(&typed, name);
                    // The name that takes up the most of what was typed says the most; then the nearest one.
                    let better = |(most, least, _)| words > most || words == most && distance < least;
                    if distance <= allowed && best.is_none_or(better) {
                        best = Some((words, distance, name));
                    }
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
