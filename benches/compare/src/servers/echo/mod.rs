//! Echo: every byte goes back where it came from.
//!
//! Invariant: bytes go back in the order they came. Whoever gives each connection a buffer gives it the same size.

pub mod bare_epoll;
pub mod bare_uring;
#[cfg(feature = "all-peers")]
pub mod compio;
#[cfg(feature = "all-peers")]
pub mod glommio;
pub mod megamux;
pub mod monoio;
pub mod plain;
pub mod tokio;
#[cfg(feature = "all-peers")]
pub mod tokio_uring;
