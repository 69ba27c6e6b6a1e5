//! Wakes: how another thread ends a shard's wait.
//!
//! An eventfd that is only ever written. Both drivers for real sockets watch it edge-triggered (the ring by a multishot poll):
//! each write is one completion or event, writes between two looks are one together, and nobody has to read the counter
//! (2^64 wakes would fill it). A wake costs the waker one `write`, the shard one event and no call.
//! A wake that arrives while nobody waits ends the next wait.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::handoff::wake::Wake;

/// The shared end of a shard's eventfd. It may outlive the shard: then nobody listens, and nothing happens.
#[derive(Debug)]
pub(crate) struct EventWaker {
    eventfd: OwnedFd,
}

impl EventWaker {
    pub(crate) fn new() -> io::Result<EventWaker> {
        use rustix::event::{EventfdFlags, eventfd};
        // Non-blocking, so that no waker could ever be stopped by it.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(EventWaker { eventfd })
    }

    /// For the poll; the driver keeps its own reference to the waker, so it stays open as long.
    pub(crate) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

impl AsFd for EventWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

impl Wake for EventWaker {
    fn wake(&self) {
        // The only failure left is a full counter, and a full counter has woken.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}
