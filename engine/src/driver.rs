//! The driver seam: all that the shard asks of the outside world. Sockets, clock, wakes.
//!
//! A driver is a proactor. The shard pushes operations, each with a [`Token`], calls [`Driver::enter`] once
//! per tick, and reaps [`Completion`]s. An operation that was pushed completes exactly once, or many times
//! with `more` set and once without. Nothing is called back.
//!
//! What every driver must keep:
//! - The slot of an accepted or dialled socket is the index of its descriptor, below [`Driver::slots`].
//! - A slot's peer address comes before what a receive that was pushed after its fetch brings.
//! - `close` frees the slot; its completion comes before any completion that reuses the slot.
//! - Pushing never fails: a full submission queue is submitted on the spot.
//! - Memory given to `send` is read until the completion of that send, and no longer.
//!
//! What the shard keeps: at most one receive or poll, and one send, is in flight per slot, and one accept per listener.
//!
//! `ring` and `epoll` do it on real sockets, `sim` on simulated ones; `tests` holds the former to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer::{Pool, Received, SendChain};
use crate::handoff::wake::Wake;
use crate::id::ShardId;
use crate::net::Dial;
use crate::time::Time;
use crate::token::Token;

/// One finished (or one more) result of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    /// The token of the operation.
    pub(crate) token: Token,
    /// Bytes, a slot, or 0; `-errno` if negative.
    pub(crate) result: i32,
    /// The operation is still armed and will complete again.
    pub(crate) more: bool,
    /// What came with it.
    pub(crate) payload: Payload,
}

/// What a completion carries besides its result.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload {
    None,
    /// Received bytes: a counted range of the shard's pool, to be released there exactly once.
    Data(Received),
    /// A peer address to be fetched with [`Driver::take_peer`].
    Peer(u32),
    /// A datagram to be read with [`Driver::datagram`], before the next receive on that socket.
    Datagram(u32),
}

/// How long [`Driver::enter`] may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Submit, run what is due, return at once.
    No,
    /// Return at the first completion or wake, or after this long at the latest: sooner, and with nothing, now and then.
    For(Duration),
    /// The same, but linger up to `min_wait` for `want` completions before settling for fewer.
    Batch { want: u32, min_wait: Duration, most: Duration },
}

/// What a receive begins with: what is cheaper, depending on whether something is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    Receive,
    Poll,
}

/// Whom an accept takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    /// All who come, without end, and those who wait already at once: multishot.
    All,
    /// One, when one comes.
    Next,
    /// Those who wait already, at most so many: a completion for each of that number, `-EAGAIN` where nobody waited any more.
    Waiting(u32),
}

/// Sockets, clock and wakes of one shard. See the module's page for what all drivers keep.
pub(crate) trait Driver {
    /// A bound, listening socket on its way to a shard.
    type Listener: Send + 'static;
    /// A bound datagram socket on its way to a shard.
    type Datagram: Send + 'static;

    /// The clock, read anew.
    fn now(&self) -> Time;
    /// What works here, for the start banner and for choices.
    fn caps(&self) -> &Caps;
    /// How many sockets fit: slots are `0..slots()`.
    fn slots(&self) -> u32;
    /// Ends a wait in [`Driver::enter`] from any thread. A wake that arrives while nobody waits ends the next wait.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Takes over a listening socket; the number is what `accept` names.
    fn adopt_listener(&mut self, listener: Self::Listener) -> io::Result<u32>;
    /// Closes a listening socket. Its accept must have ended (cancelled and completed) before.
    fn close_listener(&mut self, listener: u32);
    /// Accepts: each completion's result is a new slot, or `-errno`; after one without `more` it must be armed again. Where
    /// [`Caps::accept_dontwait`] does not hold, only [`Accept::All`] may be asked for.
    fn accept(&mut self, listener: u32, token: Token, whom: Accept);
    /// Fetches a connection's peer address ([`Payload::Peer`]).
    fn peer(&mut self, slot: u32, token: Token);
    /// The address fetched, `None` for Unix sockets and failed fetches. Call once per completion.
    fn take_peer(&mut self, index: u32) -> Option<SocketAddr>;
    /// Passes a fresh connection to another shard's driver, which completes `there` with its slot there. Completes here
    /// with 0, and then the slot is still to be closed here; or with `-errno` (`-ENFILE`: the other table is full), and
    /// then the connection has stayed. Only where [`Caps::pass`] holds, and with nothing else in flight on the slot.
    fn pass(&mut self, slot: u32, to: ShardId, there: Token, token: Token);
    /// Makes a socket and connects it: one completion, with the new slot or `-errno` (and no slot in use).
    /// Cancelling the token ends it early, with `-ECANCELED`, unless it had connected.
    fn dial(&mut self, dial: &Dial, token: Token);

    /// Completes once when the socket is readable (or at end of stream, or broken).
    fn poll_readable(&mut self, slot: u32, token: Token);
    /// Completes once when the peer has finished (result 0; the socket may still be written to) or the connection is broken
    /// (`-ECONNRESET`), whatever is unread. At once, if that is so already.
    fn poll_hangup(&mut self, slot: u32, token: Token);
    /// Receives once, into a provided buffer. With [`First::Poll`] it is not tried before the socket is readable.
    fn recv_once(&mut self, slot: u32, token: Token, first: First);
    /// Receives again and again, until an error, end of stream (result 0), no buffers (`-ENOBUFS`), a full
    /// completion queue, or, where [`Caps::recv_budget`] holds, `credit` bytes: `more` is clear at the last one,
    /// which may go past the credit by less than a buffer.
    fn recv_multishot(&mut self, slot: u32, token: Token, credit: u32, first: First);
    /// Sends a chain; the result is how many of its bytes were taken (all, unless the socket broke).
    fn send(&mut self, slot: u32, token: Token, chain: &SendChain);
    /// Sends FIN, keeps receiving.
    fn shutdown_write(&mut self, slot: u32, token: Token);
    /// Makes the close to come send RST instead of FIN and drop what is unsent.
    fn reset_on_close(&mut self, slot: u32);
    /// Closes the descriptor and frees the slot. Nothing else may be in flight on it.
    fn close(&mut self, slot: u32, token: Token);
    /// Asks for an early end of the operation with token `target`, which then completes without `more`
    /// (`-ECANCELED`, or with what it just got). The request completes too: 0, `-ENOENT` or `-EALREADY`.
    fn cancel(&mut self, target: Token, token: Token);

    /// Takes over a datagram socket; the number is what the calls below name.
    fn adopt_datagram(&mut self, socket: Self::Datagram) -> io::Result<u32>;
    /// Receives one datagram ([`Payload::Datagram`]).
    fn datagram_recv(&mut self, socket: u32, token: Token);
    /// The datagram received: its sender, its bytes, and whether it was cut to fit.
    fn datagram(&self, index: u32) -> (SocketAddr, &[u8], bool);
    /// Sends one datagram, copied at once; `false` if too many are under way (drop it, count it).
    fn datagram_send(&mut self, socket: u32, token: Token, to: SocketAddr, bytes: &[u8]) -> bool;

    /// Hands the pool's free buffers to the kernel, in one publish.
    fn provide_buffers(&mut self, pool: &mut Pool);
    /// Submits what was pushed and waits for completions or a wake.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;
    /// Moves at most `most` completions into `out`; received ranges are counted in `pool` here.
    fn reap(&mut self, pool: &mut Pool, out: &mut Vec<Completion>, most: usize);
    /// Counts since the start.
    fn counts(&self) -> DriverCounts;
}

/// What a driver counted, for the shard's stats.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DriverCounts {
    /// Calls into the kernel.
    pub(crate) enters: u64,
    /// Operations submitted.
    pub(crate) submissions: u64,
    /// Times the completion queue overflowed.
    pub(crate) overflows: u64,
    /// Operations that found the submission queue full.
    pub(crate) crowded: u64,
}

/// What the driver can do here: probed by doing it, once, never by kernel version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// Which driver this is: `uring`, `epoll` or `sim`.
    pub driver: &'static str,
    /// Why io_uring does not do the I/O, if it was wanted and refused ([`crate::DriverChoice::Auto`]).
    pub refused: Option<String>,
    /// Provided buffers are consumed bit by bit (`IOU_PBUF_RING_INC`, Linux 6.12); mask: `inc`.
    pub incremental_buffers: bool,
    /// A multishot receive stops after a given total (Linux 6.18); mask: `recv_budget`.
    pub recv_budget: bool,
    /// A wait may linger for a fuller batch (`min_wait_usec`, Linux 6.12); mask: `min_wait`.
    pub min_wait: bool,
    /// The ring's own descriptor is registered; mask: `registered_ring`.
    pub registered_ring: bool,
    /// A connection's peer address can be fetched through the ring (`URING_CMD`); mask: `peer_cmd`.
    pub peer_cmd: bool,
    /// An accept that finds nobody ends instead of waiting (`IORING_ACCEPT_DONTWAIT`, Linux 6.10), so that a crowd can be taken in
    /// groups; mask: `accept_dontwait`.
    pub accept_dontwait: bool,
    /// Wakes travel as `MSG_RING` from threads that have no ring (Linux 6.13); mask: `msg_ring`.
    pub msg_ring: bool,
    /// A connection can be passed to another shard (`MSG_RING` with a descriptor, Linux 6.0): what spreads the connections of
    /// a Unix listener and of an inherited one; mask: `pass`.
    pub pass: bool,
    /// The kernel holds the ring to the operations the driver uses (`IORING_REGISTER_RESTRICTIONS`, Linux 5.10); mask:
    /// `restrictions`.
    pub restrictions: bool,
    /// What was masked by `MEGAMUX_CAPS`, as it was given.
    pub masked: Vec<String>,
}

#[cfg(test)]
pub(crate) mod tests;
