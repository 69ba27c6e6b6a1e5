//! Connecting out. A failure is an event of the endpoint, never an error return.

use std::io;

use crate::close_reason::CloseReason;
use crate::conn::State;
use crate::core::DialRequest;
use crate::driver::{Completion, Driver};
use crate::id::{EndpointId, Origin};
use crate::limits;
use crate::net::{Addr, Dial};
use crate::shard::{Drain, Shard};
use crate::timer::TimerId;
use crate::timer_word::TimerWord;
use crate::token::{Kind, Token, next_generation};

/// A dial under way.
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) request: DialRequest,
    pub(crate) timer: Option<TimerId>,
    /// Tells this dial's timer from one of an earlier dial at the same index.
    pub(crate) generation: u32,
    timed_out: bool,
}

impl<D: Driver> Shard<D> {
    /// Starts the dials that callbacks asked for, at most [`limits::DIALS_PER_TICK`].
    pub(crate) fn start_dials(&mut self) {
        for _ in 0..limits::DIALS_PER_TICK {
            let Some(request) = self.core.dials.pop_front() else { return };
            if self.drain != Drain::No {
                self.dial_failed(request, io::Error::from_raw_os_error(libc::ESHUTDOWN));
                continue;
            }
            let Some(facts) = self.core.endpoints.get(usize::from(request.endpoint.0)) else {
                // An id of another engine: there is no handler to tell.
                self.core.stats.dials_failed.add(1);
                continue;
            };
            self.core.stats.dials_started.add(1);
            let dial = Dial { route: request.route.clone(), options: facts.socket.clone() };
            let deadline = self.core.now + facts.options.handshake_timeout;
            self.core.dial_generation = next_generation(self.core.dial_generation);
            let generation = self.core.dial_generation;
            let entry = self.dialing.vacant_entry();
            let index = entry.key() as u32;
            let timer = Some(self.core.timers.insert(deadline, TimerWord::dial(generation, index)));
            entry.insert(Dialing { request, timer, generation, timed_out: false });
            self.core.dialing = self.dialing.len();
            self.driver.dial(&dial, Token::new(Kind::Dial, generation, index));
        }
        self.more |= !self.core.dials.is_empty();
    }

    /// A dial connected or failed.
    pub(crate) fn dialled(&mut self, index: u32, completion: Completion) {
        let Some(dialing) = self.dialing.try_remove(index as usize) else { return };
        self.core.dialing = self.dialing.len();
        if let Some(timer) = dialing.timer {
            self.core.timers.cancel(timer);
        }
        if completion.result < 0 {
            let errno = if dialing.timed_out { libc::ETIMEDOUT } else { -completion.result };
            return self.dial_failed(dialing.request, io::Error::from_raw_os_error(errno));
        }
        let DialRequest { endpoint, route, tag } = dialing.request;
        let slot = completion.result as u32;
        self.admit_slot(slot, endpoint, Some(Origin::Dialed(tag)));
        if let Addr::Tcp(peer) = route.to {
            self.core.conn(slot).set_peer(Some(peer));
        }
        let errno = match self.drain {
            Drain::No => {
                self.admit(slot);
                libc::EMFILE
            }
            _ => {
                self.discard(slot);
                libc::ESHUTDOWN
            }
        };
        match self.core.conn(slot).state {
            State::Joining => {
                self.dial_failed(DialRequest { endpoint, route, tag }, io::Error::from_raw_os_error(errno));
            }
            State::Opening => self.core.conn(slot).extra().dialed_to = Some(Box::new(route)),
            _ => {}
        }
    }

    /// A connection ended that never opened: if it was dialled, that has failed.
    pub(crate) fn ended_unopened(&mut self, slot: u32, why: CloseReason) {
        let conn = self.core.conn(slot);
        let (endpoint, origin) = (conn.endpoint, conn.origin());
        let route = conn.extra.as_mut().and_then(|extra| extra.dialed_to.take());
        if let (Origin::Dialed(tag), Some(route)) = (origin, route) {
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, format!("ended before it opened: {why}"));
            self.dial_failed(DialRequest { endpoint, route: *route, tag }, error);
        }
    }

    pub(crate) fn dial_failed(&mut self, request: DialRequest, error: io::Error) {
        self.core.stats.dials_failed.add(1);
        let EndpointId(endpoint) = request.endpoint;
        self.endpoints[usize::from(endpoint)].connect_failed(&mut self.core, request.tag, &request.route.to, error);
    }

    pub(crate) fn dial_timed_out(&mut self, index: u32, generation: u32) {
        let Some(dialing) = self.dialing.get_mut(index as usize) else { return };
        if dialing.generation == generation {
            dialing.timed_out = true;
            dialing.timer = None;
            self.cancel_dial(index, generation);
        }
    }

    /// Ends every dial under way; each fails in its own time.
    pub(crate) fn cancel_dials(&mut self) {
        let under_way: Vec<_> = self.dialing.iter().map(|(index, d)| (index as u32, d.generation)).collect();
        for (index, generation) in under_way {
            self.cancel_dial(index, generation);
        }
    }

    fn cancel_dial(&mut self, index: u32, generation: u32) {
        let target = Token::new(Kind::Dial, generation, index);
        self.driver.cancel(target, Token::new(Kind::Driver, 0, index));
    }
}
