//! Long answers, a page at a time.
//!
//! Owns the text that is not shown yet. Invariant: it is bounded by what one answer may hold
//! ([`MAX_OUTPUT`](crate::MAX_OUTPUT)), because the front takes no new line before the answer is shown.
//!
//! Must not: know keys.

use super::terminal::Terminal;
use crate::event::mark;
use crate::text;

/// What stands below a page.
pub(super) const MORE: &str = "--more--";

#[derive(Debug)]
pub(crate) struct Pager {
    /// Not shown yet.
    waiting: String,
    /// Rows that may still be written before the operator is asked.
    left: usize,
    /// Columns of the row that is not ended yet.
    column: usize,
}

impl Pager {
    pub(crate) fn new(page: usize) -> Pager {
        Pager { waiting: String::new(), left: page, column: 0 }
    }

    /// Adds text, and shows as much as the page has room for.
    pub(crate) fn push(&mut self, text: &str, terminal: Terminal, out: &mut Vec<u8>) {
        self.waiting.push_str(text);
        self.show(terminal, out);
    }

    /// Adds text behind what waits.
    pub(crate) fn keep(&mut self, text: &str) {
        self.waiting.push_str(text);
    }

    /// Whether the operator has to ask for more.
    pub(crate) fn is_held(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The operator asks for so many rows more.
    pub(crate) fn more(&mut self, rows: usize, terminal: Terminal, out: &mut Vec<u8>) {
        self.left = rows;
        self.show(terminal, out);
    }

    /// Everything that waits, in one go.
    pub(crate) fn rest(&mut self, terminal: Terminal, out: &mut Vec<u8>) {
        terminal.write(&self.waiting, out);
        self.waiting = String::new();
    }

    fn show(&mut self, terminal: Terminal, out: &mut Vec<u8>) {
        let mut end = 0;
        while self.left > 0 && end < self.waiting.len() {
            let rest = &self.waiting[end..];
            let line = rest.find('\n').map_or(rest, |at| &rest[..at]);
            let width = self.column + width(line, self.column);
            // A line that is wider than the window takes several rows; one that is longer than the page is shown whole.
            if line.len() == rest.len() {
                self.column = width;
                end = self.waiting.len();
            } else {
                self.left = self.left.saturating_sub(width.div_ceil(terminal.width()).max(1));
                self.column = 0;
                end += line.len() + 1;
            }
        }
        terminal.write(&self.waiting[..end], out);
        self.waiting.drain(..end);
        if self.waiting.is_empty() {
            self.waiting = String::new();
        } else {
            terminal.write(&format!("{}{MORE}{}", mark::HEADING, mark::PLAIN), out);
        }
    }
}

/// How many columns a piece of a line takes that begins at `column`.
fn width(line: &str, column: usize) -> usize {
    let end = line.chars().fold(column, |at, c| if c == '\t' { at / 8 * 8 + 8 } else { at + text::columns_of(c) });
    end - column
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal() -> Terminal {
        Terminal { columns: 20, rows: 5, ..Terminal::default() }
    }

    fn shown(out: &mut Vec<u8>) -> String {
        String::from_utf8(std::mem::take(out)).unwrap()
    }

    #[test]
    fn a_page_is_shown_and_the_rest_waits() {
        let mut out = Vec::new();
        let mut pager = Pager::new(4);
        pager.push("1\n2\n3\n", terminal(), &mut out);
        assert!(!pager.is_held());
        pager.push("4\n5\n6\n7\n8\n9\n", terminal(), &mut out);
        assert_eq!(shown(&mut out), "1\r\n2\r\n3\r\n4\r\n--more--");
        pager.more(1, terminal(), &mut out);
        assert_eq!(shown(&mut out), "5\r\n--more--");
        pager.keep("10\n");
        assert_eq!(shown(&mut out), "");
        pager.more(4, terminal(), &mut out);
        assert_eq!(shown(&mut out), "6\r\n7\r\n8\r\n9\r\n--more--");
        pager.more(4, terminal(), &mut out);
        assert_eq!(shown(&mut out), "10\r\n");
        assert!(!pager.is_held());
    }

    #[test]
    fn what_fits_exactly_is_not_held() {
        let mut out = Vec::new();
        let mut pager = Pager::new(2);
        pager.push("1\n2\n", terminal(), &mut out);
        assert!(!pager.is_held());
        pager.push("3", terminal(), &mut out);
        assert!(pager.is_held());
    }

    #[test]
    fn wide_lines_take_several_rows() {
        let mut out = Vec::new();
        let mut pager = Pager::new(4);
        let wide = "東".repeat(25);
        pager.push(&format!("{wide}\nx\ny\n"), terminal(), &mut out);
        assert_eq!(shown(&mut out), format!("{wide}\r\nx\r\n--more--"));
    }
}
