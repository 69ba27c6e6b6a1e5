//! A consumer's inbox: its ready set and its sleep, behind one doorbell.
//!
//! Each shard and each service that runs apart has one inbox. A pair of lanes between the two has
//! one number in the inbox at either end, and ringing that number says: look at this pair, there are
//! items for you, or there is room again.
//!
//! Invariant: after [`Doorbell::ring`] the consumer looks at that lane before it sleeps again. An inbox
//! carries no data and owns no lane.

use super::{
    ready::{Drain, ReadySet},
    sync::Arc,
    wake::{Nap, Notified, Sleeper, Wake},
};

/// Makes the inbox of one consumer with lanes `0..lanes`, and the doorbell to hand around.
///
/// # Panics
///
/// When `lanes` exceeds [`MAX_LANES`](super::ready::MAX_LANES).
pub fn inbox(lanes: usize, wake: Box<dyn Wake>) -> (Inbox, Doorbell) {
    let shared = Arc::new(Shared { ready: ReadySet::new(lanes), sleeper: Sleeper::new(wake) });
    (Inbox { shared: Arc::clone(&shared) }, Doorbell { shared })
}

/// The consumer's end: not `Clone`, because ready lanes are taken by one.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
}

/// The other side's end.
#[derive(Debug, Clone)]
pub struct Doorbell {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ready: ReadySet,
    sleeper: Sleeper,
}

impl Inbox {
    /// Takes the lanes that were rung. A consumer that leaves items behind in one rings it itself.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        self.shared.ready.drain()
    }

    /// Announces a sleep and looks once more: at the bell, then at whatever else `is_idle` knows of
    /// (mailbox, spill). `None` when there is work after all. With a nap in hand the consumer sleeps
    /// until it is woken or its own deadline comes, drops the nap, and drains.
    pub fn try_sleep(&mut self, is_idle: impl FnOnce() -> bool) -> Option<Nap<'_>> {
        let nap = self.shared.sleeper.announce();
        (self.shared.ready.is_empty() && is_idle()).then_some(nap)
    }
}

/// How the simulator sleeps, which has no thread to wake.
#[cfg(feature = "sim")]
impl Inbox {
    /// Goes to sleep as [`Inbox::try_sleep`] does, and stays asleep; `false` when there is work after all.
    pub fn doze(&mut self, is_idle: impl FnOnce() -> bool) -> bool {
        let nap = self.try_sleep(is_idle);
        let dozes = nap.is_some();
        std::mem::forget(nap);
        dozes
    }

    /// Whether nobody has woken it since.
    pub fn is_dozing(&self) -> bool {
        self.shared.sleeper.is_asleep()
    }
}

impl Doorbell {
    /// Says that `lane` wants attention, after [`publish`] or [`release`] said so. Each lane number
    /// has one ringer.
    ///
    /// [`publish`]: super::lane::Producer::publish
    /// [`release`]: super::lane::Consumer::release
    #[inline]
    pub fn ring(&self, lane: usize) -> Notified {
        #[cfg(feature = "planted")]
        if crate::planted::is(crate::planted::Bug::LostWake) {
            self.shared.ready.mark(lane);
            return Notified::Suppressed;
        }
        if self.shared.ready.mark(lane) { self.shared.sleeper.notify() } else { Notified::Suppressed }
    }

    /// Wakes the consumer for work outside the lanes, visible already.
    #[inline]
    pub fn knock(&self) -> Notified {
        self.shared.sleeper.notify()
    }
}

#[cfg(all(test, not(megamux_loom)))]
mod tests {
    use std::thread;

    use crossbeam_utils::sync::Parker;

    use super::{super::lane::lane, super::wake::ThreadWake, *};

    #[test]
    fn a_rung_inbox_does_not_sleep() {
        let parker = Parker::new();
        let (mut inbox, bell) = inbox(3, Box::new(ThreadWake::new(&parker)));
        assert!(inbox.try_sleep(|| false).is_none(), "work elsewhere");
        assert_eq!(bell.ring(2), Notified::Suppressed);
        assert!(inbox.try_sleep(|| true).is_none());
        assert_eq!(inbox.drain().collect::<Vec<_>>(), [2]);
        let nap = inbox.try_sleep(|| true);
        assert!(nap.is_some());
        assert_eq!(bell.knock(), Notified::Woken);
    }

    /// Every message is sent alone and the consumer sleeps whenever it can, so a lost wake or a lost
    /// bit hangs this test.
    #[test]
    fn a_consumer_that_sleeps_all_the_time_misses_nothing() {
        const LANES: usize = 3;
        const ITEMS: u32 = if cfg!(miri) { 100 } else { 20_000 };
        let parker = Parker::new();
        let (mut inbox, bell) = inbox(LANES, Box::new(ThreadWake::new(&parker)));
        let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..LANES).map(|_| lane::<u32>(4, 0)).unzip();
        thread::scope(|scope| {
            for (number, mut sender) in senders.into_iter().enumerate() {
                let bell = bell.clone();
                scope.spawn(move || {
                    for item in 0..ITEMS {
                        while sender.push(item).is_err() {
                            thread::yield_now();
                        }
                        sender.publish();
                        let _ = bell.ring(number);
                    }
                });
            }
            let mut expected = [0; LANES];
            while expected != [ITEMS; LANES] {
                for number in inbox.drain() {
                    while let Some(item) = receivers[number].pop() {
                        assert_eq!(item, expected[number]);
                        expected[number] += 1;
                    }
                    receivers[number].release();
                }
                if expected != [ITEMS; LANES]
                    && let Some(_nap) = inbox.try_sleep(|| true)
                {
                    parker.park();
                }
            }
        });
    }
}
