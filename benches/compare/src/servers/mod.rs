//! The servers the suite brings along: their names, and which work each can do.
//!
//! Invariant: each listens where it is told, does its work on the thread that calls it (and on others only where the work
//! asks for a second one), and lives until killed. Floors show what the kernel alone costs; peers are written the
//! way their users write them; megamux stands on its public interface.

mod echo;
mod fanout;
mod lines;

use anyhow::{Result, bail};
use clap::ValueEnum;
use megamux_engine::net::SocketOptions;
use megamux_engine::{Config, Listen, Pin};

use crate::endpoint::{BACKLOG, Endpoint};
use crate::report::{Kind, Transport};

pub use fanout::MESSAGE as FANOUT_MESSAGE;

/// What a server does with what it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Sends every byte back
    #[default]
    Echo,
    /// Cuts the bytes into telnet lines, which a second thread answers with their own text
    Lines,
    /// Sends every message of 100 B to all connections
    Fanout,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Lines => "lines",
            Self::Fanout => "fanout",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Server {
    /// io_uring without an engine: direct descriptors, multishot, incremental buffers, sends from the received buffer
    BareUring,
    /// epoll without an engine: level triggered, reads of 64 KiB
    BareEpoll,
    /// a loop over send(), behind epoll
    BareSend,
    /// the engine of this repository, one shard
    Megamux,
    /// tokio, current_thread
    Tokio,
    /// monoio on io_uring
    Monoio,
    /// compio on io_uring
    #[cfg(feature = "all-peers")]
    Compio,
    /// glommio
    #[cfg(feature = "all-peers")]
    Glommio,
    /// tokio-uring
    #[cfg(feature = "all-peers")]
    TokioUring,
    /// accepts, answers once and keeps the socket: what a connection costs before anybody waits for it (idle only)
    Plain,
}

impl Server {
    pub fn name(self) -> &'static str {
        match self {
            Self::BareUring => "bare-uring",
            Self::BareEpoll => "bare-epoll",
            Self::BareSend => "bare-send",
            Self::Megamux => "megamux",
            Self::Tokio => "tokio",
            Self::Monoio => "monoio",
            #[cfg(feature = "all-peers")]
            Self::Compio => "compio",
            #[cfg(feature = "all-peers")]
            Self::Glommio => "glommio",
            #[cfg(feature = "all-peers")]
            Self::TokioUring => "tokio-uring",
            Self::Plain => "plain",
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            Self::BareUring | Self::BareEpoll | Self::BareSend | Self::Plain => Kind::Floor,
            Self::Megamux => Kind::Ours,
            _ => Kind::Peer,
        }
    }

    /// Whether there is such a server for this work.
    pub fn does(self, work: Work, transport: Transport) -> bool {
        match work {
            Work::Echo if transport == Transport::Unix && !self.is_over_unix() => false,
            Work::Echo => !matches!(self, Self::BareSend | Self::Plain),
            Work::Lines => matches!(self, Self::Megamux | Self::Tokio),
            Work::Fanout => matches!(self, Self::BareSend | Self::Megamux | Self::Tokio),
        }
    }

    fn is_over_unix(self) -> bool {
        match self {
            // Neither takes a Unix listener that others made.
            #[cfg(feature = "all-peers")]
            Self::Glommio | Self::TokioUring => false,
            _ => true,
        }
    }

    /// Serves until killed. `buffer` is the size of a connection's own buffer, for servers that give it one.
    pub fn run(self, work: Work, endpoint: &Endpoint, buffer: usize) -> Result<()> {
        match (work, self) {
            (Work::Echo, Self::BareUring) => echo::bare_uring::run(endpoint.listen()?),
            (Work::Echo, Self::BareEpoll) => echo::bare_epoll::run(endpoint.listen()?),
            (Work::Echo, Self::Megamux) => echo::megamux::run(endpoint),
            (Work::Echo, Self::Tokio) => echo::tokio::run(endpoint, buffer),
            (Work::Echo, Self::Monoio) => echo::monoio::run(endpoint, buffer),
            #[cfg(feature = "all-peers")]
            (Work::Echo, Self::Compio) => echo::compio::run(endpoint, buffer),
            #[cfg(feature = "all-peers")]
            (Work::Echo, Self::Glommio) => echo::glommio::run(endpoint, buffer),
            #[cfg(feature = "all-peers")]
            (Work::Echo, Self::TokioUring) => echo::tokio_uring::run(endpoint, buffer),
            (Work::Echo, Self::Plain) => echo::plain::run(endpoint.listen()?, buffer),
            (Work::Lines, Self::Megamux) => lines::megamux::run(endpoint),
            (Work::Lines, Self::Tokio) => lines::tokio::run(endpoint),
            (Work::Fanout, Self::BareSend) => fanout::bare_send::run(endpoint.listen()?),
            (Work::Fanout, Self::Megamux) => fanout::megamux::run(endpoint),
            (Work::Fanout, Self::Tokio) => fanout::tokio::run(endpoint),
            (work, server) => bail!("there is no {} for {}", server.name(), work.name()),
        }
    }
}

/// megamux on the one core that it is pinned to already, with a shard for each listener.
fn shards(endpoint: &Endpoint) -> Config {
    let mut config = Config::default();
    config.shards = endpoint.listeners();
    config.pin = Pin::None;
    config
}

fn listen(endpoint: &Endpoint) -> Listen {
    let listen = match endpoint {
        Endpoint::Tcp(address, _) => Listen::tcp(address.to_string()),
        Endpoint::Unix(path) => Listen::unix(path),
    };
    let mut options = SocketOptions::default();
    options.backlog = BACKLOG;
    listen.socket(options)
}
