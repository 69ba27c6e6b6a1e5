//! What each simulated operation does when it is submitted, run and cancelled: one arm per operation of the driver seam.

use std::net::SocketAddr;

use super::kernel::{Carried, DatagramSocket};
use super::net::{Close, Net, Owner};
use crate::buffer::LentChain;
use crate::driver::Accept;
use crate::net::Route;
use crate::time::Time;
use crate::token::Token;

/// An operation under way.
pub(super) struct Op {
    pub(super) token: Token,
    pub(super) what: What,
    /// Tells operations with equal tokens apart.
    pub(super) number: u64,
    pub(super) not_before: Time,
    /// It was cancelled while it ran: it ends at its next opportunity.
    pub(super) ending: bool,
}

pub(super) enum What {
    Accept { listener: u32, whom: Accept },
    Peer { slot: u32 },
    Pass { slot: u32, to: usize, there: Token },
    Dial { route: Route },
    Poll { slot: u32, spurious: bool },
    Watch { slot: u32 },
    Recv { slot: u32, credit: Credit },
    Send { slot: u32, chain: LentChain, first: Vec<u8>, taken: usize },
    Shutdown { slot: u32 },
    Close { slot: u32 },
    Cancel { target: Token },
    DatagramRecv { socket: u32 },
    DatagramSend { socket: u32, to: SocketAddr, bytes: Vec<u8> },
}

/// How long a receive goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credit {
    Once,
    Bytes(usize),
    Unbounded,
}

impl Net {
    /// The kernel sees an operation for the first time.
    pub(super) fn submit(&mut self, shard: usize, mut op: Op) {
        match &mut op.what {
            What::Cancel { target } => return self.cancel(shard, *target, op.token),
            What::Peer { slot } => self.kernels[shard].fetching[*slot as usize] = true,
            What::Poll { spurious, .. } => *spurious = self.rng.chance(self.faults.spurious),
            What::Dial { .. } if self.rng.chance(self.faults.dial_failure / 3) => op.not_before = Time::NEVER,
            What::Dial { .. } => {
                let latency = self.faults.latency;
                let answered = self.now + self.some(latency) + self.some(latency);
                self.delay(shard, &mut op, answered);
            }
            _ => {}
        }
        if op.not_before <= self.now && self.rng.chance(self.faults.late) {
            let later = self.now + self.some(self.faults.delay);
            self.delay(shard, &mut op, later);
        }
        self.kernels[shard].active.push(op);
    }

    /// The request completes at once; its target completes on its own, once.
    fn cancel(&mut self, shard: usize, target: Token, token: Token) {
        let found = self.kernels[shard].active.iter().position(|op| op.token == target && !op.ending);
        let Some(place) = found else {
            return self.complete(shard, token, -libc::ENOENT);
        };
        let mut op = self.kernels[shard].active.swap_remove(place);
        let request_first = self.rng.chance(500);
        if self.rng.chance(self.faults.cancel_already) {
            self.complete(shard, token, -libc::EALREADY);
            op.ending = true;
            let later = self.now + self.some(self.faults.delay);
            self.delay(shard, &mut op, later);
            return self.kernels[shard].active.push(op);
        }
        if request_first {
            self.complete(shard, token, 0);
        }
        self.end_early(shard, op);
        if !request_first {
            self.complete(shard, token, 0);
        }
    }

    fn end_early(&mut self, shard: usize, op: Op) {
        match op.what {
            What::Send { chain, first, taken, .. } => {
                assert_unchanged(&chain, &first);
                let result = if taken > 0 { taken as i32 } else { -libc::ECANCELED };
                self.complete(shard, op.token, result);
            }
            _ => self.complete(shard, op.token, -libc::ECANCELED),
        }
    }

    /// Whether an operation would get anywhere now.
    pub(super) fn can_run(&self, shard: usize, op: &Op) -> bool {
        let kernel = &self.kernels[shard];
        let end = |slot| &self.ends[kernel.end(slot)];
        let wanted = match &op.what {
            What::Accept { listener, whom } => matches!(whom, Accept::Waiting(_)) || kernel.has_waiting(*listener),
            What::Poll { slot, spurious } => *spurious || end(*slot).readable(),
            What::Watch { slot } => end(*slot).fin || end(*slot).broken,
            What::Recv { slot, .. } => end(*slot).readable() && !kernel.fetching[*slot as usize],
            What::Send { slot, .. } => end(*slot).broken || self.room(kernel.end(*slot)) > 0,
            What::DatagramRecv { socket } => {
                kernel.sockets[*socket as usize].as_ref().is_some_and(|socket| !socket.arrived.is_empty())
            }
            _ => true,
        };
        op.not_before <= self.now && (op.ending || wanted)
    }

    /// Does what can be done now; gives the operation back if there is more to come.
    pub(super) fn run(&mut self, shard: usize, op: Op) -> Option<Op> {
        if !self.can_run(shard, &op) {
            return Some(op);
        }
        let token = op.token;
        match op.what {
            What::Accept { listener, whom } => return self.run_accept(shard, op, listener, whom),
            What::Recv { slot, credit } => return self.run_recv(shard, op, slot, credit),
            What::Send { .. } => return self.run_send(shard, op),
            What::Peer { slot } => {
                self.kernels[shard].fetching[slot as usize] = false;
                let end = &self.ends[self.kernels[shard].end(slot)];
                let (addr, result) = if end.broken { (None, -libc::ENOTCONN) } else { (end.remote, 0) };
                self.post_ready(shard, token, result, false, Carried::Peer(addr));
            }
            What::Pass { slot, to, there } => {
                let result = self.pass(shard, slot, to, there);
                self.complete(shard, token, result);
            }
            What::Dial { route } => {
                let result = if op.ending { -libc::ECANCELED } else { self.connect_out(shard, &route) };
                self.complete(shard, token, result);
            }
            What::Poll { .. } => {
                let result = if op.ending && self.rng.chance(500) { -libc::ECANCELED } else { 0 };
                self.complete(shard, token, result);
            }
            What::Watch { slot } => {
                let broken = self.ends[self.kernels[shard].end(slot)].broken;
                let result = if op.ending {
                    -libc::ECANCELED
                } else if broken {
                    -libc::ECONNRESET
                } else {
                    0
                };
                self.complete(shard, token, result);
            }
            What::Shutdown { slot } => {
                let end = self.kernels[shard].end(slot);
                let result = if self.ends[end].broken { -libc::ENOTCONN } else { 0 };
                self.finish(end);
                self.complete(shard, token, result);
            }
            What::Close { slot } => self.run_close(shard, token, slot),
            What::Cancel { .. } => unreachable!("cancels run as they are submitted"),
            What::DatagramRecv { socket } => self.run_datagram_recv(shard, op.ending, token, socket),
            What::DatagramSend { socket, to, bytes } => {
                let sent = bytes.len() as i32;
                let from = self.kernels[shard].sockets[socket as usize].as_mut().map(|socket| {
                    socket.sending -= 1;
                    socket.addr
                });
                if let Some(from) = from {
                    self.send_datagram(from, to, bytes);
                }
                self.complete(shard, token, sent);
            }
        }
        None
    }

    fn run_accept(&mut self, shard: usize, op: Op, listener: u32, whom: Accept) -> Option<Op> {
        if op.ending {
            self.complete(shard, op.token, -libc::ECANCELED);
            return None;
        }
        let result = self.accept_one(shard, listener);
        let left = match whom {
            Accept::All if result >= 0 && !self.rng.chance(self.faults.queue_full) => Some(Accept::All),
            Accept::All | Accept::Next => None,
            Accept::Waiting(attempts) => (attempts > 1).then(|| Accept::Waiting(attempts - 1)),
        };
        self.post_ready(shard, op.token, result, left.is_some(), Carried::Nothing);
        left.map(|whom| Op { what: What::Accept { listener, whom }, ..op })
    }

    fn accept_one(&mut self, shard: usize, listener: u32) -> i32 {
        if self.rng.chance(self.faults.interrupted) {
            return -[libc::EINTR, libc::EAGAIN, libc::ECONNABORTED][self.rng.index(3)];
        }
        let Some(end) = self.kernels[shard].backlog(listener).pop_front() else { return -libc::EAGAIN };
        let full = self.rng.chance(self.faults.table_full);
        let Some(slot) = (!full).then(|| self.take_slot(shard, end)).flatten() else {
            // The kernel has accepted this one already, and closes it.
            let other = self.ends[end].other;
            self.ends[other].refused = true;
            self.close(end, Close::InOrder);
            // The system's table is full, or the process's.
            return if self.rng.chance(500) { -libc::ENFILE } else { -libc::EMFILE };
        };
        slot as i32
    }

    /// The connection gets a slot of another shard, too; closing the one here then only frees that.
    fn pass(&mut self, shard: usize, slot: u32, to: usize, there: Token) -> i32 {
        if self.kernels[to].gone {
            return -libc::EOWNERDEAD;
        }
        let end = self.kernels[shard].end(slot);
        let full = self.rng.chance(self.faults.table_full);
        let Some(arrived) = (!full).then(|| self.take_slot(to, end)).flatten() else {
            return -libc::ENFILE;
        };
        self.complete(to, there, arrived as i32);
        self.look_at(end);
        0
    }

    fn connect_out(&mut self, shard: usize, route: &Route) -> i32 {
        if self.rng.chance(self.faults.dial_failure) {
            return -[libc::ECONNREFUSED, libc::ETIMEDOUT, libc::ENETUNREACH][self.rng.index(3)];
        }
        if self.kernels[shard].open_slots() == self.kernels[shard].slots.len() {
            return -libc::ENFILE;
        }
        let from = route.source.unwrap_or_else(|| self.kernels[shard].own_addr(shard));
        let Some(end) = self.connect(&route.to, Owner::Shard(shard), Some(from)) else {
            return -libc::ECONNREFUSED;
        };
        self.take_slot(shard, end).map_or(-libc::ENFILE, |slot| slot as i32)
    }

    fn run_recv(&mut self, shard: usize, op: Op, slot: u32, credit: Credit) -> Option<Op> {
        let end = self.kernels[shard].end(slot);
        let fetching = self.kernels[shard].fetching[slot as usize];
        if op.ending && (fetching || self.ends[end].unread.is_empty() || self.rng.chance(500)) {
            self.complete(shard, op.token, -libc::ECANCELED);
            return None;
        }
        if self.rng.chance(self.faults.interrupted) {
            let errno = if self.rng.chance(500) { libc::EINTR } else { libc::EAGAIN };
            self.complete(shard, op.token, -errno);
            return None;
        }
        if self.ends[end].unread.is_empty() {
            let result = self.ends[end].take_error().map_or(0, |errno| -errno);
            self.complete(shard, op.token, result);
            return None;
        }
        let Some(room) = self.kernels[shard].provided.front().map(|buffer| buffer.room) else {
            self.complete(shard, op.token, -libc::ENOBUFS);
            return None;
        };
        let allowed = if let Credit::Bytes(bytes) = credit { bytes } else { usize::MAX };
        let mut most = room.min(allowed).min(self.ends[end].unread.len());
        if self.rng.chance(self.faults.short_read) {
            most = self.rng.between(1, most as u64) as usize;
        }
        let bytes = self.read(end, most);
        let credit = match credit {
            Credit::Bytes(left) => Credit::Bytes(left - bytes.len()),
            other => other,
        };
        let goes_on = !matches!(credit, Credit::Once | Credit::Bytes(0));
        let more = goes_on && !op.ending && !self.rng.chance(self.faults.queue_full);
        self.post_received(shard, op.token, more, bytes);
        more.then_some(Op { what: What::Recv { slot, credit }, ..op })
    }

    /// Puts bytes into the first provided buffer.
    fn post_received(&mut self, shard: usize, token: Token, more: bool, bytes: Vec<u8>) {
        let incremental = self.faults.incremental_buffers;
        let provided = &mut self.kernels[shard].provided;
        let Some(buffer) = provided.front_mut() else {
            return;
        };
        buffer.room -= bytes.len();
        let (number, keeps_rest) = (buffer.number, incremental && buffer.room > 0);
        if !keeps_rest {
            provided.pop_front();
        }
        let result = bytes.len() as i32;
        self.post_ready(shard, token, result, more, Carried::Bytes { buffer: number, bytes, keeps_rest });
    }

    fn run_send(&mut self, shard: usize, mut op: Op) -> Option<Op> {
        let What::Send { slot, chain, first, taken } = &mut op.what else {
            return Some(op);
        };
        let end = self.kernels[shard].end(*slot);
        if self.ends[end].broken || self.ends[end].fin_sent {
            let errno = self.ends[end].take_error().unwrap_or(libc::EPIPE);
            let result = if *taken > 0 { *taken as i32 } else { -errno };
            assert_unchanged(chain, first);
            self.complete(shard, op.token, result);
            return None;
        }
        if op.ending {
            self.end_early(shard, op);
            return None;
        }
        if *taken == 0 && self.rng.chance(self.faults.interrupted) {
            let errno = if self.rng.chance(500) { libc::EINTR } else { libc::EAGAIN };
            self.complete(shard, op.token, -errno);
            return None;
        }
        let mut most = self.room(end).min(chain.total() - *taken);
        let short = self.rng.chance(self.faults.short_write);
        if short {
            most = self.rng.between(1, most as u64) as usize;
        }
        self.send(end, chain.read(*taken, most));
        *taken += most;
        if short || *taken == chain.total() {
            assert_unchanged(chain, first);
            let result = *taken as i32;
            self.complete(shard, op.token, result);
            return None;
        }
        Some(op)
    }

    fn run_close(&mut self, shard: usize, token: Token, slot: u32) {
        let kernel = &mut self.kernels[shard];
        kernel.assert_alone(slot);
        let end = kernel.end(slot);
        kernel.slots[slot as usize] = None;
        let how = if kernel.resets[slot as usize] { Close::Abort } else { Close::InOrder };
        if self.ends[end].owner == Owner::Shard(shard) {
            self.close(end, how);
        }
        self.complete(shard, token, 0);
    }

    fn run_datagram_recv(&mut self, shard: usize, ending: bool, token: Token, socket: u32) {
        let arrived = |socket: &mut DatagramSocket| socket.arrived.pop_front();
        let datagram = self.kernels[shard].sockets[socket as usize].as_mut().and_then(arrived);
        match datagram {
            Some(datagram) if !ending => {
                let result = datagram.bytes.len() as i32;
                self.post_ready(shard, token, result, false, Carried::Datagram(datagram));
            }
            _ => self.complete(shard, token, -libc::ECANCELED),
        }
    }
}

/// The engine may not touch what it lent to the kernel.
fn assert_unchanged(chain: &LentChain, first: &[u8]) {
    assert!(chain.read(0, chain.total()) == first, "the memory of a send changed before its completion");
}
