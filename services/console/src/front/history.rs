//! The lines that were entered, and where among them the operator looks.
//!
//! Invariant: at most [`MAX_HISTORY`] lines of together [`MAX_HISTORY_BYTES`]; the oldest go first.

use std::collections::VecDeque;

/// The most lines a session remembers.
pub const MAX_HISTORY: usize = 100;

/// The most bytes they have together: a hundred usual lines, and at least one of the longest.
pub const MAX_HISTORY_BYTES: usize = 8 * 1024;

const _: () = assert!(MAX_HISTORY_BYTES >= megamux_telnet::MAX_LINE, "the longest line is remembered");

#[derive(Debug, Default)]
pub(crate) struct History {
    lines: VecDeque<Box<str>>,
    bytes: usize,
    /// The line that is looked at, counted back from the newest; 0 is the one being typed.
    back: usize,
    /// What was being typed when the looking began.
    draft: String,
}

impl History {
    /// Remembers a line, unless it is blank or the same as the last.
    pub(crate) fn add(&mut self, line: &str) {
        self.back = 0;
        self.draft = String::new();
        let line = line.trim();
        if line.is_empty() || self.lines.back().is_some_and(|last| **last == *line) {
            return;
        }
        self.lines.push_back(line.into());
        self.bytes += line.len();
        while self.lines.len() > MAX_HISTORY || self.bytes > MAX_HISTORY_BYTES {
            self.bytes -= self.lines.pop_front().map_or(0, |oldest| oldest.len());
        }
    }

    /// The line before the one looked at; `typed` is kept for the way back.
    pub(crate) fn older(&mut self, typed: &str) -> Option<String> {
        self.look(self.back + 1, typed)
    }

    /// The line after the one looked at, in the end what was being typed.
    pub(crate) fn newer(&mut self, typed: &str) -> Option<String> {
        self.look(self.back.checked_sub(1)?, typed)
    }

    pub(crate) fn oldest(&mut self, typed: &str) -> Option<String> {
        self.look(self.lines.len(), typed)
    }

    pub(crate) fn newest(&mut self, typed: &str) -> Option<String> {
        self.look(0, typed)
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| &**line)
    }

    fn look(&mut self, back: usize, typed: &str) -> Option<String> {
        if back == self.back || back > self.lines.len() {
            return None;
        }
        if self.back == 0 {
            self.draft = typed.to_owned();
        }
        self.back = back;
        match back {
            0 => Some(std::mem::take(&mut self.draft)),
            back => Some(self.lines[self.lines.len() - back].to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_so_does_the_draft() {
        let mut history = History::default();
        assert_eq!(history.older("x"), None);
        for line in ["one", "two", "two", " ", "three "] {
            history.add(line);
        }
        assert_eq!(history.older("dra"), Some("three".into()));
        assert_eq!(history.older("three"), Some("two".into()));
        assert_eq!(history.older("edited"), Some("one".into()));
        assert_eq!(history.older("one"), None);
        assert_eq!(history.newer("one"), Some("two".into()));
        assert_eq!(history.newest("two"), Some("dra".into()));
        assert_eq!(history.newer("dra"), None);
        assert_eq!(history.oldest("dra"), Some("one".into()));
        history.add("four");
        assert_eq!(history.older(""), Some("four".into()), "a new line begins at the end");
    }

    #[test]
    fn history_is_bounded_in_lines_and_bytes() {
        let mut history = History::default();
        for line in 0..3 * MAX_HISTORY {
            history.add(&line.to_string());
        }
        assert_eq!(history.lines().count(), MAX_HISTORY);
        assert_eq!(history.lines().next(), Some("200"));
        for line in 0..10 {
            history.add(&format!("{line}{}", "x".repeat(megamux_telnet::MAX_LINE - 1)));
        }
        assert!(history.lines().map(str::len).sum::<usize>() <= MAX_HISTORY_BYTES);
        assert!(history.lines().count() >= 1);
    }
}
