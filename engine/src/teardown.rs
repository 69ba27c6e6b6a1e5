//! The end of a connection, in named steps: flush, linger, join, close. docs/teardown.md draws them.
//!
//! Invariants: the handler's `on_close` and the service's `Close` come when the end begins, exactly once. The descriptor
//! is closed only when nothing is in flight on it, because the kernel would go on delivering for a freed slot.
//! The slot is free only when the close itself has completed.

use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::conn::{Receive, State, flag};
use crate::driver::{Driver, First};
use crate::id::EndpointId;
use crate::limits;
#[cfg(feature = "planted")]
use crate::planted;
use crate::shard::Shard;
use crate::token::{Kind, Token};

impl<D: Driver> Shard<D> {
    /// A connection was asked to end: tells handler and service, then starts the steps.
    pub(crate) fn begin_teardown(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        let Some(why) = conn.why else { return };
        let (was_open, EndpointId(endpoint)) = (conn.state == State::Open, conn.endpoint);
        self.core.stats.closes.of(why).add(1);
        if was_open {
            self.endpoints[usize::from(endpoint)].closed(&mut self.core, slot, why);
        } else {
            self.ended_unopened(slot, why);
        }
        self.cancel_handler_timers(slot);
        self.cancel_idle_timer(slot);
        self.drop_extra(slot, why.flushes());
        self.core.turn(slot, |conn| conn.state = State::Flushing);
        if !why.flushes() || self.overdue {
            self.abandon(slot);
        } else {
            self.advance_teardown(slot);
        }
    }

    /// A socket that never became a connection: it was refused.
    pub(crate) fn discard(&mut self, slot: u32) {
        self.core.conn(slot).why = Some(CloseReason::Refused);
        self.core.turn(slot, |conn| conn.state = State::Joining);
        self.core.mark(slot);
    }

    /// Nothing more is to be sent: straight to joining.
    pub(crate) fn abandon(&mut self, slot: u32) {
        if self.core.conn(slot).state < State::Joining {
            self.core.turn(slot, |conn| conn.state = State::Joining);
        }
        self.core.mark(slot);
    }

    /// Takes as many steps as can be taken now.
    pub(crate) fn advance_teardown(&mut self, slot: u32) {
        if self.core.conn(slot).state == State::Flushing {
            self.pump_send(slot);
            let conn = self.core.conn(slot);
            if conn.has(flag::SENDING | flag::CONTROL) {
                return;
            }
            match self.lingers_for(slot) {
                Some(time) => self.linger(slot, time),
                None => self.core.turn(slot, |conn| conn.state = State::Joining),
            }
        }
        if self.core.conn(slot).state == State::Lingering {
            self.keep_lingering(slot);
        }
        if self.core.conn(slot).state == State::Joining {
            self.join(slot);
        }
    }

    /// For how long an RST of ours could meet words of ours that the peer has not read. The peer draws one by sending on; and
    /// where reading was held back, unread bytes wait in the kernel, and closing over them sends one.
    fn lingers_for(&self, slot: u32) -> Option<Duration> {
        let conn = &self.core.conns[slot as usize];
        let lately = |then| self.core.since_ms(then) < limits::TALKED_LATELY;
        let held = conn.has(flag::PAUSED | flag::CHOKED | flag::NO_PERMIT | flag::STARVED);
        if conn.has(flag::READ_CLOSED) {
            None
        } else if held || conn.why.is_some_and(CloseReason::lingers) {
            Some(limits::LINGER)
        } else {
            let said = conn.bytes_out > 0 && lately(conn.last_out_ms);
            let sends = lately(conn.last_in_ms) || lately(conn.opened_ms);
            (said && sends).then_some(limits::LINGER_AFTER_TALK)
        }
    }

    /// Sends FIN and reads on: a close with unread bytes would send RST and could destroy what was just sent.
    fn linger(&mut self, slot: u32, time: Duration) {
        self.core.turn(slot, |conn| conn.state = State::Lingering);
        let conn = self.core.conn(slot);
        // From here `bytes_in` counts what is read away.
        conn.bytes_in = 0;
        conn.set(flag::SHUT_WANTED);
        self.pump_send(slot);
        self.arm_stall(slot, time);
    }

    fn keep_lingering(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        if conn.has(flag::READ_CLOSED) {
            self.core.turn(slot, |conn| conn.state = State::Joining);
        } else if conn.receive == Receive::Watched {
            self.cancel_receive(slot);
        } else if conn.receive == Receive::Idle && !conn.has(flag::STARVED) {
            let token = conn.token(Kind::Recv, slot);
            self.core.turn(slot, |conn| conn.receive = Receive::Once);
            self.driver.recv_once(slot, token, First::Receive);
        }
    }

    /// Bytes were read away.
    pub(crate) fn lingered(&mut self, slot: u32, bytes: u64) {
        let conn = self.core.conn(slot);
        if conn.state == State::Lingering {
            conn.bytes_in += bytes;
            if conn.bytes_in > limits::LINGER_BYTES {
                self.abandon(slot);
            }
        }
    }

    /// Waits for the last completion, then closes.
    fn join(&mut self, slot: u32) {
        let asked = self.core.conn(slot).has(flag::ENDING | flag::ENDING_SEND);
        self.cancel_receive(slot);
        self.cancel_send(slot);
        let conn = self.core.conn(slot);
        let in_flight = conn.in_flight();
        if !asked && conn.has(flag::ENDING | flag::ENDING_SEND) {
            self.arm_stall(slot, limits::CANCEL_AGAIN);
        }
        #[cfg(feature = "planted")]
        let in_flight = in_flight && !planted::is(planted::Bug::EarlyClose);
        if in_flight {
            return;
        }
        self.cancel_stall_timer(slot);
        self.drop_queue(slot);
        let facts = self.core.facts(slot);
        let conn = self.core.conn(slot);
        if let Some(admit) = conn.admit.take() {
            self.core.admission.release(&facts.count, admit);
        }
        let conn = self.core.conn(slot);
        conn.set(flag::CONTROL);
        let resets = conn.why.is_some_and(CloseReason::resets);
        let token = Token::new(Kind::Close, conn.generation, slot);
        self.core.turn(slot, |conn| conn.state = State::Closing);
        if resets {
            self.driver.reset_on_close(slot);
        }
        self.driver.close(slot, token);
        #[cfg(feature = "planted")]
        if planted::is(planted::Bug::EarlyReuse) {
            self.close_completed(slot);
        }
    }

    /// The descriptor is gone: the slot is free.
    pub(crate) fn close_completed(&mut self, slot: u32) {
        self.core.conn(slot).clear(flag::CONTROL);
        self.core.turn(slot, |conn| conn.vacate());
        self.core.live -= 1;
    }

    /// Gives back what the connection had only sometimes; a filter may say its last bytes.
    fn drop_extra(&mut self, slot: u32, in_order: bool) {
        let Some(extra) = self.core.conn(slot).extra.take() else { return };
        let unread = extra.remainder.len();
        self.core.budget.sub(unread);
        if let Some(mut state) = extra.filter {
            self.core.budget.sub(state.wire.len());
            if in_order {
                let last = self.core.last_words(&mut state);
                self.core.push_wire(slot, &last);
            }
        }
    }
}
