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
    /// Bytes as they are, without ends of lines (RFC 856).
    Binary = 0,
    /// Echoing what the other side types (RFC 857).
    Echo = 1,
    /// Sending without "go ahead" (RFC 858): with [`Echo`](Self::Echo), a character at a time.
    SuppressGoAhead = 3,
    /// Telling which options are on (RFC 859).
    Status = 5,
    /// Marking a place in the stream (RFC 860). It is never "on": each request is answered for itself.
    TimingMark = 6,
    /// Telling the terminal's names (RFC 1091), with the MUD terminal type standard's bits as the third.
    TerminalType = 24,
    /// Ending records by a command (RFC 885).
    EndOfRecord = 25,
    /// Telling the size of the window (RFC 1073).
    WindowSize = 31,
    /// Editing lines and making signals of keys at the terminal (RFC 1184).
    LineMode = 34,
    /// Telling variables of the user's environment (RFC 1572).
    Environment = 39,
    /// Agreeing on a character set (RFC 2066).
    Charset = 42,
    /// Telling crawlers about the server: MSSP, performed by the server.
    ServerStatus = 70,
    /// Compressing what the server sends: MCCP version 2, performed by the server.
    Compress2 = 86,
    /// Compressing what the client sends: MCCP version 3. The server says WILL, the client compresses.
    Compress3 = 87,
    /// Messages beside the text: GMCP, offered by the server, spoken by both.
    Gmcp = 201,
}

impl TelnetOption {
    /// Every known option, in the order of their codes.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Binary,
        Self::Echo,
        Self::SuppressGoAhead,
        Self::Status,
        Self::TimingMark,
        Self::TerminalType,
        Self::EndOfRecord,
        Self::WindowSize,
        Self::LineMode,
        Self::Environment,
        Self::Charset,
        Self::ServerStatus,
        Self::Compress2,
        Self::Compress3,
        Self::Gmcp,
    ];

    /// How many options are known.
    pub(crate) const COUNT: usize = 15;

    /// The option's code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The known option with this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Binary,
            1 => Self::Echo,
            3 => Self::SuppressGoAhead,
            5 => Self::Status,
            6 => Self::TimingMark,
            24 => Self::TerminalType,
            25 => Self::EndOfRecord,
            31 => Self::WindowSize,
            34 => Self::LineMode,
            39 => Self::Environment,
            42 => Self::Charset,
            70 => Self::ServerStatus,
            86 => Self::Compress2,
            87 => Self::Compress3,
            201 => Self::Gmcp,
            _ => return None,
        })
    }

    /// The option's place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Binary => 0,
            Self::Echo => 1,
            Self::SuppressGoAhead => 2,
            Self::Status => 3,
            Self::TimingMark => 4,
            Self::TerminalType => 5,
            Self::EndOfRecord => 6,
            Self::WindowSize => 7,
            Self::LineMode => 8,
            Self::Environment => 9,
            Self::Charset => 10,
            Self::ServerStatus => 11,
            Self::Compress2 => 12,
            Self::Compress3 => 13,
            Self::Gmcp => 14,
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

    /// The set with `option` in it.
    #[must_use]
    pub const fn with(self, option: TelnetOption) -> Self {
        Self(self.0 | 1 << option.index())
    }

    /// The set without `option`.
    #[must_use]
    pub const fn without(self, option: TelnetOption) -> Self {
        Self(self.0 & !(1 << option.index()))
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

    /// A server's that does all this crate knows: everything a client offers to tell, and everything a server may perform,
    /// compression included (a caller that bounds the number of compressed connections takes it out again with
    /// [`OptionSet::without`] or turns the option off when it is on).
    pub const FULL_SERVER: Self = Self {
        local: OptionSet::of(&[
            TelnetOption::Binary,
            TelnetOption::Echo,
            TelnetOption::SuppressGoAhead,
            TelnetOption::Status,
            TelnetOption::TimingMark,
            TelnetOption::EndOfRecord,
            TelnetOption::Charset,
            TelnetOption::ServerStatus,
            TelnetOption::Compress2,
            TelnetOption::Compress3,
            TelnetOption::Gmcp,
        ]),
        remote: OptionSet::of(&[
            TelnetOption::Binary,
            TelnetOption::SuppressGoAhead,
            TelnetOption::Status,
            TelnetOption::TerminalType,
            TelnetOption::EndOfRecord,
            TelnetOption::WindowSize,
            TelnetOption::LineMode,
            TelnetOption::Environment,
            TelnetOption::Charset,
        ]),
    };

    /// A client's: the other end of [`FULL_SERVER`](Self::FULL_SERVER).
    pub const CLIENT: Self = Self {
        local: OptionSet(Self::FULL_SERVER.remote.0 | OptionSet::of(&[TelnetOption::TimingMark]).0),
        remote: Self::FULL_SERVER.local,
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
            assert_eq!(TelnetOption::ALL[index], option);
            assert_eq!(TelnetOption::from_code(option.code()), Some(option));
        }
    }
}
