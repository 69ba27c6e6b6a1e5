//! Which of a consumer's lanes want attention: one bit per lane, two levels of words.
//!
//! Looking at an idle set is one load, whatever the number of lanes. A bit is set by one ringer and
//! cleared by the consumer, which then looks at that lane's indices.
//!
//! Invariant: what a ringer published before [`ReadySet::mark`] is seen by the consumer after it
//! takes that bit, or the bit is still set. A set bit whose summary bit is clear is being set or
//! being taken at this moment.

use crossbeam_utils::CachePadded;

use super::sync::{AtomicU64, Ordering, fence};

/// Lanes per set: one summary word of 64 leaves with 64 bits each.
pub const MAX_LANES: usize = 64 * 64;

/// One bit per lane of one consumer.
#[derive(Debug)]
pub struct ReadySet {
    /// Bit `n` says that leaf `n` may hold bits.
    summary: CachePadded<AtomicU64>,
    /// Padded: the ringers of different leaves do not meet.
    leaves: Box<[CachePadded<AtomicU64>]>,
}

impl ReadySet {
    /// A set for lanes `0..lanes`, none ready.
    ///
    /// # Panics
    ///
    /// When `lanes` exceeds [`MAX_LANES`].
    pub fn new(lanes: usize) -> Self {
        assert!(lanes <= MAX_LANES, "{lanes} lanes exceed a ready set's {MAX_LANES}");
        let word = || CachePadded::new(AtomicU64::new(0));
        Self { summary: word(), leaves: (0..lanes.div_ceil(64)).map(|_| word()).collect() }
    }

    /// Sets the bit of `lane`. False when it was set already, and then nothing else is to be done:
    /// whoever set it has seen or will see to the wake, and the consumer has yet to look.
    #[inline]
    pub fn mark(&self, lane: usize) -> bool {
        let (leaf, bit) = (&self.leaves[lane / 64], 1 << (lane % 64));
        // Pairs with the fence in `Drain::next`: when we see the bit that the consumer takes, the consumer
        // sees what we published. Without it the check below loses messages.
        fence(Ordering::SeqCst);
        if leaf.load(Ordering::Relaxed) & bit != 0 {
            return false;
        }
        // Acquire: when the consumer took this leaf before, it cleared the summary before that, and the
        // load below sees it cleared. Release: it sees what we published when it takes this bit.
        leaf.fetch_or(bit, Ordering::AcqRel);
        let group = 1 << (lane / 64);
        if self.summary.load(Ordering::Relaxed) & group == 0 {
            self.summary.fetch_or(group, Ordering::Release);
        }
        true
    }

    /// True when no lane is ready. For the consumer, as the last look before sleeping.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.summary.load(Ordering::Relaxed) == 0
    }

    /// Takes the ready lanes one by one, in ascending order. For the one consumer only. Lanes not
    /// reached before the drain is dropped stay ready.
    #[inline]
    pub fn drain(&self) -> Drain<'_> {
        // Acquire: the leaves' bits before the summary bit that points to them. The load keeps an idle
        // consumer from taking the line away from its ringers.
        let groups = match self.summary.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.summary.swap(0, Ordering::Acquire),
        };
        Drain { set: self, groups, group: 0, lanes: 0 }
    }
}

/// The ready lanes, each given once.
#[derive(Debug)]
pub struct Drain<'a> {
    set: &'a ReadySet,
    /// Summary bits taken whose leaves are not.
    groups: u64,
    /// The leaf taken last, and what is left of its bits.
    group: usize,
    lanes: u64,
}

impl Iterator for Drain<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.lanes == 0 {
            if self.groups == 0 {
                return None;
            }
            self.group = self.groups.trailing_zeros() as usize;
            self.groups &= self.groups - 1;
            // Release: a ringer that finds its bit taken finds the summary cleared too.
            self.lanes = self.set.leaves[self.group].swap(0, Ordering::AcqRel);
            // Pairs with the fence in `mark`.
            fence(Ordering::SeqCst);
        }
        let lane = self.lanes.trailing_zeros() as usize;
        self.lanes &= self.lanes - 1;
        Some(self.group * 64 + lane)
    }
}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        if self.lanes != 0 {
            self.set.leaves[self.group].fetch_or(self.lanes, Ordering::AcqRel);
            self.groups |= 1 << self.group;
        }
        if self.groups != 0 {
            self.set.summary.fetch_or(self.groups, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(megamux_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_marked_lane_is_given_once_in_order() {
        let set = ReadySet::new(MAX_LANES);
        assert!(set.is_empty());
        for lane in [4095, 0, 63, 64, 2000] {
            assert!(set.mark(lane));
            assert!(!set.mark(lane));
        }
        assert!(!set.is_empty());
        assert_eq!(set.drain().collect::<Vec<_>>(), [0, 63, 64, 2000, 4095]);
        assert!(set.is_empty());
        assert_eq!(set.drain().next(), None);
    }

    #[test]
    fn a_lane_marked_while_draining_comes_in_the_next_drain() {
        let set = ReadySet::new(2);
        set.mark(1);
        for lane in set.drain() {
            assert_eq!(lane, 1);
            assert!(set.mark(0));
            assert!(set.mark(1));
        }
        assert_eq!(set.drain().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_drain_cut_short_puts_back_what_it_did_not_give() {
        let set = ReadySet::new(200);
        for lane in [3, 5, 70, 199] {
            set.mark(lane);
        }
        assert_eq!(set.drain().next(), Some(3));
        assert_eq!(set.drain().take(2).collect::<Vec<_>>(), [5, 70]);
        assert_eq!(set.drain().collect::<Vec<_>>(), [199]);
        assert!(set.is_empty());
    }
}
