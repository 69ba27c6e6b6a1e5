//! A thread-per-core io_uring socket engine: shards, buffers, handoff.

mod buffer;
mod handoff;

pub use buffer::{Frame, RecvBuf};

/// The private rooms, opened to the project's benches. No part of the interface.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod bench_internals {
    pub use crate::handoff::{inbox, lane, mailbox, ready, wake};
}
