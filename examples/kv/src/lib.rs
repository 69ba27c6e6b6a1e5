//! A key-value server on megamux's public API only: what a protocol and a service of your own look like.
//!
//! | file | owns |
//! | --- | --- |
//! | `protocol` | the bytes: sans-IO, knows neither sockets nor the engine |
//! | `store` | the keys and values: a service, knows neither bytes nor sockets |
//! | `handler` | what a connection does: bytes to requests, replies to bytes |
//!
//! docs/protocol-authors.md walks through it.

mod handler;
pub mod protocol;
mod store;

pub use handler::Requests;
pub use store::Store;

use megamux_engine::{Config, Engine, Listen, Placement, StartError};

/// Bytes of keys and values the store holds at most.
const STORE_BYTES: usize = 256 << 20;

/// Starts a server on `addr` with its store placed as asked.
///
/// # Errors
///
/// An address that cannot be bound, or a placement the store cannot have: it keeps state across
/// connections, so `PerShard` needs an engine of one shard.
pub fn start(config: Config, addr: &str, placement: Placement) -> Result<Engine, StartError> {
    let mut builder = Engine::builder(config)?;
    let store = builder.service("store", placement, || Store::new(STORE_BYTES))?;
    let listen = Listen::tcp(addr).max_frame(protocol::MAX_REQUEST).send_queue(
        handler::SEND_LOW,
        handler::SEND_HIGH,
        handler::SEND_CAP,
    );
    builder.listen(listen, &store, |_shard| Requests::default())?;
    builder.start()
}
