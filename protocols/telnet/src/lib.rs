//! The telnet protocol without a socket, and the events a console speaks with services.
//!
//! ```text
//! received bytes --> Telnet::next_event --> TelnetEvent   a line, typed text, a command, an option's change
//!                         |
//!                         +--------------> out            answers to the peer's option requests
//! your text -------> encode_text --------> out
//! ```
//!
//! One [`Telnet`] per connection decodes what the peer sends (RFC 854) and negotiates options by the Q method (RFC 1143).
//! [`console`] holds the owned events that travel between the console and the services whose commands it offers.
//!
//! Invariants, for any input whatever, cut into reads in any way:
//!
//! - the same bytes give the same events and the same answers, however they were cut;
//! - the answers to a stream are never longer than the stream;
//! - memory beyond `size_of::<Telnet>()` exists only while something is incomplete, and is bounded by [`MAX_LINE`] and
//!   [`MAX_SUBNEGOTIATION`];
//! - a byte is looked at a constant number of times.
//!
//! Must not: call a clock, own a socket, echo, or interpret what a line says. Lines and text are bytes from a stranger: they
//! may hold terminal escapes and need not be UTF-8, and whoever shows them to anyone makes them safe first.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod codes;
pub mod console;
mod decode;
mod encode;
mod event;
mod held;
mod negotiation;
mod option;

pub use decode::{MAX_LINE, MAX_SUBNEGOTIATION, Telnet, TelnetError};
pub use encode::{encode_command, encode_text};
pub use event::{Command, TelnetEvent};
pub use negotiation::RequestError;
pub use option::{OptionSet, Side, Support, TelnetOption};
