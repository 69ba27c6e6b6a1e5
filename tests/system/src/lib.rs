//! System tests: the released binary over real sockets.
//!
//! It owns what the scenarios in `tests/` share: the server's process ([`Server`]), its figures ([`Metrics`], [`Usage`]),
//! networks that fail ([`Network`]), and clients on the standard library's sockets. Nothing of the server's own code is used
//! on this side; the fault server, a binary of this package, is one more thing under test. Invariants: a process
//! that was started ends with the value that stands for it; every wait is for an event and has a deadline; load is bounded
//! in count and goes to loopback, or to namespaces made for it.

mod binary;
mod client;
mod directory;
mod exchange;
mod gate;
mod load;
mod metrics;
mod network;
mod program;
mod relay;
mod server;
mod trace;
mod tun;
mod usage;
mod wait;

pub use client::{Ended, await_reaction, connect, connect_all, echo, ends_within, is_open, read_to_end, reset};
pub use directory::Directory;
pub use exchange::Exchange;
pub use gate::{Gate, Held};
pub use load::{Load, LoadReport};
pub use megamux_skip_tests::skip;
pub use metrics::Metrics;
pub use network::{Link, Network};
pub use program::{Program, Typed};
pub use relay::Weather;
pub use server::{Options, Server};
pub use trace::{leaves_nothing_behind, spares_bystanders};
pub use usage::Usage;
pub use wait::{DEADLINE, Deadline, wait_until};

/// What of the kernel a server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caps {
    /// Whatever is there.
    All,
    /// No optional capability.
    Required,
    /// epoll instead of io_uring.
    Epoll,
}

/// Makes three tests of each scenario, a function that takes [`Caps`]: with all that the kernel offers, with every
/// optional capability masked, and on epoll.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident)*) => {
        mod with_all_capabilities {
            $(#[test] fn $name() { super::$name($crate::Caps::All); })*
        }
        mod with_required_capabilities {
            $(#[test] fn $name() { super::$name($crate::Caps::Required); })*
        }
        mod on_epoll {
            $(#[test] fn $name() { super::$name($crate::Caps::Epoll); })*
        }
    };
}
