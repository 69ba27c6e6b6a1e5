//! The `uring` driver: sockets through one io_uring per shard.
//!
//! Connections are direct descriptors, whose index is the connection's slot; listeners and datagram sockets are
//! plain descriptors that the driver holds. Submission entries are made in `ops`, and the two queues
//! are moved in `queues`; what needs memory of its own while the kernel works on it (peer fetches, dials, datagrams) has a
//! file and a table each. No operation allocates once its table has grown to what is under way at once,
//! and no completion is looked up: tokens carry places.
//!
//! The driver lives and dies on its shard's thread, and it must be dropped before the pool whose buffers
//! it was given: dropping it ends every operation, and waits for that.

mod alarm;
mod complete;
mod confine;
mod datagram;
mod dial;
mod error;
mod ops;
mod own;
mod peer;
mod probe;
mod provided;
mod queues;
mod rings;
mod stable;
mod sys;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use self::complete::dial_completion;
use self::datagram::Datagrams;
use self::dial::Dials;
pub use self::error::{Feature, RingError};
use self::ops::SocketOption;
use self::own::{Own, own};
use self::peer::{Peers, Start, address_length};
pub use self::probe::MaskError;
pub(crate) use self::probe::{Mask, probe};
use self::provided::{Consume, ProvidedRing};
use self::queues::{Freedom, Ring};
pub(crate) use self::rings::Rings;
use crate::buffer::{Pool, SendChain};
use crate::driver::{Accept, Caps, Completion, Driver, DriverCounts, First, Payload, Wait};
use crate::handoff::wake::Wake;
use crate::id::ShardId;
use crate::net::{Dial, nofile_limit};
use crate::time::Time;
use crate::token::{Kind, Token};
use crate::waker::EventWaker;

/// The kernel's bound on a table of direct descriptors.
const MOST_SLOTS: u32 = 1 << 20;
/// A wait may delay the report of a close by so long. Longer than a tick of the kernel's, so that its timer costs nothing.
const CLOSE_SEEN: Duration = Duration::from_millis(10);
/// How long a dropped driver waits for the kernel to let go of its memory.
const TEARDOWN_PATIENCE: Duration = Duration::from_secs(10);

static RESET_ON_CLOSE: SocketOption = SocketOption::RESET_ON_CLOSE;

/// What a driver is made with.
#[derive(Debug, Clone)]
pub(crate) struct UringConfig {
    /// Submission queue entries wanted.
    pub(crate) sq: u32,
    /// Completion queue entries wanted.
    pub(crate) cq: u32,
    /// Connections wanted; RLIMIT_NOFILE bounds them, too.
    pub(crate) slots: u32,
    /// Buffers of the pool that will provide them, at most 2^15.
    pub(crate) buffers: u16,
    /// What [`probe`] found.
    pub(crate) caps: Caps,
    /// The clock's zero.
    pub(crate) started: Instant,
    /// Which shard's it will be.
    pub(crate) shard: ShardId,
    /// Where it finds the rings of the others.
    pub(crate) rings: Arc<Rings>,
}

/// The io_uring driver of one shard.
pub(crate) struct UringDriver {
    // Declared, and so dropped, before what its operations work on; `drop` has ended them by then.
    ring: Ring,
    provided: ProvidedRing,
    listeners: Vec<Option<Listener>>,
    peers: Peers,
    dials: Dials,
    datagrams: Datagrams,
    waker: Arc<EventWaker>,
    rings: Arc<Rings>,
    /// Closes that are still to be reported: as which entry each was pushed, and its token.
    closing: VecDeque<(u64, Token)>,
    /// What was received before its connection's peer address came.
    early: Vec<Completion>,
    /// Completions that are due to the shard but not in the kernel's queue.
    ready: Vec<Completion>,
    slots: u32,
    shrunk: bool,
    caps: Caps,
    started: Instant,
}

/// A listening socket.
struct Listener {
    fd: OwnedFd,
    /// Bytes of the addresses of those who connect.
    peer_length: u8,
    /// Its accept's.
    token: Option<Token>,
    /// Operations that this accept still consists of.
    attempts: u32,
}

impl UringDriver {
    /// Makes the ring of the current thread's shard.
    pub(crate) fn new(config: &UringConfig) -> Result<UringDriver, RingError> {
        let caps = config.caps.clone();
        let freedom = if caps.restrictions { Freedom::Confined } else { Freedom::Whole };
        let mut ring = Ring::new(config.sq, config.cq, freedom)?;
        let (sq, cq) = ring.size();
        if caps.min_wait {
            ring.use_min_wait();
        }
        if caps.registered_ring {
            ring.use_registered_name().map_err(RingError::Setup)?;
        }
        let slots = config.slots.min(MOST_SLOTS).min(nofile_limit().0.try_into().unwrap_or(u32::MAX));
        ring.submitter().register_files_sparse(slots).map_err(|error| Feature::DirectDescriptors.missing(error))?;
        let consume = if caps.incremental_buffers { Consume::Incrementally } else { Consume::Whole };
        let provided = ProvidedRing::register(&ring.submitter(), config.buffers, consume)
            .map_err(|error| Feature::ProvidedBuffers.missing(error))?;
        let waker = EventWaker::new().map_err(|error| Feature::Wakes.missing(error))?;
        ring.enable().map_err(RingError::Setup)?;
        config.rings.add(config.shard, ring.fd()).map_err(RingError::Setup)?;
        let mut driver = UringDriver {
            ring,
            provided,
            listeners: Vec::new(),
            peers: Peers::new(caps.peer_cmd, slots),
            dials: Dials::default(),
            datagrams: Datagrams::default(),
            waker: Arc::new(waker),
            rings: Arc::clone(&config.rings),
            closing: VecDeque::new(),
            early: Vec::new(),
            ready: Vec::new(),
            slots,
            shrunk: sq < config.sq || cq < config.cq,
            caps,
            started: config.started,
        };
        driver.poll_wakes();
        Ok(driver)
    }

    /// Entries of the submission and completion queue, and whether locked memory made them fewer than asked for.
    pub(crate) fn ring_size(&self) -> (u32, u32, bool) {
        let (sq, cq) = self.ring.size();
        (sq, cq, self.shrunk)
    }

    fn poll_wakes(&mut self) {
        // SAFETY: the entry points at nothing; the eventfd stays open with `self.waker`.
        unsafe { self.ring.push(ops::poll_wakes(self.waker.fd(), own(Own::Wake, 0))) };
    }
}

impl Driver for UringDriver {
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
        self.slots
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn adopt_listener(&mut self, listener: OwnedFd) -> io::Result<u32> {
        set_blocking(&listener)?;
        let family = SockRef::from(&listener).domain()?.into();
        let listener = Listener { fd: listener, peer_length: address_length(family), token: None, attempts: 0 };
        Ok(put(&mut self.listeners, listener))
    }

    fn close_listener(&mut self, listener: u32) {
        self.listeners[listener as usize] = None;
    }

    fn accept(&mut self, listener: u32, token: Token, whom: Accept) {
        let listener = self.listeners[listener as usize].as_mut().expect("an adopted listener");
        listener.token = Some(token);
        let fd = listener.fd.as_raw_fd();
        let (entry, count) = match whom {
            Accept::All => (ops::accept(fd, token), 1),
            Accept::Next => (ops::accept_next(fd, token), 1),
            Accept::Waiting(most) => (ops::accept_waiting(fd, token), most),
        };
        listener.attempts = count;
        for _ in 0..count {
            // SAFETY: the entry points at nothing.
            unsafe { self.ring.push(entry.clone()) };
        }
    }

    fn peer(&mut self, slot: u32, token: Token) {
        match self.peers.start(slot, token, |place| own(Own::Peer, place)) {
            // SAFETY: the place's memory is `peers`' until the completion, and longer than the ring's operations.
            Start::Fetch(entry) => unsafe { self.ring.push(entry) },
            Start::Nameless(place) => {
                let payload = Payload::Peer(place);
                self.ready.push(Completion { token, result: 0, more: false, payload });
            }
        }
    }

    fn take_peer(&mut self, index: u32) -> Option<SocketAddr> {
        self.peers.take(index)
    }

    fn pass(&mut self, slot: u32, to: ShardId, there: Token, token: Token) {
        // The other driver has to know it as well, and has no listener to know it by.
        let there = there.with_other_aux(self.peers.length(slot));
        match self.rings.of(to) {
            // SAFETY: the entry points at nothing; the other ring's descriptor is open as long as `self.rings`.
            Some(ring) => unsafe { self.ring.push(ops::pass(slot, ring.as_raw_fd(), there, token)) },
            // That shard has not started yet.
            None => self.ready.push(Completion { token, result: -libc::EAGAIN, more: false, payload: Payload::None }),
        }
    }

    fn dial(&mut self, dial: &Dial, token: Token) {
        let ended = self.dials.start(&mut self.ring, dial, token);
        self.ready.extend(ended.map(dial_completion));
    }

    fn poll_readable(&mut self, slot: u32, token: Token) {
        // SAFETY: the entry points at nothing.
        unsafe { self.ring.push(ops::poll_readable(slot, token)) };
    }

    fn poll_hangup(&mut self, slot: u32, token: Token) {
        // SAFETY: the entry points at nothing.
        unsafe { self.ring.push(ops::poll_hangup(slot, token)) };
    }

    fn recv_once(&mut self, slot: u32, token: Token, first: First) {
        // SAFETY: the kernel writes to provided buffers only; see `provide_buffers`.
        unsafe { self.ring.push(ops::recv_once(slot, token, first)) };
    }

    fn recv_multishot(&mut self, slot: u32, token: Token, credit: u32, first: First) {
        let credit = if self.caps.recv_budget { credit } else { 0 };
        // SAFETY: the kernel writes to provided buffers only; see `provide_buffers`.
        unsafe { self.ring.push(ops::recv_multishot(slot, token, credit, first)) };
    }

    fn send(&mut self, slot: u32, token: Token, chain: &SendChain) {
        let entry = match chain.iovecs() {
            [range] => ops::send(slot, token, range),
            _ => ops::send_vectored(slot, token, chain.msghdr()),
        };
        // SAFETY: the chain's owner keeps its memory, header included, until the send completes (the driver's contract).
        unsafe { self.ring.push(entry) };
    }

    fn shutdown_write(&mut self, slot: u32, token: Token) {
        // SAFETY: the entry points at nothing.
        unsafe { self.ring.push(ops::shutdown_write(slot, token)) };
    }

    fn reset_on_close(&mut self, slot: u32) {
        // SAFETY: the option is static. It takes effect as it is submitted, so before a close pushed after it.
        unsafe { self.ring.push_uncounted(ops::set_option(slot, own(Own::Option, 0), &RESET_ON_CLOSE)) };
    }

    fn close(&mut self, slot: u32, token: Token) {
        // SAFETY: the entry points at nothing.
        let place = unsafe { self.ring.push_uncounted(ops::close_silently(slot, own(Own::Close, slot))) };
        self.closing.push_back((place, token));
    }

    fn cancel(&mut self, target: Token, token: Token) {
        let target = match target.kind() {
            Kind::Dial => self.dials.cancel(target).unwrap_or(target),
            _ => target,
        };
        // SAFETY: the entry points at nothing.
        unsafe { self.ring.push(ops::cancel(target, token)) };
    }

    fn adopt_datagram(&mut self, socket: OwnedFd) -> io::Result<u32> {
        self.datagrams.adopt(socket)
    }

    fn datagram_recv(&mut self, socket: u32, token: Token) {
        let entry = self.datagrams.recv(socket, token);
        // SAFETY: the socket's inbound place is `datagrams`' until the socket is closed, after its operations.
        unsafe { self.ring.push(entry) };
    }

    fn datagram(&self, index: u32) -> (SocketAddr, &[u8], bool) {
        self.datagrams.last(index)
    }

    fn datagram_send(&mut self, socket: u32, token: Token, to: SocketAddr, bytes: &[u8]) -> bool {
        let place_token = |place| own(Own::DatagramSend, place);
        let Some(entry) = self.datagrams.send(socket, token, to, bytes, place_token) else {
            return false;
        };
        // SAFETY: the copy is `datagrams`', untouched until its completion frees the place.
        unsafe { self.ring.push(entry) };
        true
    }

    fn provide_buffers(&mut self, pool: &mut Pool) {
        let mut any = false;
        while let Some(buffer) = pool.take_free() {
            // SAFETY: the pool's memory outlives this driver (see the module's page), and a buffer that it gave out as
            // free is not touched before the kernel has reported what it wrote.
            unsafe { self.provided.add(buffer.bid, buffer.ptr, buffer.len) };
            any = true;
        }
        if any {
            self.provided.publish();
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let wait = match wait {
            _ if !self.ready.is_empty() => Wait::No,
            _ if self.closing.is_empty() => wait,
            // Nobody waits for a close, but somebody may look.
            Wait::No => Wait::No,
            Wait::For(most) => Wait::For(most.min(CLOSE_SEEN)),
            Wait::Batch { want, min_wait, most } => Wait::Batch { want, min_wait, most: most.min(CLOSE_SEEN) },
        };
        self.ring.enter(wait)
    }

    fn reap(&mut self, pool: &mut Pool, out: &mut Vec<Completion>, most: usize) {
        self.reap_queue(pool, out, most);
    }

    fn counts(&self) -> DriverCounts {
        self.ring.counts()
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // After this no operation holds a pointer into the pool, into sends, or into our own tables.
        let peers = &self.peers;
        self.ring.teardown(TEARDOWN_PATIENCE, |completion| {
            let token = Token::from_bits(completion.user_data());
            if token.and_then(Own::of) == Some(Own::Peer) {
                peers.abandon(completion.result());
            }
        });
    }
}

/// Puts a value into the first free place.
fn put<T>(places: &mut Vec<Option<T>>, value: T) -> u32 {
    let place = places.iter().position(Option::is_none).unwrap_or_else(|| {
        places.push(None);
        places.len() - 1
    });
    places[place] = Some(value);
    place as u32
}

/// Clears `O_NONBLOCK`, with which the kernel would answer EAGAIN where it should wait.
fn set_blocking(socket: &OwnedFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(socket, false)?;
    Ok(())
}
