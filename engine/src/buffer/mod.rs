//! The buffer room: received bytes from the kernel to the last reader, and bytes to send until the kernel took them.
//!
//! | file | owns |
//! | --- | --- |
//! | `pool` | a shard's receive buffers: free, the kernel's, or held |
//! | `shared` | what a pool and its frames share; how a pool may go before its frames |
//! | `returns` | the way of references back from other threads |
//! | `frame` | [`Frame`]: counted pool memory or `Bytes` |
//! | `recv`, `remainder` | [`RecvBuf`], what a handler reads from, and what it left unread last time |
//! | `send_queue`, `chunk` | a connection's unsent bytes, and the blocks that small ones are copied into |
//!
//! Invariants:
//! - Reference counts of pool memory are plain numbers, touched on the pool's own thread only. That a
//!   thread is the one is marked in a thread-local, set by [`Pool::set_current`]; `Pool` is not `Send`.
//! - Bytes below a buffer's head are immutable while one reference is counted; bytes from the head on are the
//!   kernel's, and nobody else looks at them.
//! - Memory in flight (a queue's first pieces) stays in place until the send completes.
//! - Nothing here knows sockets, connections or time, and nothing waits.
//!
//! This room has its `unsafe` in `shared`, `returns`, `pool`, `frame`, `chunk` and `send_queue`. The picture is in docs/buffers.md.

mod chunk;
mod frame;
mod pool;
mod recv;
mod remainder;
mod returns;
mod send_queue;
mod shared;

pub use frame::Frame;
pub use recv::RecvBuf;

pub(crate) use chunk::{CHUNK_BYTES, Chunks};
pub(crate) use pool::{Pool, PoolConfig, Provided, Received};
pub(crate) use recv::Unread;
pub(crate) use remainder::Remainder;
pub(crate) use returns::{ReturnLane, flush_returns};
pub(crate) use send_queue::{CHAIN_PIECES, SendChain, SendQueue};
