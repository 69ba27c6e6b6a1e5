//! The row of the screen where the line is typed: what is on it now, and the bytes that bring it up to date.
//!
//! Owns what the terminal shows behind the prompt. A line that is wider than the window is shown through a window of its own
//! that follows the cursor, so that everything happens on one row and works on any terminal that knows BS.
//!
//! Invariants: what was not changed is not sent again; nothing is ever written into the last column, where terminals
//! disagree about what comes next.
//!
//! Must not: know where the line comes from.

use super::terminal::Terminal;
use crate::text;

#[derive(Debug, Default)]
pub(crate) struct Row {
    /// What stands behind the prompt.
    shown: String,
    /// The cursor's column behind the prompt.
    column: usize,
    /// The first byte of the line that is shown.
    first: usize,
}

impl Row {
    /// A row with nothing behind the prompt.
    pub(crate) fn clear(&mut self) {
        *self = Row::default();
    }

    /// Whether nothing stands behind the prompt.
    pub(crate) fn is_clear(&self) -> bool {
        self.shown.is_empty()
    }

    /// Brings the terminal up to date with a line and its cursor. `prompt` is the prompt's width.
    pub(crate) fn show(&mut self, line: &str, at: usize, prompt: usize, terminal: Terminal, out: &mut Vec<u8>) {
        let room = terminal.width().saturating_sub(prompt + 1).max(8);
        let first = self.scroll(line, at, room);
        let visible = &line[first..first + text::fitting(&line[first..], room)];
        let column = text::columns(&line[first..at]);

        let same = common(&self.shown, visible);
        if same < self.shown.len() || same < visible.len() {
            let (before, after) = (text::columns(&self.shown), text::columns(visible));
            self.go(text::columns(&visible[..same]), terminal, out);
            out.extend_from_slice(&visible.as_bytes()[same..]);
            self.column = after;
            if after < before {
                erase(before - after, terminal, out);
            }
            self.shown.clear();
            self.shown.push_str(visible);
        }
        self.go(column, terminal, out);
        self.first = first;
    }

    /// Where the shown part of the line begins, so that the cursor is in it.
    fn scroll(&self, line: &str, at: usize, room: usize) -> usize {
        if text::columns(line) <= room {
            return 0;
        }
        let stays = self.first <= at && line.is_char_boundary(self.first);
        if stays && text::columns(&line[self.first..at]) <= room {
            return self.first;
        }
        // Half a row in front of the cursor, so that the next keys do not scroll again.
        let mut first = at;
        let mut width = 0;
        for (start, c) in line[..at].char_indices().rev() {
            width += text::columns_of(c);
            if width > room / 2 {
                break;
            }
            if text::columns_of(c) > 0 {
                first = start;
            }
        }
        first
    }

    fn go(&mut self, to: usize, terminal: Terminal, out: &mut Vec<u8>) {
        if to < self.column {
            let by = self.column - to;
            match terminal.moves() && by > 4 {
                true => out.extend_from_slice(format!("\x1b[{by}D").as_bytes()),
                false => out.resize(out.len() + by, BS),
            }
        } else if to > self.column {
            let by = to - self.column;
            match terminal.moves() {
                true if by == 1 => out.extend_from_slice(b"\x1b[C"),
                true => out.extend_from_slice(format!("\x1b[{by}C").as_bytes()),
                // Writing what is there already goes right on every terminal.
                false => {
                    let from = text::fitting(&self.shown, self.column);
                    let until = text::fitting(&self.shown, to);
                    out.extend_from_slice(&self.shown.as_bytes()[from..until]);
                }
            }
        }
        self.column = to;
    }
}

const BS: u8 = 8;

/// Erases so many columns from the cursor on, and leaves it there.
fn erase(columns: usize, terminal: Terminal, out: &mut Vec<u8>) {
    if terminal.moves() {
        return out.extend_from_slice(b"\x1b[K");
    }
    out.resize(out.len() + columns, b' ');
    out.resize(out.len() + columns, BS);
}

/// How many bytes two lines have in common at their beginning, in whole characters with what combines with them.
fn common(one: &str, other: &str) -> usize {
    let pairs = one.char_indices().zip(other.chars());
    let mut same = pairs.take_while(|((_, a), b)| a == b).last().map_or(0, |((at, c), _)| at + c.len_utf8());
    let combines = |text: &str| text.chars().next().is_some_and(|c| text::columns_of(c) == 0);
    while same > 0 && (combines(&one[same..]) || combines(&other[same..])) {
        same = one[..same].char_indices().next_back().map_or(0, |(at, _)| at);
    }
    same
}

#[cfg(test)]
mod tests {
    use super::super::screen::Screen;
    use super::super::terminal::Ability;
    use super::*;

    const PROMPT: &str = "> ";

    /// Shows a sequence of lines (`|` is the cursor) on each kind of terminal, and compares the screen after each.
    fn check(columns: u16, steps: &[(&str, &str)]) {
        for ability in [Ability::Plain, Ability::Moves] {
            let terminal = Terminal { columns, rows: 24, ability };
            let mut screen = Screen::new(usize::from(columns), 24);
            screen.feed(PROMPT.as_bytes());
            let mut row = Row::default();
            for &(line, expect) in steps {
                let at = line.find('|').unwrap();
                let mut out = Vec::new();
                row.show(&line.replace('|', ""), at, PROMPT.len(), terminal, &mut out);
                screen.feed(&out);
                let expect = format!("{PROMPT}{expect}");
                assert_eq!(screen.row_with_cursor(), expect, "{line:?} on {ability:?}: {}", out.escape_ascii());
                assert_eq!(screen.rows_used(), 1);
            }
        }
    }

    #[test]
    fn the_screen_shows_the_line() {
        let check_same = |lines: &[&str]| {
            let steps: Vec<_> = lines.iter().map(|line| (*line, *line)).collect();
            check(40, &steps);
        };
        check_same(&[
            "a|",
            "ab|",
            "abc|",
            "ab|",
            "a|b",
            "ax|b",
            "|axb",
            "|",
            "conns list|",
            "conns| list",
            "|conns list",
        ]);
        check_same(&["東京|", "東|京", "東x|京", "|京", "京|"]);
        check_same(&["e|", "e\u{301}|", "e\u{301}x|", "|e\u{301}x", "|ex"]);
        check_same(&["abcdefghijklmnop|", "|abcdefghijklmnop", "abcdefghijklmno|p"]);
    }

    #[test]
    fn a_wide_line_is_seen_through_a_window() {
        // Twenty columns, two of them the prompt's and the last one free: seventeen.
        check(
            20,
            &[
                ("abcdefghijklmnopq|", "abcdefghijklmnopq|"),
                ("abcdefghijklmnopqr|", "klmnopqr|"),
                ("abcdefghijklmnopqrs|", "klmnopqrs|"),
                ("abcdefghijk|lmnopqrs", "k|lmnopqrs"),
                ("|abcdefghijklmnopqrs", "|abcdefghijklmnopq"),
                ("abc|", "abc|"),
            ],
        );
    }

    #[test]
    fn only_the_change_is_sent() {
        let sent = |ability, lines: &[&str]| {
            let terminal = Terminal { columns: 80, rows: 24, ability };
            let mut row = Row::default();
            let mut out = Vec::new();
            for line in lines {
                out.clear();
                let at = line.find('|').unwrap();
                row.show(&line.replace('|', ""), at, 2, terminal, &mut out);
            }
            String::from_utf8(out).unwrap()
        };
        assert_eq!(sent(Ability::Plain, &["ab|", "abc|"]), "c");
        assert_eq!(sent(Ability::Plain, &["abc|", "ab|"]), "\x08 \x08");
        assert_eq!(sent(Ability::Moves, &["abc|", "ab|"]), "\x08\x1b[K");
        assert_eq!(sent(Ability::Plain, &["|abc", "xy|abc"]), "xyabc\x08\x08\x08");
        assert_eq!(sent(Ability::Moves, &["|abcdef", "abcdef|"]), "\x1b[6C");
        assert_eq!(sent(Ability::Plain, &["|abcdef", "abcdef|"]), "abcdef");
        assert_eq!(sent(Ability::Plain, &["abc|", "abc|"]), "");
    }
}
