//! megamux: a thread-per-core io_uring socket multiplexer with protocol services.
//!
//! This crate is the front door. It re-exports the engine, and per cargo feature what stands in front of it:
//!
//! | feature | brings |
//! | --- | --- |
//! | `telnet` | [`protocols::telnet`] and [`services::console`], the operator's console |
//! | `http` | [`protocols::http`], [`http::HttpHandler`] with `/healthz`, `/metrics` and `/trace` |
//! | `echo` | [`echo::Echo`], RFC 862 |
//! | `proxy` | [`protocols::proxy`], [`proxy::ProxyFilter`] in front of any listener |
//!
//! The server itself ([`cli`], [`serve`]) assembles them by configuration. To embed the engine only the items at the top
//! are needed; they are those of `megamux-engine`, which installs no signal handler, logger or panic hook. [`cli::main`]
//! is a process's own and installs the first two.
//!
//! ```no_run
//! # #[cfg(feature = "echo")] {
//! use megamux::echo::Echo;
//! use megamux::{Config, Engine, Listen, NO_SERVICE};
//!
//! let mut builder = Engine::builder(Config::default())?;
//! builder.listen(Listen::tcp("127.0.0.1:7"), &NO_SERVICE, |_shard| Echo)?;
//! builder.start()?.join()?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod banner;
pub mod cli;
pub mod config;
mod data_dir;
#[cfg(feature = "echo")]
pub mod echo;
pub mod health;
#[cfg(feature = "http")]
pub mod http;
mod limits;
mod listeners;
mod log;
pub mod metrics;
mod notify;
#[cfg(feature = "proxy")]
pub mod proxy;
mod running;
pub mod serve;
mod signals;
#[cfg(feature = "http")]
mod trace;

pub use megamux_engine as engine;
#[doc(no_inline)]
pub use megamux_engine::*;

/// The sans-IO protocols, each by its own name.
pub mod protocols {
    #[cfg(feature = "http")]
    pub use megamux_http as http;
    #[cfg(feature = "proxy")]
    pub use megamux_proxy as proxy;
    #[cfg(feature = "telnet")]
    pub use megamux_telnet as telnet;
}

/// The services, each by its own name.
pub mod services {
    #[cfg(feature = "telnet")]
    pub use megamux_console as console;
}
