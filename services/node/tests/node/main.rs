//! The server as its users meet it: the binary, its words, its exit codes, and its listeners over real sockets.
//!
//! Every wait is for an event, and has a deadline.

#[cfg(feature = "echo")]
mod echo;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "telnet")]
mod operators;
#[cfg(feature = "echo")]
mod reload;
#[allow(dead_code, reason = "what is needed depends on what is built")]
mod server;
#[cfg(feature = "echo")]
mod signals;
#[cfg(feature = "http")]
mod simulated;
mod start;
mod systemd;
#[cfg(feature = "telnet")]
mod telnet;
