//! Lines: telnet lines, cut out of the bytes by whoever owns the sockets, answered by a second thread.
//!
//! Invariant: every line is answered with its own text and CR LF, in order, by the other thread; at most
//! [`UNDER_WAY`] lines wait for it.

pub mod megamux;
pub mod tokio;

/// Room between the two threads, in lines: what the load has under way fits.
pub const UNDER_WAY: usize = 4096;
