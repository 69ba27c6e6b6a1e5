//! The connection table: what a shard keeps per connection, at most 104 bytes while it is idle.
//!
//! A slot's index is its direct descriptor's index. Everything a connection needs only sometimes (send queue,
//! unread remainder, filter, handler timers) lives behind a pointer that is null the rest of the time.
//! In-flight operations are recorded here and nowhere else: a slot is reused only when none is left.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::admission::Admit;
use crate::buffer::{Remainder, SendQueue};
use crate::close_reason::CloseReason;
use crate::handler::Filter;
use crate::id::{ConnId, EndpointId, Origin, ShardId, TimerKey};
use crate::net::Route;
use crate::timer::TimerId;
use crate::token::{Kind, Token, next_generation};

/// Where a connection stands. The order is the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    /// The slot is free.
    Vacant,
    /// Accepted; its peer address is being fetched, or its filter is not through.
    Opening,
    /// The handler has it.
    Open,
    /// Over for the handler; what is queued is still sent.
    Flushing,
    /// Everything is sent and FIN too; the rest of what the peer sends is read away, so that no RST overtakes it.
    Lingering,
    /// Waiting for the last operation in flight to end.
    Joining,
    /// The descriptor is being closed.
    Closing,
}

/// What waits for the connection's next bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Receive {
    /// Nothing: reading is paused, or about to be armed.
    Idle,
    /// A one-shot poll: the cheapest way to wait (a parked connection).
    Parked,
    /// A one-shot receive, after a poll said that there is something.
    Once,
    /// A multishot receive with credit.
    Armed,
    /// A one-shot poll for the peer's end: reading has been held back for a while.
    Watched,
}

/// Facts about a connection, one bit each.
pub(crate) mod flag {
    /// It is in the shard's list of connections to settle.
    pub(crate) const DIRTY: u32 = 1 << 0;
    /// A send chain is in flight.
    pub(crate) const SENDING: u32 = 1 << 1;
    /// The handler paused reading.
    pub(crate) const PAUSED: u32 = 1 << 2;
    /// The send queue is above its high watermark and reading is paused, until it is below the low one.
    pub(crate) const CHOKED: u32 = 1 << 3;
    /// The handler found no permit: reading pauses until the lane has room.
    pub(crate) const NO_PERMIT: u32 = 1 << 4;
    /// The peer sent FIN.
    pub(crate) const READ_CLOSED: u32 = 1 << 5;
    /// The handler has been told so.
    pub(crate) const READ_CLOSED_TOLD: u32 = 1 << 6;
    /// Half-close asked for.
    pub(crate) const SHUT_WANTED: u32 = 1 << 7;
    /// Half-close submitted.
    pub(crate) const SHUT_SENT: u32 = 1 << 8;
    /// A shutdown, peer fetch or close is in flight.
    pub(crate) const CONTROL: u32 = 1 << 9;
    /// A cancel of the receive is in flight.
    pub(crate) const CANCELLING: u32 = 1 << 10;
    /// A cancel of the send is in flight.
    pub(crate) const CANCELLING_SEND: u32 = 1 << 11;
    /// It has unread bytes that the handler should see again.
    pub(crate) const RESUME: u32 = 1 << 12;
    /// The send queue was above its high watermark, and is not yet below the low one.
    pub(crate) const ABOVE_HIGH: u32 = 1 << 13;
    /// It is in the list of armed connections that are looked at for parking.
    pub(crate) const LISTED: u32 = 1 << 14;
    /// It waits for a provided buffer.
    pub(crate) const STARVED: u32 = 1 << 15;
    /// It is in the list of those who wait for one.
    pub(crate) const STARVED_LISTED: u32 = 1 << 17;
    /// It is in the list of those that are not read, to be watched for their end.
    pub(crate) const HELD_LISTED: u32 = 1 << 18;
    /// The receive or poll in flight was told to end.
    pub(crate) const ENDING: u32 = 1 << 19;
    /// The send chain in flight was told to end.
    pub(crate) const ENDING_SEND: u32 = 1 << 20;
    /// Its last message came within the quiet spell of the one before: it is worth an armed receive.
    pub(crate) const BUSY: u32 = 1 << 16;

    /// There is room for an event again, and the handler has not been told.
    pub(crate) const ROOM: u32 = 1 << 21;

    /// Places in lists of the shard: they belong to the slot and outlive its connection.
    pub(crate) const OF_SLOT: u32 = LISTED | STARVED_LISTED | HELD_LISTED;
    /// Any of these keeps the receive from being armed.
    pub(crate) const NO_READ: u32 = PAUSED | CHOKED | NO_PERMIT | READ_CLOSED;
}

/// One slot of the table. What every message needs comes first, and together.
#[repr(C)]
pub(crate) struct Conn {
    pub(crate) send: Option<Box<SendQueue>>,
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) generation: u32,
    pub(crate) flags: u32,
    /// Milliseconds of the engine's clock, wrapping: the last byte received.
    pub(crate) last_in_ms: u32,
    /// The same: the last time the send queue got shorter (or began).
    pub(crate) last_out_ms: u32,
    /// The key of the handler's state in its endpoint.
    pub(crate) state_key: u32,
    pub(crate) endpoint: EndpointId,
    pub(crate) state: State,
    pub(crate) receive: Receive,
    pub(crate) stall_timer: TimerId,
    pub(crate) why: Option<CloseReason>,
    peer: Peer,
    pub(crate) idle_timer: TimerId,
    /// Milliseconds of the engine's clock, wrapping: when it opened.
    pub(crate) opened_ms: u32,
    /// What it counts against, once it was admitted.
    pub(crate) admit: Option<Admit>,
}

const _: () = assert!(size_of::<Conn>() <= 104);

/// What a connection has only sometimes.
#[derive(Default)]
pub(crate) struct Extra {
    /// Unread plain bytes.
    pub(crate) remainder: Remainder,
    /// What stands between wire and handler.
    pub(crate) filter: Option<Box<FilterState>>,
    /// The handler's timers; a timer's word in the wheel names its place here.
    pub(crate) timers: Vec<Option<(TimerKey, TimerId)>>,
    /// How it came to be, if not by accept.
    pub(crate) origin: Option<Origin>,
    /// Where it was dialled to, until it opens: a dial that ends before has failed.
    pub(crate) dialed_to: Option<Box<Route>>,
    /// Where `upgrade` sends it after the callback, and with what.
    pub(crate) upgrade: Option<(EndpointId, Vec<u8>)>,
}

/// A filter and the wire bytes it has not taken yet.
pub(crate) struct FilterState {
    pub(crate) filter: Box<dyn Filter>,
    /// It has said its last bytes.
    pub(crate) finished: bool,
    pub(crate) wire: Vec<u8>,
}

impl Extra {
    fn is_empty(&self) -> bool {
        self.lets_through() && self.timers.iter().all(Option::is_none) && self.origin.is_none()
    }

    /// Nothing stands between the connection's next bytes and its handler.
    pub(crate) fn lets_through(&self) -> bool {
        self.remainder.is_empty() && self.filter.is_none() && self.upgrade.is_none()
    }
}

impl Conn {
    pub(crate) fn vacant() -> Conn {
        Conn {
            send: None,
            extra: None,
            bytes_in: 0,
            bytes_out: 0,
            // Not 0: so that the first connection's name is not an easy mistake.
            generation: 1,
            state_key: NO_KEY,
            last_in_ms: 0,
            last_out_ms: 0,
            opened_ms: 0,
            idle_timer: TimerId::NONE,
            stall_timer: TimerId::NONE,
            admit: None,
            peer: Peer::None,
            endpoint: EndpointId(0),
            flags: 0,
            state: State::Vacant,
            receive: Receive::Idle,
            why: None,
        }
    }

    /// Frees the slot for its next life. Nothing may be in flight: that is what teardown is for.
    pub(crate) fn vacate(&mut self) {
        assert!(!self.in_flight(), "a slot was freed with operations in flight");
        self.renew(State::Vacant, EndpointId(0));
        self.generation = next_generation(self.generation);
    }

    /// Starts a life in this slot. Places in the shard's lists belong to the slot, not to the life.
    pub(crate) fn renew(&mut self, state: State, endpoint: EndpointId) {
        let (generation, listed) = (self.generation, self.flags & flag::OF_SLOT);
        *self = Conn { generation, flags: listed, state, endpoint, ..Conn::vacant() };
    }

    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    pub(crate) fn set(&mut self, flags: u32) {
        self.flags |= flags;
    }

    pub(crate) fn clear(&mut self, flags: u32) {
        self.flags &= !flags;
    }

    /// Whether the kernel still owes a completion for this slot.
    pub(crate) fn in_flight(&self) -> bool {
        self.receive != Receive::Idle
            || self.has(flag::SENDING | flag::CONTROL | flag::CANCELLING | flag::CANCELLING_SEND)
    }

    pub(crate) fn token(&self, kind: Kind, slot: u32) -> Token {
        Token::new(kind, self.generation, slot)
    }

    pub(crate) fn id(&self, shard: ShardId, slot: u32) -> ConnId {
        ConnId::new(shard, self.generation, slot)
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer.into()
    }

    pub(crate) fn set_peer(&mut self, peer: Option<SocketAddr>) {
        self.peer = peer.into();
    }

    pub(crate) fn origin(&self) -> Origin {
        self.extra.as_ref().and_then(|extra| extra.origin).unwrap_or(Origin::Accepted)
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.send.as_ref().map_or(0, |queue| queue.queued_bytes())
    }

    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Whether bytes for it are still queued: not after its half-close, nor after its end unless that flushes.
    pub(crate) fn may_send(&self) -> bool {
        self.state <= State::Open && !self.has(flag::SHUT_WANTED) && self.why.is_none_or(CloseReason::flushes)
    }

    /// Whether a filter stands between it and its handler.
    pub(crate) fn filters(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.filter.is_some())
    }

    /// Whether its handler asked to hand it on, which the flush does.
    pub(crate) fn upgrades(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.upgrade.is_some())
    }

    pub(crate) fn unread_bytes(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.remainder.len())
    }

    /// Bytes that the budget counts: what its send queue holds, unread, and in front of its filter.
    pub(crate) fn held_bytes(&self) -> usize {
        let filter = self.extra.as_ref().and_then(|extra| extra.filter.as_ref());
        let queue = self.send.as_ref().map_or(0, |queue| queue.held_bytes());
        queue + self.unread_bytes() + filter.map_or(0, |state| state.wire.len())
    }

    /// Whether what it holds is about to be given back unsent.
    pub(crate) fn is_dying(&self) -> bool {
        self.state > State::Flushing || self.why.is_some_and(|why| !why.flushes())
    }

    /// Gives the memory of `extra` back when nothing is in it.
    pub(crate) fn trim(&mut self) {
        if self.extra.as_ref().is_some_and(|extra| extra.is_empty()) {
            self.extra = None;
        }
    }
}

/// `state_key` of a connection that no handler has.
pub(crate) const NO_KEY: u32 = u32::MAX;

/// A peer's address in 20 bytes. Flow label and scope are not kept.
#[derive(Debug, Clone, Copy)]
enum Peer {
    None,
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl From<Option<SocketAddr>> for Peer {
    fn from(addr: Option<SocketAddr>) -> Peer {
        match addr {
            None => Peer::None,
            Some(SocketAddr::V4(v4)) => Peer::V4(v4.ip().octets(), v4.port()),
            Some(SocketAddr::V6(v6)) => Peer::V6(v6.ip().octets(), v6.port()),
        }
    }
}

impl From<Peer> for Option<SocketAddr> {
    fn from(peer: Peer) -> Option<SocketAddr> {
        match peer {
            Peer::None => None,
            Peer::V4(ip, port) => Some((IpAddr::V4(Ipv4Addr::from(ip)), port).into()),
            Peer::V6(ip, port) => Some((IpAddr::V6(Ipv6Addr::from(ip)), port).into()),
        }
    }
}
