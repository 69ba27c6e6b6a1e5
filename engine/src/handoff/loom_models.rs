//! Every interleaving of the handoff, as loom sees it: lost items, lost bits, lost wakes, deadlocks.
//!
//! Run with `RUSTFLAGS="--cfg megamux_loom" cargo test -p megamux-engine --lib --release loom`. A
//! sleeper that nobody wakes shows as loom's "deadlock" panic, an item dropped twice or never as a
//! wrong count. The models that must fail prove that loom can see what the others rule out.

use loom::{
    sync::{Arc, Notify},
    thread,
};

use super::{
    inbox::{Doorbell, Inbox, inbox},
    lane::{Consumer, Producer, lane, lane_from},
    ready::ReadySet,
    sync::{AtomicU64, AtomicUsize, Ordering, fence},
    wake::{Sleeper, Wake},
};

/// A sleep that loom knows.
#[derive(Clone)]
struct Bed(Arc<Notify>);

impl Bed {
    fn new() -> Self {
        Self(Arc::new(Notify::new()))
    }

    fn sleep(&self) {
        self.0.wait();
    }
}

impl Wake for Bed {
    fn wake(&self) {
        self.0.notify();
    }
}

/// A line that every thread touches between its steps. Loom remembers one last access per atomic, so
/// a load directly before a read-modify-write (as in `mark`) hides from it that another thread's
/// earlier load races with the latter; this makes it try the steps in every order.
/// Relaxed, so it orders nothing by itself.
#[derive(Default)]
struct Steps(AtomicUsize);

impl Steps {
    fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

mod lanes {
    use super::*;

    /// Batches of two through two slots, over the counters' wraparound.
    #[test]
    fn loom_batches_cross_in_order_over_the_wraparound() {
        const ITEMS: usize = 4;
        explore(3, || {
            let (mut tx, mut rx) = lane_from(usize::MAX, 2, 0);
            let sender = thread::spawn(move || {
                let mut next = 0;
                while next < ITEMS {
                    while next < ITEMS && tx.push(Box::new(next)).is_ok() {
                        next += 1;
                    }
                    if !tx.publish() {
                        thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < ITEMS {
                while let Some(item) = rx.pop() {
                    assert_eq!(*item, expected);
                    expected += 1;
                }
                rx.release();
                if expected < ITEMS {
                    thread::yield_now();
                }
            }
            sender.join().unwrap();
        });
    }

    /// Items taken and handed back, taken only, published, and only written, whoever goes first.
    #[test]
    fn loom_every_item_is_dropped_once() {
        explore(3, || {
            let item = Arc::new(());
            let (mut tx, mut rx) = lane(4, 1);
            let sent = Arc::clone(&item);
            let sender = thread::spawn(move || {
                for _ in 0..2 {
                    tx.push(Arc::clone(&sent)).unwrap();
                    tx.publish();
                }
                tx.push(Arc::clone(&sent)).unwrap();
                tx.push_reserved(sent).unwrap();
            });
            drop(rx.pop());
            rx.release();
            drop(rx.pop());
            drop(rx);
            sender.join().unwrap();
            assert_eq!(Arc::strong_count(&item), 1);
        });
    }

    #[test]
    fn loom_an_abandoned_lane_has_nothing_left() {
        explore(3, || {
            let (mut tx, mut rx) = lane(2, 0);
            let sender = thread::spawn(move || {
                tx.push(1).unwrap();
                tx.publish();
                tx.push(2).unwrap();
            });
            let mut sum = 0;
            while !rx.is_abandoned() {
                while let Some(item) = rx.pop() {
                    sum += item;
                }
                thread::yield_now();
            }
            assert_eq!(sum, 3);
            sender.join().unwrap();
        });
    }
}

mod ready_bits {
    use super::*;

    /// Each ringer posts twice. Whatever the drains saw, a bit is left for what they did not see.
    fn no_bit_is_lost(lanes: &'static [usize]) {
        explore(3, move || {
            let set = Arc::new(ReadySet::new(65));
            let posted: Arc<([AtomicUsize; 2], Steps)> = Arc::new(Default::default());
            let ringers: Vec<_> = (0..lanes.len())
                .map(|ringer| {
                    let (set, posted) = (Arc::clone(&set), Arc::clone(&posted));
                    thread::spawn(move || {
                        for value in 1..=2 {
                            posted.1.step();
                            posted.0[ringer].store(value, Ordering::Relaxed);
                            set.mark(lanes[ringer]);
                            posted.1.step();
                        }
                    })
                })
                .collect();
            let mut seen = [0; 2];
            let mut look = || {
                posted.1.step();
                for lane in set.drain() {
                    let ringer = lanes.iter().position(|&of| of == lane).unwrap();
                    seen[ringer] = posted.0[ringer].load(Ordering::Relaxed);
                }
            };
            look();
            look();
            for ringer in ringers {
                ringer.join().unwrap();
            }
            look();
            assert_eq!(seen[..lanes.len()], [2, 2][..lanes.len()]);
        });
    }

    #[test]
    fn loom_one_ringer_loses_no_bit() {
        no_bit_is_lost(&[64]);
    }

    #[test]
    fn loom_two_ringers_of_one_leaf_lose_no_bit() {
        no_bit_is_lost(&[0, 1]);
    }

    #[test]
    fn loom_two_ringers_of_two_leaves_lose_no_bit() {
        no_bit_is_lost(&[0, 64]);
    }

    /// Checking the bit before setting it, without the fence before the check: a message is lost.
    #[test]
    #[should_panic(expected = "left beside a clear bit")]
    fn loom_catches_a_check_without_its_fence() {
        explore(3, || {
            let bit = Arc::new(AtomicU64::new(1));
            let posted = Arc::new(AtomicUsize::new(0));
            let ringer = {
                let (bit, posted) = (Arc::clone(&bit), Arc::clone(&posted));
                thread::spawn(move || {
                    posted.store(1, Ordering::Release);
                    if bit.load(Ordering::Relaxed) == 0 {
                        bit.fetch_or(1, Ordering::AcqRel);
                    }
                })
            };
            bit.swap(0, Ordering::AcqRel);
            fence(Ordering::SeqCst);
            let seen = posted.load(Ordering::Acquire);
            ringer.join().unwrap();
            assert!(seen == 1 || bit.load(Ordering::Relaxed) == 1, "left beside a clear bit");
        });
    }
}

mod sleep {
    use super::*;

    fn no_wake_is_lost(notifiers: usize) {
        explore(3, move || {
            let bed = Bed::new();
            let sleeper = Arc::new(Sleeper::new(Box::new(bed.clone())));
            let posted = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..notifiers)
                .map(|_| {
                    let (sleeper, posted) = (Arc::clone(&sleeper), Arc::clone(&posted));
                    thread::spawn(move || {
                        posted.fetch_add(1, Ordering::Relaxed);
                        let _ = sleeper.notify();
                    })
                })
                .collect();
            while posted.load(Ordering::Relaxed) < notifiers {
                let _nap = sleeper.announce();
                if posted.load(Ordering::Relaxed) < notifiers {
                    bed.sleep();
                }
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn loom_one_notifier_wakes_the_sleeper() {
        no_wake_is_lost(1);
    }

    #[test]
    fn loom_two_notifiers_wake_the_sleeper() {
        no_wake_is_lost(2);
    }

    /// The announcement without its fence: the sleeper sees no work, the notifier no sleeper.
    #[test]
    #[should_panic(expected = "asleep beside its work")]
    fn loom_catches_an_announcement_without_its_fence() {
        explore(3, || {
            let asleep = Arc::new(AtomicUsize::new(0));
            let posted = Arc::new(AtomicUsize::new(0));
            let notifier = {
                let (asleep, posted) = (Arc::clone(&asleep), Arc::clone(&posted));
                thread::spawn(move || {
                    posted.store(1, Ordering::Release);
                    fence(Ordering::SeqCst);
                    asleep.load(Ordering::Acquire) == 1
                })
            };
            asleep.store(1, Ordering::Release);
            let sleeps = posted.load(Ordering::Acquire) == 0;
            let wakes = notifier.join().unwrap();
            assert!(wakes || !sleeps, "asleep beside its work");
        });
    }
}

mod whole {
    use super::*;

    /// Lane, ready set and sleeper together: each message published and rung alone, through a lane that
    /// fills, to a consumer that sleeps whenever it may.
    #[test]
    fn loom_a_sleeping_consumer_misses_no_message() {
        const ITEMS: usize = 2;
        explore(3, || {
            let bed = Bed::new();
            let (mut inbox, bell) = inbox(1, Box::new(bed.clone()));
            let (mut tx, mut rx) = lane(2, 0);
            let sender = thread::spawn(move || {
                for item in 0..ITEMS {
                    tx.push(item).unwrap();
                    tx.publish();
                    let _ = bell.ring(0);
                }
            });
            let mut expected = 0;
            while expected < ITEMS {
                for _ in inbox.drain() {
                    while let Some(item) = rx.pop() {
                        assert_eq!(item, expected);
                        expected += 1;
                    }
                    rx.release();
                }
                if expected < ITEMS
                    && let Some(_nap) = inbox.try_sleep(|| true)
                {
                    bed.sleep();
                }
            }
            sender.join().unwrap();
        });
    }

    /// A producer that sleeps until there is room is woken by the release that makes it.
    #[test]
    fn loom_a_stalled_producer_is_woken_for_room() {
        explore(3, || {
            let (bed, far_bed) = (Bed::new(), Bed::new());
            let (mut inbox_here, bell_here) = inbox(1, Box::new(bed.clone()));
            let (inbox_there, bell_there) = inbox(1, Box::new(far_bed.clone()));
            let (mut tx, rx) = lane(1, 0);
            let consumer = thread::spawn(move || take_two(inbox_there, &far_bed, rx, &bell_here));
            for item in 0..2 {
                while tx.push(item).is_err() {
                    inbox_here.drain().for_each(drop);
                    if !tx.ask_for_room()
                        && let Some(_nap) = inbox_here.try_sleep(|| true)
                    {
                        bed.sleep();
                    }
                }
                tx.publish();
                let _ = bell_there.ring(0);
            }
            consumer.join().unwrap();
        });
    }

    fn take_two(mut inbox: Inbox, bed: &Bed, mut rx: Consumer<usize>, peer: &Doorbell) {
        let mut taken = 0;
        while taken < 2 {
            for _ in inbox.drain() {
                while let Some(item) = rx.pop() {
                    assert_eq!(item, taken);
                    taken += 1;
                }
                if rx.release() {
                    let _ = peer.ring(0);
                }
            }
            if taken < 2
                && let Some(_nap) = inbox.try_sleep(|| true)
            {
                bed.sleep();
            }
        }
    }

    /// The protocol of docs/handoff.md with both lanes one slot deep: two requests, two replies each, so
    /// that both lanes are full at once. The shard always drains, the service spills and stops
    /// consuming, and both sleep whenever they may.
    #[test]
    fn loom_two_full_lanes_do_not_deadlock() {
        explore(1, || {
            let (shard_bed, service_bed) = (Bed::new(), Bed::new());
            let (shard_inbox, shard_bell) = inbox(1, Box::new(shard_bed.clone()));
            let (service_inbox, service_bell) = inbox(1, Box::new(service_bed.clone()));
            let (requests, inputs) = lane(1, 0);
            let (outputs, replies) = lane(1, 0);
            let service = thread::spawn(move || {
                serve(service_inbox, &service_bed, inputs, outputs, &shard_bell);
            });
            shard(shard_inbox, &shard_bed, requests, replies, &service_bell);
            service.join().unwrap();
        });
    }

    const REQUESTS: usize = 2;
    const REPLIES_EACH: usize = 2;

    fn shard(
        mut inbox: Inbox,
        bed: &Bed,
        mut requests: Producer<usize>,
        mut replies: Consumer<usize>,
        service: &Doorbell,
    ) {
        let (mut asked, mut answered) = (0, 0);
        while answered < REQUESTS * REPLIES_EACH {
            inbox.drain().for_each(drop);
            while let Some(reply) = replies.pop() {
                assert_eq!(reply, answered);
                answered += 1;
            }
            let room_made = replies.release();
            while asked < REQUESTS && requests.push(asked).is_ok() {
                asked += 1;
            }
            if requests.publish() | room_made {
                let _ = service.ring(0);
            }
            let stalled = asked < REQUESTS;
            if answered < REQUESTS * REPLIES_EACH
                && !(stalled && requests.ask_for_room())
                && let Some(_nap) = inbox.try_sleep(|| true)
            {
                bed.sleep();
            }
        }
    }

    fn serve(mut inbox: Inbox, bed: &Bed, mut inputs: Consumer<usize>, mut outputs: Producer<usize>, shard: &Doorbell) {
        let (mut served, mut spill) = (0, Vec::new());
        while served < REQUESTS || !spill.is_empty() {
            inbox.drain().for_each(drop);
            flush(&mut spill, &mut outputs);
            while spill.is_empty()
                && let Some(request) = inputs.pop()
            {
                spill.extend((0..REPLIES_EACH).map(|n| request * REPLIES_EACH + n));
                served += 1;
                flush(&mut spill, &mut outputs);
            }
            let room_made = inputs.release();
            if outputs.publish() | room_made {
                let _ = shard.ring(0);
            }
            let done = served == REQUESTS && spill.is_empty();
            if !done
                && (spill.is_empty() || !outputs.ask_for_room())
                && let Some(_nap) = inbox.try_sleep(|| true)
            {
                bed.sleep();
            }
        }
    }

    fn flush(spill: &mut Vec<usize>, outputs: &mut Producer<usize>) {
        while let Some(&reply) = spill.first()
            && outputs.push(reply).is_ok()
        {
            spill.remove(0);
        }
    }
}
