//! Orders that reach a shard from outside: endpoints, closes, dials, listings, drain, stop.
//!
//! They come through the shard's mailbox, a bounded number per tick. Draining goes in steps: no more accepts and
//! services say good-bye; then connections do; then, at the deadline, what is left is reset.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::accept::Listener;
use crate::admission::ListenerCount;
use crate::close_reason::CloseReason;
use crate::config::EndpointOptions;
use crate::conn::{Conn, State};
use crate::core::{DialRequest, EndpointFacts};
use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::handle::Handle;
use crate::id::{ConnId, ConnInfo, EndpointId, ShardId};
use crate::limits;
use crate::listing::{EndpointCounts, EndpointEntry, EndpointKind};
use crate::net::SocketOptions;
use crate::port::Doors;
use crate::shard::{Drain, Shard, class};
use crate::spread::Sharing;
use crate::stats::{ConnState, Label};
use crate::timer_word::TimerWord;

/// An order for one shard.
pub(crate) enum Control {
    /// A new endpoint, with its socket if it has one.
    Add(Arc<EndpointSpec>, Socket),
    /// Whether this endpoint accepts has changed.
    Accepting(EndpointId),
    /// No more accepts on this endpoint.
    Unlisten(EndpointId),
    Close(ConnId, CloseReason),
    Dial(DialRequest),
    Connections {
        most: usize,
        reply: Arc<dyn Fn(Connections) + Send + Sync>,
    },
    Connection(ConnId, Box<dyn FnOnce(Option<ConnRow>) + Send>),
    Drain(Duration),
    Stop,
    /// No shard has connections any more.
    AllFinished,
}

/// Says once that a shard has no connections left and takes no more, at the latest when it fails.
pub(crate) struct Finished(Option<Handle>);

impl Finished {
    pub(crate) fn new(handle: Handle) -> Finished {
        Finished(Some(handle))
    }

    fn say(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.shard_finished();
        }
    }

    fn is_said(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        self.say();
    }
}

/// How to make an endpoint's part on a shard.
pub(crate) struct EndpointSpec {
    pub(crate) id: EndpointId,
    pub(crate) options: EndpointOptions,
    pub(crate) socket: SocketOptions,
    pub(crate) count: Arc<ListenerCount>,
    pub(crate) counts: Arc<EndpointCounts>,
    pub(crate) build: BuildEndpoint,
}

impl EndpointSpec {
    /// What the engine's registry keeps of it.
    pub(crate) fn entry(&self, kind: EndpointKind) -> EndpointEntry {
        let name = self.options.name.clone().unwrap_or_else(|| self.id.to_string().into());
        EndpointEntry { name, kind, count: Arc::clone(&self.count), counts: Arc::clone(&self.counts) }
    }
}

/// Makes an endpoint's part on the shard whose doors it gets.
pub(crate) type BuildEndpoint = Box<dyn Fn(EndpointId, &mut Doors<'_>) -> Box<dyn Endpoint> + Send + Sync>;

/// An endpoint's socket on its way to a shard: what the driver calls `Listener` or `Datagram`.
pub(crate) enum Socket {
    None,
    Listener(Box<dyn Any + Send>, Sharing),
    Datagram(Box<dyn Any + Send>),
}

/// What one shard answers to [`crate::Handle::connections`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Connections {
    /// The shard that answers.
    pub shard: ShardId,
    /// Its connections, by slot, as many as were asked for.
    pub rows: Vec<ConnRow>,
    /// How many it has.
    pub total: usize,
}

/// A connection as a listing shows it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ConnRow {
    /// Name, endpoint, origin and peer.
    pub info: ConnInfo,
    /// What it is doing: `opening`, `open`, `parked`, `armed` or `closing`.
    pub state: &'static str,
    /// Since it was accepted or dialled.
    pub age: Duration,
    /// Since it last sent something.
    pub idle: Duration,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes queued to be sent.
    pub queued_bytes: usize,
    /// Bytes received that its handler has left unread.
    pub unread_bytes: usize,
}

impl<D: Driver> Shard<D> {
    /// Carries out the orders at hand.
    pub(crate) fn read_mail(&mut self) {
        for _ in 0..limits::CONTROLS_PER_TICK {
            let Some(order) = self.mail.receive() else { return };
            match order {
                Control::Add(spec, socket) => self.add_endpoint(&spec, socket),
                Control::Accepting(endpoint) => self.pause_or_resume(endpoint),
                Control::Unlisten(endpoint) => self.unlisten(endpoint),
                Control::Close(conn, why) => {
                    if let Some(slot) = self.core.find(conn) {
                        self.core.close(slot, why);
                    }
                }
                Control::Dial(request) => {
                    if let Err(request) = self.core.dial(request) {
                        let errno = if self.core.draining { libc::ESHUTDOWN } else { libc::EAGAIN };
                        self.dial_failed(request, io::Error::from_raw_os_error(errno));
                    }
                }
                Control::Connections { most, reply } => reply(self.list(most)),
                Control::Connection(conn, reply) => reply(self.look_up(conn)),
                Control::Drain(deadline) => self.start_drain(deadline),
                Control::Stop => {
                    self.overdue = true;
                    self.stop_conns();
                }
                Control::AllFinished => {}
            }
        }
        self.more |= !self.mail.is_empty();
    }

    /// Makes an endpoint's part on this shard and arms its socket; a socket that comes during a drain is closed.
    pub(crate) fn add_endpoint(&mut self, spec: &EndpointSpec, socket: Socket) {
        debug_assert_eq!(usize::from(spec.id.0), self.endpoints.len());
        let mut doors =
            Doors { ports: &mut self.ports, shard: self.core.shard, bell: &self.bell, capacity: self.lane_capacity };
        self.endpoints.push((spec.build)(spec.id, &mut doors));
        self.core.endpoints.push(
            EndpointFacts {
                options: spec.options.clone(),
                socket: spec.socket.clone(),
                count: Arc::clone(&spec.count),
                counts: Arc::clone(&spec.counts),
            }
            .into(),
        );
        let socket = match self.drain {
            Drain::No => socket,
            _ => {
                spec.counts.close();
                Socket::None
            }
        };
        if let Err(error) = self.add_socket(spec.id, socket) {
            tracing::error!(shard = %self.core.shard, endpoint = %spec.id, %error, "a socket could not be taken over");
        }
    }

    fn add_socket(&mut self, endpoint: EndpointId, socket: Socket) -> io::Result<()> {
        match socket {
            Socket::None => {}
            Socket::Listener(listener, sharing) => {
                let Ok(listener) = listener.downcast::<D::Listener>() else { return Ok(()) };
                let number = self.driver.adopt_listener(*listener)?;
                let index = self.listeners.insert(Listener::new(number, endpoint, sharing));
                self.core.endpoints[usize::from(endpoint.0)].counts.sockets.fetch_add(1, Ordering::Relaxed);
                self.arm_accept(index as u32);
            }
            Socket::Datagram(socket) => {
                let Ok(socket) = socket.downcast::<D::Datagram>() else { return Ok(()) };
                let number = self.driver.adopt_datagram(*socket)? as usize;
                if self.sockets.len() <= number {
                    self.sockets.resize(number + 1, endpoint);
                }
                self.sockets[number] = endpoint;
                self.arm_datagram(number as u32);
            }
        }
        Ok(())
    }

    fn unlisten(&mut self, endpoint: EndpointId) {
        for index in self.listeners_of(endpoint) {
            self.close_listener(index);
        }
    }

    fn pause_or_resume(&mut self, endpoint: EndpointId) {
        for index in self.listeners_of(endpoint) {
            self.pause_or_resume_listener(index);
        }
    }

    fn listeners_of(&self, endpoint: EndpointId) -> Vec<u32> {
        let of_endpoint = self.listeners.iter().filter(|(_, listener)| listener.endpoint == endpoint);
        of_endpoint.map(|(index, _)| index as u32).collect()
    }

    fn list(&self, most: usize) -> Connections {
        let live = || (0..).zip(&self.core.conns).filter(|(_, conn)| conn.state != State::Vacant);
        let rows = live().take(most).map(|(slot, conn)| self.row(slot, conn)).collect();
        Connections { shard: self.core.shard, rows, total: live().count() }
    }

    /// One connection, closing ones included.
    fn look_up(&self, id: ConnId) -> Option<ConnRow> {
        let conn = self.core.conns.get(id.slot() as usize)?;
        let lives = conn.state != State::Vacant && conn.generation == id.generation() && id.shard() == self.core.shard;
        lives.then(|| self.row(id.slot(), conn))
    }

    fn row(&self, slot: u32, conn: &Conn) -> ConnRow {
        ConnRow {
            info: self.core.info(slot),
            state: class(conn).map_or("vacant", ConnState::word),
            age: self.core.since_ms(conn.opened_ms),
            idle: self.core.since_ms(conn.last_in_ms).min(self.core.since_ms(conn.opened_ms)),
            bytes_in: conn.bytes_in,
            bytes_out: conn.bytes_out,
            queued_bytes: conn.queued_bytes(),
            unread_bytes: conn.unread_bytes(),
        }
    }

    /// First step: no more accepts and dials; services say good-bye.
    fn start_drain(&mut self, deadline: Duration) {
        if self.drain != Drain::No {
            return;
        }
        self.drain = Drain::Services;
        self.core.draining = true;
        for index in self.listeners.iter().map(|(index, _)| index as u32).collect::<Vec<_>>() {
            self.close_listener(index);
        }
        self.cancel_dials();
        self.core.timers.insert(self.core.now + deadline / 2, TimerWord::drain(DRAIN_SERVICES));
        self.core.timers.insert(self.core.now + deadline, TimerWord::drain(DRAIN_CONNS));
    }

    /// Goes on with a drain as far as it can go now.
    pub(crate) fn drain_step(&mut self) {
        if self.drain == Drain::Services && self.ports.iter().flatten().all(|port| port.is_drained()) {
            self.drain_conns();
        }
        if self.drain == Drain::Conns && self.core.live == 0 && self.dialing.is_empty() && self.listeners.is_empty() {
            self.finish();
        }
    }

    /// No connections are left here. But services that live here go on until all shards are finished, and hear
    /// the last of them.
    fn finish(&mut self) {
        let told = self.ports.iter().flatten().all(|port| port.facts().lifecycle_waiting == 0);
        if told || self.overdue {
            self.finished.say();
        }
        let all_finished = self.core.handle.all_finished();
        let heard_all = all_finished && self.heard_all && !self.more;
        let served = self.hosts.is_empty() || heard_all && self.hosts.iter_mut().all(|(_, host)| host.end_storage());
        self.stopped = self.finished.is_said() && served;
        if all_finished && !self.heard_all {
            // What was told just before the last one finished is there for the next step.
            self.heard_all = true;
            self.more = true;
        }
    }

    /// Second step: connections say good-bye.
    fn drain_conns(&mut self) {
        self.drain = Drain::Conns;
        for slot in 0..self.core.conns.len() as u32 {
            match self.core.conn(slot).state {
                State::Opening => self.core.close(slot, CloseReason::Drained),
                State::Open => self.call(slot, |endpoint, core| endpoint.drain(core, slot)),
                _ => {}
            }
        }
    }

    /// A step of the drain is overdue.
    pub(crate) fn drain_timed_out(&mut self, step: u32) {
        #[cfg(feature = "planted")]
        if crate::planted::is(crate::planted::Bug::EndlessDrain) {
            return;
        }
        match step {
            DRAIN_SERVICES if self.drain == Drain::Services => self.drain_conns(),
            DRAIN_CONNS => {
                self.overdue = true;
                self.stop_conns();
            }
            _ => {}
        }
    }

    /// Last step: what is left is reset.
    fn stop_conns(&mut self) {
        self.start_drain(Duration::ZERO);
        self.drain = Drain::Conns;
        for slot in 0..self.core.conns.len() as u32 {
            match self.core.conn(slot).state {
                State::Opening | State::Open => self.core.close(slot, CloseReason::Stopped),
                State::Flushing | State::Lingering => self.abandon(slot),
                _ => {}
            }
        }
    }
}

const DRAIN_SERVICES: u32 = 0;
const DRAIN_CONNS: u32 = 1;
