//! What is shown beside the line: words to choose from, whole screens, and rows taken back.
//!
//! Must not: keep anything.

use megamux_telnet::encode_text;

use super::terminal::Terminal;
use crate::event::Completions;
use crate::text;

/// The longest beginning that all words have.
pub(super) fn common(words: &[String]) -> &str {
    let Some((first, rest)) = words.split_first() else {
        return "";
    };
    let same = |word: &String| {
        let pairs = first.char_indices().zip(word.chars());
        pairs.take_while(|((_, a), b)| a == b).last().map_or(0, |((at, c), _)| at + c.len_utf8())
    };
    &first[..rest.iter().map(same).min().unwrap_or(first.len())]
}

/// Shows words in columns below the line.
pub(super) fn words(completions: &Completions, terminal: Terminal, out: &mut Vec<u8>) {
    let words: Vec<&str> = completions.words.iter().map(|word| word.trim_end()).collect();
    let widest = words.iter().map(|word| text::columns(word)).max().unwrap_or(0) + 2;
    let columns = (terminal.width() / widest).max(1);
    let rows = words.len().div_ceil(columns);
    let mut shown = String::from("\n");
    for row in 0..rows {
        // Down the columns, as directories are listed.
        for word in words.iter().skip(row).step_by(rows) {
            shown.push_str(word);
            shown.extend(std::iter::repeat_n(' ', widest - text::columns(word)));
        }
        shown.truncate(shown.trim_end_matches(' ').len());
        shown.push('\n');
    }
    if completions.cut {
        shown.push_str("...\n");
    }
    encode_text(shown, out);
}

/// Shows text in the place of what is on the screen, as much of it as fits; below it, where the terminal cannot do that.
pub(super) fn screen(shown: &str, terminal: Terminal, out: &mut Vec<u8>) {
    let Some(rows) = terminal.page().filter(|_| terminal.moves()) else {
        return terminal.write(shown, out);
    };
    // Line by line over the old text: a screen that is cleared first flickers.
    out.extend_from_slice(b"\x1b[H");
    for line in shown.lines().take(rows) {
        let fits = text::fitting(line, terminal.width() - 1);
        terminal.write(&line[..fits], out);
        terminal.write(&crate::event::mark::PLAIN.to_string(), out);
        out.extend_from_slice(b"\x1b[K\r\n");
    }
    out.extend_from_slice(b"\x1b[J");
}

/// Takes back so many columns in front of the cursor, which stands at the end of its row.
pub(super) fn erase_back(columns: usize, terminal: Terminal, out: &mut Vec<u8>) {
    const BS: u8 = 8;
    out.resize(out.len() + columns, BS);
    if terminal.moves() {
        return out.extend_from_slice(b"\x1b[K");
    }
    out.resize(out.len() + columns, b' ');
    out.resize(out.len() + columns, BS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_a_beginning_in_common() {
        let check = |words: &[&str], expect: &str| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(common(&words), expect);
        };
        check(&[], "");
        check(&["conns/"], "conns/");
        check(&["listeners/", "list ", "lists "], "list");
        check(&["süd", "sücht"], "sü");
        check(&["a", "b"], "");
    }

    #[test]
    fn words_stand_in_columns() {
        let all = ["alpha ", "be/", "gamma ", "d ", "e "].map(str::to_owned).to_vec();
        let completions = Completions { words: all, ..Completions::default() };
        let mut out = Vec::new();
        words(&completions, Terminal { columns: 22, ..Terminal::default() }, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\r\nalpha  gamma  e\r\nbe/    d\r\n");
    }
}
