//! Spreading the connections of a listener with one socket: one shard accepts, and passes them to all shards in turn.
//!
//! TCP listeners that are bound here form a group among which the kernel chooses. Unix sockets know no such thing, and a socket
//! that was inherited is only one; of many shards that wait for the same socket the kernel wakes the same one again and again.
//!
//! Invariant: a connection being passed is this shard's until the driver says that it is gone: whoever is full or has
//! stopped loses none. Nothing else is in flight on it meanwhile, and nobody has seen it, so there is nobody to tell.
//! Must not pass a connection that has been opened.

use crate::conn::{State, flag};
use crate::driver::Driver;
use crate::id::{EndpointId, ShardId};
use crate::limits;
use crate::net::Addr;
use crate::shard::{Drain, Shard};
use crate::token::{Kind, Token};

/// Whose connections a listening socket brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Its shard's: every shard has one.
    Own,
    /// All shards': there is no other.
    Shared,
}

impl Sharing {
    /// What a listener on this address has.
    pub(crate) fn of(addr: &Addr, is_inherited: bool) -> Sharing {
        match addr {
            Addr::Tcp(_) if !is_inherited => Sharing::Own,
            _ => Sharing::Shared,
        }
    }

    /// Whether a shard accepts for an endpoint: for a socket that all share one does.
    pub(crate) fn accepts(self, endpoint: EndpointId, shard: usize, shards: usize) -> bool {
        match self {
            Sharing::Own => true,
            Sharing::Shared => usize::from(endpoint.0) % shards == shard,
        }
    }
}

impl<D: Driver> Shard<D> {
    /// A connection was accepted for all shards: it is passed to the next one, or stays.
    pub(crate) fn spread(&mut self, slot: u32) {
        self.pass(slot, 0);
    }

    fn pass(&mut self, slot: u32, attempt: u8) {
        let shards = self.core.handle.shards();
        self.next_shard = (self.next_shard + 1) % shards;
        let to = ShardId(self.next_shard as u16);
        if to == self.core.shard || attempt == limits::PASS_ATTEMPTS || !self.driver.caps().pass {
            return self.welcome(slot);
        }
        // On its way out: orders for opening and open connections do not meet it.
        self.core.turn(slot, |conn| conn.state = State::Joining);
        let conn = self.core.conn(slot);
        conn.set(flag::CONTROL);
        let there = Token::new(Kind::Passed, 0, u32::from(conn.endpoint.0));
        let token = Token::with_aux(Kind::Pass, attempt, conn.generation, slot);
        self.driver.pass(slot, to, there, token);
    }

    /// A connection is another shard's now, and only the descriptor is left here; or that shard did not take it.
    pub(crate) fn passed(&mut self, slot: u32, attempt: u8, result: i32) {
        self.core.conn(slot).clear(flag::CONTROL);
        if result >= 0 {
            self.core.stats.passed.add(1);
            self.core.mark(slot);
        } else if self.drain == Drain::No {
            self.core.turn(slot, |conn| conn.state = State::Opening);
            self.pass(slot, attempt + 1);
        } else {
            self.discard(slot);
        }
    }

    /// Another shard accepted a connection for this one.
    pub(crate) fn take_passed(&mut self, endpoint: EndpointId, slot: u32) {
        // The endpoint's order was sent to every other shard before its acceptor's.
        while self.endpoints.len() <= usize::from(endpoint.0) && !self.mail.is_empty() {
            self.read_mail();
        }
        self.admit_slot(slot, endpoint, None);
        match self.drain {
            Drain::No => self.welcome(slot),
            _ => self.discard(slot),
        }
    }
}
