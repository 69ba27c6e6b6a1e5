//! The operator's console: commands typed on a telnet connection, answered by this service and by any other.
//!
//! ```text
//! telnet client <-> TelnetHandler --ConsoleIn---> Console --CommandEntered--> the service that registered it
//!  (bytes)          (on the shard) <--ConsoleOut--        <------Reply-------
//!                                                         --Handle::connections, close, stats--> the engine
//! ```
//!
//! The front ([`TelnetHandler`]) turns bytes into lines and text into bytes; the service ([`Console`]) holds sessions and
//! commands and knows no telnet. Any service of the engine offers commands by publishing
//! [`RegisterCommand`], and need not know that there is a console.
//!
//! Invariants:
//!
//! - the lines of a session are answered in the order they came, each exactly once;
//! - nothing grows without bound: a session holds [`TYPE_AHEAD`] lines, an answer [`MAX_OUTPUT`] bytes, the table
//!   [`MAX_COMMANDS`] commands, and sessions are bounded by the listener's cap;
//! - no command waits forever, and none blocks the thread that runs the console or a shard;
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

mod builtin;
mod commands;
mod console;
mod event;
mod handler;
mod session;
mod text;

use megamux_engine::{Builder, EndpointId, Listen, Placement, ServiceRef, StartError};
use megamux_telnet::console::{RegisterCommand, Reply};

pub use commands::{Commands, MAX_COMMANDS};
pub use console::Console;
pub use event::{ConnRows, ConsoleIn, ConsoleOut, TYPE_AHEAD};
pub use handler::TelnetHandler;
pub use session::MAX_OUTPUT;

/// Registers the console and a telnet listener for it.
///
/// Whoever reaches the listener may close connections: keep it on loopback or a Unix socket.
///
/// # Errors
///
/// As [`Builder::service`] and [`Builder::listen`].
pub fn install(builder: &mut Builder, listen: Listen, placement: Placement) -> Result<EndpointId, StartError> {
    let console = register(builder, placement)?;
    builder.listen(listen, &console, |_shard| TelnetHandler::new())
}

/// Registers the console alone, subscribed to all it needs; for fronts of one's own and for several listeners.
///
/// # Errors
///
/// As [`Builder::service`].
pub fn register(builder: &mut Builder, placement: Placement) -> Result<ServiceRef<Console>, StartError> {
    // One table for all incarnations: other services register once, and a console made anew must not forget them.
    let commands = Commands::default();
    let console = builder.service("console", placement, move || Console::new(commands.clone()))?;
    builder.subscribe::<RegisterCommand, _>(&console);
    builder.subscribe::<Reply, _>(&console);
    builder.subscribe::<ConnRows, _>(&console);
    Ok(console)
}
