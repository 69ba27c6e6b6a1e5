//! What must hold in every simulation: the order of callbacks while it runs, and nothing left when it is at rest.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use super::driver::SimDriver;
use super::net::Net;
use super::ops::{Op, What};
use crate::buffer::RecvBuf;
use crate::close_reason::CloseReason;
use crate::conn::{Conn, State};
use crate::core::Core;
use crate::endpoint::Endpoint;
use crate::id::TimerKey;
use crate::net::Addr;
use crate::shard::{Drain, Shard};

type Outcome = Result<(), CloseReason>;

/// An endpoint between shard and handler that checks what the shard calls: open once, then anything, closed once,
/// then nothing. A refused connection is not called again, but closed.
pub(super) struct Watched {
    endpoint: Box<dyn Endpoint>,
    /// Connections by slot, and whether the handler took them.
    open: HashMap<u32, bool>,
}

impl Watched {
    pub(super) fn new(endpoint: Box<dyn Endpoint>) -> Box<Watched> {
        Box::new(Watched { endpoint, open: HashMap::new() })
    }

    fn assert_open(&self, slot: u32, call: &str) {
        assert_eq!(self.open.get(&slot), Some(&true), "{call} on slot {slot}, which is not open to this handler");
    }
}

impl Endpoint for Watched {
    fn port(&self) -> Option<usize> {
        self.endpoint.port()
    }

    fn is_behind(&self) -> bool {
        self.endpoint.is_behind()
    }

    fn open(&mut self, core: &mut Core, slot: u32) -> Outcome {
        let outcome = self.endpoint.open(core, slot);
        let before = self.open.insert(slot, outcome.is_ok());
        assert_eq!(before, None, "slot {slot} was opened twice");
        outcome
    }

    fn data(&mut self, core: &mut Core, slot: u32, data: &mut RecvBuf<'_>) -> Outcome {
        self.assert_open(slot, "data");
        assert!(!data.is_empty(), "data without a byte");
        self.endpoint.data(core, slot, data)
    }

    fn event(&mut self, core: &mut Core, slot: u32, event: &mut dyn Any) -> Outcome {
        self.assert_open(slot, "event");
        self.endpoint.event(core, slot, event)
    }

    fn read_closed(&mut self, core: &mut Core, slot: u32) -> Outcome {
        self.assert_open(slot, "read_closed");
        self.endpoint.read_closed(core, slot)
    }

    fn room(&mut self, core: &mut Core, slot: u32) -> Outcome {
        self.assert_open(slot, "room");
        self.endpoint.room(core, slot)
    }

    fn writable(&mut self, core: &mut Core, slot: u32) -> Outcome {
        self.assert_open(slot, "writable");
        self.endpoint.writable(core, slot)
    }

    fn timer(&mut self, core: &mut Core, slot: u32, key: TimerKey) -> Outcome {
        self.assert_open(slot, "timer");
        self.endpoint.timer(core, slot, key)
    }

    fn drain(&mut self, core: &mut Core, slot: u32) -> Outcome {
        self.assert_open(slot, "drain");
        self.endpoint.drain(core, slot)
    }

    fn closed(&mut self, core: &mut Core, slot: u32, why: CloseReason) {
        self.open.remove(&slot);
        self.endpoint.closed(core, slot, why);
    }

    fn connect_failed(&mut self, core: &mut Core, tag: u64, to: &Addr, error: io::Error) {
        self.endpoint.connect_failed(core, tag, to, error);
    }

    fn datagram(&mut self, core: &mut Core, socket: u32, from: SocketAddr, bytes: &[u8]) {
        self.endpoint.datagram(core, socket, from, bytes);
    }
}

/// Nothing is left of connections on a shard that has none.
pub(super) fn assert_at_rest(shard: &Shard<SimDriver>, net: &Net) {
    let core = &shard.core;
    let number = usize::from(core.shard.0);
    let kernel = &net.kernels[number];
    for (slot, conn) in core.conns.iter().enumerate() {
        assert_eq!(conn.state, State::Vacant, "slot {slot} of shard {number}: {:?}", conn.why);
        assert!(!conn.in_flight(), "slot {slot} of shard {number} is free with operations in flight");
    }
    assert_eq!(core.live, 0, "shard {number}: connections counted");
    assert_eq!(core.budget.held(), 0, "shard {number}: budget held by nobody");
    assert_eq!(kernel.open_slots(), 0, "shard {number}: sockets left");
    let belongs_to_listener = |op: &Op| matches!(op.what, What::Accept { .. } | What::DatagramRecv { .. });
    let in_flight = kernel.active.iter().chain(&kernel.pushed).filter(|op| !belongs_to_listener(op)).count();
    assert_eq!(in_flight, 0, "shard {number}: operations in flight");
    assert_eq!(shard.pool.held_frames(), 0, "shard {number}: frames not given back");
    let with_kernel = kernel.provided.len() + usize::from(shard.pool.free_buffers());
    assert_eq!(with_kernel, usize::from(shard.pool.buffers()), "shard {number}: buffers lost");
    assert!(core.dials.is_empty() && shard.dialing.is_empty(), "shard {number}: dials left");
    let draining = shard.drain != Drain::No;
    let stats = core.stats.snapshot(core.now);
    let gauges = [
        ("connections", stats.connections.total()),
        ("arrivals", stats.arrivals),
        ("starved", stats.starved),
        ("send_queue_bytes", stats.send_queue_bytes),
        ("remainder_bytes", stats.remainder_bytes),
        ("held_frame_bytes", stats.held_frame_bytes),
        // A shard may stop before the service has read the last closes.
        ("handoff_occupancy", if draining { 0 } else { stats.handoff_occupancy }),
        ("lifecycle_waiting", stats.lifecycle_waiting),
    ];
    for (gauge, value) in gauges {
        assert_eq!(value, 0, "shard {number}: gauge {gauge}");
    }
    if !draining {
        assert_eq!(core.timers.len(), 0, "shard {number}: timers left");
    }
}

/// Nothing counts against the caps of an engine without connections.
pub(super) fn assert_counts_at_rest(shard: &Shard<SimDriver>) {
    for facts in &shard.core.endpoints {
        assert_eq!(facts.count.open(), 0, "connections counted by a listener and not given back");
    }
    assert_eq!(shard.core.admission.total(), 0, "connections admitted and not given back");
}

/// What a shard still has, for a failure's message.
pub(super) fn describe(shard: &Shard<SimDriver>) -> String {
    let live = (0..).zip(&shard.core.conns).filter(|(_, conn)| conn.state != State::Vacant);
    let line = |(slot, conn): (u32, &Conn)| {
        format!(
            "\n  {:?} {:?} {:?} flags {:#06x} queued {} unread {} why {:?}",
            conn.id(shard.core.shard, slot),
            conn.state,
            conn.receive,
            conn.flags,
            conn.queued_bytes(),
            conn.unread_bytes(),
            conn.why,
        )
    };
    live.map(line).collect()
}
