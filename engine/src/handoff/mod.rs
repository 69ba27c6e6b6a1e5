//! The handoff: how messages cross between threads, and how the other thread learns of it.
//!
//! `lane` carries, `inbox` tells (`ready` says which lane, `wake` whether anybody sleeps), `mailbox`
//! is for what is rare. Invariant of the room: no call here blocks, and nothing sent is lost, seen
//! twice, or left lying beside a sleeping reader. It opens no file, socket or ring of the kernel's but
//! the eventfd that [`wake::EventFdWake`] writes. docs/handoff.md draws the whole and argues it.

// The shard and the service runner come to use all of this; benches do already.
#![cfg_attr(not(feature = "internals"), allow(dead_code))]

pub mod inbox;
pub mod lane;
pub mod mailbox;
pub mod ready;
mod sync;
pub mod wake;

#[cfg(all(test, megamux_loom))]
mod loom_models;
