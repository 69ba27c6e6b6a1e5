//! Figures as plain data, once they were read: families of counts and histograms of time.
//!
//! Owns their shapes, how they add up, and which samples they show. It must not know any metric by name.

use std::marker::PhantomData;
use std::time::Duration;

/// A label whose words are known at compile time: the index of a [`Family`].
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All its values, in the order of [`Label::place`].
    const ALL: &'static [Self];
    /// The place in [`Label::ALL`].
    fn place(self) -> usize;
    /// The word of this value.
    fn word(self) -> &'static str;
}

/// Counts, one for each value of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family<L> {
    pub(super) counts: Box<[u64]>,
    pub(super) label: PhantomData<L>,
}

impl<L: Label> Family<L> {
    /// The count of one value.
    pub fn of(&self, label: L) -> u64 {
        self.counts[label.place()]
    }

    /// The sum over all values.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Every value with its count.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL.iter().copied().zip(self.counts.iter().copied())
    }
}

impl<L: Label> Default for Family<L> {
    fn default() -> Self {
        Family { counts: vec![0; L::ALL.len()].into(), label: PhantomData }
    }
}

/// Spans of time counted in buckets whose bounds are powers of two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    pub(super) buckets: [u64; BUCKETS],
    pub(super) sum_nanos: u64,
}

/// The first bucket ends at 2^8 ns: a tick that found nothing to do takes about as long.
const FIRST_BOUND_BITS: u32 = 8;
/// 23 bounds, from 256 ns to 1.07 s, and one bucket for what is longer.
pub(super) const BUCKETS: usize = 24;

impl Histogram {
    /// Spans counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All spans together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// The buckets from short to long: the inclusive upper bound (`None`: no bound) and how many spans fell between it
    /// and the bound before.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bound = |bucket: usize| Duration::from_nanos(1 << (FIRST_BOUND_BITS as usize + bucket));
        self.buckets
            .iter()
            .enumerate()
            .map(move |(bucket, &count)| ((bucket + 1 < BUCKETS).then(|| bound(bucket)), count))
    }

    /// What was counted since `earlier`, a snapshot of the same histogram. Counts never fall, so a bucket that seems to
    /// have is one of another histogram, and counts as nothing new.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|at| self.buckets[at].saturating_sub(earlier.buckets[at])),
            sum_nanos: self.sum_nanos.saturating_sub(earlier.sum_nanos),
        }
    }

    /// How long the longest of the shortest `percent` of all spans was at most: the bound of its bucket, so up to twice
    /// the truth. `None` when nothing was counted, or when that span is beyond the last bound.
    ///
    /// # Panics
    ///
    /// When `percent` is not within 0 to 100.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        assert!((0.0..=100.0).contains(&percent), "{percent} is no percentage");
        let rank = (self.count() as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut counted = 0;
        let reached = self.buckets().find(|(_, count)| {
            counted += count;
            counted >= rank
        });
        reached.and_then(|(bound, _)| bound)
    }

    /// The bucket a span falls into.
    pub(super) fn bucket_of(nanos: u64) -> usize {
        // Bounds are inclusive: 2^b itself still belongs to the bucket that ends there.
        let bits = u64::BITS - nanos.saturating_sub(1).leading_zeros();
        (bits.saturating_sub(FIRST_BOUND_BITS) as usize).min(BUCKETS - 1)
    }
}

/// A field of the snapshot, as sums and the list of metrics use it.
pub(super) trait Plain {
    /// Adds another shard's.
    fn absorb(&mut self, other: &Self);
    /// The sample at `index`, `None` past the last.
    fn sample(&self, index: usize) -> Option<Sample<'_>>;
}

/// The metric's own label, if it has one, and the value before its unit is known.
pub(super) type Sample<'a> = (Option<(&'static str, &'static str)>, Raw<'a>);

/// A value as it was counted: spans of time are nanoseconds.
pub(super) enum Raw<'a> {
    Count(u64),
    Histogram(&'a Histogram),
}

impl Plain for u64 {
    fn absorb(&mut self, other: &u64) {
        *self = self.wrapping_add(*other);
    }

    fn sample(&self, index: usize) -> Option<Sample<'_>> {
        (index == 0).then_some((None, Raw::Count(*self)))
    }
}

impl<L: Label> Plain for Family<L> {
    fn absorb(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            count.absorb(more);
        }
    }

    fn sample(&self, index: usize) -> Option<Sample<'_>> {
        let label = L::ALL.get(index)?;
        Some((Some((L::NAME, label.word())), Raw::Count(self.counts[index])))
    }
}

impl Plain for Histogram {
    fn absorb(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            count.absorb(more);
        }
        self.sum_nanos.absorb(&other.sum_nanos);
    }

    fn sample(&self, index: usize) -> Option<Sample<'_>> {
        (index == 0).then_some((None, Raw::Histogram(self)))
    }
}
