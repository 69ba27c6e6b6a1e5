//! What is known of an operator's terminal: its size, and what it understands.
//!
//! Invariant: a terminal that has not said what it is is sent nothing but text, CR, LF, BS and BEL.

use megamux_telnet::encode_text;

use crate::event::mark;

/// The width of a window whose size is not known, in characters.
const DEFAULT_COLUMNS: u16 = 80;

/// The narrowest window that a line is edited in; a narrower one is used as if it were this wide.
const LEAST_COLUMNS: usize = 20;

/// Sequences that a terminal understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Ability {
    /// None, or nobody said.
    #[default]
    Plain,
    /// Cursor movement and erasing (ECMA-48).
    Moves,
    /// Colours, too.
    Colours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Terminal {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
    pub(crate) ability: Ability,
}

impl Ability {
    /// What a terminal of this name understands (RFC 1091, RFC 1572's TERM); nothing, if the name says nothing.
    fn of(name: &str) -> Ability {
        const COLOURS: [&str; 22] = [
            "xterm",
            "screen",
            "tmux",
            "linux",
            "rxvt",
            "putty",
            "konsole",
            "gnome",
            "vte",
            "alacritty",
            "kitty",
            "st",
            "foot",
            "wezterm",
            "iterm",
            "iterm2",
            "cygwin",
            "eterm",
            "mintty",
            "ghostty",
            "contour",
            "nsterm",
        ];
        let name = name.to_ascii_lowercase();
        let family = name.split(['-', '.', '+']).next().unwrap_or_default();
        let digits = family.strip_prefix("vt");
        match family {
            _ if COLOURS.contains(&family) => Ability::Colours,
            "ansi" | "pcansi" => Ability::Moves,
            _ if digits.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest != "52") => {
                Ability::Moves
            }
            _ => Ability::Plain,
        }
    }
}

impl Terminal {
    /// It says what it is called. Of several names, the best known counts.
    pub(crate) fn is_called(&mut self, name: &[u8]) {
        if let Ok(name) = std::str::from_utf8(name) {
            self.ability = self.ability.max(Ability::of(name));
        }
    }

    /// The width to write for.
    pub(crate) fn width(self) -> usize {
        match self.columns {
            0 => usize::from(DEFAULT_COLUMNS),
            columns => usize::from(columns).max(LEAST_COLUMNS),
        }
    }

    /// Lines on a page, if the window's height is known and worth paging for.
    pub(crate) fn page(self) -> Option<usize> {
        (self.rows >= 3).then(|| usize::from(self.rows) - 1)
    }

    pub(crate) fn moves(self) -> bool {
        self.ability >= Ability::Moves
    }

    /// Writes text with its marks, as this terminal shows them.
    pub(crate) fn write(self, text: &str, out: &mut Vec<u8>) {
        let mut rest = text;
        while let Some(at) = rest.find(mark::is) {
            encode_text(&rest[..at], out);
            let (marked, after) = rest[at..].split_at(1);
            if self.ability == Ability::Colours {
                out.extend_from_slice(sequence(marked));
            }
            rest = after;
        }
        encode_text(rest, out);
    }
}

fn sequence(marked: &str) -> &'static [u8] {
    match marked.chars().next() {
        Some(mark::HEADING) => b"\x1b[1m",
        Some(mark::GOOD) => b"\x1b[32m",
        Some(mark::BAD) => b"\x1b[31m",
        Some(mark::FAINT) => b"\x1b[2m",
        _ => b"\x1b[0m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_is_understood() {
        let check = |name, expect| assert_eq!(Ability::of(name), expect, "{name}");
        for name in ["", "dumb", "unknown", "network", "NETWORK-VIRTUAL-TERMINAL", "emacs", "xtermish", "vt52", "vtx"] {
            check(name, Ability::Plain);
        }
        for name in ["vt100", "VT220", "vt102-nsgr", "ansi"] {
            check(name, Ability::Moves);
        }
        for name in
            ["xterm", "XTERM-256COLOR", "screen.xterm-256color", "linux", "putty", "tmux-256color", "st-256color"]
        {
            check(name, Ability::Colours);
        }
    }

    #[test]
    fn marks_become_colours_only_where_they_are_understood() {
        let text = format!("{}id{}\n{}x{}", mark::HEADING, mark::PLAIN, mark::BAD, mark::PLAIN);
        let shown = |ability| {
            let mut out = Vec::new();
            Terminal { ability, ..Terminal::default() }.write(&text, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(Ability::Plain), "id\r\nx");
        assert_eq!(shown(Ability::Moves), "id\r\nx");
        assert_eq!(shown(Ability::Colours), "\x1b[1mid\x1b[0m\r\n\x1b[31mx\x1b[0m");
    }
}
