//! The buffer room: received bytes from the kernel to the last reader, and bytes to send until the kernel took them.
//!
//! | file | owns |
//! | --- | --- |
//! | `pool` | a shard's receive buffers: free, the kernel's, or held |
//! | `shared` | what a pool and its frames share; how a pool may go before its frames |
//! | `returns` | the way of references back from other threads |
//! | `frame`, `range` | [`Frame`]: counted pool memory or `Bytes` |
//! | `recv`, `remainder` | [`RecvBuf`], what a handler reads from, and what it left unread last time |
//! | `send_queue`, `send_chain` | a connection's unsent bytes, and what of them the kernel gets at once |
//! | `lent` | a chain as a driver keeps it that reads it itself |
//! | `chunk` | the blocks that small sends are copied into |
//!
//! Invariants:
//! - Reference counts of pool memory are plain numbers, touched on the pool's own thread only. That a
//!   thread is the one is marked in a thread-local, set by [`Pool::set_current`]; `Pool` is not `Send`.
//! - Bytes below a buffer's head are immutable while one reference is counted; bytes from the head on are the
//!   kernel's, and nobody else looks at them.
//! - Memory in flight (a queue's first pieces) stays in place until the send completes.
//! - Nothing here knows sockets, connections or time, and nothing waits.
//!
//! docs/buffers.md draws the whole and gives the numbers.

mod chunk;
mod frame;
mod lent;
mod pool;
mod range;
mod recv;
mod remainder;
mod returns;
mod send_chain;
mod send_queue;
mod shared;

pub use chunk::Chunks;
pub use frame::Frame;
pub(crate) use lent::ChainRest;
#[cfg(feature = "sim")]
pub(crate) use lent::LentChain;
pub use pool::{Pool, PoolConfig, Received};
pub use recv::{RecvBuf, Unread};
pub use remainder::Remainder;
pub use returns::{ReturnLane, flush_returns};
pub use send_chain::SendChain;
pub use send_queue::SendQueue;

#[cfg(test)]
mod tests;
