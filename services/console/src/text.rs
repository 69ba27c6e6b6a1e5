//! Text for a terminal: tables, sizes, spans of time, and what strangers said made harmless.
//!
//! Invariant: what [`safe`] and [`safe_word`] give back cannot move a cursor, change a terminal's state, or show as anything
//! but what it is. Must not: know what the text is about.

use std::time::Duration;

use unicode_width::UnicodeWidthChar;

/// Text of several lines from another service: line feeds and tabs stay, a CR in front of a line feed goes, and whatever else
/// acts on a terminal is shown as an escape.
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if rest.peek() == Some(&'\n') => {}
            _ => push_safe(&mut out, c),
        }
    }
    out
}

/// A word or a line from a stranger, cut to `most` characters: nothing in it acts on a terminal.
pub(crate) fn safe_word(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    rest.by_ref().take(most).for_each(|c| push_safe(&mut out, c));
    if rest.next().is_some() {
        out.push_str("...");
    }
    out
}

fn push_safe(out: &mut String, c: char) {
    if is_harmless(c) {
        out.push(c);
    } else {
        out.extend(c.escape_unicode());
    }
}

/// Characters that show nothing themselves and reorder, join or hide what stands around them.
fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a character shows as itself and does nothing else to a terminal.
pub(crate) fn is_harmless(c: char) -> bool {
    !c.is_control() && !is_deceptive(c)
}

/// How many columns a character takes: none if it combines with the one before it, two if it is wide.
pub(crate) fn columns_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// How many columns a text without control characters takes.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// How many bytes of a text fit so many columns, with all that combines with the last character.
pub(crate) fn fitting(text: &str, most: usize) -> usize {
    let mut width = 0;
    let over = text.char_indices().find(|&(_, c)| {
        width += columns_of(c);
        width > most
    });
    over.map_or(text.len(), |(at, _)| at)
}

/// Cuts `text` to at most `most` bytes, at a character's beginning; says whether it was longer.
pub(crate) fn cut(text: &mut String, most: usize) -> bool {
    let longer = text.len() > most;
    if longer {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    longer
}

/// Bytes for people: three digits and a binary unit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        // 999.5 and more would be shown with four digits.
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        return format!("{count} B");
    }
    format!("{} {unit}", three_digits(value))
}

/// A number of events per second, with a decimal unit.
pub(crate) fn rate(per_second: f64) -> String {
    let mut value = per_second;
    let mut unit = "";
    for larger in ["k", "M", "G"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    format!("{}{unit}", three_digits(value))
}

/// A span of time: three digits and a unit below a minute, two units above.
pub(crate) fn span(span: Duration) -> String {
    let nanos = span.as_nanos() as f64;
    let (seconds, rest) = (span.as_secs(), |unit: u64| span.as_secs() % unit);
    match seconds {
        0 if nanos < 999.5 => format!("{nanos} ns"),
        0 if nanos < 999.5e3 => format!("{} us", three_digits(nanos / 1e3)),
        0 if nanos < 999.5e6 => format!("{} ms", three_digits(nanos / 1e6)),
        0..60 => format!("{} s", three_digits(span.as_secs_f64())),
        60..3600 => format!("{}m {:02}s", seconds / 60, rest(60)),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, rest(3600) / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, rest(86_400) / 3600),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// How a table's column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under headings, in columns as wide as their widest cell. Cells are plain text without line feeds.
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Table {
        Table {
            align: columns.iter().map(|&(_, align)| align).collect(),
            rows: vec![columns.iter().map(|&(title, _)| title.to_owned()).collect()],
        }
    }

    /// Adds a row, one cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.align.len());
        self.rows.push(cells);
    }

    /// The table as lines.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| columns(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let start = out.len();
            for ((cell, align), width) in row.iter().zip(&self.align).zip(&widths) {
                if out.len() > start {
                    out.push_str("  ");
                }
                let blank = std::iter::repeat_n(' ', width - columns(cell));
                match align {
                    Align::Left => out.extend(cell.chars().chain(blank)),
                    Align::Right => out.extend(blank.chain(cell.chars())),
                }
            }
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_strangers_acts_on_a_terminal() {
        let check = |text, expect| assert_eq!(safe(text), expect, "{text:?}");
        check("plain\n\ttext\r\n", "plain\n\ttext\n");
        check("\x1b[2J", "\\u{1b}[2J");
        check("a\rb\x08\x07\x7f", "a\\u{d}b\\u{8}\\u{7}\\u{7f}");
        check("\u{9b}31m", "\\u{9b}31m");
        check("zürich 東京 e\u{301}", "zürich 東京 e\u{301}");
        check("\u{202e}txt.exe\u{200b}", "\\u{202e}txt.exe\\u{200b}");
        assert_eq!(safe_word("two\nlines\t", 80), "two\\u{a}lines\\u{9}");
        assert_eq!(safe_word("abcdef", 3), "abc...");
        assert_eq!(safe_word("abc", 3), "abc");
    }

    #[test]
    fn sizes_and_spans_are_short() {
        let check = |count, expect| assert_eq!(bytes(count), expect);
        check(0, "0 B");
        check(999, "999 B");
        check(1000, "0.98 KiB");
        check(1536, "1.50 KiB");
        check(64 << 20, "64.0 MiB");
        check(u64::MAX, "16.0 EiB");

        let check = |nanos, expect| assert_eq!(span(Duration::from_nanos(nanos)), expect);
        check(0, "0 ns");
        check(512, "512 ns");
        check(2048, "2.05 us");
        check(999_400_000, "999 ms");
        check(999_600_000, "1.00 s");
        check(59_400_000_000, "59.4 s");
        check(61_000_000_000, "1m 01s");
        check(3_600_000_000_000, "1h 00m");
        check(100_000_000_000_000, "1d 03h");

        let check = |value, expect| assert_eq!(rate(value), expect);
        check(0.0, "0");
        check(1.25, "1.25");
        check(1_234_567.0, "1.23M");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Align::Left), ("size", Align::Right), ("x", Align::Left)]);
        table.row(vec!["zürich".into(), "7".into(), String::new()]);
        table.row(vec!["a".into(), "12345".into(), "y".into()]);
        assert_eq!(table.render(), "name     size  x\nzürich      7\na       12345  y\n");
    }

    #[test]
    fn text_is_cut_between_characters() {
        let mut text = "zürich".to_owned();
        assert!(cut(&mut text, 2));
        assert_eq!(text, "z");
        assert!(!cut(&mut text, 1));
    }
}
