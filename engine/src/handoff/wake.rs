//! Waking a consumer only when it sleeps, and what a wake is.
//!
//! Invariant: work that was made visible before [`Sleeper::notify`] is either seen by the
//! consumer's last look before it sleeps, or the consumer is woken after it announced that sleep.
//! At most one wake is sent per announced sleep. Both sides put one SeqCst fence between their store and
//! their load; docs/handoff.md has the argument.
//!
//! Nothing here knows io_uring: a shard hands in the waker that ends its wait.

use std::fmt;

use crossbeam_utils::{
    CachePadded,
    sync::{Parker, Unparker},
};

use super::sync::{AtomicBool, Ordering, fence};

/// What ends a consumer's sleep. May be called late or once too often, so sleepers must bear
/// waking for nothing; a wake that comes before the sleep must end it at once.
pub trait Wake: Send + Sync {
    /// Ends the consumer's current sleep, or its next.
    fn wake(&self);
}

/// What a notification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "wakes are counted by those who cause them"]
pub enum Notified {
    /// The consumer slept: a wake was sent.
    Woken,
    /// The consumer is up, or somebody else is waking it: nothing was sent.
    Suppressed,
}

/// One notifier's tally, kept off the shared lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WakeCounts {
    /// Wakes sent.
    pub sent: u64,
    /// Notifications that needed none.
    pub suppressed: u64,
}

impl WakeCounts {
    /// Counts one notification.
    #[inline]
    pub fn record(&mut self, notified: Notified) {
        match notified {
            Notified::Woken => self.sent += 1,
            Notified::Suppressed => self.suppressed += 1,
        }
    }
}

/// Whether one consumer sleeps, and how to wake it.
pub struct Sleeper {
    asleep: CachePadded<AtomicBool>,
    wake: Box<dyn Wake>,
}

impl Sleeper {
    /// A consumer that is up, and that `wake` wakes.
    pub fn new(wake: Box<dyn Wake>) -> Self {
        Self { asleep: CachePadded::new(AtomicBool::new(false)), wake }
    }

    /// Announces a sleep. The consumer looks for work once more *after* this, and sleeps only when
    /// it finds none; the sleep is over when the nap is dropped.
    pub fn announce(&self) -> Nap<'_> {
        self.say(true);
        // Pairs with the fence in `notify`: either the notifier sees the announcement, or our last look
        // sees its work.
        fence(Ordering::SeqCst);
        Nap(self)
    }

    /// For the consumer. In models a swap, like the notifier's write: loom keeps one order of the flag's history across swaps
    /// only. A store has its place in that order as well, and costs a tenth.
    fn say(&self, asleep: bool) {
        #[cfg(megamux_loom)]
        self.asleep.swap(asleep, Ordering::Relaxed);
        #[cfg(not(megamux_loom))]
        self.asleep.store(asleep, Ordering::Relaxed);
    }

    /// Whether a sleep was announced, and nobody has ended it.
    #[cfg(feature = "sim")]
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Wakes the consumer if it sleeps. To be called after the work was made visible.
    #[inline]
    pub fn notify(&self) -> Notified {
        // Pairs with the fence in `announce`.
        fence(Ordering::SeqCst);
        // The swap settles who wakes. Relaxed: the work is carried by lanes and queues, not by this flag.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake.wake();
            return Notified::Woken;
        }
        Notified::Suppressed
    }
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleeper").field("asleep", &self.asleep).finish_non_exhaustive()
    }
}

/// An announced sleep. Dropping it says that the consumer is up again.
#[derive(Debug)]
#[must_use = "the sleep is over when this is dropped"]
pub struct Nap<'a>(&'a Sleeper);

impl Drop for Nap<'_> {
    fn drop(&mut self) {
        self.0.say(false);
    }
}

/// Wakes a thread that sleeps in [`Parker::park`] and its kin. Unlike std's, this parker's token
/// belongs to the lane's consumer alone: no library that a service calls can take it.
#[derive(Debug)]
pub struct ThreadWake(Unparker);

impl ThreadWake {
    /// The wake for whoever holds `parker`.
    pub fn new(parker: &Parker) -> Self {
        Self(parker.unparker().clone())
    }
}

impl Wake for ThreadWake {
    fn wake(&self) {
        self.0.unpark();
    }
}

#[cfg(all(test, not(megamux_loom)))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        thread,
    };

    use super::*;

    struct CountingWake(Arc<AtomicU32>);

    impl Wake for CountingWake {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_wake_per_announced_sleep() {
        let wakes = Arc::new(AtomicU32::new(0));
        let sleeper = Sleeper::new(Box::new(CountingWake(Arc::clone(&wakes))));
        let mut counts = WakeCounts::default();
        counts.record(sleeper.notify());
        let nap = sleeper.announce();
        counts.record(sleeper.notify());
        counts.record(sleeper.notify());
        drop(nap);
        counts.record(sleeper.notify());
        drop(sleeper.announce());
        counts.record(sleeper.notify());
        assert_eq!(counts, WakeCounts { sent: 1, suppressed: 4 });
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_parked_thread_wakes() {
        let parker = Parker::new();
        let sleeper = Sleeper::new(Box::new(ThreadWake::new(&parker)));
        thread::scope(|scope| {
            let nap = sleeper.announce();
            scope.spawn(|| assert_eq!(sleeper.notify(), Notified::Woken));
            parker.park();
            drop(nap);
        });
    }
}
