//! Sockets before they are served: addresses, options, and binding.
//!
//! Everything here runs once per endpoint, synchronously, and makes plain blocking descriptors; a driver puts them into
//! the mode it needs when it adopts them. What accepted connections inherit is set on the listener. Nothing here
//! reads, writes or waits.

mod addr;
mod balance;
mod bind;
mod options;

pub use addr::{Addr, AddrError};
pub use balance::Balance;
pub(crate) use bind::{bind_datagrams, bind_listeners};
pub use options::{Keepalive, SocketOptions};

/// A connection to be made.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    /// Where to.
    pub(crate) addr: Addr,
    /// Options of the new socket.
    pub(crate) options: SocketOptions,
}

/// RLIMIT_NOFILE, soft and hard: it bounds plain descriptors and each ring's table of direct ones.
/// No limit is `u64::MAX`.
pub fn nofile_limit() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}
