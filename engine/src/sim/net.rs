//! The simulated network and kernel of one simulation: clock, sockets, segments under way, and whom to look at next.
//!
//! One per simulation, shared by its shards and peers on one thread. Streams keep order and lose nothing while
//! they live; what a close, an RST or a full window does is what Linux does. Time moves only in
//! [`Net::advance`]; everything that is due at the same time happens in an order the seed decides.
//!
//! Invariant: whenever something changes for a socket, its owner is marked to be looked at. Nothing polls.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::datagrams::UdpNet;
use super::faults::Faults;
use super::kernel::Kernel;
use super::peer::Peers;
use super::rng::Rng;
use super::trace::Trace;
use crate::net::Addr;
use crate::time::Time;

/// One end of a stream, by its number; numbers are never reused.
pub(super) type EndId = usize;

/// See the module's page.
pub(super) struct Net {
    pub(super) now: Time,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) ends: Vec<End>,
    pub(super) kernels: Vec<Kernel>,
    pub(super) peers: Peers,
    pub(super) udp: UdpNet,
    /// Who listens on an address, in the order of adoption.
    pub(super) listening: BTreeMap<String, Vec<Acceptor>>,
    pub(super) trace: Trace,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
}

/// Something that is due at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The first segment under way to this end arrives.
    Arrival(EndId),
    /// A delayed operation of this shard may go on.
    Shard(usize),
    /// A peer's own delay is over.
    Peer(usize),
    /// The first datagrams under way arrive.
    Datagrams,
}

/// Who takes connections to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acceptor {
    /// A shard's listener, by the driver's number.
    Shard(usize, u32),
    /// The simulation itself: a peer with the script of this number.
    Script(usize),
}

/// Who looks at an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    /// In the slots, or the backlog, of this shard.
    Shard(usize),
    Peer(usize),
}

/// One end of a stream.
pub(super) struct End {
    pub(super) other: EndId,
    pub(super) owner: Owner,
    pub(super) remote: Option<SocketAddr>,
    /// Bytes that arrived and were not read.
    pub(super) unread: VecDeque<u8>,
    /// Everything before the peer's FIN has arrived.
    pub(super) fin: bool,
    /// An error to be reported once.
    error: Option<i32>,
    /// No more bytes either way: reset, or the network broke.
    pub(super) broken: bool,
    /// Our FIN was sent.
    pub(super) fin_sent: bool,
    pub(super) closed: bool,
    /// The other side's kernel dropped the connection before anybody there had it.
    pub(super) refused: bool,
    under_way: VecDeque<(Time, Segment)>,
    bytes_under_way: usize,
}

enum Segment {
    Data(Vec<u8>),
    Fin,
    Reset,
}

/// How an end is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// FIN, or RST if there is something unread, as Linux does.
    InOrder,
    /// RST.
    Abort,
}

impl Net {
    pub(super) fn new(seed: u64, faults: Faults) -> Net {
        Net {
            now: Time::ZERO,
            rng: Rng::new(seed),
            faults,
            ends: Vec::new(),
            kernels: Vec::new(),
            peers: Peers::default(),
            udp: UdpNet::default(),
            listening: BTreeMap::new(),
            trace: Trace::default(),
            events: BinaryHeap::new(),
        }
    }

    /// When the next thing happens by itself.
    pub(super) fn next_event(&self) -> Option<Time> {
        self.events.peek().map(|Reverse((time, ..))| *time)
    }

    /// Moves the clock, and lets happen what is due by then.
    pub(super) fn advance(&mut self, to: Time) {
        self.now = self.now.max(to);
        while let Some(Reverse((time, _, event))) = self.events.peek().copied()
            && time <= self.now
        {
            self.events.pop();
            match event {
                Event::Arrival(end) => self.arrive(end),
                Event::Shard(shard) => self.kernels[shard].look = true,
                Event::Peer(peer) => self.peers.look_at(peer),
                Event::Datagrams => self.deliver_datagrams(),
            }
        }
    }

    pub(super) fn at(&mut self, time: Time, event: Event) {
        if time != Time::NEVER {
            // The middle field decides among what is due together.
            let order = self.rng.bits();
            self.events.push(Reverse((time, order, event)));
        }
    }

    /// Any delay up to `most`.
    pub(super) fn some(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.rng.between(0, most.as_nanos() as u64))
    }

    /// Whether somebody listens there.
    pub(super) fn acceptor(&mut self, addr: &Addr) -> Option<Acceptor> {
        let acceptors = self.listening.get(&addr.to_string()).filter(|acceptors| !acceptors.is_empty())?;
        Some(acceptors[self.rng.index(acceptors.len())])
    }

    /// Connects `client` to whoever listens on `addr`; `None` if nobody does. The ends are the client's and
    /// the acceptor's.
    pub(super) fn connect(&mut self, addr: &Addr, client: Owner, from: Option<SocketAddr>) -> Option<EndId> {
        let acceptor = self.acceptor(addr)?;
        let remote = match addr {
            Addr::Tcp(addr) => Some(*addr),
            Addr::Unix(_) => None,
        };
        let (near, far) = (self.ends.len(), self.ends.len() + 1);
        self.ends.push(End::new(far, client, remote));
        self.ends.push(End::new(near, Owner::Nobody, from.filter(|_| remote.is_some())));
        match acceptor {
            Acceptor::Shard(shard, listener) => {
                self.ends[far].owner = Owner::Shard(shard);
                self.kernels[shard].queue_connection(listener, far);
            }
            Acceptor::Script(script) => {
                let peer = self.peers.accept(script, far);
                self.ends[far].owner = Owner::Peer(peer);
            }
        }
        self.look_at(far);
        Some(near)
    }

    /// How many bytes an end may send now.
    pub(super) fn room(&self, end: EndId) -> usize {
        let other = &self.ends[self.ends[end].other];
        self.faults.window.saturating_sub(other.bytes_under_way + other.unread.len())
    }

    /// Sends bytes; no more than there is room for.
    pub(super) fn send(&mut self, end: EndId, bytes: Vec<u8>) {
        debug_assert!(!self.ends[end].fin_sent && !self.ends[end].closed);
        let other = self.ends[end].other;
        self.ends[other].bytes_under_way += bytes.len();
        self.post(other, Segment::Data(bytes));
    }

    /// Sends FIN, once.
    pub(super) fn finish(&mut self, end: EndId) {
        if !self.ends[end].fin_sent && !self.ends[end].broken {
            self.ends[end].fin_sent = true;
            self.post(self.ends[end].other, Segment::Fin);
        }
    }

    /// Reads at most `most` bytes of what has arrived.
    pub(super) fn read(&mut self, end: EndId, most: usize) -> Vec<u8> {
        let len = most.min(self.ends[end].unread.len());
        let bytes = self.ends[end].unread.drain(..len).collect();
        // The window opened.
        self.look_at(self.ends[end].other);
        bytes
    }

    pub(super) fn close(&mut self, end: EndId, how: Close) {
        let this = &mut self.ends[end];
        if std::mem::replace(&mut this.closed, true) {
            return;
        }
        this.owner = Owner::Nobody;
        let (broken, unread) = (this.broken, !this.unread.is_empty());
        this.unread.clear();
        if broken {
            return;
        }
        // RFC 1122 4.2.2.13: a close with data unread is told to the peer by RST.
        if how == Close::Abort || unread {
            self.drop_some_under_way(self.ends[end].other);
            self.post(self.ends[end].other, Segment::Reset);
        } else {
            self.finish(end);
        }
    }

    /// The network breaks a connection: both ends see an error.
    pub(super) fn break_both(&mut self, end: EndId) {
        for end in [end, self.ends[end].other] {
            let errno = if self.rng.chance(800) { libc::ECONNRESET } else { libc::ETIMEDOUT };
            self.break_end(end, errno);
        }
    }

    fn break_end(&mut self, end: EndId, errno: i32) {
        let forgets = self.rng.chance(500);
        let this = &mut self.ends[end];
        if this.closed || this.broken {
            return;
        }
        (this.broken, this.error) = (true, Some(errno));
        this.under_way.clear();
        this.bytes_under_way = 0;
        if forgets {
            this.unread.clear();
        }
        self.look_at(end);
    }

    /// Has the owner of an end look at it.
    pub(super) fn look_at(&mut self, end: EndId) {
        match self.ends[end].owner {
            Owner::Nobody => {}
            Owner::Shard(shard) => self.kernels[shard].look = true,
            Owner::Peer(peer) => self.peers.look_at(peer),
        }
    }

    fn post(&mut self, to: EndId, segment: Segment) {
        let latency = self.faults.latency;
        let after = self.now + self.some(latency);
        // Segments of a stream do not overtake each other.
        let time = self.ends[to].under_way.back().map_or(after, |(last, _)| after.max(*last));
        self.ends[to].under_way.push_back((time, segment));
        self.at(time, Event::Arrival(to));
    }

    /// What an RST overtakes on its way is lost.
    fn drop_some_under_way(&mut self, to: EndId) {
        let kept = self.rng.index(self.ends[to].under_way.len() + 1);
        let this = &mut self.ends[to];
        for (_, segment) in this.under_way.drain(kept..) {
            if let Segment::Data(bytes) = segment {
                this.bytes_under_way -= bytes.len();
            }
        }
    }

    fn arrive(&mut self, end: EndId) {
        let due = self.ends[end].under_way.front().is_some_and(|(time, _)| *time <= self.now);
        let Some((_, segment)) = due.then(|| self.ends[end].under_way.pop_front()).flatten() else {
            return;
        };
        if let Segment::Data(bytes) = &segment {
            self.ends[end].bytes_under_way -= bytes.len();
        }
        if self.ends[end].closed {
            // RFC 9293 3.10.7.1: data for a closed connection draws RST.
            if matches!(segment, Segment::Data(_)) && !self.ends[self.ends[end].other].closed {
                self.post(self.ends[end].other, Segment::Reset);
            }
            return;
        }
        if self.rng.chance(self.faults.reset) {
            return self.break_both(end);
        }
        match segment {
            Segment::Data(bytes) => self.ends[end].unread.extend(bytes),
            Segment::Fin => self.ends[end].fin = true,
            Segment::Reset => self.break_end(end, libc::ECONNRESET),
        }
        self.look_at(end);
    }
}

impl End {
    fn new(other: EndId, owner: Owner, remote: Option<SocketAddr>) -> End {
        End {
            other,
            owner,
            remote,
            unread: VecDeque::new(),
            fin: false,
            error: None,
            broken: false,
            fin_sent: false,
            closed: false,
            refused: false,
            under_way: VecDeque::new(),
            bytes_under_way: 0,
        }
    }

    /// A receive would not wait.
    pub(super) fn readable(&self) -> bool {
        !self.unread.is_empty() || self.fin || self.broken
    }

    /// The pending error, which is reported once.
    pub(super) fn take_error(&mut self) -> Option<i32> {
        self.error.take()
    }
}
