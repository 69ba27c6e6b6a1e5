//! A terminal for tests: what its screen shows after the bytes it was sent.
//!
//! It knows what the editor may use and nothing more; anything else panics, which is how tests notice.

use crate::text;

pub(crate) struct Screen {
    columns: usize,
    rows: Vec<Vec<Cell>>,
    row: usize,
    column: usize,
    pub(crate) bells: usize,
    pub(crate) clears: usize,
    rest: Vec<u8>,
}

/// A character with what combines with it; the right half of a wide one is empty.
type Cell = String;

impl Screen {
    pub(crate) fn new(columns: usize, rows: usize) -> Screen {
        let rows = vec![Vec::new(); rows];
        Screen { columns, rows, row: 0, column: 0, bells: 0, clears: 0, rest: Vec::new() }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let text = String::from_utf8(all).expect("the screen gets UTF-8");
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\0' => {}
                '\n' => self.line_feed(),
                '\x08' => self.column = self.column.checked_sub(1).expect("BS in the first column"),
                '\x07' => self.bells += 1,
                '\x1b' => self.sequence(&mut chars),
                c if c.is_control() => panic!("{c:?} on the screen"),
                c => self.put(c),
            }
        }
    }

    fn line_feed(&mut self) {
        if self.row + 1 == self.rows.len() {
            self.rows.remove(0);
            self.rows.push(Vec::new());
        } else {
            self.row += 1;
        }
    }

    fn sequence(&mut self, chars: &mut std::str::Chars<'_>) {
        assert_eq!(chars.next(), Some('['));
        let mut number = String::new();
        let last = loop {
            match chars.next().expect("a whole sequence") {
                c @ ('0'..='9' | ';') => number.push(c),
                c => break c,
            }
        };
        let count = number.parse::<usize>().unwrap_or(1);
        let column = self.column;
        match last {
            'C' => self.column += count,
            'D' => self.column = self.column.checked_sub(count).expect("left of the first column"),
            'K' => self.rows[self.row].truncate(column),
            'H' => (self.row, self.column) = (0, 0),
            'J' => {
                self.rows[self.row].truncate(column);
                let row = self.row;
                self.rows[row + 1..].iter_mut().for_each(Vec::clear);
                if (row, column) == (0, 0) {
                    self.clears += 1;
                }
            }
            'm' => {}
            other => panic!("{other:?} is not known to the screen"),
        }
        assert!(self.column < self.columns, "right of the last column");
    }

    fn put(&mut self, c: char) {
        let width = text::columns_of(c);
        if width == 0 {
            let base = (0..self.column).rev().find(|&at| !self.rows[self.row][at].is_empty());
            return self.rows[self.row][base.expect("something to combine with")].push(c);
        }
        if self.column + width > self.columns {
            self.column = 0;
            self.line_feed();
        }
        let column = self.column;
        let row = &mut self.rows[self.row];
        if row.len() < column + width {
            row.resize(column + width, " ".to_owned());
        }
        row[column] = c.to_string();
        for half in &mut row[column + 1..column + width] {
            half.clear();
        }
        self.column += width;
    }

    /// The cursor's row, with a `|` where the cursor is and no blanks at the end.
    pub(crate) fn row_with_cursor(&self) -> String {
        let row = &self.rows[self.row];
        let mut shown = String::new();
        for column in 0..row.len().max(self.column) + 1 {
            if column == self.column {
                shown.push('|');
            }
            shown.push_str(row.get(column).map_or(" ", |cell| cell));
        }
        let trimmed = shown.trim_end().to_owned();
        // The blank in front of the cursor is the prompt's.
        if trimmed.ends_with('|') { trimmed } else { trimmed.to_owned() }
    }

    /// All rows without blanks at their ends, down to the last that shows something.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.rows.iter().map(|row| row.concat().trim_end().to_owned()).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    pub(crate) fn rows_used(&self) -> usize {
        self.lines().len()
    }
}
