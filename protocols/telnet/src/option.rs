//! Which options exist here, on which side, and which of them the peer may turn on.
//!
//! Owns the closed list of known options. Every other code is refused without any state being kept for it, which is what
//! bounds a connection's memory against a peer that asks for all 256.
//!
//! Invariant: [`TelnetOption::index`] is dense, so that negotiation state is an array.

/// An option this crate knows how to honour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum TelnetOption {
    /// Echoing what the other side types (RFC 857).
    Echo = 1,
    /// Sending without "go ahead" (RFC 858): with [`Echo`](Self::Echo), a character at a time.
    SuppressGoAhead = 3,
    /// Telling the size of the window (RFC 1073).
    WindowSize = 31,
}

impl TelnetOption {
    /// How many options are known.
    pub(crate) const COUNT: usize = 3;

    /// The option's code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The known option with this code.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Echo),
            3 => Some(Self::SuppressGoAhead),
            31 => Some(Self::WindowSize),
            _ => None,
        }
    }

    /// The option's place among the known ones, below [`COUNT`](Self::COUNT).
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Echo => 0,
            Self::SuppressGoAhead => 1,
            Self::WindowSize => 2,
        }
    }
}

/// Who performs an option. Each option is negotiated for both sides separately (RFC 1143 section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// This end: we say WILL and WONT, the peer says DO and DONT. RFC 1143 calls it "us".
    Local,
    /// The peer: it says WILL and WONT, we say DO and DONT. RFC 1143 calls it "him".
    Remote,
}

/// A set of known options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OptionSet(u16);

const _: () = assert!(TelnetOption::COUNT <= u16::BITS as usize, "an option set has one bit per option");

impl OptionSet {
    /// The set of exactly `options`.
    #[must_use]
    pub const fn of(options: &[TelnetOption]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < options.len() {
            bits |= 1 << options[at].index();
            at += 1;
        }
        Self(bits)
    }

    /// Whether `option` is in the set.
    #[must_use]
    pub const fn contains(self, option: TelnetOption) -> bool {
        self.0 & (1 << option.index()) != 0
    }
}

/// What a peer may turn on by asking. What we ask for ourselves is not limited by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// Options we perform when the peer says DO.
    pub local: OptionSet,
    /// Options we let the peer perform when it says WILL.
    pub remote: OptionSet,
}

impl Support {
    /// A server's: it echoes and suppresses go-ahead on request, and takes the size of the window. It never lets the peer
    /// echo: two ends that echo each other never fall silent (RFC 857 section 4).
    pub const SERVER: Self = Self {
        local: OptionSet::of(&[TelnetOption::Echo, TelnetOption::SuppressGoAhead]),
        remote: OptionSet::of(&[TelnetOption::SuppressGoAhead, TelnetOption::WindowSize]),
    };

    /// Nothing: every request is refused, and the connection stays a plain line terminal unless we ask for more.
    pub const NONE: Self = Self { local: OptionSet::of(&[]), remote: OptionSet::of(&[]) };

    pub(crate) const fn accepts(self, side: Side, option: TelnetOption) -> bool {
        match side {
            Side::Local => self.local.contains(option),
            Side::Remote => self.remote.contains(option),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_options_are_dense_and_found_by_their_code() {
        let known: Vec<_> = (0..=u8::MAX).filter_map(TelnetOption::from_code).collect();
        assert_eq!(known.len(), TelnetOption::COUNT);
        for (index, option) in known.into_iter().enumerate() {
            assert_eq!(option.index(), index);
            assert_eq!(TelnetOption::from_code(option.code()), Some(option));
        }
    }
}
