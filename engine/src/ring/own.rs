//! The driver's own tokens: operations that the shard never hears of, or hears of under its own token.
//!
//! They carry the kind `Driver`, what they are in the aux bits, and a place in one of the driver's tables in the slot bits.
//! With aux bits 0 they are the shard's: operations whose completion it does not want to hear of.

use crate::token::{Kind, Token};

/// What one of the driver's own operations is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Own {
    /// The poll of the eventfd.
    Wake = 1,
    /// A peer fetch; its place.
    Peer = 2,
    /// A datagram send; its place.
    DatagramSend = 3,
    /// A dial's steps; the dial's index.
    DialSocket = 4,
    DialOption = 5,
    DialConnect = 6,
    DialClose = 7,
    /// An option that only a failure of completes; nobody waits for it.
    Option = 8,
    /// A step of the probe.
    Probe = 9,
    /// A message of the probe to its own ring: a completion without an operation.
    Message = 10,
    /// The close of a connection, of which only a failure completes.
    Close = 11,
    /// The timeout that ends a busy ring's waits.
    Alarm = 12,
}

/// The token of an own operation.
pub(super) fn own(what: Own, place: u32) -> Token {
    Token::with_aux(Kind::Driver, what as u8, 0, place)
}

impl Own {
    /// What an own token stands for; `None` for the shard's.
    #[inline]
    pub(super) fn of(token: Token) -> std::option::Option<Own> {
        use Own::*;
        if token.kind() != Kind::Driver {
            return None;
        }
        Some(match token.aux() {
            1 => Wake,
            2 => Peer,
            3 => DatagramSend,
            4 => DialSocket,
            5 => DialOption,
            6 => DialConnect,
            7 => DialClose,
            8 => Option,
            9 => Probe,
            10 => Message,
            11 => Close,
            12 => Alarm,
            _ => return None,
        })
    }

    /// Whether it was counted as an operation: those that complete only when they fail are not.
    fn counted(self) -> bool {
        !matches!(self, Own::DialOption | Own::Option | Own::Message | Own::Close)
    }
}

/// Whether this was counted as an operation in flight (see `Ring::push`).
#[inline]
pub(super) fn counted(token: Token) -> bool {
    match token.kind() {
        Kind::Driver => Own::of(token).is_none_or(Own::counted),
        kind => kind != Kind::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_survives_the_round_trip() {
        use Own::*;
        let dials = [DialSocket, DialOption, DialConnect, DialClose];
        for what in [Wake, Peer, DatagramSend, Option, Probe, Message, Close, Alarm].into_iter().chain(dials) {
            assert_eq!(Own::of(own(what, 7)), Some(what));
            assert_eq!(own(what, 7).slot(), 7);
        }
        assert_eq!(Own::of(Token::with_aux(Kind::Driver, 0, 0, 0)), None);
        assert_eq!(Own::of(Token::with_aux(Kind::Send, Wake as u8, 0, 0)), None);
    }
}
