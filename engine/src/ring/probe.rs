//! What the kernel can do, found out by doing it.
//!
//! One throwaway ring runs each feature once, over a Unix socket pair of its own (so it needs no network), with the very
//! entries that the driver pushes. Versions and feature lists are not asked: backports, seccomp profiles and sandboxes
//! make liars of them. What the driver cannot do without fails the probe by name; what is optional becomes a
//! [`Caps`] field, unless it is masked.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::time::{Duration, Instant};

use io_uring::cqueue;
use io_uring::squeue::Entry;
use io_uring::types::CancelBuilder;
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use super::error::{Feature, RingError};
use super::ops::{self, SocketOption};
use super::own::{Own, counted, own};
use super::provided::{Consume, ProvidedRing};
use super::queues::{Freedom, Ring};
use super::stable::Stable;
use super::sys;
use crate::driver::{Caps, First, Wait};
use crate::token::{Kind, Token};

/// How long any single step may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// The bytes of each of the probe's two buffers.
const BUFFER: usize = 4096;
const PING: &[u8; 4] = b"ping";
/// Connections that its listener lets wait.
const BACKLOG: i32 = 4;

/// Optional capabilities to leave unused: `-inc,-recv_budget`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mask(Vec<Optional>);

/// A mask that names something else than the optional capabilities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} masks nothing: give some of -inc,-recv_budget,-min_wait,-registered_ring,-peer_cmd,\
     -accept_dontwait,-msg_ring,-pass,-restrictions"
)]
pub struct MaskError(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Optional {
    IncrementalBuffers,
    RecvBudget,
    MinWait,
    RegisteredRing,
    PeerCmd,
    AcceptDontwait,
    MsgRing,
    Pass,
    Restrictions,
}

impl Optional {
    const ALL: [(&'static str, Optional); 9] = [
        ("-inc", Optional::IncrementalBuffers),
        ("-recv_budget", Optional::RecvBudget),
        ("-min_wait", Optional::MinWait),
        ("-registered_ring", Optional::RegisteredRing),
        ("-peer_cmd", Optional::PeerCmd),
        ("-accept_dontwait", Optional::AcceptDontwait),
        ("-msg_ring", Optional::MsgRing),
        ("-pass", Optional::Pass),
        ("-restrictions", Optional::Restrictions),
    ];

    fn word(self) -> String {
        Optional::ALL.iter().filter(|(_, this)| *this == self).map(|(word, _)| *word).collect()
    }
}

impl FromStr for Mask {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Mask, MaskError> {
        let mut mask = Mask::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let known = Optional::ALL.iter().find(|(name, _)| *name == word);
            let (_, optional) = known.ok_or_else(|| MaskError(word.to_owned()))?;
            if !mask.has(*optional) {
                mask.0.push(*optional);
            }
        }
        Ok(mask)
    }
}

impl Mask {
    fn has(&self, optional: Optional) -> bool {
        self.0.contains(&optional)
    }

    /// The words it was made of.
    pub(crate) fn words(&self) -> Vec<String> {
        self.0.iter().map(|optional| optional.word()).collect()
    }
}

/// Tries everything out, and says what of it may be used.
pub(crate) fn probe(mask: &Mask) -> Result<Caps, RingError> {
    // First, because all that follows is tried on rings that are as confined as the driver's will be.
    let restrictions = !mask.has(Optional::Restrictions) && is_confined().unwrap_or(false);
    let freedom = if restrictions { Freedom::Confined } else { Freedom::Whole };
    let mut bench = Bench::new(Consume::Incrementally, freedom)?;
    let incremental_buffers = !mask.has(Optional::IncrementalBuffers) && bench.consumes_bit_by_bit();
    if !incremental_buffers {
        bench = Bench::new(Consume::Whole, freedom)?;
    }
    bench.requirements()?;
    let mut can = |optional, test: fn(&mut Bench) -> io::Result<bool>| {
        // A failure of something optional is an answer, not an error.
        !mask.has(optional) && test(&mut bench).unwrap_or(false)
    };
    Ok(Caps {
        driver: "uring",
        refused: None,
        incremental_buffers,
        recv_budget: can(Optional::RecvBudget, Bench::stops_at_budget),
        peer_cmd: can(Optional::PeerCmd, Bench::names_peer),
        accept_dontwait: can(Optional::AcceptDontwait, Bench::accepts_without_waiting),
        min_wait: can(Optional::MinWait, Bench::lingers),
        msg_ring: can(Optional::MsgRing, Bench::takes_messages),
        pass: can(Optional::Pass, Bench::passes),
        registered_ring: can(Optional::RegisteredRing, |bench| Bench::registers(bench.freedom)),
        restrictions,
        masked: mask.words(),
    })
}

/// Whether a confined ring does what it may and refuses the rest.
fn is_confined() -> io::Result<bool> {
    let mut ring = Ring::new(4, 8, Freedom::Confined).map_err(io::Error::other)?;
    ring.enable()?;
    let (nop, cancel) = (own(Own::Probe, 1), own(Own::Probe, 2));
    // SAFETY: the entries point at nothing.
    unsafe {
        ring.push(ops::nop(nop));
        ring.push(ops::cancel(own(Own::Probe, 3), cancel));
    }
    ring.enter(Wait::For(PATIENCE))?;
    let mut chunk = [const { MaybeUninit::uninit() }; 4];
    let came = |token: Token, result: i32, entries: &[cqueue::Entry]| {
        entries.iter().any(|entry| entry.user_data() == token.bits() && entry.result() == result)
    };
    let entries = ring.take(&mut chunk);
    Ok(came(nop, -libc::EACCES, entries) && came(cancel, -libc::ENOENT, entries))
}

/// A ring with one accepted connection in its table, and that connection's other end.
struct Bench {
    ring: Ring,
    freedom: Freedom,
    slot: u32,
    peer: UnixStream,
    addr: SockAddr,
    listener: Socket,
    next: u32,
    // Freed after the ring.
    provided: Option<ProvidedRing>,
    _memory: Stable<[u8; 2 * BUFFER]>,
}

impl Bench {
    fn new(consume: Consume, freedom: Freedom) -> Result<Bench, RingError> {
        let mut ring = Ring::new(16, 64, freedom)?;
        ring.submitter().register_files_sparse(8).map_err(|error| Feature::DirectDescriptors.missing(error))?;
        let memory = Stable::new([0; 2 * BUFFER]);
        let provided = match provide(&ring, &memory, consume) {
            Ok(provided) => Some(provided),
            Err(_) if consume == Consume::Incrementally => None,
            Err(error) => return Err(Feature::ProvidedBuffers.missing(error)),
        };
        ring.enable().map_err(RingError::Setup)?;
        let (listener, peer, addr) = pair().map_err(|error| Feature::Accept.missing(error))?;
        let mut bench = Bench { ring, freedom, slot: 0, peer, addr, listener, next: 0, provided, _memory: memory };
        bench.accept().map_err(|error| Feature::Accept.missing(error))?;
        Ok(bench)
    }

    fn accept(&mut self) -> io::Result<()> {
        let token = self.token();
        let accepted = self.run(ops::accept(self.listener.as_raw_fd(), token), token)?;
        expect(accepted.more, "accept did not stay armed")?;
        self.slot = accepted.result as u32;
        self.cancel(token)
    }

    /// Everything that the driver uses whatever the optional capabilities are.
    fn requirements(&mut self) -> Result<(), RingError> {
        self.send_ping().map_err(|error| Feature::Poll.missing(error))?;
        let token = self.token();
        self.run(ops::poll_readable(self.slot, token), token).map_err(|error| Feature::Poll.missing(error))?;
        self.receives().map_err(|error| Feature::Receive.missing(error))?;
        self.sends().map_err(|error| Feature::Send.missing(error))?;
        let token = self.token();
        let option = SocketOption::int(libc::SOL_SOCKET, libc::SO_RCVBUF, 65536);
        self.run(ops::set_option_loudly(self.slot, token, &option), token)
            .map_err(|error| Feature::SocketOptions.missing(error))?;
        let dialled = self.dials().map_err(|error| Feature::Dial.missing(error))?;
        let token = self.token();
        self.run(ops::close(dialled, token), token).map_err(|error| Feature::Close.missing(error))?;
        match self.ring.submitter().register_sync_cancel(None, CancelBuilder::any()) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(Feature::SyncCancel.missing(error)),
            _ => Ok(()),
        }
    }

    fn receives(&mut self) -> io::Result<()> {
        let token = self.token();
        let received = self.run(ops::recv_multishot(self.slot, token, 0, First::Poll), token)?;
        expect(received.result == 4 && received.buffer, "no bytes in a provided buffer")?;
        expect(received.more, "receive did not stay armed")?;
        self.cancel(token)
    }

    fn sends(&mut self) -> io::Result<()> {
        let token = self.token();
        let range = libc::iovec { iov_base: PING.as_ptr().cast_mut().cast(), iov_len: PING.len() };
        let sent = self.run(ops::send(self.slot, token, &range), token)?;
        expect(sent.result == 4, "not everything sent")?;
        let mut got = [0; 4];
        self.peer.read_exact(&mut got)?;
        expect(&got == PING, "something else sent")
    }

    fn dials(&mut self) -> io::Result<u32> {
        let token = self.token();
        let slot = self.run(ops::socket(libc::AF_UNIX, token), token)?.result as u32;
        let token = self.token();
        let addr = Stable::new(self.addr.clone());
        // SAFETY: nobody writes to it.
        let (ptr, len) = unsafe { (addr.get().as_ptr().cast(), addr.get().len()) };
        let result = self.run(ops::connect(slot, token, ptr, len), token);
        if result.is_err() {
            // The kernel might still read it; a throwaway ring may leak a hundred bytes.
            std::mem::forget(addr);
        }
        result.map(|_| slot)
    }

    /// Whether the kernel keeps the rest of a buffer that a receive has begun.
    fn consumes_bit_by_bit(&mut self) -> bool {
        if self.provided.is_none() {
            return false;
        }
        let mut test = || {
            self.send_ping()?;
            let token = self.token();
            let received = self.run(ops::recv_once(self.slot, token, First::Receive), token)?;
            Ok::<_, io::Error>(received.result == 4 && received.buffer && received.rest)
        };
        test().unwrap_or(false)
    }

    /// Whether a multishot receive armed with a budget ends when it has brought that much.
    fn stops_at_budget(&mut self) -> io::Result<bool> {
        self.send_ping()?;
        self.send_ping()?;
        let token = self.token();
        let received = self.run(ops::recv_multishot(self.slot, token, 6, First::Receive), token)?;
        // Six of the eight, and the receive has ended; the other two stay in the socket.
        Ok(received.result == 6 && !received.more)
    }

    fn names_peer(&mut self) -> io::Result<bool> {
        let token = self.token();
        let storage = Stable::new(SockAddrStorage::zeroed());
        // The other end has no name, only a family.
        let result = self.run(ops::peer_name(self.slot, token, storage.as_ptr().cast(), 2), token);
        // The command runs as it is submitted, so even a failed one is over.
        result.map(|named| named.result == 2)
    }

    /// Whether an accept says that nobody waits, once it has taken who does: [`Bench::dials`] has left somebody.
    fn accepts_without_waiting(&mut self) -> io::Result<bool> {
        for _ in 0..=BACKLOG {
            let token = self.token();
            if let Err(error) = self.run(ops::accept_waiting(self.listener.as_raw_fd(), token), token) {
                return Ok(error.raw_os_error() == Some(libc::EAGAIN));
            }
        }
        Ok(false)
    }

    /// Whether a wait for two completions settles for the one there is, soon.
    fn lingers(&mut self) -> io::Result<bool> {
        let token = self.token();
        // SAFETY: the entry points at nothing.
        unsafe { self.ring.push(ops::cancel(own(Own::Probe, 0), token)) };
        self.ring.use_min_wait();
        let before = Instant::now();
        let min_wait = Duration::from_millis(1);
        self.ring.enter(Wait::Batch { want: 2, min_wait, most: PATIENCE })?;
        let lingered = before.elapsed() < PATIENCE / 2;
        Ok(lingered && self.find(token).is_some())
    }

    fn takes_messages(&mut self) -> io::Result<bool> {
        let token = own(Own::Message, 0);
        sys::send_msg_ring(&ops::message(self.ring.fd().as_raw_fd(), token))?;
        self.ring.enter(Wait::For(PATIENCE))?;
        Ok(self.find(token).is_some())
    }

    /// Whether another ring can be given the connection.
    fn passes(&mut self) -> io::Result<bool> {
        let mut other = Ring::new(4, 8, Freedom::Whole).map_err(io::Error::other)?;
        other.submitter().register_files_sparse(1)?;
        let (there, token) = (Token::new(Kind::Passed, 0, 0), self.token());
        self.run(ops::pass(self.slot, other.fd().as_raw_fd(), there, token), token)?;
        other.enter(Wait::For(PATIENCE))?;
        let mut chunk = [const { MaybeUninit::uninit() }; 1];
        Ok(matches!(other.take(&mut chunk), [arrived] if arrived.user_data() == there.bits() && arrived.result() == 0))
    }

    /// On a ring of its own: a confined one takes a name only before it is enabled, as the driver's does.
    fn registers(freedom: Freedom) -> io::Result<bool> {
        let mut ring = Ring::new(4, 8, freedom).map_err(io::Error::other)?;
        ring.use_registered_name()?;
        ring.enable()?;
        // SAFETY: the entry points at nothing.
        unsafe { ring.push(ops::cancel(own(Own::Probe, 1), own(Own::Probe, 2))) };
        ring.enter(Wait::For(PATIENCE))?;
        Ok(ring.take(&mut [const { MaybeUninit::uninit() }; 1]).len() == 1)
    }

    fn send_ping(&mut self) -> io::Result<()> {
        self.peer.write_all(PING)
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        own(Own::Probe, self.next)
    }

    /// Ends what is armed under `target`, and waits for that end.
    fn cancel(&mut self, target: Token) -> io::Result<()> {
        let token = self.token();
        let cancelled = self.run(ops::cancel(target, token), token);
        cancelled.map(drop)
    }

    /// Pushes an operation and waits for its first completion.
    fn run(&mut self, entry: Entry, token: Token) -> io::Result<Outcome> {
        // SAFETY: callers keep what the entry points at until this returns, or leak it if it fails.
        unsafe { self.ring.push(entry) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.ring.enter(Wait::For(PATIENCE))?;
            if let Some(outcome) = self.find(token) {
                return match outcome.result {
                    errno @ ..0 => Err(io::Error::from_raw_os_error(-errno)),
                    _ => Ok(outcome),
                };
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Takes all completions; the one looked for, if it is among them.
    fn find(&mut self, token: Token) -> Option<Outcome> {
        let mut found = None;
        let mut chunk = [const { MaybeUninit::uninit() }; 16];
        loop {
            let entries = self.ring.take(&mut chunk);
            if entries.is_empty() {
                return found;
            }
            let mut ended = 0;
            for entry in entries {
                let flags = entry.flags();
                let more = cqueue::more(flags);
                ended += usize::from(!more && Token::from_bits(entry.user_data()).is_none_or(counted));
                if entry.user_data() == token.bits() {
                    found.get_or_insert(Outcome {
                        result: entry.result(),
                        more,
                        buffer: cqueue::buffer_select(flags).is_some(),
                        rest: cqueue::buffer_more(flags),
                    });
                }
            }
            (0..ended).for_each(|_| self.ring.ended());
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.ring.teardown(PATIENCE, |_| ());
    }
}

/// What came of a step.
struct Outcome {
    result: i32,
    more: bool,
    buffer: bool,
    rest: bool,
}

fn provide(ring: &Ring, memory: &Stable<[u8; 2 * BUFFER]>, consume: Consume) -> io::Result<ProvidedRing> {
    let mut provided = ProvidedRing::register(&ring.submitter(), 2, consume)?;
    for bid in 0..2 {
        // SAFETY: the memory is the bench's, nobody else touches it, and it is freed after the ring.
        unsafe {
            let start = memory.as_ptr().cast::<u8>().add(usize::from(bid) * BUFFER);
            provided.add(bid, start, BUFFER as u32);
        }
    }
    provided.publish();
    Ok(provided)
}

/// A listener without a file, named by the kernel, and a connection waiting in its backlog.
fn pair() -> io::Result<(Socket, UnixStream, SockAddr)> {
    let stream = || Socket::new(Domain::UNIX, Type::STREAM, None);
    let listener = stream()?;
    listener.bind(&SockAddr::unix("")?)?;
    listener.listen(BACKLOG)?;
    let addr = listener.local_addr()?;
    let peer = stream()?;
    peer.connect(&addr)?;
    peer.set_read_timeout(Some(PATIENCE))?;
    Ok((listener, peer.into(), addr))
}

fn expect(met: bool, failing: &'static str) -> io::Result<()> {
    if met { Ok(()) } else { Err(io::Error::other(failing)) }
}
