//! New connections: accept (a crowd in groups), wait for a turn, count against the caps, learn the peer if wanted, open to the handler.
//!
//! Invariant: every accepted socket has its turn, and then is either opened or closed and counted as refused. A full table never
//! leaves the backlog hanging: the kernel closes one connection per attempt, so accepting is armed again, a bounded number
//! of times per tick.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use crate::close_reason::CloseReason;
use crate::config::EndpointOptions;
use crate::conn::{FilterState, State, flag};
use crate::driver::{Accept, Completion, Driver, Payload};
use crate::endpoint::caught;
use crate::id::{EndpointId, Origin};
use crate::limits;
use crate::shard::{Drain, Shard};
use crate::spread::Sharing;
use crate::stats::RefusalCause;
use crate::token::{Kind, Token};

/// One listening socket of this shard.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The driver's number for it.
    pub(crate) number: u32,
    pub(crate) endpoint: EndpointId,
    pub(crate) sharing: Sharing,
    /// The accept under way.
    armed: Option<Accept>,
    /// The one to arm when that has ended.
    next: Accept,
    /// Connections that the group under way has found.
    found: u32,
    /// It is being removed.
    closing: bool,
    /// Attempts after a full table, in this tick.
    retries: u32,
}

impl Listener {
    pub(crate) fn new(number: u32, endpoint: EndpointId, sharing: Sharing) -> Listener {
        let (armed, next) = (None, Accept::All);
        Listener { number, endpoint, sharing, armed, next, found: 0, closing: false, retries: 0 }
    }

    /// What the accept under way has brought, if it was the last: whom to accept next. A crowd is taken in groups, the first of
    /// whom is waited for where the last group did not find as many as it might, until a group finds nobody.
    fn note(&mut self, result: i32, more: bool) {
        self.found += u32::from(result >= 0);
        if more {
            return;
        }
        match self.armed.take() {
            Some(Accept::Next) if result >= 0 => self.next = Accept::Waiting(limits::ACCEPTS_AT_FIRST),
            Some(Accept::Waiting(most)) if self.found == most => {
                self.next = Accept::Waiting((2 * most).min(limits::ACCEPTS_AT_ONCE));
            }
            Some(Accept::Waiting(_)) if self.found > 0 => self.next = Accept::Next,
            Some(Accept::Waiting(_)) => self.next = Accept::All,
            // Whoever ended it has said what is next.
            Some(Accept::Next | Accept::All) | None => {}
        }
    }
}

/// A completion of an accept, until its turn comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    listener: u32,
    /// The slot, or `-errno`.
    result: i32,
    more: bool,
}

impl<D: Driver> Shard<D> {
    /// Arms accepting on a listener, unless it is paused.
    pub(crate) fn arm_accept(&mut self, index: u32) {
        let Some(listener) = self.listeners.get_mut(index as usize) else { return };
        let paused = self.core.endpoints[usize::from(listener.endpoint.0)].counts.is_paused();
        if listener.armed.is_some() || listener.closing || paused {
            return;
        }
        // A group takes no more than there is room for: the kernel closes who finds none, and they may rather wait.
        let room = self.driver.slots().saturating_sub((self.core.live + self.arrivals.len()) as u32);
        let whom = match listener.next {
            Accept::Waiting(most) if room > 0 => Accept::Waiting(most.min(room)),
            Accept::Waiting(_) => Accept::All,
            whom => whom,
        };
        (listener.armed, listener.next, listener.found) = (Some(whom), whom, 0);
        self.driver.accept(listener.number, Token::new(Kind::Accept, 0, index), whom);
    }

    /// A completion of a listener's accept: it gets its turn.
    pub(crate) fn accepted(&mut self, listener: u32, completion: &Completion) {
        let Completion { result, more, .. } = *completion;
        self.arrivals.push_back(Arrival { listener, result, more });
    }

    /// Lets in those whose turn it is. When a crowd comes back a multishot accept takes all of it in one call; served in small
    /// groups, a connection is still in the cache when it is answered, and its completions fit into their queue. The rest of the
    /// crowd is best accepted in groups as well.
    pub(crate) fn take_arrivals(&mut self) {
        for _ in 0..limits::ARRIVALS_PER_TICK {
            match self.arrivals.pop_front() {
                Some(arrival) => self.arrived(arrival),
                None => return self.arrivals.shrink_to(limits::BATCH),
            }
        }
        if let Some(&Arrival { listener, .. }) = self.arrivals.front() {
            self.more = true;
            self.accept_in_groups(listener);
        }
    }

    /// Ends a multishot accept that brings more than can be let in at once.
    fn accept_in_groups(&mut self, index: u32) {
        let Some(listener) = self.listeners.get_mut(index as usize) else { return };
        let all = listener.armed == Some(Accept::All) && listener.next == Accept::All;
        if all && self.driver.caps().accept_dontwait {
            listener.next = Accept::Waiting(limits::ACCEPTS_AT_FIRST);
            self.cancel_accept(index);
        }
    }

    fn arrived(&mut self, Arrival { listener: index, result, more }: Arrival) {
        let Some(listener) = self.listeners.get_mut(index as usize) else { return };
        listener.note(result, more);
        let (endpoint, sharing, closing) = (listener.endpoint, listener.sharing, listener.closing);
        if result >= 0 {
            listener.retries = 0;
            let slot = result as u32;
            self.core.stats.accepts.add(1);
            self.core.endpoints[usize::from(endpoint.0)].counts.accepted.fetch_add(1, Relaxed);
            self.admit_slot(slot, endpoint, None);
            match closing || self.drain != Drain::No {
                true => self.discard(slot),
                false => match sharing {
                    Sharing::Own => self.welcome(slot),
                    Sharing::Shared => self.spread(slot),
                },
            }
        } else {
            self.accept_failed(index, endpoint, -result);
        }
        #[cfg(feature = "planted")]
        if result == -libc::ENFILE && crate::planted::is(crate::planted::Bug::AcceptForgotten) {
            return;
        }
        if !more {
            self.rearm_accept(index);
        }
    }

    fn accept_failed(&mut self, index: u32, endpoint: EndpointId, errno: i32) {
        match errno {
            libc::ENFILE | libc::EMFILE | libc::ENOMEM | libc::ENOBUFS => {
                self.core.count_refusal(endpoint, RefusalCause::TableFull);
            }
            // The peer gave up while it waited, or the listener is being removed.
            libc::ECONNABORTED | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            _ => tracing::debug!(listener = index, errno, "accept failed"),
        }
    }

    fn rearm_accept(&mut self, index: u32) {
        let Some(listener) = self.listeners.get_mut(index as usize) else { return };
        if listener.closing {
            self.remove_listener(index);
        } else if listener.retries < limits::ACCEPT_RETRIES {
            listener.retries += 1;
            self.arm_accept(index);
        } else {
            // The next tick goes on; it must come soon, but not spin.
            self.postpone_accept(index);
        }
    }

    /// Stops accepting; the socket is closed when its accept has ended.
    pub(crate) fn close_listener(&mut self, index: u32) {
        let Some(listener) = self.listeners.get_mut(index as usize) else { return };
        if std::mem::replace(&mut listener.closing, true) {
            return;
        }
        self.core.endpoints[usize::from(listener.endpoint.0)].counts.close();
        match listener.armed {
            Some(_) => self.cancel_accept(index),
            None => self.remove_listener(index),
        }
    }

    /// A pause ends the accept, and what connects from then on waits in the kernel's backlog.
    pub(crate) fn pause_or_resume_listener(&mut self, index: u32) {
        let Some(listener) = self.listeners.get(index as usize) else { return };
        let paused = self.core.endpoints[usize::from(listener.endpoint.0)].counts.is_paused();
        match paused && listener.armed.is_some() {
            true => self.cancel_accept(index),
            // If its accept is just being cancelled, the end of that arms it again.
            false => self.arm_accept(index),
        }
    }

    fn cancel_accept(&mut self, index: u32) {
        let target = Token::new(Kind::Accept, 0, index);
        self.driver.cancel(target, Token::new(Kind::Driver, 0, index));
    }

    fn remove_listener(&mut self, index: u32) {
        let listener = self.listeners.remove(index as usize);
        self.core.endpoints[usize::from(listener.endpoint.0)].counts.sockets.fetch_sub(1, Relaxed);
        self.driver.close_listener(listener.number);
    }

    pub(crate) fn retry_accept(&mut self, index: u32) {
        if let Some(listener) = self.listeners.get_mut(index as usize) {
            listener.retries = 0;
            self.arm_accept(index);
        }
    }

    /// Gives a fresh socket its slot in the table.
    pub(crate) fn admit_slot(&mut self, slot: u32, endpoint: EndpointId, origin: Option<Origin>) {
        self.grow(slot);
        self.core.live += 1;
        let now_ms = self.core.now_ms;
        self.core.turn(slot, |conn| {
            assert_eq!(conn.state, State::Vacant, "the kernel gave out a slot that is in use");
            conn.renew(State::Opening, endpoint);
            conn.opened_ms = now_ms;
            // As if it had been silent for long: its first message does not count as a second one.
            conn.last_in_ms = now_ms.wrapping_sub(limits::PARK_AFTER.as_millis() as u32);
            conn.last_out_ms = now_ms;
            if origin.is_some() {
                conn.extra().origin = origin;
            }
        });
    }

    /// A connection stays on this shard: its peer's address is fetched if it is wanted, which for a Unix socket's tells at once that
    /// there is none. What it says first is received with the same call, and comes after the address.
    pub(crate) fn welcome(&mut self, slot: u32) {
        let facts = self.core.facts(slot);
        let asks = facts.options.peer_address || self.core.admission.counts_sources();
        if asks {
            let conn = self.core.conn(slot);
            conn.set(flag::CONTROL);
            let token = conn.token(Kind::Peer, slot);
            self.driver.peer(slot, token);
        }
        // One that will be refused would only have to be cancelled.
        if self.core.admission.has_room(&facts.count) {
            self.receive_early(slot);
        }
        if !asks {
            self.admit(slot);
        }
    }

    pub(crate) fn peer_fetched(&mut self, slot: u32, completion: Completion) {
        let peer = match completion.payload {
            Payload::Peer(index) => self.driver.take_peer(index),
            _ => None,
        };
        let conn = self.core.conn(slot);
        conn.clear(flag::CONTROL);
        conn.set_peer(peer);
        match conn.state == State::Opening && conn.why.is_none() {
            true => self.admit(slot),
            false => self.core.mark(slot),
        }
    }

    /// Counts a connection against the caps, then lets it through its filter or opens it.
    pub(crate) fn admit(&mut self, slot: u32) {
        let facts = self.core.facts(slot);
        // A filter may learn the real address; until then the connection counts for no source.
        let peer = self.source(slot).filter(|_| facts.options.filter.is_none());
        match self.core.admission.try_admit(&facts.count, peer) {
            Ok(admit) => self.core.conn(slot).admit = Some(admit),
            Err(refusal) => {
                self.core.count_refused(slot, refusal.into());
                return self.discard(slot);
            }
        }
        let EndpointOptions { filter, handshake_timeout, .. } = &facts.options;
        match filter {
            None => self.open(slot),
            Some(make) => {
                let Ok(filter) = caught(|| make()) else {
                    self.core.stats.panics.add(1);
                    return self.core.close(slot, CloseReason::HandlerPanic);
                };
                let state = FilterState { filter, finished: false, wire: Vec::new() };
                self.core.conn(slot).extra().filter = Some(Box::new(state));
                self.arm_idle_timer(slot, *handshake_timeout);
                self.core.mark(slot);
            }
        }
    }

    /// The address whose cap a connection counts for. Where we connect to is none: that cap would hold a relay to a few
    /// connections per upstream.
    fn source(&self, slot: u32) -> Option<SocketAddr> {
        let conn = &self.core.conns[slot as usize];
        conn.peer().filter(|_| conn.origin() == Origin::Accepted)
    }

    /// The filter is through: counts the connection for its real source and opens it.
    pub(crate) fn filter_opened(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        let filter = conn.extra.as_ref().and_then(|extra| extra.filter.as_ref());
        match caught(|| filter.and_then(|state| state.filter.peer())) {
            Ok(None) => {}
            Ok(learned) => conn.set_peer(learned),
            Err(()) => {
                self.core.stats.panics.add(1);
                return self.core.close(slot, CloseReason::HandlerPanic);
            }
        }
        let conn = self.core.conn(slot);
        let admit = conn.admit.take();
        let peer = self.source(slot);
        if let Some(mut admit) = admit {
            let rebound = self.core.admission.rebind(&mut admit, peer);
            self.core.conn(slot).admit = Some(admit);
            if let Err(refusal) = rebound {
                self.core.count_refused(slot, refusal.into());
                return self.core.close(slot, CloseReason::Refused);
            }
        }
        self.open(slot);
    }

    /// Opens a connection to its handler.
    pub(crate) fn open(&mut self, slot: u32) {
        let EndpointId(endpoint) = self.core.conn(slot).endpoint;
        if self.endpoints[usize::from(endpoint)].is_behind() {
            self.core.count_refused(slot, RefusalCause::ServiceBehind);
            return self.core.close(slot, CloseReason::Refused);
        }
        self.core.turn(slot, |conn| conn.state = State::Open);
        if let Some(extra) = &mut self.core.conn(slot).extra {
            extra.dialed_to = None;
        }
        self.call(slot, |endpoint, core| endpoint.open(core, slot));
        if self.core.conn(slot).why.is_some() {
            self.core.count_refused(slot, RefusalCause::Handler);
        }
        let idle_timeout = self.core.facts(slot).options.idle_timeout;
        self.cancel_idle_timer(slot);
        if let Some(after) = idle_timeout {
            self.arm_idle_timer(slot, after);
        }
        self.core.mark(slot);
    }

    /// Hands a connection to another endpoint, if its handler asked for that.
    pub(crate) fn upgrade(&mut self, slot: u32) {
        let Some((to, leftover)) = self.core.conn(slot).extra.as_mut().and_then(|extra| extra.upgrade.take()) else {
            return;
        };
        let Some(facts) = self.core.endpoints.get(usize::from(to.0)).cloned() else {
            return self.core.close(slot, CloseReason::Refused);
        };
        let EndpointId(from) = self.core.conn(slot).endpoint;
        self.endpoints[usize::from(from)].closed(&mut self.core, slot, CloseReason::Upgraded);
        self.cancel_handler_timers(slot);
        let from_facts = self.core.facts(slot);
        let conn = self.core.conn(slot);
        conn.endpoint = to;
        conn.clear(flag::PAUSED | flag::NO_PERMIT | flag::ROOM | flag::READ_CLOSED_TOLD);
        let extra = conn.extra();
        extra.origin = Some(Origin::Upgraded);
        let unread = extra.remainder.unread().to_vec();
        extra.remainder = Default::default();
        extra.remainder.append(&leftover);
        extra.remainder.append(&unread);
        self.core.budget.add(leftover.len());
        if let Some(admit) = self.core.conn(slot).admit.take() {
            let moved = self.core.admission.move_to(&from_facts.count, &facts.count, admit);
            match moved {
                Ok(admit) => self.core.conn(slot).admit = Some(admit),
                Err(refusal) => {
                    self.core.count_refused(slot, refusal.into());
                    return self.core.close(slot, CloseReason::Refused);
                }
            }
        }
        self.open(slot);
        self.core.resume(slot);
    }
}

#[cfg(test)]
mod tests {
    use Accept::{All, Next, Waiting};

    use super::*;

    /// What an accept that is under way brings, and who is to be accepted next.
    #[track_caller]
    fn check(armed: Accept, brings: &[i32], next: Accept) {
        let mut listener = Listener::new(0, EndpointId(0), Sharing::Own);
        (listener.armed, listener.next) = (Some(armed), armed);
        for (place, &result) in brings.iter().enumerate() {
            assert!(listener.armed.is_some());
            listener.note(result, place + 1 < brings.len());
        }
        assert_eq!((listener.armed, listener.next), (None, next));
    }

    #[test]
    fn a_crowd_is_accepted_in_groups_until_one_finds_nobody() {
        const NOBODY: i32 = -libc::EAGAIN;
        check(Next, &[7], Waiting(limits::ACCEPTS_AT_FIRST));
        check(Next, &[-libc::ECANCELED], Next);
        check(Waiting(4), &[1, 2, 3, 4], Waiting(8));
        check(
            Waiting(limits::ACCEPTS_AT_ONCE),
            &[1; limits::ACCEPTS_AT_ONCE as usize],
            Waiting(limits::ACCEPTS_AT_ONCE),
        );
        check(Waiting(4), &[1, 2, 3, NOBODY], Next);
        check(Waiting(4), &[1, -libc::ECONNABORTED, 3, 4], Next);
        check(Waiting(2), &[NOBODY, NOBODY], All);
        check(Waiting(2), &[-libc::ENFILE, -libc::ENFILE], All);
        // A full completion queue has ended it.
        check(All, &[1, 2], All);
    }
}
