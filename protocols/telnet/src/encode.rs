//! Text and commands for the peer.
//!
//! Invariant: what is written is data or a whole command to the peer, whatever the text holds; it is at most twice as long as
//! the text.
//!
//! Must not: make text safe to show. Colours are escapes too, so that is up to whoever composes the text.

use crate::codes::{CR, IAC, LF, NUL};
use crate::event::Command;

/// Appends `text` as the network virtual terminal wants it: a line ends in CR LF, a CR alone is followed by NUL, and a byte
/// 255 is doubled (RFC 854). LF and CR LF both end a line; a CR LF that two calls share ends it twice.
pub fn encode_text(text: impl AsRef<[u8]>, out: &mut Vec<u8>) {
    let mut rest = text.as_ref();
    out.reserve(rest.len());
    while let Some(at) = memchr::memchr3(LF, CR, IAC, rest) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (written, used): (_, usize) = match special {
            [LF, ..] => ([CR, LF], 1),
            [CR, LF, ..] => ([CR, LF], 2),
            [CR, ..] => ([CR, NUL], 1),
            _ => ([IAC, IAC], 1),
        };
        out.extend_from_slice(&written);
        rest = &special[used..];
    }
    out.extend_from_slice(rest);
}

/// Appends a plain command.
pub fn encode_command(command: Command, out: &mut Vec<u8>) {
    out.extend_from_slice(&[IAC, command.code()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expect: &[u8]) {
        let mut out = Vec::new();
        encode_text(text, &mut out);
        assert_eq!(out.escape_ascii().to_string(), expect.escape_ascii().to_string());
    }

    #[test]
    fn text_becomes_the_terminals() {
        check(b"", b"");
        check(b"plain", b"plain");
        check(b"a\nb\n", b"a\r\nb\r\n");
        check(b"a\r\nb", b"a\r\nb");
        check(b"a\rb\r", b"a\r\0b\r\0");
        check(b"\r\r\n\n", b"\r\0\r\n\r\n");
        check(b"\xff\xf4", b"\xff\xff\xf4");
        check("zürich\n".as_bytes(), b"z\xc3\xbcrich\r\n");
    }

    #[test]
    fn a_command_is_two_bytes() {
        let mut out = Vec::new();
        encode_command(Command::GoAhead, &mut out);
        assert_eq!(out, [255, 249]);
    }
}
