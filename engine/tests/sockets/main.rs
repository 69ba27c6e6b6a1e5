//! The engine over real sockets: its public interface against clients of the standard library.
//!
//! One file per subject, one scenario per test. Whatever a test waits for, it waits for with a deadline.

mod caps;
mod chat;
mod crowd;
mod datagram;
mod dial;
mod drain;
mod engines;
mod frames;
mod handle;
mod harness;
mod inherited;
mod pause;
mod proxy;
mod service;
mod stall;
mod timers;
mod unix;
mod upgrade;
