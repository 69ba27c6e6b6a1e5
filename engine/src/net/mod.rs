//! Sockets before they are served: addresses, options, binding, and taking over
//! what was bound by others.
//!
//! Everything here runs once per endpoint, synchronously, and makes plain blocking descriptors; a driver puts them into
//! the mode it needs when it adopts them. What accepted connections inherit is set on the listener. Nothing here
//! reads, writes or waits.

use std::net::SocketAddr;

mod addr;
mod balance;
mod bind;
mod inherit;
mod options;

pub use addr::{Addr, AddrError};
pub use balance::Balance;
pub(crate) use bind::{bind_datagrams, bind_listeners};
pub use inherit::{Activated, activated, listening_addr};
pub(crate) use options::bind_address_alone;
pub use options::{Keepalive, SocketOptions};

/// Where a dial goes, and where from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// Where to.
    pub to: Addr,
    /// The local address; `None` leaves it to the kernel, and so does port 0 for the port. The kernel looks for a free port
    /// among some 28,000, which gets slow when most are taken; whoever opens very many connections to one address names them.
    pub source: Option<SocketAddr>,
}

impl Route {
    /// The same, from a local address. Not for Unix sockets: such a dial fails with EINVAL. Needs Linux 6.11.
    pub fn with_source(self, local: SocketAddr) -> Route {
        Route { source: Some(local), ..self }
    }
}

impl<A: Into<Addr>> From<A> for Route {
    fn from(to: A) -> Route {
        Route { to: to.into(), source: None }
    }
}

/// A connection to be made.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    /// Where to and where from.
    pub(crate) route: Route,
    /// Options of the new socket.
    pub(crate) options: SocketOptions,
}

/// RLIMIT_NOFILE, soft and hard: it bounds plain descriptors and each ring's table of direct ones.
/// No limit is `u64::MAX`.
pub fn nofile_limit() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}
