//! Lines said to everybody: which are under way, and who still lacks them.
//!
//! Invariant: a line's place is free again when everybody has it; a line that nobody can complete (a subscriber is gone, or
//! had not joined yet) keeps its place until [`Rounds::give_up`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use megamux_engine::Time;

use crate::gauges::empty;
use crate::wire::LINES;

/// Lines under way at once: what is due beyond waits, and counts from when it was due.
const MOST: usize = 64;
const _: () = assert!(LINES.is_multiple_of(MOST));

/// All lines under way.
#[derive(Debug)]
pub struct Rounds {
    places: [Round; MOST],
    /// One pacer has a speaker among its connections.
    spoken_for: AtomicBool,
    /// From the time a line was due to its last delivery.
    last: Mutex<Histogram<u64>>,
}

#[derive(Debug)]
struct Round {
    due: AtomicU64,
    left: AtomicU64,
    /// Everybody had joined before it was said.
    counted: AtomicBool,
}

/// One delivery.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    pub latency: Duration,
    pub last: bool,
}

impl Rounds {
    pub fn new() -> Rounds {
        let place = |_| Round { due: AtomicU64::new(0), left: AtomicU64::new(0), counted: AtomicBool::new(false) };
        Rounds { places: std::array::from_fn(place), spoken_for: AtomicBool::new(false), last: Mutex::new(empty()) }
    }

    /// Whether the caller is the first to ask, and so the one who speaks.
    pub fn claim(&self) -> bool {
        !self.spoken_for.swap(true, Ordering::Relaxed)
    }

    /// Whether everybody has line `number`, or it was never said.
    pub fn is_over(&self, number: u64) -> bool {
        self.place(number as usize).left.load(Ordering::Acquire) == 0
    }

    /// Line `number` is about to be said.
    pub fn begin(&self, number: u64, due: Time, everybody: u64, counted: bool) {
        let place = self.place(number as usize);
        place.due.store(due.as_nanos(), Ordering::Relaxed);
        place.counted.store(counted, Ordering::Relaxed);
        place.left.store(everybody, Ordering::Release);
    }

    /// Nobody waits for line `number` any more.
    pub fn give_up(&self, number: u64) {
        self.place(number as usize).left.store(0, Ordering::Relaxed);
    }

    /// One of everybody has line `number`; `None` if that does not count.
    pub fn heard(&self, number: usize, now: Time) -> Option<Heard> {
        let place = self.place(number);
        let left = place.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).ok()?;
        if !place.counted.load(Ordering::Relaxed) {
            return None;
        }
        let due = Time::from_nanos(place.due.load(Ordering::Relaxed));
        let heard = Heard { latency: now.since(due), last: left == 1 };
        if heard.last {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.saturating_record(heard.latency.as_nanos() as u64);
        }
        Some(heard)
    }

    /// Times to the last delivery.
    pub fn last(&self) -> Histogram<u64> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn place(&self, number: usize) -> &Round {
        &self.places[number % MOST]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_over_with_its_last_delivery() {
        let rounds = Rounds::new();
        assert!(rounds.claim() && !rounds.claim());
        let at = |millis| Time::ZERO + Duration::from_millis(millis);
        rounds.begin(65, at(10), 2, true);
        assert!(!rounds.is_over(65) && rounds.is_over(66));
        assert!(!rounds.heard(65, at(12)).unwrap().last);
        let heard = rounds.heard(65, at(15)).unwrap();
        assert_eq!((heard.last, heard.latency), (true, Duration::from_millis(5)));
        assert!(rounds.is_over(65) && rounds.heard(65, at(16)).is_none());
        assert_eq!(rounds.last().len(), 1);
        rounds.begin(0, at(20), 5, false);
        assert!(rounds.heard(0, at(21)).is_none());
        rounds.give_up(0);
        assert!(rounds.is_over(0));
    }
}
