//! What a shard's wheel holds per timer: 64 bits that say whose timer it is.
//!
//! Layout, from the high bits: `kind:4 | place:8 | generation:28 | slot:24`. The generation keeps a late timer away from the
//! slot's next connection, though teardown cancels them all anyway.

use crate::token::{GENERATION_BITS, SLOT_BITS};

/// Whose timer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerKind {
    /// Idle timeout, or, while a connection opens, its handshake timeout.
    Idle,
    /// Write stall while it is open; the end of flushing and lingering after.
    Stall,
    /// One of the handler's own; `place` says which.
    Handler(u8),
    /// A dial that takes too long; the slot field holds the dial's index.
    Dial,
    /// The shard's own: a step of the drain is overdue; the slot field says which.
    Drain,
    /// Accepting goes on; the slot field holds the listener's index.
    Accept,
    /// Receiving datagrams goes on; the slot field holds the socket's number.
    Datagram,
}

/// The packed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerWord(u64);

impl TimerWord {
    fn pack(kind: u8, place: u8, generation: u32, slot: u32) -> TimerWord {
        TimerWord(u64::from(kind) << 60 | u64::from(place) << 52 | u64::from(generation) << SLOT_BITS | u64::from(slot))
    }

    pub(crate) fn idle(generation: u32, slot: u32) -> TimerWord {
        TimerWord::pack(0, 0, generation, slot)
    }

    pub(crate) fn stall(generation: u32, slot: u32) -> TimerWord {
        TimerWord::pack(1, 0, generation, slot)
    }

    pub(crate) fn handler(place: u8, generation: u32, slot: u32) -> TimerWord {
        TimerWord::pack(2, place, generation, slot)
    }

    pub(crate) fn dial(generation: u32, index: u32) -> TimerWord {
        TimerWord::pack(3, 0, generation, index)
    }

    pub(crate) fn drain(step: u32) -> TimerWord {
        TimerWord::pack(4, 0, 0, step)
    }

    pub(crate) fn accept(listener: u32) -> TimerWord {
        TimerWord::pack(5, 0, 0, listener)
    }

    pub(crate) fn datagram(socket: u32) -> TimerWord {
        TimerWord::pack(6, 0, 0, socket)
    }

    pub(crate) fn kind(self) -> TimerKind {
        match self.0 >> 60 {
            0 => TimerKind::Idle,
            1 => TimerKind::Stall,
            2 => TimerKind::Handler((self.0 >> 52) as u8),
            3 => TimerKind::Dial,
            4 => TimerKind::Drain,
            5 => TimerKind::Accept,
            _ => TimerKind::Datagram,
        }
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32 & ((1 << GENERATION_BITS) - 1)
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 as u32 & ((1 << SLOT_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_round_trip() {
        let word = TimerWord::handler(255, (1 << GENERATION_BITS) - 1, (1 << SLOT_BITS) - 1);
        assert_eq!(word.kind(), TimerKind::Handler(255));
        assert_eq!((word.generation(), word.slot()), ((1 << GENERATION_BITS) - 1, (1 << SLOT_BITS) - 1));
        assert_eq!(TimerWord::idle(3, 4).kind(), TimerKind::Idle);
        assert_eq!(TimerWord::stall(3, 4).kind(), TimerKind::Stall);
        assert_eq!(TimerWord::dial(3, 4).kind(), TimerKind::Dial);
        assert_eq!(TimerWord::drain(0).kind(), TimerKind::Drain);
    }
}
