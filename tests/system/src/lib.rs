//! System tests: the released binary over real sockets.
//!
//! It owns what the scenarios in `tests/` share: the server's process ([`Server`]), its figures ([`Metrics`], [`Usage`]), and
//! clients on the standard library's sockets. Nothing of the server's own code is used on this side. Invariants: a process
//! that was started ends with the value that stands for it; every wait is for an event and has a deadline; load is bounded
//! in count and goes to loopback only.

mod binary;
mod client;
mod directory;
mod load;
mod metrics;
mod program;
mod server;
mod skip;
mod usage;
mod wait;

pub use client::{Ended, await_reaction, connect, connect_all, echo, ends_within, is_open, read_to_end, reset};
pub use directory::Directory;
pub use load::{Load, LoadReport};
pub use metrics::Metrics;
pub use program::Program;
pub use server::{Options, Server};
pub use skip::skip;
pub use usage::Usage;
pub use wait::{DEADLINE, Deadline, wait_until};

/// Which of the kernel's optional capabilities a server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caps {
    /// Whatever is there.
    All,
    /// None.
    Required,
}

/// Makes two tests of each scenario, a function that takes [`Caps`]: with all that the kernel offers, and with every
/// optional capability masked.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident)*) => {
        mod with_all_capabilities {
            $(#[test] fn $name() { super::$name($crate::Caps::All); })*
        }
        mod with_required_capabilities {
            $(#[test] fn $name() { super::$name($crate::Caps::Required); })*
        }
    };
}
