//! What an engine tells of its endpoints and services, and the counts behind it.
//!
//! Owns the counts of whole endpoints and services, over all shards. Invariant: nobody waits here; shards touch an
//! endpoint's counts when a connection is accepted or refused, and a service's queue length once per tick.
//! Nothing here orders memory: a figure says nothing about any other.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

use crate::admission::ListenerCount;
use crate::id::{EndpointId, ShardId};
use crate::net::Addr;
use crate::service::Placement;

/// Where an endpoint's connections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointKind {
    /// Peers connect to it.
    Listener,
    /// It gets datagrams, not connections.
    Datagram,
    /// It connects out, or gets connections by `upgrade`.
    Dialer,
}

/// Whether an endpoint takes new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointState {
    /// It does.
    Open,
    /// Its listener accepts nobody for now; who connects waits in its backlog.
    Paused,
    /// Its listener is being closed.
    Closing,
    /// Its listener is closed. Its connections may live on.
    Closed,
}

impl EndpointState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            EndpointState::Open => "open",
            EndpointState::Paused => "paused",
            EndpointState::Closing => "closing",
            EndpointState::Closed => "closed",
        }
    }
}

/// An endpoint as a listing shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointRow {
    /// Which endpoint.
    pub id: EndpointId,
    /// What it was named, or else its number.
    pub name: Arc<str>,
    /// Where its connections come from.
    pub kind: EndpointKind,
    /// Where it is bound; `None` before the start, and if it has no socket.
    pub addr: Option<Addr>,
    /// Whether it takes new connections.
    pub state: EndpointState,
    /// Connections it has now.
    pub live: u64,
    /// Connections its listener accepted since the start.
    pub accepted: u64,
    /// Connections of it that were refused since the start, for any cause.
    pub refused: u64,
}

/// A service as a listing shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceRow {
    /// Its name.
    pub name: Arc<str>,
    /// Where it runs.
    pub placement: Placement,
    /// Inputs and answers under way between it and the shards, as each shard last saw them.
    pub queued: u64,
    /// Panics, those of its factory included.
    pub panics: u64,
    /// Times that it was made anew after one.
    pub restarts: u64,
    /// It failed too often and is not called any more.
    pub given_up: bool,
}

/// What an endpoint's shards count together.
#[derive(Debug, Default)]
pub(crate) struct EndpointCounts {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Listening sockets that are open.
    pub(crate) sockets: AtomicU32,
    paused: AtomicBool,
    closing: AtomicBool,
}

impl EndpointCounts {
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Relaxed);
    }
}

/// An endpoint as the engine's registry knows it.
pub(crate) struct EndpointEntry {
    pub(crate) name: Arc<str>,
    pub(crate) kind: EndpointKind,
    pub(crate) count: Arc<ListenerCount>,
    pub(crate) counts: Arc<EndpointCounts>,
}

impl EndpointEntry {
    pub(crate) fn row(&self, id: EndpointId, addr: Option<Addr>) -> EndpointRow {
        let EndpointEntry { name, kind, count, counts } = self;
        let closing = counts.closing.load(Relaxed);
        let state = match (closing, counts.sockets.load(Relaxed)) {
            (true, 0) => EndpointState::Closed,
            (true, _) => EndpointState::Closing,
            (false, _) if counts.is_paused() => EndpointState::Paused,
            (false, _) => EndpointState::Open,
        };
        EndpointRow {
            id,
            name: Arc::clone(name),
            kind: *kind,
            addr,
            state,
            live: u64::from(count.open()),
            accepted: counts.accepted.load(Relaxed),
            refused: counts.refused.load(Relaxed),
        }
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.counts.paused.store(paused, Relaxed);
    }
}

/// What is known of a service, whoever runs it.
#[derive(Debug)]
pub(crate) struct ServiceFacts {
    pub(crate) name: Arc<str>,
    placement: Placement,
    /// By shard.
    queued: Box<[AtomicUsize]>,
    pub(crate) panics: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) given_up: AtomicBool,
}

impl ServiceFacts {
    pub(crate) fn new(name: &str, placement: Placement, shards: usize) -> Arc<ServiceFacts> {
        Arc::new(ServiceFacts {
            name: name.into(),
            placement,
            queued: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            panics: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
        })
    }

    pub(crate) fn set_queued(&self, shard: ShardId, items: usize) {
        self.queued[usize::from(shard.0)].store(items, Relaxed);
    }

    pub(crate) fn row(&self) -> ServiceRow {
        ServiceRow {
            name: Arc::clone(&self.name),
            placement: self.placement,
            queued: self.queued.iter().map(|items| items.load(Relaxed) as u64).sum(),
            panics: self.panics.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
        }
    }
}
