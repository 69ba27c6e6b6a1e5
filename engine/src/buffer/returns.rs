//! How references come back from threads that do not own the pool.
//!
//! A thread that handles many frames of a pool (a service) registers a [`ReturnLane`] once. Frames it
//! drops are then counted up, runs of one buffer as one entry, and published over the lane when the thread
//! says so ([`flush_returns`]), when there are enough, and when the thread ends. Every other thread returns each frame at once, under the pool's mutex;
//! so does a registered one whose lane is full. Nothing here blocks on another thread's work, and nothing is lost.
//!
//! Invariant: what is in a run, a batch or a lane still counts as references of its pool, so the pool's
//! object lives while there is one.

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Weak};

use super::shared::{PoolShared, Return};
use crate::handoff::lane::Producer;

/// A thread publishes when it holds back so many frames of a pool, at the latest one run of so many later: the
/// fence of a publish, shared by so many.
const BATCH_FRAMES: u32 = 64;

thread_local! {
    /// The pool whose owner this thread is right now (null: of none).
    static CURRENT: Cell<*const PoolShared> = const { Cell::new(ptr::null()) };
    /// The run that this thread's drops are in. Apart from `BATCHES` because it needs no destructor: counting one
    /// more frame up asks nothing about the thread's state.
    static RUN: Run = const { Run { pool: Cell::new(ptr::null()), buffer: Cell::new(0), frames: Cell::new(0) } };
    static BATCHES: RefCell<Batches> = const { RefCell::new(Batches { batches: Vec::new(), last: 0 }) };
}

/// Publishes what this thread's dropped frames are owed to their pools. At the end of a service's batch.
pub fn flush_returns() {
    // A thread that is ending has flushed already.
    let _ = BATCHES.try_with(|batches| batches.borrow_mut().flush());
}

/// One thread's way back to one pool. Made by the pool, registered on the thread that drops its frames.
pub struct ReturnLane {
    /// Weak: a thread that has no frame of a pool keeps none of its memory, but its address stays taken.
    pool: Weak<PoolShared>,
    closing: Arc<AtomicBool>,
    entries: Producer<Return>,
}

impl ReturnLane {
    pub(super) fn new(pool: Weak<PoolShared>, closing: Arc<AtomicBool>, entries: Producer<Return>) -> ReturnLane {
        ReturnLane { pool, closing, entries }
    }

    #[cfg(test)]
    pub(super) fn into_pool(self) -> Weak<PoolShared> {
        self.pool
    }

    /// Makes this the way back for frames of its pool that the current thread drops.
    pub fn register(self) {
        BATCHES.with_borrow_mut(|batches| {
            batches.flush();
            batches.batches.retain(|batch| batch.lane.pool.strong_count() > 0);
            batches.batches.push(Batch { lane: self, frames: 0 });
            batches.last = 0;
        });
    }
}

/// Marks this thread as the owner of `pool` (or, with null, of none).
pub(super) fn set_current(pool: *const PoolShared) {
    CURRENT.set(pool);
}

/// True when this thread is marked as the owner of `pool`.
#[inline(always)]
pub(super) fn is_current(pool: NonNull<PoolShared>) -> bool {
    ptr::eq(CURRENT.get(), pool.as_ptr())
}

/// Gives one reference of a buffer back from a thread that does not own the pool.
///
/// # Safety
///
/// As [`PoolShared::take_back`], with a count of one.
#[inline]
pub(super) unsafe fn give_back(pool: NonNull<PoolShared>, buffer: u16) {
    let counted = RUN.with(|run| run.extend(pool, buffer))
        || BATCHES.try_with(|batches| batches.borrow_mut().begin_run(pool, buffer)).unwrap_or(false);
    if !counted {
        // SAFETY: the caller's promise.
        unsafe { PoolShared::take_back(pool, (buffer, 1)) };
    }
}

/// Frames of one buffer, dropped one after the other: one entry to be. Begun only on the way of a registered
/// lane, so a `pool` that is not null is in `Batches`.
struct Run {
    pool: Cell<*const PoolShared>,
    buffer: Cell<u16>,
    frames: Cell<u32>,
}

impl Run {
    /// False when the frame is not of this run, or the run is a full batch.
    #[inline(always)]
    fn extend(&self, pool: NonNull<PoolShared>, buffer: u16) -> bool {
        let frames = self.frames.get();
        let same = ptr::eq(self.pool.get(), pool.as_ptr()) && self.buffer.get() == buffer;
        if same && frames < BATCH_FRAMES {
            self.frames.set(frames + 1);
            return true;
        }
        false
    }
}

struct Batches {
    batches: Vec<Batch>,
    /// Where the run belongs, and with it probably the next one: frames of one shard come together.
    last: usize,
}

impl Batches {
    /// Ends the run and begins another; false when this thread has no lane to `pool`.
    #[inline]
    fn begin_run(&mut self, pool: NonNull<PoolShared>, buffer: u16) -> bool {
        self.end_run();
        let leads_there = |batch: &Batch| ptr::eq(batch.lane.pool.as_ptr(), pool.as_ptr());
        if !self.batches.get(self.last).is_some_and(leads_there) {
            match self.batches.iter().position(leads_there) {
                Some(found) => self.last = found,
                None => return false,
            }
        }
        RUN.with(|run| {
            run.pool.set(pool.as_ptr());
            run.buffer.set(buffer);
            run.frames.set(1);
        });
        true
    }

    /// Makes the run an entry of its batch (`last`: it moves only in `begin_run`, after this).
    #[inline]
    fn end_run(&mut self) {
        let (buffer, frames) = RUN.with(|run| {
            run.pool.set(ptr::null());
            (run.buffer.get(), run.frames.take())
        });
        if frames > 0 {
            self.batches[self.last].add((buffer, frames));
        }
    }

    fn flush(&mut self) {
        self.end_run();
        for batch in &mut self.batches {
            batch.publish();
        }
    }
}

impl Drop for Batches {
    /// The thread ends. Frames that are dropped after this go back one by one.
    fn drop(&mut self) {
        self.flush();
    }
}

struct Batch {
    lane: ReturnLane,
    /// Frames of entries that were not published yet.
    frames: u32,
}

impl Batch {
    /// Writes an entry into the lane; publishes when there are enough.
    #[inline]
    fn add(&mut self, entry: Return) {
        self.frames += entry.1;
        if let Err(entry) = self.lane.entries.push(entry) {
            // SAFETY: the entry's references are counted until given back here, so the object
            // lives; the lane refused the entry, so nobody else gives it back. The pointer is the one the
            // `Weak` was made of, which is that of `Arc::into_raw`.
            unsafe {
                let pool = NonNull::new_unchecked(self.lane.pool.as_ptr().cast_mut());
                PoolShared::take_back(pool, entry);
            }
        }
        if self.frames >= BATCH_FRAMES {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.frames = 0;
        if !self.lane.entries.publish() {
            return;
        }
        // Pairs with the fence in `PoolShared::orphan`: either that one reads what was just published, or
        // this one sees that the pool is going and takes it out of the lane itself.
        fence(Ordering::SeqCst);
        if self.lane.closing.load(Ordering::Relaxed)
            && let Some(pool) = self.lane.pool.upgrade()
        {
            pool.settle();
        }
    }
}
