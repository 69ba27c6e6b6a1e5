//! A ring of small records with one writer and any number of readers, none of whom ever waits.
//!
//! Invariants: the writer overwrites the oldest record without looking at readers; a record that a reader gets was written as a
//! whole, because its number is looked at before and after its words; a reader that comes too late is told so.

use crate::handoff::prefetch;
use crate::handoff::sync::{AtomicU64, Ordering, fence};

/// What a slot's number says while its words are being written.
const WRITING: u64 = 0;

/// The ring. It must not be written to by two threads: records would be mixed up.
#[derive(Debug)]
pub(crate) struct SeqRing<const WORDS: usize> {
    slots: Box<[Slot<WORDS>]>,
    /// The number that the next record gets.
    next: AtomicU64,
}

/// With seven words a slot is a cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<const WORDS: usize> {
    /// One more than the number of the record that is here.
    number: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> SeqRing<WORDS> {
    /// Room for `len` records, a power of two.
    pub(crate) fn new(len: usize) -> SeqRing<WORDS> {
        assert!(len.is_power_of_two(), "{len} records");
        let slot = |_| Slot { number: AtomicU64::new(WRITING), words: std::array::from_fn(|_| AtomicU64::new(0)) };
        SeqRing { slots: (0..len).map(slot).collect(), next: AtomicU64::new(0) }
    }

    /// How many records there is room for.
    pub(crate) fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The number that the next record gets: all below have been written.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Has the next record's place on its way. It was last touched a whole round ago; written to unprepared, it would hold up
    /// everything that the shard writes after it.
    #[inline]
    pub(crate) fn prepare(&self) {
        prefetch::to_write(std::ptr::from_ref(self.slot(self.next.load(Ordering::Relaxed))).cast());
    }

    /// Writes the next record, over the oldest. For the one writer.
    #[inline]
    pub(crate) fn push(&self, words: [u64; WORDS]) {
        let number = self.next.load(Ordering::Relaxed);
        let slot = self.slot(number);
        slot.number.store(WRITING, Ordering::Relaxed);
        // Who sees one of the words below sees this number or a later one behind its own fence.
        fence(Ordering::Release);
        for (place, word) in slot.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        slot.number.store(number + 1, Ordering::Release);
        self.next.store(number + 1, Ordering::Release);
    }

    /// The record with this number; `None` if it is overwritten, or not there yet.
    pub(crate) fn read(&self, number: u64) -> Option<[u64; WORDS]> {
        let slot = self.slot(number);
        if slot.number.load(Ordering::Acquire) != number + 1 {
            return None;
        }
        let words = slot.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (slot.number.load(Ordering::Relaxed) == number + 1).then_some(words)
    }

    fn slot(&self, number: u64) -> &Slot<WORDS> {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }
}
