//! The handoff: how messages cross between threads, and how the other thread learns of it.
//!
//! `lane` carries (over `slots`), `inbox` tells (`ready` says which lane, `wake` whether anybody sleeps), `mailbox`
//! is for what is rare. Invariant of the room: no call here blocks, and nothing sent is lost, seen
//! twice, or left lying beside a sleeping reader. It opens no file, socket or ring of the kernel's.
//! docs/handoff.md draws the whole and argues it.

pub mod inbox;
pub mod lane;
pub mod mailbox;
pub(crate) mod prefetch;
pub mod ready;
mod slots;
pub(crate) mod sync;
pub mod wake;

#[cfg(all(test, megamux_loom))]
mod loom_models;
