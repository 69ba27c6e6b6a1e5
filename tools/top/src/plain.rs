//! The view as plain text: what `--once` prints, for scripts and for terminals that are none.

use std::fmt::Write as _;

use crate::view::{COLUMNS, View};

/// A line about the server, then a table: one line of titles and one per row, columns apart by at least two spaces.
pub fn text(view: &View) -> String {
    let mut out = format!("megamux {}, up {}\n", view.version, uptime(view.uptime.as_secs()));
    let cells: Vec<Vec<String>> =
        view.rows.iter().map(|row| COLUMNS.iter().map(|column| (column.cell)(row)).collect()).collect();
    let width = |place: usize| {
        let widest = cells.iter().map(|row| row[place].len()).max().unwrap_or(0);
        widest.max(COLUMNS[place].title.len())
    };
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.enumerate().map(|(place, cell)| format!("{cell:>0$}", width(place))).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", padded.join("  "));
    };
    line(&mut COLUMNS.iter().map(|column| column.title));
    for row in &cells {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

/// Days, hours, minutes, seconds, as many as there are.
pub fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::view::Row;

    #[test]
    fn columns_line_up() {
        let row = |name: &str, connections| Row { name: name.into(), connections, ..Row::default() };
        let rows = vec![row("0", 5.0), row("all", 123_456_789.0)];
        let text = text(&View { version: "0.1.0".into(), uptime: Duration::from_secs(3725), rows });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines.len()), ("megamux 0.1.0, up 1h 2m", 4));
        assert!(lines[2].starts_with("    0      5"), "{text}");
        assert!(lines[3].starts_with("  all   123M"), "{text}");
        assert!(lines[1..].iter().all(|line| line.len() == lines[1].len()), "{text}");
    }

    #[test]
    fn uptimes_are_short() {
        let check = |seconds, expect| assert_eq!(uptime(seconds), expect);
        check(59, "59s");
        check(61, "1m 1s");
        check(7260, "2h 1m");
        check(200_000, "2d 7h");
    }
}
