//! A thread-per-core io_uring socket engine: shards, buffers, handoff.
//!
//! An [`Engine`] runs *shards*, one thread each. A shard accepts and reads sockets through its own io_uring into pooled
//! buffers and gives the bytes to a [`Handler`], which answers at once or hands typed events to a [`Service`] through
//! lock-free lanes. Services never see a socket; handlers never wait for a service.
//!
//! ```no_run
//! use megamux_engine::{
//!     CloseReason, Config, ConnInfo, Cx, Engine, Handler, Listen, NO_SERVICE, NoService, RecvBuf,
//! };
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Service = NoService;
//!     type Conn = ();
//!
//!     fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
//!         Ok(())
//!     }
//!
//!     fn on_data(
//!         &mut self,
//!         cx: &mut Cx<'_, NoService>,
//!         _: &mut (),
//!         data: &mut RecvBuf<'_>,
//!     ) -> Result<(), CloseReason> {
//!         cx.send_frame(data.take_all());
//!         Ok(())
//!     }
//! }
//!
//! let mut builder = Engine::builder(Config::default())?;
//! builder.listen(Listen::tcp("127.0.0.1:7"), &NO_SERVICE, |_shard| Echo)?;
//! builder.start()?.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(missing_docs)]

mod accept;
mod admission;
#[cfg(feature = "tokio-uring")]
mod async_service;
mod budget;
mod buffer;
mod builder;
mod caps;
mod close_reason;
mod config;
mod conn;
mod control;
mod core;
mod cpu;
mod cx;
mod datagram;
mod deadlines;
mod dial;
mod driver;
mod drivers;
mod endpoint;
mod engine;
mod epoll;
mod handle;
mod handler;
mod handoff;
mod host;
mod id;
mod limits;
mod listing;
pub mod net;
#[cfg(feature = "internals")]
mod null;
#[cfg(feature = "planted")]
pub mod planted;
mod port;
mod receive;
mod ring;
mod send;
mod service;
mod shard;
#[cfg(feature = "sim")]
pub mod sim;
mod spread;
pub mod stats;
mod storage;
mod teardown;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod timer;
mod timer_word;
mod token;
mod topology;
mod trace;
mod waker;

#[cfg(feature = "tokio-uring")]
pub use async_service::{Async, AsyncCx, AsyncInput, AsyncRuntime, AsyncService, RuntimeKind};
pub use buffer::{Frame, RecvBuf};
pub use builder::{Builder, NO_SERVICE, ServiceRef};
pub use close_reason::CloseReason;
pub use config::{Config, Datagram, Dialer, DriverChoice, EndpointOptions, FilterFactory, Listen, Pin};
pub use control::{ConnRow, Connections};
pub use cx::{Cx, EndpointCx};
pub use driver::Caps;
pub use engine::{Engine, EngineError, StartError};
pub use handle::{Handle, NotTaken};
pub use handler::{Filter, FilterStatus, Handler};
pub use id::{ConnId, ConnInfo, EndpointId, MAX_SHARDS, Origin, ShardId, TimerKey};
pub use listing::{EndpointKind, EndpointRow, EndpointState, ServiceRow};
pub use port::Permit;
pub use ring::{Feature, MaskError, RingError};
pub use service::{Gone, Input, NoService, Placement, PublishError, Scope, Service, ServiceCx, Subscribe};
pub use storage::{FileEntry, FileId, NotSubmitted, Opening, Storage, StorageError, StorageKey, Stored};
pub use time::Time;
pub use trace::{Phase, Tick, Trace};

/// The private rooms, opened to the project's benches. No part of the interface.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod bench_internals {
    pub use crate::buffer::{Chunks, Pool, PoolConfig, Received, SendQueue, flush_returns};
    pub use crate::handoff::{inbox, lane, ready, wake};
    pub use crate::null::{NullAlone, NullShard};

    /// What the shard gives to a handler.
    #[inline]
    pub fn recv_buf(pool: &mut Pool, received: Received) -> crate::buffer::RecvBuf<'_> {
        crate::buffer::RecvBuf::from_pool(pool, received)
    }
}
