//! From typed bytes to keys: UTF-8, control characters, and the escape sequences that terminals send for the other keys.
//!
//! Owns what has come of a key so far. Invariants: a byte is looked at once, and what is kept of an unfinished sequence is a
//! few bytes however long the sequence gets; no byte is ever taken for text that a terminal would act on.
//!
//! Must not: know what a key does.

/// A key, by what it means to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character that shows.
    Char(char),
    Enter,
    Tab,
    Interrupt,
    /// Deletes under the cursor, and ends an empty line's session.
    DeleteOrEnd,
    Delete,
    Backspace,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    Oldest,
    Newest,
    /// To the line's end.
    KillRight,
    /// To the line's beginning.
    KillLeft,
    /// Back to white space.
    KillBlankWord,
    /// Back to the word's beginning.
    KillWordLeft,
    KillWordRight,
    Yank,
    Swap,
    ClearScreen,
    /// Nothing that is known here.
    Unknown,
}

/// Where in a key's bytes the stream stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    /// After ESC O: one letter follows.
    Single,
    /// After ESC [: numbers, then a letter.
    Control {
        first: u8,
        last: u8,
    },
    /// Inside a character: what is known of it, and how many bytes are still to come.
    Utf8 {
        bits: u32,
        left: u8,
        least: u32,
    },
}

/// Turns bytes into keys, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Keys(State);

impl Keys {
    /// Takes one byte; gives the key that it completes.
    pub(crate) fn take(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.0) {
            State::Ground => self.ground(byte),
            State::Escape => self.escape(byte),
            State::Single => Some(letter(byte, 0)),
            State::Control { first, last } => self.control(byte, first, last),
            State::Utf8 { bits, left, least } => self.continued(byte, bits, left, least),
        }
    }

    /// Whether the next byte begins a key.
    pub(crate) fn is_between(&self) -> bool {
        self.0 == State::Ground
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        let (bits, left, least) = match byte {
            0x20..=0x7e => return Some(Key::Char(char::from(byte))),
            0x1b => {
                self.0 = State::Escape;
                return None;
            }
            0x00..=0x1f | 0x7f => return Some(plain(byte)),
            0xc2..=0xdf => (byte & 0x1f, 1, 0x80),
            0xe0..=0xef => (byte & 0x0f, 2, 0x800),
            0xf0..=0xf4 => (byte & 0x07, 3, 0x1_0000),
            // No character begins with it (RFC 3629 section 3).
            _ => return Some(Key::Unknown),
        };
        self.0 = State::Utf8 { bits: u32::from(bits), left, least };
        None
    }

    fn continued(&mut self, byte: u8, bits: u32, left: u8, least: u32) -> Option<Key> {
        if byte & 0xc0 != 0x80 {
            // What was begun is no character; this byte begins anew.
            return self.ground(byte);
        }
        let bits = bits << 6 | u32::from(byte & 0x3f);
        if left > 1 {
            self.0 = State::Utf8 { bits, left: left - 1, least };
            return None;
        }
        // RFC 3629 section 3: neither longer than need be, nor a surrogate, nor above U+10FFFF.
        let c = char::from_u32(bits).filter(|_| bits >= least);
        Some(c.filter(|&c| crate::text::is_harmless(c)).map_or(Key::Unknown, Key::Char))
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            b'[' => {
                self.0 = State::Control { first: 0, last: 0 };
                return None;
            }
            b'O' => {
                self.0 = State::Single;
                return None;
            }
            0x1b => {
                self.0 = State::Escape;
                return None;
            }
            b'b' => Key::WordLeft,
            b'f' => Key::WordRight,
            b'd' => Key::KillWordRight,
            b'<' => Key::Oldest,
            b'>' => Key::Newest,
            0x08 | 0x7f => Key::KillWordLeft,
            // A control character does its own, whatever was begun.
            0x00..=0x1f => return self.ground(byte),
            _ => Key::Unknown,
        })
    }

    fn control(&mut self, byte: u8, first: u8, last: u8) -> Option<Key> {
        let next = match byte {
            b'0'..=b'9' => State::Control { first, last: last.saturating_mul(10).saturating_add(byte - b'0') },
            b';' => State::Control { first: last, last: 0 },
            0x20..=0x3f => State::Control { first, last },
            b'~' => return Some(tilde(if first > 0 { first } else { last })),
            0x40..=0x7e => return Some(letter(byte, last)),
            0x00..=0x1f => return self.ground(byte),
            _ => return Some(Key::Unknown),
        };
        self.0 = next;
        None
    }
}

fn plain(byte: u8) -> Key {
    match byte {
        0x01 => Key::Home,
        0x02 => Key::Left,
        0x03 => Key::Interrupt,
        0x04 => Key::DeleteOrEnd,
        0x05 => Key::End,
        0x06 => Key::Right,
        0x08 | 0x7f => Key::Backspace,
        b'\t' => Key::Tab,
        b'\r' | b'\n' => Key::Enter,
        0x0b => Key::KillRight,
        0x0c => Key::ClearScreen,
        0x0e => Key::Down,
        0x10 => Key::Up,
        0x14 => Key::Swap,
        0x15 => Key::KillLeft,
        0x17 => Key::KillBlankWord,
        0x19 => Key::Yank,
        _ => Key::Unknown,
    }
}

/// The letter that ends a sequence; the number before it tells which of Alt (3) and Ctrl (5) are held.
fn letter(byte: u8, number: u8) -> Key {
    let by_words = matches!(number, 3 | 5);
    match byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' if by_words => Key::WordRight,
        b'D' if by_words => Key::WordLeft,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => Key::Unknown,
    }
}

fn tilde(number: u8) -> Key {
    match number {
        1 | 7 => Key::Home,
        3 => Key::Delete,
        4 | 8 => Key::End,
        _ => Key::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|&byte| keys.take(byte)).collect()
    }

    #[test]
    fn bytes_become_keys() {
        let check = |bytes: &[u8], expect: &[Key]| {
            assert_eq!(keys(bytes), expect, "{}", bytes.escape_ascii());
        };
        check(b"a ~", &[Key::Char('a'), Key::Char(' '), Key::Char('~')]);
        check("zü東🦀".as_bytes(), &[Key::Char('z'), Key::Char('ü'), Key::Char('東'), Key::Char('🦀')]);
        check(b"\x01\x05\x7f\x08\t\r", &[Key::Home, Key::End, Key::Backspace, Key::Backspace, Key::Tab, Key::Enter]);
        check(b"\x1b[A\x1bOB\x1b[1;5C\x1b[1;3D", &[Key::Up, Key::Down, Key::WordRight, Key::WordLeft]);
        check(b"\x1b[3~\x1b[1~\x1b[8~\x1b[3;5~", &[Key::Delete, Key::Home, Key::End, Key::Delete]);
        check(b"\x1bb\x1bf\x1bd\x1b\x7f", &[Key::WordLeft, Key::WordRight, Key::KillWordRight, Key::KillWordLeft]);
        check(b"\x1b\x1b[D\x1b\x03\x1b[5\x03", &[Key::Left, Key::Interrupt, Key::Interrupt]);
        // Not of any keyboard known here, and nothing of it is text.
        check(b"\x1b[200~\x1b[?25h\x1b[>1;2;3;4;5c\x00\x1c", &[Key::Unknown; 5]);
    }

    #[test]
    fn what_is_no_character_is_no_text() {
        for bytes in [&b"\xff"[..], b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc2\x9b"] {
            assert!(keys(bytes).iter().all(|&key| key == Key::Unknown), "{}", bytes.escape_ascii());
        }
        assert_eq!(keys("\u{202e}\u{200b}".as_bytes()), [Key::Unknown; 2]);
        assert_eq!(keys(b"\xe6\x9da"), [Key::Char('a')], "begun and not ended");
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere_and_go_on_forever() {
        let mut keys = Keys::default();
        keys.take(0x1b);
        keys.take(b'[');
        assert!((0..100_000).all(|_| keys.take(b'9').is_none()));
        assert_eq!(keys.take(b'~'), Some(Key::Unknown));
        assert!(keys.is_between());
    }
}
