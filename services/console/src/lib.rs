//! The operator's console: commands typed on a telnet connection, answered by this service and by any other.
//!
//! ```text
//! telnet client <-> TelnetHandler + front --ConsoleIn---> Console --CommandEntered--> the service that registered it
//!  (bytes)          (on the shard)        <--ConsoleOut--        <------Reply-------
//!                                                               --Handle::connections, close, stats--> the engine
//! ```
//!
//! The handler ([`TelnetHandler`]) decodes telnet, and the front behind it edits lines, completes and pages, or leaves that to a
//! client that edits by itself; the service ([`Console`]) holds sessions and commands and knows no telnet. Any service of
//! the engine offers commands by publishing [`RegisterCommand`](megamux_telnet::console::RegisterCommand), and need not know that
//! there is a console. [`Setup`] says who may log in ([`Access`]), and gives the console the process's log ([`LogRing`]).
//!
//! Invariants:
//!
//! - the lines of a session are answered in the order they came, each exactly once;
//! - nothing grows without bound: a session holds [`TYPE_AHEAD`] lines, [`MAX_AHEAD`] bytes of keys and [`MAX_HISTORY`] lines of
//!   history, an answer [`MAX_OUTPUT`] bytes, the table [`MAX_COMMANDS`] commands, and sessions are bounded by the listener's cap;
//! - no command waits forever, and none blocks the thread that runs the console or a shard; a password is compared elsewhere;
//! - what others said (operators, services, peers) reaches a terminal without control characters.
//!
//! Must not: own a socket or a thread, or know what any other service is about.
//!
//! ```no_run
//! use megamux_engine::{Config, Engine, Listen, Placement};
//!
//! let mut builder = Engine::builder(Config::default())?;
//! let listen = Listen::tcp("127.0.0.1:7023").max_connections(16);
//! megamux_console::install(&mut builder, listen, Placement::Thread)?;
//! builder.start()?.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod access;
mod builtin;
mod commands;
mod console;
mod event;
mod front;
mod handler;
mod log;
#[cfg(test)]
mod login_tests;
mod session;
mod setup;
mod text;

use megamux_engine::{Builder, EndpointId, Listen, Placement, ServiceRef, StartError};

pub use access::limiter::MAX_SOURCES;
pub use access::operators::{Operators, OperatorsError, OperatorsMistake};
pub use access::roster::Roster;
pub use access::verifier::MAX_VERIFYING;
pub use access::{Access, AccessError, Exposed, MAX_USER_NAME, MAX_USERS, check_binding};
pub use commands::{Commands, MAX_COMMANDS};
pub use console::{Console, LOGIN_TIME, MAX_FAILURES};
pub use event::{Completions, ConnFound, ConnRows, ConsoleIn, ConsoleOut, Prompt, TYPE_AHEAD, mark};
pub use front::MAX_AHEAD;
pub use front::history::{MAX_HISTORY, MAX_HISTORY_BYTES};
pub use handler::TelnetHandler;
pub use log::{LogLevel, LogRing, MAX_LOG_LINE, MAX_LOG_LINES};
pub use megamux_telnet::console::Role;
pub use session::MAX_OUTPUT;
pub use setup::Setup;

/// Registers an open console and a telnet listener for it. [`Setup`] makes others.
///
/// Whoever reaches the listener may close connections: keep it on loopback or a Unix socket ([`check_binding`]).
///
/// # Errors
///
/// As [`Builder::service`] and [`Builder::listen`].
pub fn install(builder: &mut Builder, listen: Listen, placement: Placement) -> Result<EndpointId, StartError> {
    Setup::new().install(builder, listen, placement)
}

/// Registers an open console alone, subscribed to all it needs; for fronts of one's own and for several listeners.
///
/// # Errors
///
/// As [`Builder::service`].
pub fn register(builder: &mut Builder, placement: Placement) -> Result<ServiceRef<Console>, StartError> {
    Setup::new().register(builder, placement)
}
