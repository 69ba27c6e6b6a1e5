//! The arithmetic of the suite: medians, paired ratios, bootstrap intervals, and the random order of slices.
//!
//! Invariant: everything is a function of its arguments and a seed, so a report can be drawn again from its samples and
//! comes out the same. Takes no measurements.

use serde::{Deserialize, Serialize};

/// Enough that the 2.5% and 97.5% points of the resampled medians stand still in the third decimal.
const RESAMPLES: usize = 2_000;

/// A median with the interval that holds it with 95% confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// How far the interval strays from 1: read on the A/A row, the smallest difference a table resolves.
    pub fn distance_from_one(&self) -> f64 {
        (self.high - 1.0).abs().max((self.low - 1.0).abs())
    }
}

/// The median of `samples[i] / baseline[i]` with its bootstrap interval. Slice `i` of both ran moments apart, so a
/// machine that drifts moves both and cancels.
pub fn paired_ratio(samples: &[f64], baseline: &[f64], seed: u64) -> Estimate {
    assert_eq!(samples.len(), baseline.len(), "pairs come from the same rounds");
    let ratios: Vec<f64> = samples.iter().zip(baseline).map(|(sample, base)| sample / base).collect();
    let mut random = Random::new(seed);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut resample: Vec<f64> = (0..ratios.len()).map(|_| ratios[random.below(ratios.len())]).collect();
            median(&mut resample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    Estimate {
        median: median(&mut ratios.clone()),
        low: medians[RESAMPLES * 25 / 1000],
        high: medians[RESAMPLES * 975 / 1000 - 1],
    }
}

/// The middle value; the mean of the two middle ones for an even count. Reorders `values`.
pub fn median(values: &mut [f64]) -> f64 {
    assert!(!values.is_empty(), "a median needs a sample");
    let odd = values.len() % 2 == 1;
    let middle = values.len() / 2;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (lower + upper) / 2.0
}

/// xorshift64*: plenty for shuffling and resampling.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // A state of zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in `0..bound`; `bound` is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        for (values, expect) in [
            (vec![3.0], 3.0),
            (vec![3.0, 1.0], 2.0),
            (vec![9.0, 1.0, 5.0], 5.0),
            (vec![4.0, 1.0, 3.0, 2.0], 2.5),
            (vec![7.0, 7.0, 7.0, 1.0], 7.0),
        ] {
            assert_eq!(median(&mut values.clone()), expect, "{values:?}");
        }
    }

    #[test]
    fn a_server_against_itself_is_one() {
        let samples: Vec<f64> = (1..=100).map(f64::from).collect();
        let estimate = paired_ratio(&samples, &samples, 1);
        assert_eq!(estimate, Estimate { median: 1.0, low: 1.0, high: 1.0 });
        assert_eq!(estimate.distance_from_one(), 0.0);
    }

    #[test]
    fn pairing_cancels_a_drifting_machine() {
        // The machine becomes ten times slower during the run; the server stays 5% dearer than the baseline.
        let baseline: Vec<f64> = (0..100).map(|round| 1_000.0 + 90.0 * f64::from(round)).collect();
        let samples: Vec<f64> = baseline.iter().map(|base| base * 1.05).collect();
        let estimate = paired_ratio(&samples, &baseline, 1);
        assert!((estimate.median - 1.05).abs() < 1e-9);
        assert!(estimate.high - estimate.low < 1e-9);
    }

    #[test]
    fn interval_brackets_the_median_and_narrows_with_samples() {
        let noisy = |count: usize| {
            let mut random = Random::new(7);
            let baseline = vec![1.0; count];
            let samples: Vec<f64> = (0..count).map(|_| 0.9 + 0.2 * random.below(1_000) as f64 / 1_000.0).collect();
            paired_ratio(&samples, &baseline, 3)
        };
        let few = noisy(30);
        let many = noisy(3_000);
        for estimate in [few, many] {
            assert!(estimate.low <= estimate.median && estimate.median <= estimate.high);
            assert!(estimate.distance_from_one() < 0.1);
        }
        assert!(many.high - many.low < (few.high - few.low) / 3.0);
    }

    #[test]
    fn same_seed_same_estimate() {
        let samples: Vec<f64> = (0..50).map(|i| 1.0 + f64::from(i % 7) / 10.0).collect();
        let baseline = vec![1.0; 50];
        assert_eq!(paired_ratio(&samples, &baseline, 5), paired_ratio(&samples, &baseline, 5));
    }

    #[test]
    fn shuffle_keeps_every_item_and_visits_every_order() {
        let mut random = Random::new(1);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let mut items = [0, 1, 2];
            random.shuffle(&mut items);
            seen.insert(items);
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2]);
        }
        assert_eq!(seen.len(), 6);
    }
}
