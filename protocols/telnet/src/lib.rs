//! The telnet protocol without a socket, and the events a console speaks with services.
//!
//! ```text
//! received bytes --> Telnet::next_event --> TelnetEvent   a line, typed text, a command, an option's change
//!                         |
//!                         +--------------> out            answers to the peer's option requests
//! your text -------> encode_text --------> out
//! ```
//!
//! One [`Telnet`] per connection, a server's or a client's end, decodes what the peer sends (RFC 854, 855) and negotiates options by
//! the Q method (RFC 1143). [`console`] holds the owned events that travel between the console and the services whose
//! commands it offers.
//!
//! | option | | what there is of it |
//! | --- | --- | --- |
//! | BINARY | RFC 856 | both ways, [`Telnet::text`] follows it |
//! | ECHO, SUPPRESS-GO-AHEAD | RFC 857, 858 | together: character mode |
//! | STATUS | RFC 859 | both ways |
//! | TIMING-MARK | RFC 860 | both ways, each mark answered in its place |
//! | TERMINAL-TYPE | RFC 1091 | the cycle of names on both ends, MTTS bits |
//! | END-OF-RECORD | RFC 885 | [`Command::EndOfRecord`] |
//! | NAWS | RFC 1073 | both ends |
//! | LINEMODE | RFC 1184 | EDIT and TRAPSIG, special characters; a forward mask is refused, advice on tabs and control characters dropped |
//! | NEW-ENVIRON | RFC 1572 | SEND, IS, INFO at both ends; the older option 36 is refused |
//! | CHARSET | RFC 2066 | UTF-8, US-ASCII, ISO-8859-1; translation tables are refused |
//! | MSSP | 70 | told by a server, read by a client |
//! | MCCP2, MCCP3 | 86, 87 | zlib by flate2, begun by the caller's leave only |
//! | GMCP | 201 | both ways, JSON is not looked into |
//!
//! Every other option is refused without state.
//!
//! Each of them is judged by others (`tests/conformance`): by telnetlib3, as a client of our server's end and as a server of our
//! client's, which has to hold the same options, values and text to be so, and by Python's zlib for compressed streams, begun,
//! ended and begun again, at every cut. Debian's telnet and PuTTY's plink operate the console (`tests/system`). telnetlib3
//! knows nothing of MTTS bits and of translation tables, and does not escape all that RFC 1572 escapes: there it judges nothing.
//!
//! Invariants, for any input whatever, cut into reads in any way:
//!
//! - the same bytes give the same events and the same answers, however they were cut (but for how much of a corrupt compressed
//!   stream is told before it is found to be so);
//! - the answers to a stream are never longer than the stream and [`ANSWER_GRANT`];
//! - memory beyond `size_of::<Telnet>()`, which is 64 bytes, exists only while something is incomplete, compressed, or set as
//!   a special character, and is bounded: by [`MAX_LINE`] and [`MAX_SUBNEGOTIATION`] (twice each, as a vector grows), and by
//!   zlib's state and [`INFLATE_STEP`];
//! - a byte is looked at a constant number of times, and a compressed one becomes at most [`MAX_INFLATE_RATIO`].
//!
//! Must not: call a clock, own a socket, echo, or interpret what a line says. Lines and text are bytes from a stranger: they
//! may hold terminal escapes and need not be UTF-8, and whoever shows them to anyone makes them safe first.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod charset;
mod codes;
mod compress;
pub mod console;
mod decode;
mod encode;
mod environment;
mod event;
mod gmcp;
mod held;
mod linemode;
mod message;
mod negotiation;
mod option;
mod server_status;
mod status;
mod subnegotiation;
mod telnet;
mod terminal;

pub use charset::{Charset, Charsets};
pub use compress::{INFLATE_GRANT, INFLATE_STEP, MAX_INFLATE_RATIO};
pub use decode::{ANSWER_GRANT, MAX_LINE, MAX_SUBNEGOTIATION, TelnetError};
pub use encode::{encode_command, encode_text};
pub use environment::{AskedVariables, Escaped, Variable, VariableKind, Variables};
pub use event::{Command, TelnetEvent};
pub use gmcp::Gmcp;
pub use linemode::{Level, LineMode, SpecialCharacter, SpecialCharacters};
pub use negotiation::RequestError;
pub use option::{OptionSet, Side, Support, TelnetOption};
pub use server_status::ServerStatus;
pub use status::{OptionStatus, StatusReport};
pub use telnet::Telnet;
pub use terminal::{MAX_TERMINAL_TYPES, TerminalFeatures, terminal_name};
