//! The terminal's names (RFC 1091) and what it can do (MTTS).
//!
//! Owns how far the cycle of names has come, on the asking and on the answering side.
//!
//! Invariant: a peer is asked again only after it told a name that it had not just told, at most [`MAX_TERMINAL_TYPES`] times,
//! so a peer that never repeats itself is not asked for ever.

use crate::option::TelnetOption;
use crate::subnegotiation::Subnegotiation;

/// How many names of its terminal a peer is asked for. The longest list seen in the wild has five.
pub const MAX_TERMINAL_TYPES: u8 = 8;

const IS: u8 = 0;
const SEND: u8 = 1;

/// What a terminal can do, as the MUD terminal type standard's third answer, `MTTS n`, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TerminalFeatures(pub u32);

impl TerminalFeatures {
    /// Colours and attributes by ANSI escapes.
    pub const ANSI: Self = Self(1);
    /// Cursor movement as a VT100.
    pub const VT100: Self = Self(2);
    /// Text is UTF-8.
    pub const UTF8: Self = Self(4);
    /// 256 colours.
    pub const COLORS_256: Self = Self(8);
    /// Mouse tracking.
    pub const MOUSE: Self = Self(16);
    /// The palette can be changed.
    pub const PALETTE: Self = Self(32);
    /// A screen reader speaks.
    pub const SCREEN_READER: Self = Self(64);
    /// A proxy stands between.
    pub const PROXY: Self = Self(128);
    /// 24-bit colours.
    pub const TRUE_COLOR: Self = Self(256);
    /// Facts are told in the environment (MNES).
    pub const ENVIRONMENT: Self = Self(512);
    /// Links in text (MSLP).
    pub const LINKS: Self = Self(1024);
    /// The connection is encrypted up to the terminal.
    pub const ENCRYPTED: Self = Self(2048);

    /// Whether all of `features` are among these.
    #[must_use]
    pub const fn contains(self, features: Self) -> bool {
        self.0 & features.0 == features.0
    }

    /// `MTTS ` and a decimal number, nothing else.
    fn parse(name: &[u8]) -> Option<Self> {
        let digits = name.strip_prefix(b"MTTS ")?;
        // A u32 has ten digits at most, and `parse` alone would take a sign.
        let is_number = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        let number = is_number.then(|| std::str::from_utf8(digits).ok())??;
        number.parse().ok().map(Self)
    }
}

/// The name to answer the `round`th [`TelnetEvent::TerminalTypeAsked`](crate::TelnetEvent::TerminalTypeAsked) with: each in
/// turn, the last one twice, and from the first again (RFC 1091 section 4).
#[must_use]
pub fn terminal_name<'n>(names: &[&'n str], round: u8) -> &'n str {
    let Some(last) = names.len().checked_sub(1) else {
        return "UNKNOWN";
    };
    names[(usize::from(round) % (last + 2)).min(last)]
}

/// How far the names have been told.
#[derive(Debug)]
pub(crate) struct Cycle {
    /// Which answer is awaited, from 1; 0 while none is.
    awaited: u8,
    /// How often the peer has asked us.
    asked: u8,
    /// A hash of the name told last. Two names that collide end the cycle early, and harm nobody.
    last: u16,
}

/// What a message about the terminal's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard<'p> {
    Name(&'p [u8]),
    Features(TerminalFeatures),
    Asked,
}

/// Takes a message apart, without regard to whether it was expected.
pub(crate) fn parse(parameters: &[u8]) -> Option<Heard<'_>> {
    match parameters {
        [IS, name @ ..] => Some(TerminalFeatures::parse(name).map_or(Heard::Name(name), Heard::Features)),
        [SEND] => Some(Heard::Asked),
        _ => None,
    }
}

impl Cycle {
    pub(crate) const NEW: Self = Self { awaited: 0, asked: 0, last: 0 };

    /// The option was turned on or off: both ends begin anew.
    pub(crate) fn reset(&mut self) {
        *self = Self::NEW;
    }

    /// Asks for the first name. Says whether that was not being done already.
    pub(crate) fn ask(&mut self, out: &mut Vec<u8>) -> bool {
        let idle = self.awaited == 0;
        if idle {
            self.awaited = 1;
            ask(out);
        }
        idle
    }

    /// Takes the answer to our question, and asks the next one. Says whether it is news; a repeated name ends the cycle and is
    /// none. An answer to no question is ignored (RFC 1091 section 2).
    pub(crate) fn answered(&mut self, heard: Heard<'_>, out: &mut Vec<u8>) -> bool {
        let round = std::mem::take(&mut self.awaited);
        let Heard::Name(name) = heard else {
            return round != 0;
        };
        let hash = hash(name);
        // RFC 1091 section 4: the end of the list is the last name told twice.
        if round == 0 || (round > 1 && hash == self.last) {
            return false;
        }
        if round < MAX_TERMINAL_TYPES {
            self.last = hash;
            self.awaited = round + 1;
            ask(out);
        }
        true
    }

    /// The peer asks.
    pub(crate) fn asked(&mut self) -> bool {
        self.asked = self.asked.wrapping_add(1);
        true
    }

    /// How often the peer asked before the last time.
    pub(crate) const fn round(&self) -> u8 {
        self.asked.wrapping_sub(1)
    }
}

fn ask(out: &mut Vec<u8>) {
    Subnegotiation::of(TelnetOption::TerminalType, out).byte(SEND).end();
}

/// Tells `name`. Control characters are no part of a name.
pub(crate) fn tell(name: &str, out: &mut Vec<u8>) {
    let mut writing = Subnegotiation::of(TelnetOption::TerminalType, out).byte(IS);
    for byte in name.bytes().filter(u8::is_ascii).filter(|byte| !byte.is_ascii_control()) {
        writing = writing.byte(byte);
    }
    writing.end();
}

/// FNV-1a, folded.
fn hash(name: &[u8]) -> u16 {
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 16 ^ hash) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_a_plain_number() {
        let check = |name: &[u8], expect: Option<u32>| assert_eq!(TerminalFeatures::parse(name).map(|f| f.0), expect);
        check(b"MTTS 137", Some(137));
        check(b"MTTS 4294967295", Some(u32::MAX));
        for not in [&b"MTTS "[..], b"MTTS 4294967296", b"MTTS -1", b"MTTS +1", b"MTTS 1 ", b"MTTS", b"mtts 1", b"XTERM"]
        {
            check(not, None);
        }
    }

    #[test]
    fn features_are_asked_for_by_name() {
        let features = TerminalFeatures(137);
        assert!(features.contains(TerminalFeatures::ANSI) && features.contains(TerminalFeatures::COLORS_256));
        assert!(!features.contains(TerminalFeatures::UTF8));
    }

    #[test]
    fn a_name_is_told_without_control_characters() {
        let mut out = Vec::new();
        tell("xterm\x1b[2J\u{fc}", &mut out);
        assert_eq!(out, b"\xff\xfa\x18\0xterm[2J\xff\xf0");
    }
}
