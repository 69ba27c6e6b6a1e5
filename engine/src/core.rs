//! What callbacks may touch of a shard: the connection table, send queues, timers, work lists. No driver in sight:
//! callbacks only leave marks here, and the shard's flush turns the marks into operations.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::admission::{Admission, ListenerCount};
use crate::budget::Budget;
use crate::buffer::{Chunks, Frame, SendQueue};
use crate::close_reason::CloseReason;
use crate::config::EndpointOptions;
use crate::conn::{Conn, FilterState, State, flag};
use crate::endpoint::caught;
use crate::handle::Handle;
use crate::id::{ConnId, ConnInfo, EndpointId, ShardId, TimerKey};
use crate::limits;
use crate::listing::EndpointCounts;
use crate::net::{Route, SocketOptions};
use crate::stats::{RefusalCause, ShardStats};
use crate::time::Time;
use crate::timer::Wheel;
use crate::timer_word::TimerWord;

/// What the shard knows of an endpoint without its handler.
pub(crate) struct EndpointFacts {
    pub(crate) options: EndpointOptions,
    pub(crate) socket: SocketOptions,
    pub(crate) count: Arc<ListenerCount>,
    pub(crate) counts: Arc<EndpointCounts>,
}

/// A dial that waits to be started, or is under way.
#[derive(Debug)]
pub(crate) struct DialRequest {
    pub(crate) endpoint: EndpointId,
    pub(crate) route: Route,
    pub(crate) tag: u64,
}

/// The driver-free part of a shard.
pub(crate) struct Core {
    pub(crate) shard: ShardId,
    pub(crate) now: Time,
    /// Milliseconds of the engine's clock, wrapping: connections keep 32 bits of it.
    pub(crate) now_ms: u32,
    pub(crate) conns: Vec<Conn>,
    pub(crate) endpoints: Vec<Rc<EndpointFacts>>,
    pub(crate) timers: Wheel<TimerWord>,
    /// Connections whose marks the flush has to act on, each once ([`flag::DIRTY`]).
    pub(crate) dirty: Vec<u32>,
    /// Connections to be offered their unread bytes again ([`flag::RESUME`]).
    pub(crate) resume: VecDeque<u32>,
    pub(crate) dials: VecDeque<DialRequest>,
    /// Dials under way.
    pub(crate) dialing: usize,
    /// Dials that may be waiting or under way.
    pub(crate) most_dials: usize,
    /// No more dials: the shard drains.
    pub(crate) draining: bool,
    pub(crate) datagrams: DatagramsOut,
    pub(crate) chunks: Chunks,
    #[expect(clippy::vec_box, reason = "the boxes move between here and the connections")]
    pub(crate) spare_queues: Vec<Box<SendQueue>>,
    pub(crate) budget: Budget,
    pub(crate) admission: Arc<Admission>,
    pub(crate) stats: Arc<ShardStats>,
    /// Slots that are not vacant.
    pub(crate) live: usize,
    /// Tells a dial from an earlier one at the same index.
    pub(crate) dial_generation: u32,
    pub(crate) handle: Handle,
}

impl Core {
    /// The tick's time, read once.
    pub(crate) fn set_now(&mut self, now: Time) {
        self.now = now;
        self.now_ms = now.as_millis() as u32;
    }

    /// How long ago the wrapping millisecond `then` was.
    pub(crate) fn since_ms(&self, then: u32) -> Duration {
        Duration::from_millis(u64::from(self.now_ms.wrapping_sub(then)))
    }

    pub(crate) fn conn(&mut self, slot: u32) -> &mut Conn {
        &mut self.conns[slot as usize]
    }

    pub(crate) fn facts(&self, slot: u32) -> Rc<EndpointFacts> {
        let endpoint = self.conns[slot as usize].endpoint;
        Rc::clone(&self.endpoints[usize::from(endpoint.0)])
    }

    /// The slot of a connection of this shard, if it is the one that is open (or opening) there now.
    pub(crate) fn find(&self, id: ConnId) -> Option<u32> {
        let conn = self.conns.get(id.slot() as usize)?;
        let here = id.shard() == self.shard && conn.generation == id.generation();
        (here && matches!(conn.state, State::Opening | State::Open) && conn.why.is_none()).then_some(id.slot())
    }

    pub(crate) fn id(&self, slot: u32) -> ConnId {
        self.conns[slot as usize].id(self.shard, slot)
    }

    pub(crate) fn info(&self, slot: u32) -> ConnInfo {
        let conn = &self.conns[slot as usize];
        ConnInfo { id: self.id(slot), endpoint: conn.endpoint, origin: conn.origin(), peer: conn.peer() }
    }

    /// Has the flush look at a connection.
    #[inline]
    pub(crate) fn mark(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        if !conn.has(flag::DIRTY) {
            conn.set(flag::DIRTY);
            self.dirty.push(slot);
        }
    }

    /// Counts a connection of `endpoint` that is refused.
    pub(crate) fn count_refusal(&self, endpoint: EndpointId, cause: RefusalCause) {
        self.stats.refusals.of(cause).add(1);
        self.endpoints[usize::from(endpoint.0)].counts.refused.fetch_add(1, Relaxed);
    }

    /// The same, of the connection in a slot.
    pub(crate) fn count_refused(&self, slot: u32, cause: RefusalCause) {
        self.count_refusal(self.conns[slot as usize].endpoint, cause);
    }

    /// Asks for the end of a connection. The first reason stands.
    pub(crate) fn close(&mut self, slot: u32, why: CloseReason) {
        let conn = &mut self.conns[slot as usize];
        if conn.why.is_none() && matches!(conn.state, State::Opening | State::Open) {
            conn.why = Some(why);
            self.mark(slot);
        }
    }

    /// Queues a copy of `bytes`, through the connection's filter.
    pub(crate) fn send(&mut self, slot: u32, bytes: &[u8]) {
        let conn = &self.conns[slot as usize];
        if bytes.is_empty() || !conn.may_send() {
            return;
        }
        if conn.filters() {
            let mut wire = Vec::new();
            self.encode(slot, bytes, &mut wire);
            self.push_wire(slot, &wire);
        } else {
            self.push_wire(slot, bytes);
        }
    }

    /// Queues a frame without copying it, unless a filter has to change it.
    #[inline]
    pub(crate) fn send_frame(&mut self, slot: u32, frame: Frame) {
        let conn = &mut self.conns[slot as usize];
        if frame.is_empty() || !conn.may_send() {
            return;
        }
        if conn.filters() {
            return self.send(slot, &frame);
        }
        let bytes = frame.len();
        let held = queue_of(conn, &mut self.spare_queues).push_frame(frame);
        self.queued(slot, bytes, held);
    }

    /// Queues bytes that are for the wire as they are.
    pub(crate) fn push_wire(&mut self, slot: u32, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let conn = &mut self.conns[slot as usize];
        let held = queue_of(conn, &mut self.spare_queues).push_copy(bytes, &mut self.chunks);
        self.queued(slot, bytes.len(), held);
    }

    /// Asks for FIN after what is queued and what the filter has still to say.
    pub(crate) fn shutdown_write(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        if conn.has(flag::SHUT_WANTED) {
            return;
        }
        // Out of the connection while it is called, as its bytes go into the same connection.
        if let Some(mut state) = conn.extra.as_mut().and_then(|extra| extra.filter.take()) {
            let last = self.last_words(&mut state);
            self.conns[slot as usize].extra().filter = Some(state);
            self.push_wire(slot, &last);
        }
        self.conns[slot as usize].set(flag::SHUT_WANTED);
        self.mark(slot);
    }

    /// What a filter says last; nothing the second time.
    pub(crate) fn last_words(&mut self, state: &mut FilterState) -> Vec<u8> {
        let mut last = Vec::new();
        if !std::mem::replace(&mut state.finished, true) && caught(|| state.filter.finish(&mut last)).is_err() {
            self.stats.panics.add(1);
        }
        last
    }

    fn encode(&mut self, slot: u32, plain: &[u8], wire: &mut Vec<u8>) {
        if let Some(filter) = &mut self.conns[slot as usize].extra().filter {
            filter.filter.send(plain, wire);
        }
    }

    /// Accounts for bytes that were just queued, and the memory they take: budget, watermarks, hard cap.
    #[inline]
    fn queued(&mut self, slot: u32, bytes: usize, held: usize) {
        self.budget.add(held);
        let conn = &mut self.conns[slot as usize];
        let options = &self.endpoints[usize::from(conn.endpoint.0)].options;
        let queued = conn.queued_bytes();
        if queued == bytes {
            conn.last_out_ms = self.now_ms;
        }
        let high = queued > options.send_high;
        self.mark(slot);
        if high {
            self.above_high(slot, queued);
        }
    }

    /// Above the high watermark reading pauses; above the hard cap the connection ends.
    #[inline(never)]
    fn above_high(&mut self, slot: u32, queued: usize) {
        let conn = &mut self.conns[slot as usize];
        let options = &self.endpoints[usize::from(conn.endpoint.0)].options;
        conn.set(flag::ABOVE_HIGH | if options.keep_reading { 0 } else { flag::CHOKED });
        if queued > options.send_cap {
            self.close(slot, CloseReason::SlowConsumer);
        }
    }

    /// Takes back a send queue that nothing is in any more.
    pub(crate) fn recycle(&mut self, queue: Box<SendQueue>) {
        if self.spare_queues.len() < limits::SPARE_QUEUES {
            self.spare_queues.push(queue);
        }
    }

    /// Has the shard offer a connection's unread bytes to its handler again.
    pub(crate) fn resume(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        if !conn.has(flag::RESUME) {
            conn.set(flag::RESUME);
            self.resume.push_back(slot);
        }
        self.mark(slot);
    }

    /// Sets or moves a handler's timer. `false`: the connection has [`limits::HANDLER_TIMERS`] set already.
    pub(crate) fn set_timer(&mut self, slot: u32, key: TimerKey, after: Duration) -> bool {
        self.cancel_timer(slot, key);
        let deadline = self.now + after;
        let conn = &mut self.conns[slot as usize];
        let generation = conn.generation;
        let timers = &mut conn.extra().timers;
        let place = match timers.iter().position(Option::is_none) {
            Some(place) => place,
            None if timers.len() < limits::HANDLER_TIMERS => {
                timers.push(None);
                timers.len() - 1
            }
            None => return false,
        };
        let id = self.timers.insert(deadline, TimerWord::handler(place as u8, generation, slot));
        timers[place] = Some((key, id));
        true
    }

    pub(crate) fn cancel_timer(&mut self, slot: u32, key: TimerKey) -> bool {
        let Some(extra) = &mut self.conns[slot as usize].extra else { return false };
        let found = extra.timers.iter_mut().find(|timer| timer.is_some_and(|(k, _)| k == key));
        let Some((_, id)) = found.and_then(Option::take) else { return false };
        self.timers.cancel(id)
    }

    /// Queues a dial; it comes back when too many are waiting or under way, and in a drain.
    pub(crate) fn dial(&mut self, request: DialRequest) -> Result<(), DialRequest> {
        if self.draining || self.dials.len() + self.dialing >= self.most_dials {
            return Err(request);
        }
        self.dials.push_back(request);
        Ok(())
    }
}

/// A connection's send queue, made if it has none.
#[expect(clippy::vec_box, reason = "the boxes move between there and the connections")]
fn queue_of<'a>(conn: &'a mut Conn, spare: &mut Vec<Box<SendQueue>>) -> &'a mut SendQueue {
    conn.send.get_or_insert_with(|| spare.pop().unwrap_or_default())
}

/// Datagrams waiting for the flush, in one arena.
#[derive(Default)]
pub(crate) struct DatagramsOut {
    bytes: Vec<u8>,
    entries: Vec<(u32, SocketAddr, usize)>,
}

impl DatagramsOut {
    pub(crate) fn push(&mut self, socket: u32, to: SocketAddr, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.entries.push((socket, to, self.bytes.len()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Hands each to `send` in order, and forgets them.
    pub(crate) fn drain(&mut self, mut send: impl FnMut(u32, SocketAddr, &[u8])) {
        let mut start = 0;
        for &(socket, to, end) in &self.entries {
            send(socket, to, &self.bytes[start..end]);
            start = end;
        }
        self.entries.clear();
        self.bytes.clear();
    }
}
