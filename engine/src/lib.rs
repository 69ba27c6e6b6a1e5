//! A thread-per-core io_uring socket engine: shards, buffers, handoff.

mod admission;
mod buffer;
mod close_reason;
mod handoff;
pub mod stats;
mod time;
mod timer;

pub use buffer::{Frame, RecvBuf};
pub use close_reason::CloseReason;
pub use time::Time;

/// The private rooms, opened to the project's benches. No part of the interface.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod bench_internals {
    pub use crate::handoff::{inbox, lane, mailbox, ready, wake};
}
