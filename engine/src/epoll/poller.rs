//! The epoll instance: what is watched, and the one wait of the driver.
//!
//! Invariant: everything is watched edge-triggered, so that an event says that something has happened since the last one, and
//! nothing has to be watched anew; what an event said is remembered by whom it was about. Events are
//! taken in full before anything is done about the next wait, and a descriptor that is closed is no longer watched.
//! Knows nothing of operations.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Events taken at a time: as many as a tick takes completions. Others wait in the kernel, in order.
const EVENTS: usize = crate::limits::BATCH;
/// A wait no longer than this: epoll counts milliseconds in 31 bits.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Bytes, an end, or trouble: all that a receive finds out. `PRI` tells of urgent data, before which a receive stops short.
pub(super) const READ: EventFlags =
    EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::PRI).union(EventFlags::HUP).union(EventFlags::ERR);
/// What a receive that brought less than it could have is not the last word about.
pub(super) const READ_ON: EventFlags = READ.difference(EventFlags::IN);
/// Room for a send, or trouble.
pub(super) const WRITE: EventFlags = EventFlags::OUT.union(EventFlags::HUP).union(EventFlags::ERR);

/// Whom an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// The connection (or dial) in a slot.
    Slot(u32),
    Listener(u32),
    Datagram(u32),
    Waker,
}

impl Watched {
    fn data(self) -> EventData {
        let (kind, index) = match self {
            Watched::Slot(slot) => (0, slot),
            Watched::Listener(listener) => (1, listener),
            Watched::Datagram(socket) => (2, socket),
            Watched::Waker => (3, 0),
        };
        EventData::new_u64(kind << 32 | u64::from(index))
    }

    fn of(data: EventData) -> Watched {
        let index = data.u64() as u32;
        match data.u64() >> 32 {
            0 => Watched::Slot(index),
            1 => Watched::Listener(index),
            2 => Watched::Datagram(index),
            _ => Watched::Waker,
        }
    }
}

/// See the module's page.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    /// Calls of epoll's wait.
    pub(super) waits: u64,
}

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Poller { epoll, events: Vec::with_capacity(EVENTS), waits: 0 })
    }

    /// Watches a descriptor from now on; what is the case already is an event, too.
    pub(super) fn watch(&self, fd: impl AsFd, whom: Watched, what: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, whom.data(), what | EventFlags::ET)
    }

    /// Changes what a descriptor is watched for; what is the case already is an event again.
    pub(super) fn watch_for(&self, fd: impl AsFd, whom: Watched, what: EventFlags) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, whom.data(), what | EventFlags::ET)
    }

    /// Stops watching a descriptor that somebody else will hold.
    pub(super) fn forget(&self, fd: impl AsFd) {
        // Fails only for what is not watched.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for events, at most this long.
    pub(super) fn wait(&mut self, most: Duration) -> io::Result<()> {
        self.events.clear();
        let most = most.min(LONGEST_WAIT);
        let rest = Duration::from_nanos(u64::from(most.subsec_nanos()) % 1_000_000);
        // epoll counts milliseconds; `ppoll`, which counts nanoseconds, waits for the rest, and for nothing else.
        // (`epoll_pwait2` is younger than some of the kernels and most of the filters that this driver is for.)
        if most != rest || rest.is_zero() {
            self.look(most - rest)?;
        }
        if self.events.is_empty() && !rest.is_zero() {
            let rest = Timespec { tv_sec: 0, tv_nsec: i64::from(rest.subsec_nanos()) };
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&rest)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => self.look(Duration::ZERO)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The events of the last wait: how many there are.
    pub(super) fn count(&self) -> usize {
        self.events.len()
    }

    /// One of them.
    #[inline]
    pub(super) fn event(&self, index: usize) -> (Watched, EventFlags) {
        let epoll::Event { flags, data } = self.events[index];
        (Watched::of(data), flags)
    }

    fn look(&mut self, most: Duration) -> io::Result<()> {
        self.waits += 1;
        let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&most)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_an_event_is_about_survives_the_round_trip() {
        for whom in
            [Watched::Slot(0), Watched::Slot(u32::MAX), Watched::Listener(7), Watched::Datagram(9), Watched::Waker]
        {
            assert_eq!(Watched::of(whom.data()), whom);
        }
    }
}
