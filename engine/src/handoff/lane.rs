//! A lane: a bounded ring of `T` from exactly one thread to exactly one other.
//!
//! Both ends work on private indices and look across only when they must. The producer writes
//! slots nobody can see yet and shows them all with one store per tick ([`Producer::publish`]); the
//! consumer takes them and hands the slots back with one store per batch ([`Consumer::release`]).
//!
//! Invariant, in free-running counters: `released <= head <= published <= tail <= released + capacity`.
//! Slots in `[head, tail)` hold an item, all others are vacant; slots in `[released, published)`
//! belong to the consumer, all others to the producer.
//!
//! A lane never blocks, wakes or counts anybody: whoever publishes rings the other side's
//! [`Doorbell`](super::inbox::Doorbell) afterwards.

use std::fmt;

use crossbeam_utils::CachePadded;

use super::slots::{self, Slot, Slots};
use super::sync::{Arc, AtomicBool, AtomicUsize, Ordering, fence};

/// Makes a lane of `capacity` slots, of which the last `reserved` are kept for
/// [`Producer::push_reserved`].
///
/// # Panics
///
/// When `capacity` is no power of two, or `reserved` leaves no room for anything else.
pub fn lane<T: Send>(capacity: usize, reserved: usize) -> (Producer<T>, Consumer<T>) {
    lane_from(0, capacity, reserved)
}

/// The writing end.
pub struct Producer<T> {
    slots: Slots<T>,
    /// Next slot to write.
    tail: usize,
    /// What the consumer may see of it.
    published: usize,
    /// `released` when last looked at: never more than the truth, so room is never overstated.
    released: usize,
    reserved: usize,
    shared: Arc<Shared<T>>,
}

/// The reading end.
pub struct Consumer<T> {
    slots: Slots<T>,
    /// Next slot to read.
    head: usize,
    /// What the producer may use again of it.
    released: usize,
    /// `published` when last looked at: never more than the truth, so no vacant slot is read.
    published: usize,
    shared: Arc<Shared<T>>,
}

/// Room for one item, found before the item exists. Dropping it gives the room back.
#[must_use = "a permit that is dropped gives its room back"]
pub struct Permit<'a, T>(&'a mut Producer<T>);

impl<T: Send> Producer<T> {
    /// Writes `item` without showing it, or returns it when only reserved room is left.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        match self.try_reserve() {
            Some(permit) => {
                permit.send(item);
                Ok(())
            }
            None => Err(item),
        }
    }

    /// Room for one ordinary item: what is decoded under a permit cannot be refused.
    #[inline]
    pub fn try_reserve(&mut self) -> Option<Permit<'_, T>> {
        self.has_room(self.reserved).then_some(Permit(self))
    }

    /// As [`push`](Self::push), into the reserved room too: for what ends a connection's life.
    #[inline]
    pub fn push_reserved(&mut self, item: T) -> Result<(), T> {
        if !self.has_room(0) {
            return Err(item);
        }
        // SAFETY: `has_room` has just found the slot at `tail` vacant and ours.
        unsafe { self.write(item) };
        Ok(())
    }

    /// Shows everything written so far, with one store. True when there was something to show, and
    /// the consumer's doorbell is now to be rung.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        // Release: the slots' contents before the index that shows them.
        self.shared.producer.index.store(self.tail, Ordering::Release);
        self.published = self.tail;
        true
    }

    /// How many ordinary items fit right now. Looks across: once per tick, not once per item.
    pub fn free(&mut self) -> usize {
        self.look_across();
        (self.slots.capacity() - self.in_use()).saturating_sub(self.reserved)
    }

    /// Looks for ordinary room once more and, when there is none, has the consumer's next
    /// [`release`](Consumer::release) say that this side waits. True when there is room after all.
    ///
    /// Ask again before every sleep: one release answers one asking.
    pub fn ask_for_room(&mut self) -> bool {
        self.shared.producer_waits.store(true, Ordering::Relaxed);
        // Pairs with the fence in `release`: either that one sees the asking, or we see its room.
        fence(Ordering::SeqCst);
        if !self.has_room(self.reserved) {
            return false;
        }
        self.shared.producer_waits.store(false, Ordering::Relaxed);
        true
    }

    /// True when the consumer is gone: nothing sent from now on will be read.
    pub fn is_abandoned(&self) -> bool {
        self.shared.consumer.gone.load(Ordering::Acquire)
    }

    /// True when at least one slot beyond `keep` others is vacant.
    #[inline]
    fn has_room(&mut self, keep: usize) -> bool {
        if self.slots.capacity() - keep > self.in_use() {
            return true;
        }
        self.look_across();
        self.slots.capacity() - keep > self.in_use()
    }

    #[cold]
    fn look_across(&mut self) {
        // Acquire: the consumer has moved the items out before we write over them.
        self.released = self.shared.consumer.index.load(Ordering::Acquire);
    }

    #[inline]
    pub(crate) fn in_use(&self) -> usize {
        self.tail.wrapping_sub(self.released)
    }

    /// # Safety
    ///
    /// `has_room` was true since the last write.
    #[inline]
    unsafe fn write(&mut self, item: T) {
        self.slots.will_write_behind(self.tail);
        // SAFETY: the caller found `tail - released < capacity`, so by the lane's invariant the slot
        // is vacant and the consumer stays away from it until `publish`.
        unsafe { self.slots.write(self.tail, item) };
        self.tail = self.tail.wrapping_add(1);
    }
}

impl<T: Send> Permit<'_, T> {
    /// Writes `item` into the reserved slot, without showing it yet.
    #[inline]
    pub fn send(self, item: T) {
        // SAFETY: a permit exists only after `has_room`, and its exclusive borrow of the producer has
        // kept everyone from writing since.
        unsafe { self.0.write(item) };
    }
}

impl<T: Send> Consumer<T> {
    /// Takes the next item. Its slot stays taken until [`release`](Self::release), so a loop over
    /// this ends after at most one capacity, however fast the other side is.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.published && self.available() == 0 {
            return None;
        }
        // SAFETY: `head < published`: the slot holds an item, the acquire in `available` made its
        // contents ours, and moving `head` on makes sure that nobody reads it out a second time.
        let item = unsafe { self.slots.read(self.head) };
        self.head = self.head.wrapping_add(1);
        self.slots.will_read(self.head, self.published);
        Some(item)
    }

    /// How many items wait. Looks across: once per batch, not once per item.
    #[cold]
    pub fn available(&mut self) -> usize {
        // Acquire: what was written before `publish` is seen here.
        self.published = self.shared.producer.index.load(Ordering::Acquire);
        self.published.wrapping_sub(self.head)
    }

    /// Hands all slots taken so far back, with one store. True when the producer waits for room
    /// ([`Producer::ask_for_room`]), and its doorbell is now to be rung.
    #[inline]
    pub fn release(&mut self) -> bool {
        if !self.hand_back() {
            return false;
        }
        // Pairs with the fence in `ask_for_room`.
        fence(Ordering::SeqCst);
        let producer_waits = self.shared.producer_waits.load(Ordering::Relaxed);
        if producer_waits {
            // A plain store suffices: an asking it overwrites is answered by the ring that follows.
            self.shared.producer_waits.store(false, Ordering::Relaxed);
        }
        producer_waits
    }

    /// True when the producer is gone and everything it sent has been taken.
    pub fn is_abandoned(&mut self) -> bool {
        // In this order: the producer publishes its last items before it says that it goes.
        self.shared.producer.gone.load(Ordering::Acquire) && self.available() == 0
    }
}

impl<T> Consumer<T> {
    fn hand_back(&mut self) -> bool {
        if self.released == self.head {
            return false;
        }
        // Release: the items are moved out before the producer may write over them.
        self.shared.consumer.index.store(self.head, Ordering::Release);
        self.released = self.head;
        true
    }
}

impl<T> Drop for Producer<T> {
    /// What was written is sent: the consumer finds it before it finds the lane abandoned.
    fn drop(&mut self) {
        let side = &self.shared.producer;
        side.index.store(self.tail, Ordering::Release);
        side.gone.store(true, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    /// What this side took stays taken. The rest goes with the last of the two ends, because the
    /// producer may be publishing at this very moment.
    fn drop(&mut self) {
        self.hand_back();
        self.shared.consumer.gone.store(true, Ordering::Release);
    }
}

/// What both ends see. Each side's line is written by that side only, but for `producer_waits`.
struct Shared<T> {
    producer: CachePadded<Side>,
    consumer: CachePadded<Side>,
    /// Written twice per stall of the producer, read once per batch: off both index lines.
    producer_waits: CachePadded<AtomicBool>,
    slots: Box<[Slot<T>]>,
}

struct Side {
    /// Producer: published. Consumer: released.
    index: AtomicUsize,
    gone: AtomicBool,
}

// SAFETY: an item is reached by one thread at a time: the lane's invariant gives each slot one owner,
// and the index stores (Release) and loads (Acquire) hand it over. Items move between threads, so `T: Send`.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Drop for Shared<T> {
    /// Both ends are gone and left their true indices behind: `[head, tail)` is what nobody took.
    fn drop(&mut self) {
        let tail = self.producer.index.load(Ordering::Relaxed);
        let mut head = self.consumer.index.load(Ordering::Relaxed);
        let mask = self.slots.len() - 1;
        while head != tail {
            // SAFETY: slots in `[head, tail)` hold items; `&mut self` makes us their only owner, and each is
            // visited once.
            self.slots[head & mask].with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// A lane whose counters start at `first`, so that tests reach their wraparound.
pub(super) fn lane_from<T: Send>(first: usize, capacity: usize, reserved: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "lane capacity {capacity} is no power of two");
    assert!(reserved < capacity, "{reserved} reserved slots fill a lane of {capacity}");
    let side = || CachePadded::new(Side { index: AtomicUsize::new(first), gone: AtomicBool::new(false) });
    let shared = Arc::new(Shared {
        producer: side(),
        consumer: side(),
        producer_waits: CachePadded::new(AtomicBool::new(false)),
        slots: slots::vacant(capacity),
    });
    let producer = Producer {
        slots: Slots::of(&shared.slots),
        tail: first,
        published: first,
        released: first,
        reserved,
        shared: Arc::clone(&shared),
    };
    let consumer = Consumer { slots: Slots::of(&shared.slots), head: first, released: first, published: first, shared };
    (producer, consumer)
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("tail", &self.tail)
            .field("published", &self.published)
            .field("released", &self.released)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("head", &self.head)
            .field("published", &self.published)
            .field("released", &self.released)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(megamux_loom)))]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn nothing_is_seen_before_it_is_published() {
        let (mut tx, mut rx) = lane(4, 0);
        tx.push(1).unwrap();
        tx.push(2).unwrap();
        assert_eq!(rx.pop(), None);
        assert!(tx.publish());
        assert!(!tx.publish(), "nothing new to show");
        assert_eq!((rx.pop(), rx.pop(), rx.pop()), (Some(1), Some(2), None));
    }

    #[test]
    fn slots_come_back_when_released_and_not_before() {
        let (mut tx, mut rx) = lane(2, 0);
        tx.push(1).unwrap();
        tx.push(2).unwrap();
        assert_eq!(tx.push(3), Err(3));
        tx.publish();
        assert_eq!(rx.pop(), Some(1));
        assert_eq!((tx.free(), tx.push(3)), (0, Err(3)));
        rx.release();
        assert_eq!((tx.free(), tx.push(3)), (1, Ok(())));
    }

    #[test]
    fn reserved_room_is_for_reserved_pushes_only() {
        let (mut tx, _rx) = lane(4, 2);
        assert_eq!(tx.free(), 2);
        tx.push(1).unwrap();
        drop(tx.try_reserve().expect("a permit not used takes no room"));
        tx.try_reserve().unwrap().send(2);
        assert!(tx.try_reserve().is_none());
        assert_eq!(tx.push(3), Err(3));
        tx.push_reserved(3).unwrap();
        assert_eq!(tx.free(), 0);
        tx.push_reserved(4).unwrap();
        assert_eq!(tx.push_reserved(5), Err(5));
    }

    #[test]
    fn counters_wrap() {
        let (mut tx, mut rx) = lane_from(usize::MAX - 2, 4, 1);
        for round in 0..4 {
            for item in 0..3 {
                tx.push(round * 3 + item).unwrap();
            }
            assert_eq!((tx.free(), tx.push(99)), (0, Err(99)));
            tx.publish();
            assert_eq!(rx.available(), 3);
            for item in 0..3 {
                assert_eq!(rx.pop(), Some(round * 3 + item));
            }
            rx.release();
        }
    }

    #[test]
    fn a_stalled_producer_is_told_of_the_next_release() {
        let (mut tx, mut rx) = lane(1, 0);
        tx.push(1).unwrap();
        tx.publish();
        assert!(!tx.ask_for_room());
        assert!(!rx.release(), "nothing taken, nothing handed back");
        rx.pop();
        assert!(rx.release());
        assert!(tx.ask_for_room(), "there is room now");
        tx.push(2).unwrap();
        tx.publish();
        rx.pop();
        assert!(!rx.release(), "it found room, so it does not wait");
    }

    #[test]
    fn an_abandoned_lane_is_drained_first() {
        let (mut tx, mut rx) = lane(4, 0);
        tx.push(1).unwrap();
        assert!(!tx.is_abandoned());
        drop(tx);
        assert!(!rx.is_abandoned());
        assert_eq!(rx.pop(), Some(1));
        assert!(rx.is_abandoned());

        let (tx, rx) = lane::<u8>(4, 0);
        drop(rx);
        assert!(tx.is_abandoned());
    }

    #[test]
    fn every_item_is_dropped_once() {
        // Popped, popped but not released, published, and only written.
        for producer_first in [true, false] {
            let item = Arc::new(());
            let (mut tx, mut rx) = lane(8, 0);
            for _ in 0..5 {
                tx.push(Arc::clone(&item)).unwrap();
            }
            tx.publish();
            drop(rx.pop());
            rx.release();
            drop(rx.pop());
            tx.push(Arc::clone(&item)).unwrap();
            assert_eq!(Arc::strong_count(&item), 5);
            if producer_first {
                drop(tx);
                drop(rx);
            } else {
                drop(rx);
                drop(tx);
            }
            assert_eq!(Arc::strong_count(&item), 1);
        }
    }

    #[test]
    fn a_million_items_cross_in_order() {
        const ITEMS: u64 = if cfg!(miri) { 500 } else { 1_000_000 };
        let (mut tx, mut rx) = lane(256, 16);
        let sender = thread::spawn(move || {
            let mut next = 0;
            while next < ITEMS {
                for _ in 0..tx.free().min(64).min((ITEMS - next) as usize) {
                    tx.push(Box::new(next)).unwrap();
                    next += 1;
                }
                if !tx.publish() {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while !rx.is_abandoned() {
            while let Some(item) = rx.pop() {
                assert_eq!(*item, expected);
                expected += 1;
            }
            rx.release();
            thread::yield_now();
        }
        sender.join().unwrap();
        assert_eq!(expected, ITEMS);
    }
}
