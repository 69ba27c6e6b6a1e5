//! The echo servers the suite brings along, and their names.
//!
//! Invariant: each runs on the thread that calls it, listens where it is told, sends back every byte in order, and
//! lives until killed. Floors show what the kernel alone costs; peers are written the way their users write them.

mod bare_epoll;
mod bare_uring;
mod monoio_echo;
mod plain;
mod tokio_echo;

use anyhow::Result;
use clap::ValueEnum;

use crate::endpoint::Endpoint;
use crate::report::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Server {
    /// io_uring without an engine: direct descriptors, multishot, incremental buffers, sends from the received buffer
    BareUring,
    /// epoll without an engine: level triggered, reads of 64 KiB
    BareEpoll,
    /// tokio, current_thread
    Tokio,
    /// monoio on io_uring
    Monoio,
    /// accepts, answers once and keeps the socket: what a connection costs before anybody waits for it (idle only)
    Plain,
}

impl Server {
    pub fn name(self) -> &'static str {
        match self {
            Self::BareUring => "bare-uring",
            Self::BareEpoll => "bare-epoll",
            Self::Tokio => "tokio",
            Self::Monoio => "monoio",
            Self::Plain => "plain",
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            Self::BareUring | Self::BareEpoll | Self::Plain => Kind::Floor,
            Self::Tokio | Self::Monoio => Kind::Peer,
        }
    }

    /// Serves until killed. `buffer` is the size of a connection's own buffer, for servers that give it one.
    pub fn run(self, endpoint: &Endpoint, buffer: usize) -> Result<()> {
        let listener = endpoint.listen()?;
        match self {
            Self::BareUring => bare_uring::run(listener),
            Self::BareEpoll => bare_epoll::run(listener),
            Self::Tokio => tokio_echo::run(listener, endpoint, buffer),
            Self::Monoio => monoio_echo::run(listener, endpoint, buffer),
            Self::Plain => plain::run(listener, buffer),
        }
    }
}
