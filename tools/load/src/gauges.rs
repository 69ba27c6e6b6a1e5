//! What a run counts: one cell per figure and shard, written by the shard, read by the main thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::rounds::Rounds;

/// Two significant digits: a value is known to 1%, in 20 KB per shard.
const DIGITS: u8 = 2;
/// Different errors that are told apart; more are counted as `other`.
const ERRORS: usize = 32;

/// What the clients are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// Open connections.
    Ramp,
    /// Measure.
    Run,
    /// Send nothing new, and close.
    Over,
}

/// One shard's figures.
#[derive(Debug)]
#[repr(align(128))]
pub struct Cells {
    /// Connections opened (and greeted, where the target speaks first) since the start, and open now.
    pub opened: AtomicU64,
    pub open: AtomicU64,
    pub failed_dials: AtomicU64,
    /// Of the open ones, those that only flood: nothing tells them that the target is gone.
    pub flooding: AtomicU64,
    /// Connections that ended although nobody here had asked for it, and those of them that were never greeted.
    pub lost: AtomicU64,
    pub turned_away: AtomicU64,
    /// Messages answered, or, for churn and storm, connections served; for fanout, lines that everybody has.
    pub done: AtomicU64,
    /// Lines that one connection has, for fanout.
    pub delivered: AtomicU64,
    pub sent: AtomicU64,
    latencies: Mutex<Histogram<u64>>,
}

/// A run's figures.
#[derive(Debug)]
pub struct Gauges {
    phase: AtomicU32,
    /// No new connections: memory is short, or the target is gone.
    halted: AtomicBool,
    /// Something came back that is no answer.
    misunderstood: AtomicBool,
    shards: Box<[Cells]>,
    errors: Mutex<BTreeMap<String, u64>>,
    pub rounds: Rounds,
    /// Connections that the pacers know: what they order goes to those.
    pub known: AtomicU64,
}

impl Gauges {
    pub fn new(shards: usize) -> Gauges {
        let cells = |_| Cells {
            opened: AtomicU64::new(0),
            open: AtomicU64::new(0),
            failed_dials: AtomicU64::new(0),
            flooding: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            done: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            latencies: Mutex::new(empty()),
        };
        let (phase, halted) = (AtomicU32::new(Phase::Ramp as u32), AtomicBool::new(false));
        Gauges {
            phase,
            halted,
            misunderstood: AtomicBool::new(false),
            shards: (0..shards).map(cells).collect(),
            errors: Mutex::default(),
            rounds: Rounds::new(),
            known: AtomicU64::new(0),
        }
    }

    pub fn shard(&self, shard: usize) -> &Cells {
        &self.shards[shard]
    }

    pub fn sum(&self, figure: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|cells| figure(cells).load(Ordering::Relaxed)).sum()
    }

    pub fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u32
    }

    pub fn set(&self, phase: Phase) {
        self.phase.store(phase as u32, Ordering::Relaxed);
    }

    pub fn halt(&self) {
        self.halted.store(true, Ordering::Relaxed);
    }

    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// Counts what a target answered wrongly.
    pub fn wrong_answer(&self, what: impl ToString) {
        self.misunderstood.store(true, Ordering::Relaxed);
        self.error(what);
    }

    pub fn is_misunderstood(&self) -> bool {
        self.misunderstood.load(Ordering::Relaxed)
    }

    /// Counts an error by its words.
    pub fn error(&self, what: impl ToString) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let what = what.to_string();
        let word = if errors.len() < ERRORS || errors.contains_key(&what) { what } else { "other".into() };
        *errors.entry(word).or_default() += 1;
    }

    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All latencies in nanoseconds, since they were last forgotten.
    pub fn latencies(&self) -> Histogram<u64> {
        let mut all = empty();
        for cells in &self.shards {
            // Both have the same bounds, so adding cannot fail.
            let _ = all.add(&*cells.latencies());
        }
        all
    }

    pub fn forget_latencies(&self) {
        self.shards.iter().for_each(|cells| cells.latencies().reset());
    }
}

impl Cells {
    pub fn add(figure: &AtomicU64, count: u64) {
        // One writer: no locked instruction is needed.
        figure.store(figure.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub fn record(&self, latency: Duration) {
        self.latencies().saturating_record(latency.as_nanos() as u64);
    }

    fn latencies(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From a microsecond to a minute.
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, DIGITS).expect("bounds and digits that fit")
}
