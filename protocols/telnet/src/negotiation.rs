//! Option negotiation by the Q method (RFC 1143).
//!
//! ```text
//!              we want it on                      we want it off
//!   No  --------------------> WantYes     Yes --------------------> WantNo
//!         answered on: Yes                      answered off: No
//!         answered off: No
//!   WantYes + we want it off: WantYesOpposite     WantNo + we want it on: WantNoOpposite
//!         (the queue bit: the next request, sent once the first is answered)
//! ```
//!
//! Owns one of six states per known option and side, two sides to a byte. RFC 1143 spells its tables out for "him" and has
//! "us" follow by symmetry; here a message is reduced to *on* (WILL or DO) or *off* (WONT or DONT) about a side, so that
//! both sides are one table.
//!
//! Invariants: hearing one message says at most one; a message that changes nothing and refuses nothing is not answered,
//! which is why two ends cannot keep each other talking (RFC 1143 section 3); an unknown option has no state.
//!
//! Must not: know what an option means, or decide which may be on ([`Support`]).

use crate::codes::{DO, DONT, IAC, WILL, WONT};
use crate::option::{Side, Support, TelnetOption};
use thiserror::Error;

/// The states of every known option on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Negotiation {
    support: Support,
    sides: [Sides; TelnetOption::COUNT],
}

/// Why a request to the peer was not made or queued (the "Error" entries of RFC 1143 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The option already is as asked.
    #[error("the option already is as asked")]
    AlreadySo,
    /// The same was asked before, and the peer has not answered yet.
    #[error("the same was asked already and is not answered yet")]
    AlreadyAsked,
    /// The option is not on, so its subnegotiation means nothing to the peer (RFC 855).
    #[error("the option is not on")]
    NotOn,
}

/// What a message asks of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    On,
    Off,
}

/// One of the four negotiation messages: a side and a wish. The two ends name the side from opposite views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verb {
    pub(crate) side: Side,
    pub(crate) wish: Wish,
}

impl Verb {
    /// The message the peer sent with this byte after IAC.
    pub(crate) const fn heard(code: u8) -> Option<Self> {
        let (side, wish) = match code {
            WILL => (Side::Remote, Wish::On),
            WONT => (Side::Remote, Wish::Off),
            DO => (Side::Local, Wish::On),
            DONT => (Side::Local, Wish::Off),
            _ => return None,
        };
        Some(Self { side, wish })
    }

    /// Says this to the peer about the option with this code.
    pub(crate) fn say(self, code: u8, out: &mut Vec<u8>) {
        let verb = match (self.side, self.wish) {
            (Side::Local, Wish::On) => WILL,
            (Side::Local, Wish::Off) => WONT,
            (Side::Remote, Wish::On) => DO,
            (Side::Remote, Wish::Off) => DONT,
        };
        out.extend_from_slice(&[IAC, verb, code]);
    }
}

impl Negotiation {
    /// Every option off on both sides, as a connection begins (RFC 854).
    pub(crate) const fn new(support: Support) -> Self {
        Self { support, sides: [Sides::OFF; TelnetOption::COUNT] }
    }

    /// Whether the option is in effect. While a request is open it is not (RFC 1143 section 2).
    pub(crate) fn is_on(&self, side: Side, option: TelnetOption) -> bool {
        self.sides[option.index()].state(side) == Q::Yes
    }

    /// Whether the peer may still hold the option to be on: it is, or we asked it off and the answer is under way.
    pub(crate) fn may_be_on(&self, side: Side, option: TelnetOption) -> bool {
        matches!(self.sides[option.index()].state(side), Q::Yes | Q::WantNo | Q::WantNoOpposite)
    }

    pub(crate) const fn accepts(&self, side: Side, option: TelnetOption) -> bool {
        self.support.accepts(side, option)
    }

    pub(crate) fn set_support(&mut self, support: Support) {
        self.support = support;
    }

    /// Takes a message from the peer and answers it. Returns what the option has become if it settled anew.
    pub(crate) fn hear(&mut self, verb: Verb, code: u8, out: &mut Vec<u8>) -> Option<(TelnetOption, Wish)> {
        let Some(option) = TelnetOption::from_code(code) else {
            // An unknown option is forever in state NO and never agreed to: enabling is refused each time it is asked,
            // disabling is ignored (RFC 1143 section 7). The refusal itself is never answered by a peer in state NO.
            if verb.wish == Wish::On {
                Verb { wish: Wish::Off, ..verb }.say(code, out);
            }
            return None;
        };
        let sides = &mut self.sides[option.index()];
        let before = sides.state(verb.side);
        let (after, answer) = before.hear(verb.wish, self.support.accepts(verb.side, option));
        sides.set(verb.side, after);
        if let Some(wish) = answer {
            Verb { wish, ..verb }.say(code, out);
        }
        match after {
            Q::Yes if before != Q::Yes => Some((option, Wish::On)),
            Q::No if before != Q::No => Some((option, Wish::Off)),
            _ => None,
        }
    }

    /// Asks the peer for a change of ours, or queues the request behind an open one.
    pub(crate) fn want(&mut self, verb: Verb, option: TelnetOption, out: &mut Vec<u8>) -> Result<(), RequestError> {
        let sides = &mut self.sides[option.index()];
        let (after, message) = sides.state(verb.side).want(verb.wish)?;
        sides.set(verb.side, after);
        if let Some(wish) = message {
            Verb { wish, ..verb }.say(option.code(), out);
        }
        Ok(())
    }
}

/// The state of one option on one side, with RFC 1143's queue bit folded in: `Opposite` is a queue that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Q {
    No,
    Yes,
    WantNo,
    WantNoOpposite,
    WantYes,
    WantYesOpposite,
}

impl Q {
    /// RFC 1143 section 7, "upon receipt of WILL" and "of WONT": the next state and the answer.
    fn hear(self, wish: Wish, agree: bool) -> (Self, Option<Wish>) {
        match (wish, self) {
            (Wish::On, Q::No) if agree => (Q::Yes, Some(Wish::On)),
            (Wish::On, Q::No) => (Q::No, Some(Wish::Off)),
            (Wish::On, Q::Yes) => (Q::Yes, None),
            // A request to stop was answered with a start: the peer errs. Nothing more is said to such a peer, and the
            // queue is emptied in the most sensible way (the RFC's own note at these entries).
            (Wish::On, Q::WantNo) => (Q::No, None),
            (Wish::On, Q::WantNoOpposite) => (Q::Yes, None),
            (Wish::On, Q::WantYes) => (Q::Yes, None),
            (Wish::On, Q::WantYesOpposite) => (Q::WantNo, Some(Wish::Off)),

            (Wish::Off, Q::No) => (Q::No, None),
            (Wish::Off, Q::Yes) => (Q::No, Some(Wish::Off)),
            (Wish::Off, Q::WantNo) => (Q::No, None),
            (Wish::Off, Q::WantNoOpposite) => (Q::WantYes, Some(Wish::On)),
            (Wish::Off, Q::WantYes) => (Q::No, None),
            (Wish::Off, Q::WantYesOpposite) => (Q::No, None),
        }
    }

    /// RFC 1143 section 7, "if we decide to ask him to enable" and "to disable": the next state and the request.
    fn want(self, wish: Wish) -> Result<(Self, Option<Wish>), RequestError> {
        match (wish, self) {
            (Wish::On, Q::No) => Ok((Q::WantYes, Some(Wish::On))),
            (Wish::On, Q::Yes) => Err(RequestError::AlreadySo),
            (Wish::On, Q::WantNo) => Ok((Q::WantNoOpposite, None)),
            (Wish::On, Q::WantNoOpposite) => Err(RequestError::AlreadyAsked),
            (Wish::On, Q::WantYes) => Err(RequestError::AlreadyAsked),
            (Wish::On, Q::WantYesOpposite) => Ok((Q::WantYes, None)),

            (Wish::Off, Q::No) => Err(RequestError::AlreadySo),
            (Wish::Off, Q::Yes) => Ok((Q::WantNo, Some(Wish::Off))),
            (Wish::Off, Q::WantNo) => Err(RequestError::AlreadyAsked),
            (Wish::Off, Q::WantNoOpposite) => Ok((Q::WantNo, None)),
            (Wish::Off, Q::WantYes) => Ok((Q::WantYesOpposite, None)),
            (Wish::Off, Q::WantYesOpposite) => Err(RequestError::AlreadyAsked),
        }
    }
}

/// Both sides of one option: the local state in the low half, the remote one in the high half.
#[derive(Debug, Clone, Copy)]
struct Sides(u8);

impl Sides {
    const OFF: Self = Self(0);

    const fn shift(side: Side) -> u32 {
        match side {
            Side::Local => 0,
            Side::Remote => 4,
        }
    }

    fn state(self, side: Side) -> Q {
        match (self.0 >> Self::shift(side)) & 0xf {
            0 => Q::No,
            1 => Q::Yes,
            2 => Q::WantNo,
            3 => Q::WantNoOpposite,
            4 => Q::WantYes,
            // Only `set` writes, and it writes no value above this one.
            _ => Q::WantYesOpposite,
        }
    }

    fn set(&mut self, side: Side, state: Q) {
        let shift = Self::shift(side);
        self.0 = (self.0 & !(0xf << shift)) | ((state as u8) << shift);
    }
}
