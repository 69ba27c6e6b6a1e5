//! The `epoll` driver: sockets through readiness, for hosts that refuse io_uring.
//!
//! It is the proactor of the seam over the reactor of the kernel. Every socket is watched edge-triggered from its beginning to
//! its end, and a slot remembers what events said. What can be done at once (send, close, connect, cancel) is done when it is
//! pushed; accepts and receives run when completions are reaped, where the pool is at hand. docs/epoll.md argues the parts.
//!
//! Invariants: every operation completes exactly once (or with `more` until once without), through `ready` or straight into
//! the reaped batch; `ready` is emptied before anything else is reaped, so a slot's close comes before what reuses the slot.
//! No system call here blocks but the one wait, and no work of one reap exceeds the completions asked for.
//! What the kernel writes to and reads from is lent by the buffer room as slices, so all of it is safe code.

mod accept;
mod datagram;
mod dial;
mod pass;
mod poller;
mod receive;
mod send;
mod slots;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{Shutdown, getpeername, shutdown};
use slab::Slab;
use socket2::{Domain, SockRef};

use self::accept::Listener;
use self::dial::Dials;
use self::pass::Inbox;
pub(crate) use self::pass::Inboxes;
use self::poller::{Poller, READ, READ_ON, WRITE, Watched};
use self::receive::Buffers;
use self::send::Sending;
use self::slots::{NONE, Reading, Table, flag};
use crate::buffer::{Pool, SendChain};
use crate::driver::{Accept, Caps, Completion, Driver, DriverCounts, First, Payload, Wait};
use crate::handoff::wake::Wake;
use crate::id::ShardId;
use crate::limits;
use crate::net::{Dial, nofile_limit};
use crate::ring::Mask;
use crate::time::Time;
use crate::token::{Kind, Token};
use crate::waker::EventWaker;

/// The slots of a table, as many as a ring's table of direct descriptors may have.
const MOST_SLOTS: u32 = 1 << 20;

/// What a driver is made with.
#[derive(Debug, Clone)]
pub(crate) struct EpollConfig {
    /// Connections wanted; RLIMIT_NOFILE bounds them, too.
    pub(crate) slots: u32,
    /// What [`caps`] says.
    pub(crate) caps: Caps,
    /// The clock's zero.
    pub(crate) started: Instant,
    /// Which shard's it will be.
    pub(crate) shard: ShardId,
    /// Where it finds the others.
    pub(crate) inboxes: Arc<Inboxes>,
}

/// What this driver can do, wherever it runs; `refused` is why it runs instead of io_uring, if that was wanted.
pub(crate) fn caps(mask: &Mask, refused: Option<String>) -> Caps {
    let masked = mask.words();
    let has = |word: &str| !masked.iter().any(|masked| masked == word);
    Caps {
        driver: "epoll",
        refused,
        incremental_buffers: has("-inc"),
        recv_budget: has("-recv_budget"),
        pass: has("-pass"),
        min_wait: false,
        registered_ring: false,
        peer_cmd: false,
        accept_dontwait: false,
        msg_ring: false,
        restrictions: false,
        masked,
    }
}

/// The epoll driver of one shard.
pub(crate) struct EpollDriver {
    poller: Poller,
    table: Table,
    listeners: Vec<Option<Listener>>,
    datagrams: Vec<datagram::Socket>,
    dials: Dials,
    buffers: Buffers,
    /// Sends that wait for room.
    sends: Slab<Sending>,
    /// Peer addresses that were not taken yet.
    peers: Slab<Option<SocketAddr>>,
    /// Slots to receive from: an operation waits there, and there may be something.
    readable: VecDeque<u32>,
    /// Listeners to accept from.
    accepting: VecDeque<u32>,
    /// Datagram sockets to receive from.
    arrived: VecDeque<u32>,
    datagrams_waiting: usize,
    /// Completions of what was done at once.
    ready: VecDeque<Completion>,
    /// The last enter looked for events.
    looked: bool,
    /// A descriptor to be given up when there is no other.
    reserve: Option<OwnedFd>,
    inboxes: Arc<Inboxes>,
    inbox: Arc<Inbox>,
    waker: Arc<EventWaker>,
    caps: Caps,
    operations: u64,
    started: Instant,
}

impl EpollDriver {
    /// Makes the driver of one shard.
    pub(crate) fn new(config: &EpollConfig) -> io::Result<EpollDriver> {
        let poller = Poller::new()?;
        let waker = Arc::new(EventWaker::new()?);
        // Every write to it is an event, and nobody ever reads it.
        poller.watch(&waker, Watched::Waker, EventFlags::IN)?;
        let slots = config.slots.min(MOST_SLOTS).min(nofile_limit().0.try_into().unwrap_or(u32::MAX));
        let inbox = Arc::new(Inbox::new(slots, Arc::clone(&waker)));
        config.inboxes.add(config.shard, &inbox);
        Ok(EpollDriver {
            poller,
            table: Table::new(Arc::clone(&inbox)),
            listeners: Vec::new(),
            datagrams: Vec::new(),
            dials: Dials::default(),
            buffers: Buffers::new(config.caps.incremental_buffers),
            sends: Slab::new(),
            peers: Slab::new(),
            readable: VecDeque::new(),
            accepting: VecDeque::new(),
            arrived: VecDeque::new(),
            datagrams_waiting: 0,
            // Parking ends many receives in one tick.
            ready: VecDeque::with_capacity(limits::BATCH),
            looked: false,
            reserve: accept::spare(),
            inboxes: Arc::clone(&config.inboxes),
            inbox,
            waker,
            caps: config.caps.clone(),
            operations: 0,
            started: config.started,
        })
    }

    /// Watches the socket in a slot from its beginning on.
    fn watch(&mut self, slot: u32) -> Result<(), Errno> {
        match self.table.fd(slot) {
            Some(fd) => self.watch_slot(slot, fd),
            None => Ok(()),
        }
    }

    fn watch_slot(&self, slot: u32, fd: &OwnedFd) -> Result<(), Errno> {
        self.poller.watch(fd, Watched::Slot(slot), READ)
    }

    /// Queues the completion of an operation that is over.
    #[inline]
    fn complete(&mut self, token: Token, result: i32) {
        self.complete_with(token, result, Payload::None);
    }

    #[inline]
    fn complete_with(&mut self, token: Token, result: i32, payload: Payload) {
        // Of these nobody wants to hear.
        if token.kind() != Kind::Driver {
            self.ready.push_back(Completion { token, result, more: false, payload });
        }
    }

    fn has_work(&self) -> bool {
        !(self.ready.is_empty() && self.readable.is_empty() && self.accepting.is_empty() && self.arrived.is_empty())
    }

    /// Remembers what the events of the last wait said.
    fn take_events(&mut self) {
        for index in 0..self.poller.count() {
            let (whom, flags) = self.poller.event(index);
            match whom {
                Watched::Slot(slot) => self.socket_event(slot, flags),
                Watched::Listener(number) => self.somebody_waits(number),
                Watched::Datagram(number) => self.datagram_event(number, flags),
                Watched::Waker => self.take_passed(),
            }
        }
    }

    #[inline]
    fn socket_event(&mut self, slot: u32, flags: EventFlags) {
        let socket = self.table.at(slot);
        let sends = socket.sending != NONE;
        if flags.intersects(READ) {
            socket.set(flag::READABLE);
            if flags.intersects(READ_ON) {
                socket.note(flags);
            }
        }
        match socket.reading {
            Reading::No => {}
            Reading::Dial(index) => self.dial_event(index),
            Reading::Hangup(_) => self.tell_end(slot),
            _ if flags.intersects(READ) => self.queue(slot),
            _ => {}
        }
        if sends && flags.intersects(WRITE) {
            self.send_rest(slot);
        }
    }

    /// Ends the receive or poll with this token, if it waits.
    fn cancel_reading(&mut self, target: Token) -> bool {
        let socket = self.table.at(target.slot());
        let waits = match socket.reading {
            Reading::Poll(token) | Reading::Once(token) | Reading::Hangup(token) => token == target,
            Reading::Credit { token, .. } => token == target,
            Reading::No | Reading::Dial(_) => false,
        };
        if waits {
            socket.reading = Reading::No;
        }
        waits
    }
}

impl Driver for EpollDriver {
    type Listener = OwnedFd;
    type Datagram = OwnedFd;

    fn now(&self) -> Time {
        // 2^64 nanoseconds are 584 years.
        Time::from_nanos(self.started.elapsed().as_nanos() as u64)
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn slots(&self) -> u32 {
        self.inbox.slots()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn adopt_listener(&mut self, listener: OwnedFd) -> io::Result<u32> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let is_unix = SockRef::from(&listener).domain()? == Domain::UNIX;
        let listener = Listener::new(listener, is_unix);
        let number = match self.listeners.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.listeners.push(None);
                self.listeners.len() - 1
            }
        };
        self.poller.watch(listener.fd(), Watched::Listener(number as u32), EventFlags::IN)?;
        self.listeners[number] = Some(listener);
        Ok(number as u32)
    }

    fn close_listener(&mut self, listener: u32) {
        self.listeners[listener as usize] = None;
    }

    fn accept(&mut self, listener: u32, token: Token, _: Accept) {
        self.operations += 1;
        self.arm_accept(listener, token);
    }

    fn peer(&mut self, slot: u32, token: Token) {
        self.operations += 1;
        let mut place = std::mem::replace(&mut self.table.at(slot).peer, NONE);
        if place == NONE {
            // It was dialled, or it is a Unix socket's.
            let fd = self.table.fd(slot).filter(|_| !self.table.is_unix(slot));
            let peer = fd.and_then(|fd| getpeername(fd).ok()).flatten();
            place = self.peers.insert(peer.and_then(|peer| SocketAddr::try_from(peer).ok())) as u32;
        }
        self.complete_with(token, 0, Payload::Peer(place));
    }

    fn take_peer(&mut self, index: u32) -> Option<SocketAddr> {
        self.peers.remove(index as usize)
    }

    fn pass(&mut self, slot: u32, to: ShardId, there: Token, token: Token) {
        self.operations += 1;
        let passed = self.pass_to(slot, to, there);
        self.complete(token, passed.map_or_else(|error| -error.raw_os_error(), |()| 0));
    }

    fn dial(&mut self, dial: &Dial, token: Token) {
        self.operations += 1;
        self.start_dial(dial, token);
    }

    fn poll_readable(&mut self, slot: u32, token: Token) {
        self.operations += 1;
        self.read(slot, Reading::Poll(token));
    }

    fn poll_hangup(&mut self, slot: u32, token: Token) {
        self.operations += 1;
        self.watch_end(slot, token);
    }

    fn recv_once(&mut self, slot: u32, token: Token, _: First) {
        self.operations += 1;
        self.read(slot, Reading::Once(token));
    }

    fn recv_multishot(&mut self, slot: u32, token: Token, credit: u32, _: First) {
        self.operations += 1;
        let left = if credit > 0 && self.caps.recv_budget { credit } else { u32::MAX };
        self.read(slot, Reading::Credit { token, left });
    }

    fn send(&mut self, slot: u32, token: Token, chain: &SendChain) {
        self.operations += 1;
        self.send_now(slot, token, chain);
    }

    fn shutdown_write(&mut self, slot: u32, token: Token) {
        self.operations += 1;
        let shut = match self.table.fd(slot) {
            Some(fd) => shutdown(fd, Shutdown::Write),
            None => Err(Errno::BADF),
        };
        self.complete(token, shut.map_or_else(|error| -error.raw_os_error(), |()| 0));
    }

    fn reset_on_close(&mut self, slot: u32) {
        if let Some(fd) = self.table.fd(slot) {
            // Fails on no socket that is open.
            let _ = set_socket_linger(fd, Some(Duration::ZERO));
        }
    }

    fn close(&mut self, slot: u32, token: Token) {
        self.operations += 1;
        let Some(socket) = self.table.remove(slot) else {
            return self.complete(token, -libc::EBADF);
        };
        debug_assert!(
            matches!(socket.reading, Reading::No) && socket.sending == NONE,
            "closed with operations in flight"
        );
        if socket.peer != NONE {
            self.peers.remove(socket.peer as usize);
        }
        self.complete(token, 0);
    }

    fn cancel(&mut self, target: Token, token: Token) {
        self.operations += 1;
        let found = match target.kind() {
            Kind::Accept => self.disarm_accept(target),
            Kind::DatagramRecv => self.disarm_datagram(target),
            Kind::Poll | Kind::Watch | Kind::Recv => self.cancel_reading(target),
            // These say themselves how far they came.
            Kind::Send => return self.cancelled(target, token, EpollDriver::cancel_send),
            Kind::Dial => return self.cancelled(target, token, EpollDriver::cancel_dial),
            // The others were over when they were pushed.
            _ => false,
        };
        if found {
            self.complete(target, -libc::ECANCELED);
        }
        self.complete(token, if found { 0 } else { -libc::ENOENT });
    }

    fn adopt_datagram(&mut self, socket: OwnedFd) -> io::Result<u32> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        self.datagrams.push(datagram::Socket::new(socket));
        let number = (self.datagrams.len() - 1) as u32;
        self.watch_datagram(number)?;
        Ok(number)
    }

    fn datagram_recv(&mut self, socket: u32, token: Token) {
        self.operations += 1;
        self.arm_datagram(socket, token);
    }

    fn datagram(&self, index: u32) -> (SocketAddr, &[u8], bool) {
        self.datagrams[index as usize].last()
    }

    fn datagram_send(&mut self, socket: u32, token: Token, to: SocketAddr, bytes: &[u8]) -> bool {
        self.operations += 1;
        self.send_datagram(socket, token, to, bytes)
    }

    fn provide_buffers(&mut self, pool: &mut Pool) {
        while let Some(buffer) = pool.take_free() {
            self.buffers.add(buffer.bid);
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let has_work = self.has_work();
        // With work at hand every second look is enough: what is at hand is mostly the ends of the last tick's sends.
        if has_work && std::mem::take(&mut self.looked) {
            return Ok(());
        }
        self.looked = true;
        let most = match wait {
            Wait::For(most) | Wait::Batch { most, .. } if !has_work => match self.dials.next_retry() {
                Some(due) => most.min(due.since(self.now())),
                None => most,
            },
            _ => Duration::ZERO,
        };
        self.poller.wait(most)?;
        self.take_events();
        if self.dials.next_retry().is_some() {
            self.retry_dials();
        }
        Ok(())
    }

    fn reap(&mut self, pool: &mut Pool, out: &mut Vec<Completion>, most: usize) {
        let end = out.len() + most;
        let count = self.ready.len().min(most);
        out.extend(self.ready.drain(..count));
        if self.ready.is_empty() {
            self.run_accepts(out, end);
            self.run_datagrams(out, end);
            self.run_receives(pool, out, end);
        }
    }

    fn counts(&self) -> DriverCounts {
        DriverCounts { enters: self.poller.waits, submissions: self.operations, ..DriverCounts::default() }
    }
}

impl EpollDriver {
    /// Ends an operation that says itself how far it came, and says whether there was one.
    fn cancelled(&mut self, target: Token, token: Token, end: fn(&mut EpollDriver, Token) -> bool) {
        let found = end(self, target);
        self.complete(token, if found { 0 } else { -libc::ENOENT });
    }
}

impl Drop for EpollDriver {
    fn drop(&mut self) {
        // From here on nothing can be passed here; what was is closed.
        self.inbox.close();
    }
}
