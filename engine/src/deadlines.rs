//! A connection's deadlines: idle, handshake, write stall, and the handler's own timers.
//!
//! The engine's own are lazy: one timer stands in the wheel and is moved when it fires, not with every message.
//! Invariant: when a slot is freed none of its timers is left.

use std::mem;
use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::conn::{State, flag};
use crate::driver::Driver;
use crate::limits;
use crate::shard::Shard;
use crate::timer::TimerId;
use crate::timer_word::{TimerKind, TimerWord};

impl<D: Driver> Shard<D> {
    /// Fires what is due, at most [`limits::TIMERS_PER_TICK`].
    pub(crate) fn fire_timers(&mut self) {
        for _ in 0..limits::TIMERS_PER_TICK {
            // One by one: a callback may move or take back a timer that is due as well.
            let more = self.core.timers.expire(self.core.now, 1, &mut self.due);
            if let Some(word) = self.due.pop() {
                self.core.stats.timers_fired.add(1);
                self.fire(word);
            }
            if !more {
                return;
            }
        }
        self.more = true;
    }

    fn fire(&mut self, word: TimerWord) {
        let slot = word.slot();
        match word.kind() {
            TimerKind::Dial => return self.dial_timed_out(slot, word.generation()),
            TimerKind::Drain => return self.drain_timed_out(slot),
            TimerKind::Accept => return self.retry_accept(slot),
            TimerKind::Datagram => return self.arm_datagram(slot),
            _ => {}
        }
        let Some(conn) = self.core.conns.get(slot as usize) else { return };
        if conn.generation != word.generation() || conn.state == State::Vacant {
            return;
        }
        match word.kind() {
            TimerKind::Idle => self.idle_due(slot),
            TimerKind::Stall => self.stall_due(slot),
            TimerKind::Handler(place) => self.handler_due(slot, place),
            _ => {}
        }
    }

    /// Idle timeout of an open connection, handshake timeout of one that still opens.
    fn idle_due(&mut self, slot: u32) {
        let options = &self.core.facts(slot).options;
        let conn = self.core.conn(slot);
        conn.idle_timer = TimerId::NONE;
        let (last_in_ms, opened_ms) = (conn.last_in_ms, conn.opened_ms);
        let held = conn.has(flag::PAUSED | flag::CHOKED | flag::NO_PERMIT | flag::STARVED);
        match conn.state {
            State::Opening => self.core.close(slot, CloseReason::HandshakeTimeout),
            State::Open => {
                let Some(timeout) = options.idle_timeout else { return };
                if held {
                    // It may well have sent something: we did not look.
                    return self.arm_idle_timer(slot, timeout);
                }
                let silent = self.core.since_ms(last_in_ms).min(self.core.since_ms(opened_ms));
                match timeout.checked_sub(silent) {
                    Some(left) if !left.is_zero() => self.arm_idle_timer(slot, left),
                    _ => self.core.close(slot, CloseReason::IdleTimeout),
                }
            }
            _ => {}
        }
    }

    /// Write stall of a connection that is open or flushing, the end of lingering.
    fn stall_due(&mut self, slot: u32) {
        let timeout = self.core.facts(slot).options.write_stall_timeout;
        let conn = self.core.conn(slot);
        conn.stall_timer = TimerId::NONE;
        let (state, last_out_ms) = (conn.state, conn.last_out_ms);
        if state == State::Lingering {
            return self.abandon(slot);
        }
        if state == State::Joining {
            conn.clear(flag::ENDING | flag::ENDING_SEND);
            return self.core.mark(slot);
        }
        if !conn.has(flag::SENDING) || state > State::Flushing {
            return;
        }
        let look = timeout / limits::STALL_LOOKS;
        match look.checked_sub(self.core.since_ms(last_out_ms)) {
            Some(left) if !left.is_zero() => self.arm_stall(slot, left),
            _ => {
                // The kernel tells how much of a chain it has sent only when that ends: `stalled` judges.
                self.arm_stall(slot, look);
                self.cancel_send(slot);
            }
        }
    }

    /// A send was ended to look at it, and the peer had taken nothing of it.
    pub(crate) fn stalled(&mut self, slot: u32) {
        let timeout = self.core.facts(slot).options.write_stall_timeout;
        let conn = self.core.conn(slot);
        let (state, last_out_ms) = (conn.state, conn.last_out_ms);
        // Looks come a little early or late by the clock's milliseconds: that must not cost a whole one more.
        let slack = timeout / limits::STALL_LOOKS / 16;
        if self.core.since_ms(last_out_ms) + slack < timeout {
            // It goes on with the same bytes.
            return;
        }
        match state {
            State::Flushing => self.abandon(slot),
            _ => self.core.close(slot, CloseReason::WriteStall),
        }
    }

    fn handler_due(&mut self, slot: u32, place: u8) {
        let extra = self.core.conn(slot).extra.as_mut();
        let timer = extra.and_then(|extra| extra.timers.get_mut(usize::from(place)));
        let Some((key, _)) = timer.and_then(Option::take) else { return };
        let conn = self.core.conn(slot);
        conn.trim();
        if conn.why.is_some() {
            return;
        }
        self.call(slot, |endpoint, core| endpoint.timer(core, slot, key));
    }

    pub(crate) fn arm_idle_timer(&mut self, slot: u32, after: Duration) {
        self.cancel_idle_timer(slot);
        let deadline = self.core.now + after;
        let generation = self.core.conn(slot).generation;
        let id = self.core.timers.insert(deadline, TimerWord::idle(generation, slot));
        self.core.conn(slot).idle_timer = id;
    }

    pub(crate) fn cancel_idle_timer(&mut self, slot: u32) {
        let id = mem::replace(&mut self.core.conn(slot).idle_timer, TimerId::NONE);
        self.core.timers.cancel(id);
    }

    /// A send began: from now on somebody looks whether it gets anywhere. One timer serves many sends.
    #[inline(never)]
    pub(crate) fn arm_stall_timer(&mut self, slot: u32) {
        let timeout = self.core.facts(slot).options.write_stall_timeout;
        self.arm_stall(slot, timeout / limits::STALL_LOOKS);
    }

    pub(crate) fn arm_stall(&mut self, slot: u32, after: Duration) {
        self.cancel_stall_timer(slot);
        let deadline = self.core.now + after;
        let generation = self.core.conn(slot).generation;
        let id = self.core.timers.insert(deadline, TimerWord::stall(generation, slot));
        self.core.conn(slot).stall_timer = id;
    }

    pub(crate) fn cancel_stall_timer(&mut self, slot: u32) {
        let id = mem::replace(&mut self.core.conn(slot).stall_timer, TimerId::NONE);
        self.core.timers.cancel(id);
    }

    pub(crate) fn cancel_handler_timers(&mut self, slot: u32) {
        #[cfg(feature = "planted")]
        if crate::planted::is(crate::planted::Bug::LateTimer) {
            return;
        }
        let Some(extra) = &mut self.core.conns[slot as usize].extra else { return };
        for (_, id) in extra.timers.drain(..).flatten() {
            self.core.timers.cancel(id);
        }
    }

    /// Receiving datagrams goes on after a short while: the last one failed for no passing reason.
    pub(crate) fn postpone_datagram(&mut self, socket: u32) {
        self.core.timers.insert(self.core.now + limits::ACCEPT_PAUSE, TimerWord::datagram(socket));
    }

    /// Accepting goes on after a short while: descriptors are out.
    pub(crate) fn postpone_accept(&mut self, listener: u32) {
        self.core.timers.insert(self.core.now + limits::ACCEPT_PAUSE, TimerWord::accept(listener));
    }
}
