//! Tokens: what the engine writes into a submission and finds again in its completions.
//!
//! Layout, from the high bits: `kind:6 | aux:6 | generation:28 | slot:24`. The slot is the index of the
//! connection in its shard's table, which is also the index of its direct descriptor, so nothing
//! has to be looked up between them. The generation decides whether a late completion
//! still belongs to the connection that lives there now.

/// Slots per shard are bounded by the ring's table of direct descriptors (2^20), so 24 bits hold one.
pub(crate) const SLOT_BITS: u32 = 24;
/// A slot must be reused this often (2^28) before a token could repeat.
pub(crate) const GENERATION_BITS: u32 = 28;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// What an operation was, so that its completion finds its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Multishot accept; the slot field holds the listener's index.
    Accept = 1,
    /// Fetch of an accepted connection's peer address.
    Peer = 2,
    /// One-shot poll for readability of a parked connection.
    Poll = 3,
    /// Receive, one-shot or multishot.
    Recv = 4,
    /// The one send chain in flight.
    Send = 5,
    /// Half-close of the sending side.
    Shutdown = 6,
    /// Dial: the slot field holds the index of the dial, the result is the new slot.
    Dial = 7,
    /// Close of a direct descriptor: the slot is free when it completes.
    Close = 8,
    /// A cancel request itself; its target completes on its own.
    Cancel = 9,
    /// Receive of a datagram; the slot field holds the index of the datagram socket.
    DatagramRecv = 10,
    /// Send of a datagram; the slot field holds the index of the datagram socket.
    DatagramSend = 11,
    /// The driver's own business (wakes, probes), and cancels whose completion nobody waits for.
    Driver = 12,
    /// Passing of a connection to another shard.
    Pass = 13,
    /// A connection that another shard passed here; the slot field holds its endpoint, the result is its slot here. No
    /// operation of this shard completes so.
    Passed = 14,
    /// One-shot poll for the peer's end, while reading is held back.
    Watch = 15,
}

impl Kind {
    fn from_bits(bits: u8) -> Option<Kind> {
        use Kind::*;
        Some(match bits {
            1 => Accept,
            2 => Peer,
            3 => Poll,
            4 => Recv,
            5 => Send,
            6 => Shutdown,
            7 => Dial,
            8 => Close,
            9 => Cancel,
            10 => DatagramRecv,
            11 => DatagramSend,
            12 => Driver,
            13 => Pass,
            14 => Passed,
            15 => Watch,
            _ => return None,
        })
    }
}

/// The `user_data` of one submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(u64);

impl Token {
    /// A token for an operation of `kind` on `slot` in its life `generation`.
    pub(crate) fn new(kind: Kind, generation: u32, slot: u32) -> Token {
        Token::with_aux(kind, 0, generation, slot)
    }

    /// The same, with 6 bits of the caller's own (a cancel says what it cancels).
    pub(crate) fn with_aux(kind: Kind, aux: u8, generation: u32, slot: u32) -> Token {
        debug_assert!(u64::from(slot) <= SLOT_MASK && aux < 64);
        Token(
            (kind as u64) << 58
                | u64::from(aux & 63) << 52
                | u64::from(generation & GENERATION_MASK) << SLOT_BITS
                | u64::from(slot),
        )
    }

    /// The same token with other bits of the caller's own.
    pub(crate) fn with_other_aux(self, aux: u8) -> Token {
        Token::with_aux(self.kind(), aux, self.generation(), self.slot())
    }

    /// Rebuilds a token from a completion's `user_data`; `None` if no token of ours looks like that.
    pub(crate) fn from_bits(bits: u64) -> Option<Token> {
        Kind::from_bits((bits >> 58) as u8).map(|_| Token(bits))
    }

    /// The 64 bits that go into `user_data`.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// What the operation was.
    pub(crate) fn kind(self) -> Kind {
        // Both constructors checked the kind.
        Kind::from_bits((self.0 >> 58) as u8).unwrap_or(Kind::Driver)
    }

    /// The caller's own bits.
    pub(crate) fn aux(self) -> u8 {
        (self.0 >> 52) as u8 & 63
    }

    /// The life of the slot that the operation belongs to.
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32 & GENERATION_MASK
    }

    /// The slot the operation works on.
    pub(crate) fn slot(self) -> u32 {
        (self.0 & SLOT_MASK) as u32
    }
}

/// The generation after `generation`, within the token's bits.
pub(crate) fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1) & GENERATION_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_round_trip() {
        for kind in 1..=15 {
            let kind = Kind::from_bits(kind).unwrap();
            for (generation, slot) in [(0, 0), (1, 2), (GENERATION_MASK, SLOT_MASK as u32)] {
                let token = Token::with_aux(kind, 63, generation, slot);
                let back = Token::from_bits(token.bits()).unwrap();
                assert_eq!((back.kind(), back.aux(), back.generation(), back.slot()), (kind, 63, generation, slot));
            }
        }
    }

    #[test]
    fn foreign_bits_are_no_token() {
        assert_eq!(Token::from_bits(0), None);
        assert_eq!(Token::from_bits(u64::MAX), None);
    }

    #[test]
    fn generations_wrap_within_their_bits() {
        assert_eq!(next_generation(GENERATION_MASK), 0);
    }
}
