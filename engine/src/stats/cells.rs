//! The cells a shard counts in: atomics with one writer, updated by a relaxed load and store.
//!
//! Owns the update and the reading of single figures. Invariant: only the shard's thread writes; a second
//! writer would lose counts. Nothing here orders memory: a figure says nothing about any other.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::figures::{BUCKETS, Family, Histogram, Label};
use crate::time::Time;

/// A count with one writer. Its updates are a relaxed load and store: two writers would lose counts.
#[derive(Debug, Default)]
pub(crate) struct Cell64(AtomicU64);

impl Cell64 {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(crate) fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    pub(crate) fn sub(&self, less: u64) {
        debug_assert!(less <= self.get(), "a gauge fell below zero");
        self.set(self.get().saturating_sub(less));
    }
}

/// One [`Cell64`] for each value of a label.
#[derive(Debug)]
pub(crate) struct CellFamily<L, const N: usize> {
    cells: [Cell64; N],
    label: PhantomData<L>,
}

impl<L: Label, const N: usize> CellFamily<L, N> {
    pub(crate) fn of(&self, label: L) -> &Cell64 {
        &self.cells[label.place()]
    }
}

impl<L, const N: usize> Default for CellFamily<L, N> {
    fn default() -> Self {
        CellFamily { cells: std::array::from_fn(|_| Cell64::default()), label: PhantomData }
    }
}

/// The cells of a [`Histogram`].
#[derive(Debug, Default)]
pub(crate) struct HistogramCells {
    buckets: [Cell64; BUCKETS],
    sum_nanos: Cell64,
}

impl HistogramCells {
    pub(crate) fn record(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[Histogram::bucket_of(nanos)].add(1);
        self.sum_nanos.add(nanos);
    }
}

/// The start of something in progress; read as how long it has lasted, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct SinceCell(Cell64);

impl SinceCell {
    pub(super) fn start(&self, now: Time) {
        // 0 stands for nothing in progress; the engine's very first nanosecond is worth rounding.
        self.0.set(now.as_nanos().max(1));
    }

    pub(super) fn stop(&self) {
        self.0.set(0);
    }
}

/// A cell, or several, as the snapshot reads it.
pub(super) trait Read {
    type Plain;
    fn read(&self, at: Time) -> Self::Plain;
}

impl Read for Cell64 {
    type Plain = u64;

    fn read(&self, _: Time) -> u64 {
        self.get()
    }
}

impl Read for SinceCell {
    type Plain = u64;

    fn read(&self, at: Time) -> u64 {
        match self.0.get() {
            0 => 0,
            start => at.as_nanos().saturating_sub(start),
        }
    }
}

impl<L: Label, const N: usize> Read for CellFamily<L, N> {
    type Plain = Family<L>;

    fn read(&self, _: Time) -> Family<L> {
        Family { counts: self.cells.iter().map(Cell64::get).collect(), label: PhantomData }
    }
}

impl Read for HistogramCells {
    type Plain = Histogram;

    fn read(&self, _: Time) -> Histogram {
        Histogram { buckets: self.buckets.each_ref().map(Cell64::get), sum_nanos: self.sum_nanos.get() }
    }
}
