//! What a connection's decoder tells its handler.
//!
//! Owns the borrowed event and the list of plain commands. These never leave the handler's call; what is told to services is
//! in [`crate::console`].

use crate::charset::Charset;
use crate::environment::{AskedVariables, Variables};
use crate::gmcp::Gmcp;
use crate::linemode::{LineMode, SpecialCharacters};
use crate::option::{Side, TelnetOption};
use crate::server_status::ServerStatus;
use crate::status::StatusReport;
use crate::terminal::TerminalFeatures;

/// One thing the peer said. Slices are ranges of the input wherever the bytes lay whole in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TelnetEvent<'a> {
    /// A line, without its end. At most [`MAX_LINE`](crate::MAX_LINE) bytes.
    Line(&'a [u8]),
    /// A line went past [`MAX_LINE`](crate::MAX_LINE). It is dropped up to its end, and the session lives on.
    LineTooLong,
    /// Typed text, in character mode: as much of it as had arrived, never a line's end.
    Text(&'a [u8]),
    /// The end of a line, in character mode.
    Newline,
    /// A plain command.
    Command(Command),
    /// The option is on from here in the stream.
    OptionOn(Side, TelnetOption),
    /// The option is off from here in the stream: it was turned off, or a request to turn it on was refused.
    OptionOff(Side, TelnetOption),
    /// The size of the peer's window in characters. Zero means that the peer leaves it to us (RFC 1073 section 3).
    WindowSize {
        /// The width.
        columns: u16,
        /// The height.
        rows: u16,
    },
    /// One of the names of the peer's terminal, after [`Telnet::ask_terminal_type`](crate::Telnet::ask_terminal_type). Peers
    /// that keep the MUD standard tell the client's name first and the terminal's second; others the terminal's at once. The
    /// next one is asked for until the peer repeats itself or tells its features.
    TerminalType(&'a [u8]),
    /// What the peer's terminal can do, in the MUD standard's bits. No more names follow.
    TerminalFeatures(TerminalFeatures),
    /// The peer asks for a name of our terminal, for the `round`th time since the option is on (from 0). To be answered
    /// with [`Telnet::terminal_type`](crate::Telnet::terminal_type).
    TerminalTypeAsked {
        /// How often it was asked before.
        round: u8,
    },
    /// Variables of the user's environment. They are what a stranger says: data, never arguments of a program.
    Environment(Variables<'a>),
    /// The peer asks for variables of our environment. To be answered with
    /// [`Telnet::environment`](crate::Telnet::environment).
    EnvironmentAsked(AskedVariables<'a>),
    /// Both ends use this character set from here on.
    Charset(Charset),
    /// The peer knows none of the character sets we asked for.
    CharsetRejected,
    /// Lines are edited and signals are made at the terminal as this says.
    LineMode(LineMode),
    /// Which keys edit and signal at the peer's terminal. Answers have been made.
    SpecialCharacters(SpecialCharacters<'a>),
    /// Which options the peer holds to be on.
    Status(StatusReport<'a>),
    /// The peer has read everything up to one of our [`Telnet::timing_mark`](crate::Telnet::timing_mark)s.
    TimingMark,
    /// The peer marked this place in its stream. It has been answered.
    TimingMarkAsked,
    /// A message beside the text.
    Gmcp(Gmcp<'a>),
    /// What the server tells about itself.
    ServerStatus(ServerStatus<'a>),
    /// What follows from the peer is compressed. Decoding it takes some 50 KiB until it ends.
    CompressionBegan,
    /// What follows from the peer is no longer compressed.
    CompressionEnded,
    /// Compressed bytes were read and no event came of them yet; call again. It bounds what one call inflates.
    Inflated,
}

const _: () = assert!(size_of::<TelnetEvent<'_>>() <= 24, "events are made once per line");

/// A command without parameters: IAC and one byte (RFC 854; the first three RFC 1184, end of record RFC 885).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Command {
    /// EOF: the end of the user's file.
    EndOfFile = 236,
    /// SUSP: suspend the current process.
    Suspend = 237,
    /// ABORT: abort the current process.
    Abort = 238,
    /// EOR: the end of a record. Told only while [`TelnetOption::EndOfRecord`] is on.
    EndOfRecord = 239,
    /// NOP: nothing; sent to see whether the connection lives.
    NoOperation = 241,
    /// DM: the place in the stream that an urgent notification speaks of.
    DataMark = 242,
    /// BRK: the break or attention key.
    Break = 243,
    /// IP: interrupt the current process.
    InterruptProcess = 244,
    /// AO: drop the output not yet shown.
    AbortOutput = 245,
    /// AYT: the peer wants visible evidence that we are here. Answering is the handler's part.
    AreYouThere = 246,
    /// EC: erase the last character. In line mode the decoder has done so when this is told.
    EraseCharacter = 247,
    /// EL: erase the line. In line mode the decoder has done so when this is told.
    EraseLine = 248,
    /// GA: the peer waits for us to send.
    GoAhead = 249,
}

impl Command {
    /// The command's code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether the user wants what runs to stop, by whichever key: IP, BRK or ABORT. A terminal in line mode with
    /// [`LineMode::TRAPSIG`] makes these of keys (RFC 1184 section 2.2).
    #[must_use]
    pub const fn is_interrupt(self) -> bool {
        matches!(self, Self::InterruptProcess | Self::Break | Self::Abort)
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            236 => Self::EndOfFile,
            237 => Self::Suspend,
            238 => Self::Abort,
            239 => Self::EndOfRecord,
            241 => Self::NoOperation,
            242 => Self::DataMark,
            243 => Self::Break,
            244 => Self::InterruptProcess,
            245 => Self::AbortOutput,
            246 => Self::AreYouThere,
            247 => Self::EraseCharacter,
            248 => Self::EraseLine,
            249 => Self::GoAhead,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_by_their_code() {
        let known: Vec<_> = (0..=u8::MAX).filter_map(|code| Some((code, Command::from_code(code)?))).collect();
        assert_eq!(known.len(), 13);
        assert!(known.into_iter().all(|(code, command)| command.code() == code));
    }
}
