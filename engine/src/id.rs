//! Names of things: connections, shards, endpoints, timers. Opaque to users, cheap to copy.

use std::fmt;
use std::net::SocketAddr;

use crate::token::{GENERATION_BITS, SLOT_BITS};

/// A shard of one engine, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Most shards of one engine: what a connection's name has bits for.
pub const MAX_SHARDS: usize = 1 << (64 - SLOT_BITS - GENERATION_BITS);

/// A connection's name: unique in its engine for 2^28 reuses of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    /// `shard:12 | generation:28 | slot:24`.
    pub(crate) fn new(shard: ShardId, generation: u32, slot: u32) -> ConnId {
        ConnId(
            u64::from(shard.0) << (SLOT_BITS + GENERATION_BITS) | u64::from(generation) << SLOT_BITS | u64::from(slot),
        )
    }

    /// The shard that has it, or had it.
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> (SLOT_BITS + GENERATION_BITS)) as u16)
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32 & ((1 << GENERATION_BITS) - 1)
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 & ((1 << SLOT_BITS) - 1)) as u32
    }

    /// The opaque number, for logs and wire formats of one process.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The connection with that number; it need not exist.
    pub const fn from_bits(bits: u64) -> ConnId {
        ConnId(bits)
    }
}

/// Printed as 16 hexadecimal digits or fewer; [`std::str::FromStr`] reads that back.
impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({}/{}.{})", self.shard(), self.slot(), self.generation())
    }
}

impl std::str::FromStr for ConnId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(ConnId)
    }
}

/// What a handler or service calls a timer of its own; setting a key again moves that timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey(pub u64);

/// An endpoint (listener, dialler, datagram socket, upgrade target) of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(crate) u16);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a connection came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A peer connected to one of our listeners.
    Accepted,
    /// We connected; the number is what `dial` was given.
    Dialed(u64),
    /// Another endpoint handed it on with `upgrade`.
    Upgraded,
}

/// What is known of a connection when it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnInfo {
    /// The connection's name.
    pub id: ConnId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// How it came to be.
    pub origin: Origin,
    /// The peer's address; `None` for Unix sockets. A PROXY header overrides it.
    pub peer: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connections_name_keeps_its_fields_and_prints_round() {
        let id = ConnId::new(ShardId(4095), (1 << GENERATION_BITS) - 1, (1 << SLOT_BITS) - 1);
        assert_eq!(id.to_bits(), u64::MAX);
        let id = ConnId::new(ShardId(3), 9, 17);
        assert_eq!((id.shard(), id.generation(), id.slot()), (ShardId(3), 9, 17));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
