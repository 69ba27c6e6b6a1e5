//! The driver's table of sockets: which slot holds which descriptor, and what is under way there.
//!
//! Invariant: a slot is taken from [`Table::put`] to [`Table::remove`], and every taken slot was reserved first, in a count
//! that other shards reserve from as well (see `pass`). The lowest free slot goes out first, so the shard's
//! table of connections, which has the same indices, stays as small as it can.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use super::pass::Inbox;
use crate::token::Token;

/// What is remembered of a socket between events.
pub(super) mod flag {
    /// There may be something to receive: the last event said so, and no receive has found the end of it.
    pub(in super::super) const READABLE: u8 = 1;
    /// Only a receive that finds nothing tells that there is nothing: a short one may have stopped at urgent data or before
    /// the end of the stream.
    pub(in super::super) const READ_ON: u8 = 1 << 1;
    /// In the list of those to receive from.
    pub(in super::super) const QUEUED: u8 = 1 << 2;
    /// Watched for room to send.
    pub(in super::super) const WATCHED_OUT: u8 = 1 << 3;
    /// A Unix socket: it reports room after every byte the peer reads, so it is watched for that only while somebody waits,
    /// and it may stop short at descriptors sent along.
    pub(in super::super) const UNIX: u8 = 1 << 4;
    /// Taken.
    pub(in super::super) const TAKEN: u8 = 1 << 5;
    /// The peer has finished.
    pub(in super::super) const FINISHED: u8 = 1 << 6;
    /// The connection is broken.
    pub(in super::super) const BROKEN: u8 = 1 << 7;
}

/// No place in one of the driver's tables.
pub(super) const NONE: u32 = u32::MAX;

/// The operation that waits for a socket to become readable: there is one at most.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    No,
    Poll(Token),
    Once(Token),
    /// Until so many bytes have come.
    Credit {
        token: Token,
        left: u32,
    },
    /// For the peer's end only.
    Hangup(Token),
    /// The socket is still connecting; its place among the dials.
    Dial(u32),
}

/// One socket.
#[derive(Debug)]
pub(super) struct Slot {
    /// Gone from a taken slot when it was passed to another shard.
    pub(super) fd: Option<OwnedFd>,
    pub(super) flags: u8,
    /// Its place among the sends that wait for room.
    pub(super) sending: u32,
    /// The place of its peer's address, as long as nobody has asked for it.
    pub(super) peer: u32,
    pub(super) reading: Reading,
}

const VACANT: Slot = Slot { fd: None, flags: 0, sending: NONE, peer: NONE, reading: Reading::No };

// One per connection, idle ones included.
const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    /// Remembers an event that is more than bytes.
    #[cold]
    pub(super) fn note(&mut self, flags: EventFlags) {
        self.set(flag::READ_ON);
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP) {
            self.set(flag::FINISHED);
        }
        if flags.intersects(EventFlags::ERR) {
            self.set(flag::BROKEN);
        }
    }

    #[inline]
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    #[inline]
    pub(super) fn set(&mut self, flags: u8) {
        self.flags |= flags;
    }

    #[inline]
    pub(super) fn clear(&mut self, flags: u8) {
        self.flags &= !flags;
    }
}

/// See the module's page.
pub(super) struct Table {
    slots: Vec<Slot>,
    /// Free ones below `slots.len()`.
    free: BinaryHeap<Reverse<u32>>,
    /// Where taken slots are counted.
    inbox: Arc<Inbox>,
}

impl Table {
    pub(super) fn new(inbox: Arc<Inbox>) -> Table {
        Table { slots: Vec::new(), free: BinaryHeap::new(), inbox }
    }

    /// Sets a slot aside; `false` if all are taken. To be followed by `put` or `give_up`.
    pub(super) fn reserve(&self) -> bool {
        self.inbox.reserve()
    }

    /// A reserved slot was not needed.
    pub(super) fn give_up(&self) {
        self.inbox.release();
    }

    /// Puts a socket into the slot that was reserved for it.
    pub(super) fn put(&mut self, fd: OwnedFd, is_unix: bool) -> u32 {
        let index = match self.free.pop() {
            Some(Reverse(index)) => index,
            None => {
                self.slots.push(VACANT);
                (self.slots.len() - 1) as u32
            }
        };
        let flags = flag::TAKEN | if is_unix { flag::UNIX } else { 0 };
        self.slots[index as usize] = Slot { fd: Some(fd), flags, ..VACANT };
        index
    }

    /// Frees a slot; what was in it, if it was taken. The descriptor is closed when that is dropped.
    pub(super) fn remove(&mut self, index: u32) -> Option<Slot> {
        let slot = self.slots.get_mut(index as usize).filter(|slot| slot.has(flag::TAKEN))?;
        let slot = std::mem::replace(slot, VACANT);
        self.free.push(Reverse(index));
        self.inbox.release();
        Some(slot)
    }

    /// A taken slot.
    #[inline]
    pub(super) fn at(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// Whether what is in a slot is a Unix socket.
    pub(super) fn is_unix(&self, index: u32) -> bool {
        self.slots.get(index as usize).is_some_and(|slot| slot.has(flag::UNIX))
    }

    /// A slot's descriptor, if there is one.
    pub(super) fn fd(&self, index: u32) -> Option<&OwnedFd> {
        self.slots.get(index as usize)?.fd.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_goes_out_first_and_no_more_than_there_are() {
        let inbox = Arc::new(Inbox::new(3, Arc::new(crate::waker::EventWaker::new().unwrap())));
        let mut table = Table::new(inbox);
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let put = |table: &mut Table| table.reserve().then(|| table.put(fd(), false));
        assert_eq!([0; 4].map(|_| put(&mut table)), [Some(0), Some(1), Some(2), None]);
        for index in [2, 0] {
            assert!(table.remove(index).is_some() && table.remove(index).is_none());
        }
        assert_eq!([0; 3].map(|_| put(&mut table)), [Some(0), Some(2), None]);
        assert!(table.remove(9).is_none());
    }
}
