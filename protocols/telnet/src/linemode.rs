//! Line editing at the terminal (RFC 1184): the mode, and the special characters with their levels.
//!
//! Owns how modes are agreed on, and a table of special characters that exists only while one is set.
//!
//! Invariants:
//!
//! - What carries an acknowledgement is never answered, and what changes nothing is not answered, so two ends fall silent
//!   (RFC 1184 sections 2.2 and 2.4).
//! - One answer per triplet at most, of its length at most; the whole table is told once per message at most, and has
//!   [`MAX_TABLE`] bytes at most. Nothing is written to a buffer of fixed size.
//! - A function this crate does not know has no state.

use crate::codes::{DO, DONT, WILL, WONT};
use crate::option::TelnetOption;
use crate::subnegotiation::Subnegotiation;

const MODE: u8 = 1;
const FORWARDMASK: u8 = 2;
const SLC: u8 = 3;

/// MODE_ACK of a mode.
const MODE_ACK: u8 = 4;

/// How many functions have a character (RFC 1184 section 5.6): 1 to 30.
const FUNCTIONS: u8 = 30;

/// How many of them RFC 1116 had, before there was visual editing.
const OLD_FUNCTIONS: u8 = 18;

/// The low bits of a triplet's flags.
const LEVEL: u8 = 0x03;
/// What the flags may hold besides: flush input, flush output. With [`LEVEL`] they can never be an IAC.
const FLUSH: u8 = 0x60;
const ACK: u8 = 0x80;

/// The most bytes the whole table takes on the wire: three for each function, the value doubled where it is an IAC.
pub(crate) const MAX_TABLE: usize = 4 * FUNCTIONS as usize + 6;

/// What the terminal does with keys before it sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LineMode(u8);

impl LineMode {
    /// Every character is sent as it is typed, and none is a signal.
    pub const NONE: Self = Self(0);
    /// EDIT: the terminal edits the line and sends it whole.
    pub const EDIT: Self = Self(1);
    /// TRAPSIG: the terminal sends interrupt, quit and suspend keys as commands ([`Command`](crate::Command)).
    pub const TRAPSIG: Self = Self(2);

    /// Both of two modes.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `mode` is in this one.
    #[must_use]
    pub const fn contains(self, mode: Self) -> bool {
        self.0 & mode.0 == mode.0
    }

    /// The advice about tabs and control characters is nothing to us (a client may drop these two bits, RFC 1184 section 2.2).
    const fn from_mask(mask: u8) -> Self {
        Self(mask & (Self::EDIT.0 | Self::TRAPSIG.0))
    }
}

/// How firmly a special character is set (RFC 1184 section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Level {
    /// The function does not exist here.
    #[default]
    NoSupport = 0,
    /// It has this character, and that stays so.
    CantChange = 1,
    /// It has this character.
    Value = 2,
    /// Whatever the other end takes for its default.
    Default = 3,
}

impl Level {
    const fn from_flags(flags: u8) -> Self {
        match flags & LEVEL {
            0 => Self::NoSupport,
            1 => Self::CantChange,
            2 => Self::Value,
            _ => Self::Default,
        }
    }
}

/// One key at the peer's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpecialCharacter {
    /// What it does: one of RFC 1184 section 5.6, such as 3 for "interrupt", 10 for "erase character"; 0 in a request about all.
    pub function: u8,
    /// How firmly it is set.
    pub level: Level,
    /// Whether this settles what we proposed.
    pub acknowledged: bool,
    /// The key's code; meaningless without support, 255 where no key does it.
    pub value: u8,
}

/// The keys a message speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialCharacters<'a>(&'a [u8]);

impl<'a> SpecialCharacters<'a> {
    /// The keys in order.
    pub fn iter(self) -> impl Iterator<Item = SpecialCharacter> + 'a {
        triplets(self.0).map(|[function, flags, value]| SpecialCharacter {
            function,
            level: Level::from_flags(flags),
            acknowledged: flags & ACK != 0,
            value,
        })
    }
}

fn triplets(bytes: &[u8]) -> impl Iterator<Item = [u8; 3]> + '_ {
    bytes.chunks_exact(3).map(|triplet| [triplet[0], triplet[1], triplet[2]])
}

/// What a message about line mode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard<'p> {
    Mode {
        mode: LineMode,
        acknowledged: bool,
    },
    Characters(SpecialCharacters<'p>),
    /// About a mask of characters that send the line: the refusal that answers it, if it wants one.
    ForwardMask(Option<u8>),
}

pub(crate) fn parse(parameters: &[u8]) -> Option<Heard<'_>> {
    match *parameters {
        [MODE, mask] => Some(Heard::Mode { mode: LineMode::from_mask(mask), acknowledged: mask & MODE_ACK != 0 }),
        [SLC, ref triplets @ ..] => Some(Heard::Characters(SpecialCharacters(triplets))),
        [DO, FORWARDMASK, ..] => Some(Heard::ForwardMask(Some(WONT))),
        [WILL, FORWARDMASK, ..] => Some(Heard::ForwardMask(Some(DONT))),
        [DONT | WONT, FORWARDMASK, ..] => Some(Heard::ForwardMask(None)),
        _ => None,
    }
}

impl LineMode {
    /// Proposes a mode. Says whether it is another than the one that is.
    pub(crate) fn propose(&mut self, mode: Self, out: &mut Vec<u8>) -> bool {
        let is_new = *self != mode;
        if is_new {
            *self = mode;
            say_mode(mode.0, out);
        }
        is_new
    }

    /// Takes a mode and answers it. Says whether it is another than the one that was.
    pub(crate) fn hear(&mut self, mode: Self, acknowledged: bool, is_server: bool, out: &mut Vec<u8>) -> bool {
        // RFC 1184 section 2.2: what changes nothing is ignored; an acknowledgement that differs is the server's to follow
        // (the client took part of it), and the client's to ignore. No acknowledgement is ever answered.
        if *self == mode || (acknowledged && !is_server) {
            return false;
        }
        *self = mode;
        if !acknowledged {
            say_mode(mode.0 | MODE_ACK, out);
        }
        true
    }
}

/// The special characters of one connection. One pointer while none is set.
#[derive(Debug)]
pub(crate) struct Characters(Option<Box<Table>>);

/// Level with flush bits, and value, of every function that has one.
#[derive(Debug, PartialEq, Eq)]
struct Table([(u8, u8); FUNCTIONS as usize]);

impl Characters {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.as_deref().map_or(0, size_of_val)
    }

    /// Proposes a character.
    pub(crate) fn propose(&mut self, function: u8, level: Level, value: u8, out: &mut Vec<u8>) {
        self.set(function, level as u8, value);
        Subnegotiation::of(TelnetOption::LineMode, out).byte(SLC).byte(function).byte(level as u8).byte(value).end();
    }

    /// Takes a message's characters and answers them. `may_tell_table` says whether there is room for the whole table.
    pub(crate) fn hear(&mut self, heard: SpecialCharacters<'_>, may_tell_table: bool, out: &mut Vec<u8>) {
        let mut answers = Vec::new();
        let mut wants_table = false;
        for [function, flags, value] in triplets(heard.0) {
            match function {
                // RFC 1184 section 2.4: function 0 asks for all, at their defaults or as they are.
                0 => match Level::from_flags(flags) {
                    Level::Default => (self.0, wants_table) = (None, true),
                    Level::Value => wants_table = true,
                    Level::NoSupport | Level::CantChange => {}
                },
                _ => answers.extend(self.hear_character(function, flags, value)),
            }
        }
        if wants_table && may_tell_table {
            // It holds what the other answers would say.
            answers = (1..=FUNCTIONS).filter_map(|function| self.offer(function)).collect();
        }
        if answers.is_empty() {
            return;
        }
        let writing = Subnegotiation::of(TelnetOption::LineMode, out).byte(SLC);
        answers.iter().fold(writing, |writing, triplet| writing.bytes(triplet)).end();
    }

    fn hear_character(&mut self, function: u8, flags: u8, value: u8) -> Option<[u8; 3]> {
        let (level, is_ack) = (Level::from_flags(flags), flags & ACK != 0);
        if function > FUNCTIONS {
            return (level != Level::NoSupport && !is_ack).then_some([function, Level::NoSupport as u8, 0]);
        }
        let (now_flags, now_value) = self.get(function);
        let same_level = now_flags & LEVEL == flags & LEVEL;
        // Section 2.4: the same level with the same value, or acknowledged, settles it; an acknowledgement at another
        // level answers what we no longer propose.
        if same_level && (value == now_value || level == Level::NoSupport) || is_ack && !same_level {
            return None;
        }
        if is_ack {
            self.set(function, flags & (LEVEL | FLUSH), value);
            return None;
        }
        if level == Level::Default {
            // Our default is to have no such key, and that is ours to say.
            self.set(function, Level::NoSupport as u8, 0);
            return Some([function, Level::NoSupport as u8, 0]);
        }
        let flags = flags & (LEVEL | FLUSH);
        self.set(function, flags, value);
        Some([function, flags | ACK, value])
    }

    /// RFC 1184 section 2.4: what we have no key for is the other end's to choose, not taken from it. Of the functions that
    /// clients of RFC 1116 have never heard of, nothing is said; that leaves them as they are, too.
    fn offer(&self, function: u8) -> Option<[u8; 3]> {
        match self.get(function) {
            (flags, value) if flags & LEVEL != Level::NoSupport as u8 => Some([function, flags, value]),
            _ => (function <= OLD_FUNCTIONS).then_some([function, Level::Default as u8, 0]),
        }
    }

    fn get(&self, function: u8) -> (u8, u8) {
        self.0.as_ref().map_or((0, 0), |table| table.0[usize::from(function) - 1])
    }

    fn set(&mut self, function: u8, flags: u8, value: u8) {
        if !(1..=FUNCTIONS).contains(&function) || (self.0.is_none() && flags & LEVEL == Level::NoSupport as u8) {
            return;
        }
        let table = self.0.get_or_insert_with(|| Box::new(Table([(0, 0); FUNCTIONS as usize])));
        table.0[usize::from(function) - 1] = (flags, value);
    }
}

/// Refuses a mask (RFC 1184 section 2.3), by WONT to a DO and DONT to a WILL.
pub(crate) fn refuse_mask(refusal: u8, out: &mut Vec<u8>) {
    Subnegotiation::of(TelnetOption::LineMode, out).byte(refusal).byte(FORWARDMASK).end();
}

fn say_mode(mask: u8, out: &mut Vec<u8>) {
    Subnegotiation::of(TelnetOption::LineMode, out).byte(MODE).byte(mask).end();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a message of these triplets is answered with.
    #[track_caller]
    fn check(characters: &mut Characters, triplets: &[u8], expect: &[u8]) {
        let mut out = Vec::new();
        characters.hear(SpecialCharacters(triplets), true, &mut out);
        let mut message = Vec::new();
        Subnegotiation::of(TelnetOption::LineMode, &mut message).byte(SLC).bytes(triplets).end();
        assert!(out.len() <= message.len());
        let answers = if out.is_empty() { &[][..] } else { &out[4..out.len() - 2] };
        assert_eq!(answers, expect);
    }

    const VALUE: u8 = Level::Value as u8;

    #[test]
    fn a_character_is_acknowledged_once() {
        let mut characters = Characters::NONE;
        check(&mut characters, &[3, VALUE | FLUSH, 3], &[3, VALUE | FLUSH | ACK, 3]);
        check(&mut characters, &[3, VALUE | FLUSH, 3], &[]);
        check(&mut characters, &[3, VALUE, 4], &[3, VALUE | ACK, 4]);
        check(&mut characters, &[3, VALUE | ACK, 5], &[]);
        check(&mut characters, &[3, VALUE, 5], &[]); // the acknowledgement was taken
        check(&mut characters, &[3, Level::CantChange as u8 | ACK, 6], &[]);
        check(&mut characters, &[3, VALUE, 5], &[]); // one at another level was not
        check(&mut characters, &[3, 0, 0], &[3, ACK, 0]);
        check(&mut characters, &[3, 0, 9], &[]);
    }

    #[test]
    fn what_is_not_known_is_refused_once() {
        let mut characters = Characters::NONE;
        check(&mut characters, &[31, VALUE, 1, 254, VALUE, 2], &[31, 0, 0, 254, 0, 0]);
        check(&mut characters, &[31, 0, 0, 31, VALUE | ACK, 0], &[]);
        check(&mut characters, &[1, Level::Default as u8, 7], &[1, 0, 0]);
        assert!(characters.0.is_none(), "nothing is set");
        check(&mut characters, &[3, VALUE], &[]); // no whole triplet
    }

    #[test]
    fn the_table_is_told_whole_once_per_message() {
        let mut characters = Characters::NONE;
        check(&mut characters, &[3, VALUE, 255], &[3, VALUE | ACK, 255, 255]);
        let mut out = Vec::new();
        let asked = [0, VALUE, 0].repeat(100);
        characters.hear(SpecialCharacters(&asked), true, &mut out);
        assert_eq!(out.len(), 3 * usize::from(OLD_FUNCTIONS) + 1 + 6);
        // What is not set is the other end's to choose, and then agreed to.
        assert_eq!(out[4..14], [1, Level::Default as u8, 0, 2, Level::Default as u8, 0, 3, VALUE, 255, 255]);
        out.clear();
        characters.hear(SpecialCharacters(&[0, Level::Default as u8, 0]), false, &mut out);
        assert!(out.is_empty() && characters.0.is_none());
    }

    #[test]
    fn no_flags_become_a_longer_answer() {
        for flags in 0..=u8::MAX {
            let mut characters = Characters::NONE;
            let mut out = Vec::new();
            characters.hear(SpecialCharacters(&[3, flags, 1]), true, &mut out);
            assert!(out.len() <= 9, "{flags}");
        }
    }
}
