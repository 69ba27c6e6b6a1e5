//! The byte values of the network virtual terminal (RFC 854) that steer decoding and encoding.
//!
//! Must not: hold option codes ([`crate::TelnetOption`]) or the plain commands ([`crate::Command`]).

/// Interpret as command: the next byte is not data.
pub(crate) const IAC: u8 = 255;
/// The sender asks the receiver to stop, or refuses that the receiver starts.
pub(crate) const DONT: u8 = 254;
/// The sender asks the receiver to start, or agrees that the receiver starts.
pub(crate) const DO: u8 = 253;
/// The sender stops, or refuses to start.
pub(crate) const WONT: u8 = 252;
/// The sender offers or agrees to start.
pub(crate) const WILL: u8 = 251;
/// A subnegotiation begins: the option's code and its parameters follow.
pub(crate) const SB: u8 = 250;
/// A subnegotiation ends.
pub(crate) const SE: u8 = 240;

pub(crate) const NUL: u8 = 0;
pub(crate) const LF: u8 = b'\n';
pub(crate) const CR: u8 = b'\r';
