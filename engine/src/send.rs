//! Sending: one chain in flight per connection, watermarks, and who pays when the budget is spent.
//!
//! Invariant: bytes leave in the order they were queued; a queue's memory belongs to the kernel
//! while its chain is in flight, and is released by the completion alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::close_reason::CloseReason;
use crate::conn::{Receive, State, flag};
use crate::driver::Driver;
use crate::limits;
#[cfg(feature = "planted")]
use crate::planted;
use crate::receive::CANCEL_SEND;
use crate::shard::Shard;
use crate::timer::TimerId;
use crate::token::{Kind, Token};

impl<D: Driver> Shard<D> {
    /// Sends what is queued, unless a chain is in flight already; then FIN, if that was asked for.
    // Always inlined into the flush: a call costs every message 15 instructions.
    #[inline(always)]
    pub(crate) fn pump_send(&mut self, slot: u32) {
        let conn = &mut self.core.conns[slot as usize];
        if conn.has(flag::SENDING) {
            return;
        }
        let generation = conn.generation;
        if let Some(queue) = conn.send.as_mut().filter(|queue| !queue.is_empty()) {
            self.driver.send(slot, Token::new(Kind::Send, generation, slot), queue.begin());
            conn.set(flag::SENDING);
            self.core.stats.sends.add(1);
            if conn.stall_timer == TimerId::NONE {
                self.arm_stall_timer(slot);
            }
        } else if conn.has(flag::SHUT_WANTED) && !conn.has(flag::SHUT_SENT | flag::CONTROL) {
            conn.set(flag::SHUT_SENT | flag::CONTROL);
            self.driver.shutdown_write(slot, Token::new(Kind::Shutdown, generation, slot));
        }
    }

    /// The chain in flight ended.
    #[inline]
    pub(crate) fn sent(&mut self, slot: u32, result: i32) {
        let now_ms = self.core.now_ms;
        let conn = &mut self.core.conns[slot as usize];
        conn.clear(flag::SENDING | flag::ENDING_SEND);
        let taken = result.max(0) as usize;
        let Some(queue) = &mut conn.send else { return };
        #[cfg(feature = "planted")]
        let taken =
            taken + usize::from(0 < taken && taken < queue.queued_bytes() && planted::is(planted::Bug::LostByte));
        let freed = queue.complete(taken, &mut self.core.chunks);
        conn.bytes_out += taken as u64;
        if taken > 0 {
            conn.last_out_ms = now_ms;
        }
        self.core.budget.sub(freed);
        self.core.stats.bytes_out.add(taken as u64);
        let left = queue.queued_bytes();
        // A busy connection will want its queue and its timer again.
        if left == 0 && !(conn.receive == Receive::Armed && conn.has(flag::BUSY)) {
            self.drop_queue(slot);
            self.cancel_stall_timer(slot);
        }
        self.after_send(slot, result, left);
    }

    fn after_send(&mut self, slot: u32, result: i32, left: usize) {
        match -result {
            libc::ECANCELED => self.stalled(slot),
            errno @ 1.. if errno != libc::EINTR && errno != libc::EAGAIN => {
                let reset = matches!(errno, libc::EPIPE | libc::ECONNRESET | libc::ETIMEDOUT | libc::ENOTCONN);
                self.break_off(slot, if reset { CloseReason::PeerReset } else { CloseReason::Os });
            }
            _ => {}
        }
        let conn = &self.core.conns[slot as usize];
        let wants_more = left > 0 || conn.state != State::Open || conn.has(flag::SHUT_WANTED);
        if conn.has(flag::ABOVE_HIGH) {
            self.unchoke(slot, left);
        } else if wants_more {
            self.core.mark(slot);
        }
    }

    /// Below the low watermark reading goes on, and the handler hears of it.
    fn unchoke(&mut self, slot: u32, left: usize) {
        self.core.mark(slot);
        if left > self.core.facts(slot).options.send_low {
            return;
        }
        #[cfg(feature = "planted")]
        if planted::is(planted::Bug::ChokedForever) {
            return;
        }
        let conn = self.core.conn(slot);
        conn.clear(flag::ABOVE_HIGH | flag::CHOKED);
        if conn.state == State::Open && conn.why.is_none() {
            self.call(slot, |endpoint, core| endpoint.writable(core, slot));
            self.core.resume(slot);
        }
    }

    /// Gives an idle connection's send queue back. Nothing of it may be in flight.
    #[inline]
    pub(crate) fn drop_queue(&mut self, slot: u32) {
        let Some(mut queue) = self.core.conn(slot).send.take() else { return };
        self.core.budget.sub(queue.clear(&mut self.core.chunks));
        queue.recycle();
        self.core.recycle(queue);
    }

    /// Asks for the end of the chain in flight, once.
    pub(crate) fn cancel_send(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        if !conn.has(flag::SENDING) || conn.has(flag::CANCELLING_SEND | flag::ENDING_SEND) {
            return;
        }
        conn.set(flag::CANCELLING_SEND | flag::ENDING_SEND);
        let target = conn.token(Kind::Send, slot);
        let token = Token::with_aux(Kind::Cancel, CANCEL_SEND, conn.generation, slot);
        self.driver.cancel(target, token);
    }

    /// Over budget: the connections that hold the most go first, until the debt is paid.
    pub(crate) fn pay_budget(&mut self) {
        let debt = self.core.budget.settle();
        self.core.stats.send_queue_bytes.set(self.core.budget.held() as u64);
        if debt > 0 {
            self.pay(debt);
        }
    }

    #[cold]
    fn pay(&mut self, mut debt: usize) {
        let mut largest = BinaryHeap::with_capacity(limits::VICTIMS_PER_TICK + 1);
        for (slot, conn) in (0u32..).zip(&self.core.conns) {
            let held = conn.held_bytes();
            if held > 0 && conn.is_dying() {
                // Freed when its chain in flight ends: the same debt is not charged twice.
                debt = debt.saturating_sub(held);
            } else if held > 0 {
                largest.push(Reverse((held, slot)));
                if largest.len() > limits::VICTIMS_PER_TICK {
                    largest.pop();
                }
            }
        }
        for Reverse((held, slot)) in largest.into_sorted_vec() {
            if debt == 0 {
                return;
            }
            debt = debt.saturating_sub(held);
            self.sacrifice(slot);
        }
    }

    /// Closes a connection without sending what it holds, even if that was promised to one that said good-bye.
    fn sacrifice(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        conn.why = Some(CloseReason::BudgetVictim);
        match conn.state {
            State::Flushing => self.abandon(slot),
            _ => self.core.mark(slot),
        }
    }
}
