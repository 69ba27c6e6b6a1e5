//! Passing a connection to another shard: its descriptor is moved into the other's inbox.
//!
//! Invariant: whoever puts a descriptor there has reserved its slot, so that it finds one; an inbox whose driver is gone
//! takes nothing. So a connection is always somebody's, and a shard that is full or has stopped loses none. The lock is held
//! for a push or a swap; nobody waits for a shard's work.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::io::Errno;

use super::EpollDriver;
use crate::driver::Driver;
use crate::handoff::wake::Wake;
use crate::id::ShardId;
use crate::token::Token;
use crate::waker::EventWaker;

/// Connections that may wait for one shard to take them. Beyond that it is as good as full.
const WAITING: usize = 1024;

/// The inboxes of an engine's shards, as each of them finds the others.
#[derive(Debug)]
pub(crate) struct Inboxes(Box<[OnceLock<Arc<Inbox>>]>);

impl Inboxes {
    /// For so many shards.
    pub(crate) fn new(shards: usize) -> Inboxes {
        Inboxes((0..shards).map(|_| OnceLock::new()).collect())
    }

    /// A shard has made its driver.
    pub(super) fn add(&self, shard: ShardId, inbox: &Arc<Inbox>) {
        if let Some(place) = self.0.get(usize::from(shard.0)) {
            // A shard makes one driver; of two the first would stay.
            let _ = place.set(Arc::clone(inbox));
        }
    }

    fn of(&self, shard: ShardId) -> Option<&Arc<Inbox>> {
        self.0.get(usize::from(shard.0))?.get()
    }
}

/// Where one shard finds what was passed to it, and the count of its slots.
#[derive(Debug)]
pub(super) struct Inbox {
    slots: u32,
    /// Slots that are taken or set aside.
    taken: AtomicU32,
    /// `None` when the driver is gone.
    waiting: Mutex<Option<VecDeque<Passed>>>,
    waker: Arc<EventWaker>,
}

/// A connection between two shards.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) fd: OwnedFd,
    pub(super) is_unix: bool,
    pub(super) peer: Option<SocketAddr>,
    /// What it arrives as.
    pub(super) token: Token,
}

impl Inbox {
    pub(super) fn new(slots: u32, waker: Arc<EventWaker>) -> Inbox {
        Inbox { slots, taken: AtomicU32::new(0), waiting: Mutex::new(Some(VecDeque::new())), waker }
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// Sets a slot aside. (Relaxed: the count guards nothing but itself.)
    pub(super) fn reserve(&self) -> bool {
        let one_more = |taken| (taken < self.slots).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// A slot is free again, or was not needed.
    pub(super) fn release(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a connection whose slot is reserved, or gives it back.
    fn put(&self, passed: Passed) -> Result<(), (Passed, Errno)> {
        let mut waiting = self.lock();
        let Some(queue) = waiting.as_mut() else {
            return Err((passed, Errno::OWNERDEAD));
        };
        if queue.len() == WAITING {
            return Err((passed, Errno::AGAIN));
        }
        let was_empty = queue.is_empty();
        queue.push_back(passed);
        drop(waiting);
        if was_empty {
            self.waker.wake();
        }
        Ok(())
    }

    /// What was put here, one by one.
    pub(super) fn take(&self) -> Option<Passed> {
        self.lock().as_mut()?.pop_front()
    }

    /// The driver goes: what waits here is closed.
    pub(super) fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Passed>>> {
        // Nothing under this lock can be left half-done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EpollDriver {
    /// Moves a connection's descriptor to another shard; its slot here stays taken, and empty.
    pub(super) fn pass_to(&mut self, slot: u32, to: ShardId, there: Token) -> Result<(), Errno> {
        let inboxes = Arc::clone(&self.inboxes);
        // No inbox: that shard has not started yet.
        let inbox = inboxes.of(to).ok_or(Errno::AGAIN)?;
        if !inbox.reserve() {
            return Err(Errno::NFILE);
        }
        let is_unix = self.table.is_unix(slot);
        let peer = self.known_peer(slot);
        let Some(fd) = self.table.at(slot).fd.take() else {
            inbox.release();
            return Err(Errno::BADF);
        };
        // First, because the other shard may close it at once.
        self.poller.forget(&fd);
        inbox.put(Passed { fd, is_unix, peer, token: there }).map_err(|(passed, error)| {
            inbox.release();
            let watched = self.watch_slot(slot, &passed.fd);
            self.table.at(slot).fd = Some(passed.fd);
            watched.err().unwrap_or(error)
        })
    }

    /// Gives slots to the connections that were passed here.
    pub(super) fn take_passed(&mut self) {
        while let Some(Passed { fd, is_unix, peer, token }) = self.inbox.take() {
            let slot = self.table.put(fd, is_unix);
            self.note_peer(slot, peer);
            // One that cannot be watched (out of memory) is heard of when its first receive finds it closed.
            if self.watch(slot).is_err()
                && let Some(fd) = self.table.fd(slot)
            {
                let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
                self.table.at(slot).set(super::flag::READABLE | super::flag::READ_ON);
            }
            self.complete(token, slot as i32);
        }
        debug_assert!(self.slots() == self.inbox.slots());
    }
}
