//! Fan-out: what one connection sends, all get.
//!
//! Invariant: every message of [`MESSAGE`] bytes goes to every connection, the sender's too, whole and in order.

pub mod bare_send;
pub mod megamux;
pub mod tokio;

/// Bytes of a message.
pub const MESSAGE: usize = 100;
