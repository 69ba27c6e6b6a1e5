//! One shard's simulated kernel: its slots, its operations, and the completions that wait to be reaped.
//!
//! Operations run only inside [`Net::enter`], in an order the seed decides, as a ring with deferred task work runs them;
//! what one operation delivers stays in order. Cancels run as they are submitted.
//! Invariants, asserted: a slot is closed with nothing in flight on it; a listener with no accept; the
//! memory of a send does not change before its completion.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::datagrams::Datagram;
use super::net::{Acceptor, Close, EndId, Event, Net, Owner};
use super::ops::{Op, What};
use super::trace::Happened;
use crate::driver::{Completion, DriverCounts, Payload, Wait};
use crate::handoff::wake::Wake;
use crate::net::Addr;
use crate::time::Time;
use crate::token::{Kind, Token};

/// See the module's page.
pub(super) struct Kernel {
    /// The shard has to tick: something may be there for it.
    pub(super) look: bool,
    /// The shard has stopped.
    pub(super) gone: bool,
    /// When it ticked last.
    pub(super) ticked: Time,
    /// When it has to tick anyway.
    pub(super) deadline: Option<Time>,
    /// The last tick found nothing to do, and would have slept.
    pub(super) slept: bool,
    pub(super) woken: Arc<SimWake>,
    pub(super) slots: Vec<Option<EndId>>,
    /// Slots whose close is to be an RST.
    pub(super) resets: Vec<bool>,
    /// Slots whose peer's address is being fetched.
    pub(super) fetching: Vec<bool>,
    pub(super) pushed: Vec<Op>,
    pub(super) active: Vec<Op>,
    pub(super) ready: VecDeque<Ready>,
    /// Buffers the kernel may fill, the first of them in part.
    pub(super) provided: VecDeque<Buffer>,
    pub(super) listeners: Vec<Option<Backlog>>,
    pub(super) sockets: Vec<Option<DatagramSocket>>,
    pub(super) counts: DriverCounts,
    next_port: u16,
}

/// A completion and what has to be moved along with it.
pub(super) struct Ready {
    pub(super) completion: Completion,
    pub(super) carried: Carried,
}

pub(super) enum Carried {
    Nothing,
    Bytes { buffer: u16, bytes: Vec<u8>, keeps_rest: bool },
    Peer(Option<SocketAddr>),
    Datagram(Datagram),
}

/// A provided buffer with so much room left.
pub(super) struct Buffer {
    pub(super) number: u16,
    pub(super) room: usize,
}

/// Connections that wait to be accepted.
pub(super) struct Backlog {
    addr: Addr,
    waiting: VecDeque<EndId>,
}

/// A shard's datagram socket.
pub(super) struct DatagramSocket {
    pub(super) addr: SocketAddr,
    pub(super) arrived: VecDeque<Datagram>,
    pub(super) sending: usize,
}

/// Ends the next simulated wait.
#[derive(Default)]
pub(super) struct SimWake(AtomicBool);

impl Wake for SimWake {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Kernel {
    pub(super) fn new(slots: u32) -> Kernel {
        Kernel {
            look: true,
            gone: false,
            ticked: Time::ZERO,
            deadline: None,
            slept: false,
            woken: Arc::default(),
            slots: vec![None; slots as usize],
            resets: vec![false; slots as usize],
            fetching: vec![false; slots as usize],
            pushed: Vec::new(),
            active: Vec::new(),
            ready: VecDeque::new(),
            provided: VecDeque::new(),
            listeners: Vec::new(),
            sockets: Vec::new(),
            counts: DriverCounts::default(),
            next_port: 40_000,
        }
    }

    /// Sockets in slots.
    pub(super) fn open_slots(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// A dial is under way.
    pub(super) fn dials(&self) -> bool {
        self.active.iter().chain(&self.pushed).any(|op| matches!(op.what, What::Dial { .. }))
    }

    pub(super) fn end(&self, slot: u32) -> EndId {
        self.slots[slot as usize].expect("an operation on a free slot")
    }

    pub(super) fn queue_connection(&mut self, listener: u32, end: EndId) {
        if let Some(backlog) = &mut self.listeners[listener as usize] {
            backlog.waiting.push_back(end);
        }
    }

    pub(super) fn backlog(&mut self, listener: u32) -> &mut VecDeque<EndId> {
        &mut self.listeners[listener as usize].as_mut().expect("an accept on a closed listener").waiting
    }

    pub(super) fn has_waiting(&self, listener: u32) -> bool {
        self.listeners[listener as usize].as_ref().is_some_and(|backlog| !backlog.waiting.is_empty())
    }

    /// An address for a socket that connects out.
    pub(super) fn own_addr(&mut self, shard: usize) -> SocketAddr {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_000);
        SocketAddr::from(([10, 0, 0, shard as u8], self.next_port))
    }

    /// Nothing of a connection may be under way when its slot is closed.
    pub(super) fn assert_alone(&self, slot: u32) {
        let of_slot = |token: Token| {
            let kinds =
                [Kind::Peer, Kind::Poll, Kind::Watch, Kind::Recv, Kind::Send, Kind::Shutdown, Kind::Cancel, Kind::Pass];
            kinds.contains(&token.kind()) && token.slot() == slot
        };
        let tokens = self.active.iter().chain(&self.pushed).map(|op| op.token);
        let tokens = tokens.chain(self.ready.iter().map(|ready| ready.completion.token));
        let left: Vec<Kind> = tokens.filter(|token| of_slot(*token)).map(Token::kind).collect();
        assert!(left.is_empty(), "slot {slot} was closed with operations in flight: {left:?}");
    }
}

impl Net {
    pub(super) fn listen(&mut self, shard: usize, addr: Addr) -> u32 {
        let listeners = &mut self.kernels[shard].listeners;
        let number = listeners.len() as u32;
        listeners.push(Some(Backlog { addr: addr.clone(), waiting: VecDeque::new() }));
        self.listening.entry(addr.to_string()).or_default().push(Acceptor::Shard(shard, number));
        number
    }

    pub(super) fn unlisten(&mut self, shard: usize, number: u32) {
        let kernel = &mut self.kernels[shard];
        let accepts = |op: &Op| matches!(op.what, What::Accept { listener, .. } if listener == number);
        assert!(!kernel.active.iter().any(accepts), "a listener was closed with an accept in flight");
        let Some(backlog) = kernel.listeners[number as usize].take() else {
            return;
        };
        if let Some(acceptors) = self.listening.get_mut(&backlog.addr.to_string()) {
            acceptors.retain(|acceptor| *acceptor != Acceptor::Shard(shard, number));
        }
        for end in backlog.waiting {
            let other = self.ends[end].other;
            self.ends[other].refused = true;
            self.close(end, Close::Abort);
        }
    }

    /// A shard has stopped: its ring goes, with the connections that were passed to it and that it never heard of.
    pub(super) fn stop(&mut self, shard: usize) {
        self.kernels[shard].gone = true;
        let unheard = std::mem::take(&mut self.kernels[shard].ready);
        for ready in unheard.iter().filter(|ready| ready.completion.token.kind() == Kind::Passed) {
            if let Some(end) = self.kernels[shard].slots[ready.completion.result as usize].take() {
                self.close(end, Close::InOrder);
            }
        }
        self.kernels[shard].ready = unheard;
    }

    /// Puts a socket into a slot: the lowest or any; `None` if all are taken.
    pub(super) fn take_slot(&mut self, shard: usize, end: EndId) -> Option<u32> {
        let slots = &self.kernels[shard].slots;
        let free = |slot: &usize| slots[*slot].is_none();
        let lowest = (0..slots.len()).find(free)?;
        let slot = match self.faults.roaming_slots {
            false => lowest,
            true => {
                let from = self.rng.index(slots.len());
                (from..slots.len()).find(free).unwrap_or(lowest)
            }
        };
        self.ends[end].owner = Owner::Shard(shard);
        self.kernels[shard].slots[slot] = Some(end);
        self.kernels[shard].resets[slot] = false;
        Some(slot as u32)
    }

    /// Submits what was pushed, runs what can run, and notes how long the shard would have slept.
    pub(super) fn enter(&mut self, shard: usize, wait: Wait) {
        self.kernels[shard].counts.enters += 1;
        let again = self.submit_pushed(shard);
        let rounds = self.rng.between(1, 3);
        let mut left_some = false;
        for _ in 0..rounds {
            left_some = self.run_some(shard);
        }
        left_some |= self.kernels[shard].active.iter().any(|op| self.can_run(shard, op));
        let now = self.now;
        let kernel = &mut self.kernels[shard];
        // For the shard no time has passed since its last tick: the wait began there.
        kernel.deadline = match wait {
            Wait::No => None,
            Wait::For(most) | Wait::Batch { most, .. } => Some(kernel.ticked + most),
        };
        let woken = kernel.woken.0.swap(false, Ordering::Relaxed);
        let early = kernel.deadline.is_some_and(|deadline| deadline > now);
        kernel.slept = early && kernel.ready.is_empty() && !left_some && !woken && !again;
    }

    /// Submits what was pushed, in order; says whether the kernel has left some of it for the next time.
    pub(super) fn submit_pushed(&mut self, shard: usize) -> bool {
        let mut pushed = std::mem::take(&mut self.kernels[shard].pushed);
        let taken = match self.rng.chance(self.faults.submit_again) {
            true => self.rng.index(pushed.len() + 1),
            false => pushed.len(),
        };
        let left = pushed.split_off(taken);
        for op in pushed {
            self.kernels[shard].counts.submissions += 1;
            self.submit(shard, op);
        }
        let again = !left.is_empty();
        self.kernels[shard].pushed = left;
        again
    }

    /// Runs each operation that can run once, in any order; some wait for the next time.
    fn run_some(&mut self, shard: usize) -> bool {
        let mut order: Vec<u64> =
            self.kernels[shard].active.iter().filter(|op| self.can_run(shard, op)).map(|op| op.number).collect();
        self.rng.shuffle(&mut order);
        let mut left_some = false;
        for number in order {
            if self.rng.chance(self.faults.late / 4) {
                left_some = true;
                continue;
            }
            let active = &mut self.kernels[shard].active;
            let Some(place) = active.iter().position(|op| op.number == number) else {
                continue;
            };
            let op = active.swap_remove(place);
            if let Some(op) = self.run(shard, op) {
                self.kernels[shard].active.push(op);
            }
        }
        left_some
    }

    pub(super) fn complete(&mut self, shard: usize, token: Token, result: i32) {
        self.post_ready(shard, token, result, false, Carried::Nothing);
    }

    pub(super) fn post_ready(&mut self, shard: usize, token: Token, result: i32, more: bool, carried: Carried) {
        self.trace.add(self.now, Happened::Completed(shard, token, result, more));
        let completion = Completion { token, result, more, payload: Payload::None };
        self.kernels[shard].ready.push_back(Ready { completion, carried });
    }

    /// Has an operation wait until `time`.
    pub(super) fn delay(&mut self, shard: usize, op: &mut Op, time: Time) {
        op.not_before = time;
        self.at(time, Event::Shard(shard));
    }
}
