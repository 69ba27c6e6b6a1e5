//! Receiving: how a connection waits for bytes, and their way into the handler.
//!
//! A connection starts with a multishot receive of little credit, since most say something at once; silence parks it on a
//! one-shot poll. Where they say one thing and no more, it starts with a single receive, which need not be cancelled. A poll
//! that fires is followed by one receive; a second message within [`limits::PARK_AFTER`] promotes it to a multishot receive with
//! full credit.
//! Pausing means not arming again: what the credit still allows is kept as unread. A connection that is not read for long
//! is watched for its peer's end.
//! Invariant: bytes reach the handler in order, each once; at most one receive or poll is in flight.

use std::collections::VecDeque;

use crate::buffer::{Received, RecvBuf, Unread};
use crate::close_reason::CloseReason;
use crate::conn::{Conn, FilterState, Receive, State, flag};
use crate::driver::{Completion, Driver, First, Payload};
use crate::endpoint::caught;
use crate::handler::FilterStatus;
use crate::id::EndpointId;
use crate::limits;
#[cfg(feature = "planted")]
use crate::planted;
use crate::shard::Shard;
use crate::stats::RefusalCause;
use crate::time::Time;
use crate::token::{Kind, Token};

/// The connections with an armed multishot receive, and those that wait for a buffer.
#[derive(Debug, Default)]
pub(crate) struct Armed {
    slots: Vec<u32>,
    /// Where the search for quiet ones goes on.
    hand: usize,
    /// When to search next.
    next_look: Time,
    /// Each slot at most once ([`flag::STARVED_LISTED`]).
    starved: VecDeque<u32>,
    /// Connections that were found not being read, and when to look at them again; each slot at most once
    /// ([`flag::HELD_LISTED`]).
    held: VecDeque<(Time, u32)>,
    /// Connections that said one thing and no more: how many, since the last that did not.
    terse: u8,
    /// Where the search for queued frames to copy out of the pool goes on.
    relief_hand: usize,
}

impl Armed {
    /// Whether one more may be armed.
    fn has_room(&self) -> bool {
        self.slots.len() < limits::ARMED_RECEIVES
    }

    /// When somebody has to be looked at again.
    pub(crate) fn next_look(&self, ended: Time) -> Time {
        let mut next = self.held.front().map_or(Time::NEVER, |(due, _)| *due);
        if !self.slots.is_empty() {
            next = next.min(self.next_look);
        }
        if !self.starved.is_empty() {
            // Threads that give buffers back wake nobody.
            next = next.min(ended + limits::STARVED_LOOK);
        }
        next
    }
}

/// What a cancel request was for: the token's spare bits.
pub(crate) const CANCEL_RECEIVE: u8 = 1;
/// See [`CANCEL_RECEIVE`].
pub(crate) const CANCEL_SEND: u8 = 2;

impl<D: Driver> Shard<D> {
    /// Arms the next receive, unless one is under way or reading is paused.
    pub(crate) fn arm_receive(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        let opens = conn.state == State::Open || conn.extra.as_ref().is_some_and(|extra| extra.filter.is_some());
        if !opens || conn.has(flag::CONTROL) {
            return;
        }
        if conn.has(flag::NO_READ | flag::STARVED) {
            return self.hold_back(slot);
        }
        match conn.receive {
            Receive::Idle => {}
            Receive::Watched => return self.cancel_receive(slot),
            _ => return,
        }
        let last_in_ms = conn.last_in_ms;
        let busy = conn.has(flag::BUSY) && self.core.since_ms(last_in_ms) < limits::PARK_AFTER;
        if busy && self.armed.has_room() {
            return self.arm(slot, Some(limits::RECEIVE_CREDIT), First::Receive);
        }
        let token = self.core.conn(slot).token(Kind::Poll, slot);
        self.core.turn(slot, |conn| conn.receive = Receive::Parked);
        self.driver.poll_readable(slot, token);
        self.shed(slot);
    }

    /// The first receive of a connection that is not open yet. Its handler may not want to read, so it gets little credit.
    pub(crate) fn receive_early(&mut self, slot: u32) {
        if self.armed.has_room() {
            let credit = (self.armed.terse < limits::TERSE).then_some(limits::EARLY_CREDIT);
            // What it says first seldom comes with its handshake.
            self.arm(slot, credit, First::Poll);
        }
    }

    /// Arms a multishot receive, or a single one without credit.
    fn arm(&mut self, slot: u32, credit: Option<u32>, first: First) {
        let token = self.core.conn(slot).token(Kind::Recv, slot);
        self.core.turn(slot, |conn| conn.receive = Receive::Armed);
        self.core.stats.receives_armed.add(1);
        // Where the kernel keeps no credit, a multishot takes all that the pool has before anybody can stop it.
        match credit.filter(|_| self.driver.caps().recv_budget) {
            Some(credit) => self.driver.recv_multishot(slot, token, credit, first),
            None => self.driver.recv_once(slot, token, first),
        }
        let conn = self.core.conn(slot);
        if !conn.has(flag::LISTED) {
            conn.set(flag::LISTED);
            self.armed.slots.push(slot);
        }
    }

    /// A connection is not read: should that last, somebody looks whether its peer is still there.
    #[inline]
    fn hold_back(&mut self, slot: u32) {
        let due = self.core.now + limits::HELD_LOOK;
        let conn = self.core.conn(slot);
        if conn.receive == Receive::Idle && !conn.has(flag::HELD_LISTED) {
            conn.set(flag::HELD_LISTED);
            self.armed.held.push_back((due, slot));
        }
    }

    /// Watches connections that have not been read for long. A poll costs memory, and ending it an operation, so those
    /// that pause for a moment get none.
    pub(crate) fn watch_held(&mut self) {
        for _ in 0..limits::PARK_SCAN {
            let front = self.armed.held.front().copied();
            let Some((_, slot)) = front.filter(|(due, _)| *due <= self.core.now) else { return };
            self.armed.held.pop_front();
            let conn = self.core.conn(slot);
            conn.clear(flag::HELD_LISTED);
            let held = conn.has(flag::NO_READ | flag::STARVED) && conn.receive == Receive::Idle;
            if held && matches!(conn.state, State::Opening | State::Open) && conn.why.is_none() {
                let token = conn.token(Kind::Watch, slot);
                self.core.turn(slot, |conn| conn.receive = Receive::Watched);
                self.driver.poll_hangup(slot, token);
            }
        }
    }

    /// The peer of a connection that is not read has finished, or is gone. If it has finished there may be bytes before
    /// its FIN, and it may be gone later, so it is looked at again.
    pub(crate) fn hung_up(&mut self, slot: u32, result: i32) {
        self.receive_ended(slot);
        match result {
            0 => self.core.mark(slot),
            errno if errno == -libc::ECANCELED => self.core.mark(slot),
            _ => self.break_off(slot, CloseReason::PeerReset),
        }
    }

    /// Nothing waits for the connection's next bytes any more.
    #[inline]
    fn receive_ended(&mut self, slot: u32) {
        self.core.turn(slot, |conn| {
            conn.receive = Receive::Idle;
            conn.clear(flag::ENDING);
        });
    }

    /// A parked connection keeps nothing that it does not need.
    fn shed(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        if conn.send.as_ref().is_none_or(|queue| queue.is_empty()) {
            conn.trim();
            self.drop_queue(slot);
            self.cancel_stall_timer(slot);
        }
    }

    /// Asks for the end of the receive or poll in flight, once.
    pub(crate) fn cancel_receive(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        if conn.receive == Receive::Idle || conn.has(flag::CANCELLING | flag::ENDING) {
            return;
        }
        conn.set(flag::CANCELLING | flag::ENDING);
        let kind = match conn.receive {
            Receive::Parked => Kind::Poll,
            Receive::Watched => Kind::Watch,
            _ => Kind::Recv,
        };
        let target = conn.token(kind, slot);
        let token = Token::with_aux(Kind::Cancel, CANCEL_RECEIVE, conn.generation, slot);
        self.driver.cancel(target, token);
    }

    /// A cancel request itself completed; its target has, or will, on its own.
    pub(crate) fn cancelled(&mut self, slot: u32, what: u8) {
        let conn = self.core.conn(slot);
        conn.clear(if what == CANCEL_SEND { flag::CANCELLING_SEND } else { flag::CANCELLING });
        self.core.mark(slot);
    }

    /// A parked connection's poll fired.
    pub(crate) fn readable(&mut self, slot: u32, result: i32) {
        self.receive_ended(slot);
        if self.core.since_ms(self.core.conns[slot as usize].opened_ms) < limits::PARK_EARLY {
            self.armed.terse = 0;
        }
        let conn = self.core.conn(slot);
        let wants =
            matches!(conn.state, State::Opening | State::Open) && conn.why.is_none() && !conn.has(flag::NO_READ);
        if result >= 0 && wants {
            let token = conn.token(Kind::Recv, slot);
            self.core.turn(slot, |conn| conn.receive = Receive::Once);
            self.driver.recv_once(slot, token, First::Receive);
        } else {
            self.core.mark(slot);
        }
    }

    /// A receive delivered, or ended.
    #[inline]
    pub(crate) fn received(&mut self, slot: u32, completion: &Completion) {
        #[cfg(feature = "planted")]
        let missed = completion.result > 0
            && self.core.conn(slot).receive == Receive::Armed
            && planted::is(planted::Bug::MissedEnd);
        #[cfg(not(feature = "planted"))]
        let missed = false;
        if !completion.more && !missed {
            self.receive_ended(slot);
            self.core.mark(slot);
        }
        match (completion.result, completion.payload) {
            (0, payload) => {
                if let Payload::Data(range) = payload {
                    self.pool.release(range);
                }
                self.end_of_stream(slot);
            }
            (1.., Payload::Data(range)) => self.deliver(slot, range),
            (result, _) => self.receive_failed(slot, -result),
        }
    }

    fn receive_failed(&mut self, slot: u32, errno: i32) {
        match errno {
            libc::ENOBUFS => {
                self.core.stats.no_buffers.add(1);
                let conn = self.core.conn(slot);
                if !conn.has(flag::STARVED_LISTED) {
                    self.armed.starved.push_back(slot);
                }
                conn.set(flag::STARVED | flag::STARVED_LISTED);
            }
            libc::ECANCELED | libc::EAGAIN | libc::EINTR => {}
            libc::ECONNRESET | libc::EPIPE | libc::ETIMEDOUT | libc::ENOTCONN | libc::EHOSTUNREACH => {
                self.break_off(slot, CloseReason::PeerReset);
            }
            _ => self.break_off(slot, CloseReason::Os),
        }
    }

    /// The socket is broken: nothing more can be received or sent.
    pub(crate) fn break_off(&mut self, slot: u32, why: CloseReason) {
        self.core.conn(slot).set(flag::READ_CLOSED | flag::READ_CLOSED_TOLD);
        match self.core.conn(slot).state {
            State::Opening | State::Open => self.core.close(slot, why),
            _ => self.abandon(slot),
        }
    }

    fn end_of_stream(&mut self, slot: u32) {
        self.core.conn(slot).set(flag::READ_CLOSED);
        match self.core.conn(slot).state {
            State::Opening => self.core.close(slot, CloseReason::PeerClosed),
            State::Open => self.tell_read_closed(slot),
            _ => self.core.mark(slot),
        }
    }

    /// Tells the handler of the peer's FIN, once it has had a chance to read everything before it.
    fn tell_read_closed(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        let holds = flag::PAUSED | flag::CHOKED | flag::NO_PERMIT | flag::RESUME;
        let held = conn.unread_bytes() > 0 && conn.has(holds);
        let told = conn.has(flag::READ_CLOSED_TOLD) || conn.upgrades();
        if conn.state == State::Open && conn.why.is_none() && !held && !told {
            conn.set(flag::READ_CLOSED_TOLD);
            self.call(slot, |endpoint, core| endpoint.read_closed(core, slot));
            self.core.mark(slot);
        }
    }

    /// Received bytes on their way to the handler.
    #[inline]
    fn deliver(&mut self, slot: u32, range: Received) {
        let now_ms = self.core.now_ms;
        let conn = self.core.conn(slot);
        conn.bytes_in += u64::from(range.len);
        if now_ms.wrapping_sub(conn.last_in_ms) < limits::PARK_AFTER.as_millis() as u32 {
            conn.set(flag::BUSY);
        } else {
            conn.clear(flag::BUSY);
        }
        conn.last_in_ms = now_ms;
        let direct = conn.state == State::Open
            && conn.why.is_none()
            && conn.extra.as_ref().is_none_or(|extra| extra.lets_through())
            && !conn.has(flag::PAUSED | flag::CHOKED | flag::NO_PERMIT | flag::RESUME);
        let EndpointId(endpoint) = conn.endpoint;
        self.core.stats.bytes_in.add(u64::from(range.len));
        // What a service that stands still holds of a short pool stays held: it gets copies instead.
        let hoards = self.pool.is_short() && self.endpoints[usize::from(endpoint)].port().is_some();
        if direct && !hoards {
            self.deliver_direct(slot, range);
        } else {
            self.deliver_kept(slot, range);
        }
    }

    /// The usual way: the handler reads where the kernel wrote.
    #[inline]
    fn deliver_direct(&mut self, slot: u32, range: Received) {
        let EndpointId(endpoint) = self.core.conn(slot).endpoint;
        let mut data = RecvBuf::from_pool(&mut self.pool, range);
        let outcome = self.endpoints[usize::from(endpoint)].data(&mut self.core, slot, &mut data);
        if let Unread::InPool(rest) = data.finish() {
            let bytes = self.pool.bytes(&rest);
            self.core.budget.add(bytes.len());
            self.core.conns[slot as usize].extra().remainder.append(bytes);
            self.pool.release(rest);
            self.check_frame(slot);
        }
        if let Err(why) = outcome {
            self.core.close(slot, why);
        }
    }

    /// The other way: behind bytes that were left unread, through a filter, while reading is paused, or out of a short pool.
    fn deliver_kept(&mut self, slot: u32, range: Received) {
        let len = u64::from(range.len);
        let conn = &mut self.core.conns[slot as usize];
        if conn.state > State::Open || conn.why.is_some() {
            // Closing: read away.
            self.pool.release(range);
            return self.lingered(slot, len);
        }
        let bytes = self.pool.bytes(&range);
        let extra = conn.extra();
        if let Some(filter) = &mut extra.filter {
            filter.wire.extend_from_slice(bytes);
        } else {
            extra.remainder.append(bytes);
        }
        self.core.budget.add(bytes.len());
        self.pool.release(range);
        #[cfg(feature = "planted")]
        if planted::is(planted::Bug::ReleasedTwice) {
            self.pool.release(range);
        }
        self.run_filter(slot);
        self.offer(slot);
    }

    /// Passes the wire bytes at hand through the connection's filter.
    fn run_filter(&mut self, slot: u32) {
        let now = self.core.now;
        let conn = &mut self.core.conns[slot as usize];
        let Some(extra) = &mut conn.extra else { return };
        let Some(state) = &mut extra.filter else { return };
        let (mut plain, mut reply) = (Vec::new(), Vec::new());
        let before = state.wire.len();
        let FilterState { filter, wire, .. } = &mut **state;
        let taken = caught(|| {
            let taken = filter.receive(now, wire, &mut plain, &mut reply)?;
            Ok((taken, filter.status()))
        });
        let taken = taken.unwrap_or_else(|()| {
            self.core.stats.panics.add(1);
            Err(CloseReason::HandlerPanic)
        });
        let (status, failed) = match taken {
            Ok((taken, status)) => {
                wire.drain(..taken.min(before));
                (status, None)
            }
            Err(why) => (FilterStatus::Open, Some(why)),
        };
        extra.remainder.append(&plain);
        self.core.budget.add(plain.len());
        let left = self.core.conns[slot as usize].extra().filter.as_ref().map_or(0, |state| state.wire.len());
        self.core.budget.sub(before - left);
        if !self.core.conn(slot).has(flag::SHUT_WANTED) {
            self.core.push_wire(slot, &reply);
        }
        if let Some(why) = failed {
            self.core.count_refused(slot, RefusalCause::Filter);
            return self.core.close(slot, why);
        }
        let max_frame = self.core.facts(slot).options.max_frame;
        if left > max_frame {
            return self.core.close(slot, CloseReason::FrameTooLarge);
        }
        if status != FilterStatus::Opening && self.core.conn(slot).state == State::Opening {
            self.filter_opened(slot);
        }
        if status == FilterStatus::Transparent {
            let extra = self.core.conn(slot).extra();
            if let Some(state) = extra.filter.take() {
                extra.remainder.append(&state.wire);
            }
        }
    }

    /// Offers the unread bytes to the handler, if it may read.
    pub(crate) fn offer(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        // What comes after an upgrade was asked for is the next handler's.
        let held = conn.has(flag::PAUSED | flag::CHOKED | flag::NO_PERMIT) || conn.upgrades();
        if conn.state != State::Open || conn.why.is_some() || held || conn.unread_bytes() == 0 {
            return conn.trim();
        }
        let mut remainder = std::mem::take(&mut conn.extra().remainder);
        let before = remainder.len();
        let mut data = RecvBuf::from_remainder(&mut remainder);
        let EndpointId(endpoint) = conn.endpoint;
        let outcome = self.endpoints[usize::from(endpoint)].data(&mut self.core, slot, &mut data);
        let _ = data.finish();
        self.core.budget.sub(before - remainder.len());
        let conn = self.core.conn(slot);
        if remainder.is_empty() {
            conn.trim();
        } else {
            conn.extra().remainder = remainder;
        }
        self.check_frame(slot);
        if let Err(why) = outcome {
            self.core.close(slot, why);
        }
    }

    /// A handler that leaves more unread than a frame may have will never be satisfied.
    fn check_frame(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        let held = conn.has(flag::PAUSED | flag::CHOKED | flag::NO_PERMIT);
        let unread = conn.unread_bytes();
        if !held && !conn.upgrades() && unread > self.core.facts(slot).options.max_frame {
            self.core.close(slot, CloseReason::FrameTooLarge);
        }
    }

    /// A connection may read again: its unread bytes first, then what it missed.
    pub(crate) fn offer_again(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        let room = conn.has(flag::ROOM);
        conn.clear(flag::ROOM);
        if room && conn.state == State::Open && conn.why.is_none() && !conn.upgrades() {
            self.call(slot, |endpoint, core| endpoint.room(core, slot));
        }
        self.offer(slot);
        if self.core.conn(slot).has(flag::READ_CLOSED) {
            self.tell_read_closed(slot);
        }
        self.core.mark(slot);
    }

    /// Looks at a few armed connections and parks those that fell silent.
    pub(crate) fn park_quiet(&mut self) {
        if self.core.now < self.armed.next_look {
            return;
        }
        self.armed.next_look = self.core.now + limits::PARK_EVERY;
        for _ in 0..limits::PARK_SCAN.min(self.armed.slots.len()) {
            self.armed.hand = (self.armed.hand + 1) % self.armed.slots.len().max(1);
            let Some(&slot) = self.armed.slots.get(self.armed.hand) else { return };
            let conn = &self.core.conns[slot as usize];
            if !conn.has(flag::LISTED) || conn.receive != Receive::Armed {
                self.armed.slots.swap_remove(self.armed.hand);
                self.core.conn(slot).clear(flag::LISTED);
            } else if self.is_quiet(conn) {
                if !conn.has(flag::BUSY) && conn.bytes_in > 0 {
                    self.armed.terse = self.armed.terse.saturating_add(1);
                }
                self.cancel_receive(slot);
            }
        }
    }

    fn is_quiet(&self, conn: &Conn) -> bool {
        let silent = self.core.since_ms(conn.last_in_ms);
        match conn.has(flag::BUSY) {
            true => silent >= limits::PARK_AFTER,
            false => silent.min(self.core.since_ms(conn.opened_ms)) >= limits::PARK_EARLY,
        }
    }

    /// Somebody starves and no buffer is free: frames that wait in send queues behind the one in flight are copied
    /// out of the pool. (What services hold is theirs; [`Pool::is_short`] bounds it.)
    pub(crate) fn relieve_pool(&mut self) {
        if self.armed.starved.is_empty() || self.pool.free_buffers() > 0 {
            return;
        }
        let mut relieved = 0;
        for _ in 0..limits::RELIEF_SCAN.min(self.core.conns.len()) {
            self.armed.relief_hand = (self.armed.relief_hand + 1) % self.core.conns.len();
            if let Some(queue) = &mut self.core.conns[self.armed.relief_hand].send {
                relieved += usize::from(queue.detach_frames() > 0);
            }
            if relieved == limits::RELIEVED_PER_TICK {
                return;
            }
        }
    }

    /// Buffers came back: lets starved connections try again, as many as there are buffers.
    pub(crate) fn feed_starved(&mut self) {
        // A buffer that the kernel has filled in part counts: it may never come back, but there is room in it.
        let held = self.pool.held_bytes() / u64::from(self.pool.buffer_size());
        // More than the kernel gets would only find none again.
        let mut free = (u64::from(self.pool.buffers()) - held).min(self.most_lent.into());
        while free > 0
            && let Some(slot) = self.armed.starved.pop_front()
        {
            let conn = self.core.conn(slot);
            conn.clear(flag::STARVED_LISTED);
            #[cfg(feature = "planted")]
            if planted::is(planted::Bug::StarvedForever) {
                continue;
            }
            // It may be another connection by now, or one that ends.
            if conn.has(flag::STARVED) {
                conn.clear(flag::STARVED);
                self.core.mark(slot);
                free -= 1;
            }
        }
        self.core.stats.starved.set(self.armed.starved.len() as u64);
    }
}
