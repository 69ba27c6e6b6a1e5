//! The line that is being typed: its text, the cursor, and what was last killed.
//!
//! Invariants: at most [`MAX_LINE`] bytes, as in line mode; the cursor stands between two characters, never inside one or in
//! front of what combines with the one before it.
//!
//! Must not: know what is on the screen.

use megamux_telnet::MAX_LINE;

use super::keys::Key;
use crate::text;

#[derive(Debug, Default)]
pub(crate) struct Line {
    text: String,
    /// Where the cursor is, in bytes.
    at: usize,
    killed: String,
    /// More was typed than fits: entered, the line is refused like any that is too long.
    overlong: bool,
}

/// What came of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    Done,
    /// There was nothing to do it to, or no room: the terminal rings.
    Refused,
}

impl Line {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn is_overlong(&self) -> bool {
        self.overlong
    }

    /// Puts another text in the line's place, with the cursor behind it.
    pub(crate) fn replace(&mut self, text: String) {
        self.at = text.len();
        self.text = text;
        self.overlong = false;
    }

    /// Takes the line away; what was killed stays.
    pub(crate) fn take(&mut self) -> String {
        self.at = 0;
        self.overlong = false;
        std::mem::take(&mut self.text)
    }

    /// Whether nothing here is worth keeping.
    pub(crate) fn is_blank(&self) -> bool {
        self.text.is_empty() && self.killed.is_empty()
    }

    /// Puts text in at the cursor.
    pub(crate) fn insert(&mut self, text: &str) -> Edit {
        if self.text.len() + text.len() > MAX_LINE {
            self.overlong = true;
            return Edit::Refused;
        }
        self.text.insert_str(self.at, text);
        self.at += text.len();
        Edit::Done
    }

    /// Puts `text` in the place of what is between `from` and the cursor.
    pub(crate) fn complete(&mut self, from: usize, text: &str) -> Edit {
        if from > self.at || !self.text.is_char_boundary(from) {
            return Edit::Refused;
        }
        if self.text.len() - (self.at - from) + text.len() > MAX_LINE {
            return Edit::Refused;
        }
        self.text.replace_range(from..self.at, text);
        self.at = from + text.len();
        Edit::Done
    }

    /// Does what a key means to the line; keys that mean nothing to it are refused.
    pub(crate) fn key(&mut self, key: Key) -> Edit {
        match key {
            Key::Char(c) => self.insert(c.encode_utf8(&mut [0; 4])),
            Key::Left => self.go(self.before(self.at)),
            Key::Right => self.go(self.after(self.at)),
            Key::WordLeft => self.go(self.word_before()),
            Key::WordRight => self.go(self.word_after()),
            Key::Home => self.jump(0),
            Key::End => self.jump(self.text.len()),
            Key::Backspace => self.delete(self.before(self.at), self.at),
            Key::Delete | Key::DeleteOrEnd => self.delete(self.at, self.after(self.at)),
            Key::KillLeft => self.kill(0, self.at),
            Key::KillRight => self.kill(self.at, self.text.len()),
            Key::KillBlankWord => self.kill(self.blank_word_before(), self.at),
            Key::KillWordLeft => self.kill(self.word_before(), self.at),
            Key::KillWordRight => self.kill(self.at, self.word_after()),
            Key::Yank => {
                let killed = std::mem::take(&mut self.killed);
                let edit = self.insert(&killed);
                self.killed = killed;
                edit
            }
            Key::Swap => self.swap(),
            _ => Edit::Refused,
        }
    }

    fn jump(&mut self, to: usize) -> Edit {
        self.at = to;
        Edit::Done
    }

    fn go(&mut self, to: usize) -> Edit {
        if to == self.at {
            return Edit::Refused;
        }
        self.jump(to)
    }

    fn delete(&mut self, from: usize, to: usize) -> Edit {
        if from == to {
            return Edit::Refused;
        }
        self.text.replace_range(from..to, "");
        self.at = from;
        Edit::Done
    }

    fn kill(&mut self, from: usize, to: usize) -> Edit {
        if from < to {
            self.killed = self.text[from..to].to_owned();
        }
        self.delete(from, to)
    }

    /// Swaps the characters on both sides of the cursor; at the end, the last two.
    fn swap(&mut self) -> Edit {
        let middle = if self.at == self.text.len() { self.before(self.at) } else { self.at };
        let (from, to) = (self.before(middle), self.after(middle));
        if from == middle || middle == to {
            return Edit::Refused;
        }
        let swapped = format!("{}{}", &self.text[middle..to], &self.text[from..middle]);
        self.text.replace_range(from..to, &swapped);
        self.jump(to)
    }

    /// Where the character in front of `at` begins, with what combines with it.
    fn before(&self, at: usize) -> usize {
        let bases = self.text[..at].char_indices().rev().filter(|&(_, c)| text::columns_of(c) > 0);
        bases.map(|(start, _)| start).next().unwrap_or(0)
    }

    /// Where the character at `at` ends, with what combines with it.
    fn after(&self, at: usize) -> usize {
        let mut bases = self.text[at..].char_indices().skip(1).filter(|&(_, c)| text::columns_of(c) > 0);
        bases.next().map_or(self.text.len(), |(start, _)| at + start)
    }

    fn word_before(&self) -> usize {
        let typed = self.text[..self.at].trim_end_matches(|c: char| !c.is_alphanumeric());
        typed.trim_end_matches(char::is_alphanumeric).len()
    }

    fn word_after(&self) -> usize {
        let rest = self.text[self.at..].trim_start_matches(|c: char| !c.is_alphanumeric());
        self.text.len() - rest.trim_start_matches(char::is_alphanumeric).len()
    }

    fn blank_word_before(&self) -> usize {
        self.text[..self.at].trim_end().trim_end_matches(|c: char| !c.is_whitespace()).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` is the cursor.
    fn check(line: &str, key: Key, expect: &str) {
        let at = line.find('|').unwrap();
        let mut edited = Line { text: line.replace('|', ""), at, ..Line::default() };
        let edit = edited.key(key);
        let mut shown = edited.text.clone();
        shown.insert(edited.at, '|');
        assert_eq!(shown, expect, "{line:?} {key:?}");
        assert_eq!(edit == Edit::Refused, line == expect && !matches!(key, Key::Home | Key::End), "{line:?} {key:?}");
    }

    #[test]
    fn keys_edit() {
        check("a|b", Key::Char('x'), "ax|b");
        check("a|b", Key::Left, "|ab");
        check("|ab", Key::Left, "|ab");
        check("a|b", Key::Right, "ab|");
        check("東|京", Key::Backspace, "|京");
        check("e\u{301}x|", Key::Left, "e\u{301}|x");
        check("e\u{301}|x", Key::Backspace, "|x");
        check("|e\u{301}x", Key::Delete, "|x");
        check("ab|", Key::Delete, "ab|");
        check("ab|cd", Key::Home, "|abcd");
        check("ab|cd", Key::End, "abcd|");
        check("conns list|", Key::WordLeft, "conns |list");
        check("conns |list", Key::WordLeft, "|conns list");
        check("conns| list x", Key::WordRight, "conns list| x");
        check("kick /a/b |", Key::KillBlankWord, "kick |");
        check("kick /a/b|", Key::KillWordLeft, "kick /a/|");
        check("kick |abc def", Key::KillWordRight, "kick | def");
        check("kick |abc def", Key::KillRight, "kick |");
        check("kick |abc def", Key::KillLeft, "|abc def");
        check("ab|", Key::Swap, "ba|");
        check("a|bc", Key::Swap, "ba|c");
        check("a|", Key::Swap, "a|");
        check("ab|", Key::Unknown, "ab|");
    }

    #[test]
    fn what_was_killed_comes_back() {
        let mut line = Line::default();
        line.replace("one two three".into());
        line.key(Key::KillBlankWord);
        line.key(Key::Home);
        line.key(Key::Yank);
        line.key(Key::Yank);
        assert_eq!((line.text(), line.at()), ("threethreeone two ", 10));
        assert_eq!(line.take(), "threethreeone two ");
        line.key(Key::Yank);
        assert_eq!(line.text(), "three", "in the next line, too");
    }

    #[test]
    fn a_line_is_bounded_and_says_so() {
        let mut line = Line::default();
        line.replace("x".repeat(MAX_LINE - 1));
        assert_eq!(line.key(Key::Char('ü')), Edit::Refused);
        assert!(line.is_overlong());
        line.replace("abc".into());
        assert!(!line.is_overlong());
        assert_eq!(line.complete(1, "rtichoke "), Edit::Done);
        assert_eq!(line.text(), "artichoke ");
        assert_eq!(line.complete(20, "x"), Edit::Refused);
    }
}
