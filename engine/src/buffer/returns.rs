//! How references come back from threads that do not own the pool.
//!
//! A thread that handles many frames of a pool (a service) registers a [`ReturnLane`] once. Frames it
//! drops are then counted up in a thread-local batch per pool, runs of one buffer as one entry,
//! and published over the lane when the thread says so ([`flush_returns`]), when the batch is
//! full, and when the thread ends. Every other thread returns each frame at once, under the pool's mutex;
//! so does a registered one whose lane is full. Nothing here blocks on another thread's work, and nothing is lost.
//!
//! Invariant: an entry in a batch or a lane still counts as references of its pool, so the pool's
//! object lives while there is one.

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Weak};

use super::shared::{PoolShared, Return};
use crate::handoff::lane::Producer;

/// Frames a thread may hold back before it publishes: the fence of a publish, shared by so many.
const BATCH_FRAMES: u32 = 64;

thread_local! {
    /// The pool whose owner this thread is right now (null: of none).
    static CURRENT: Cell<*const PoolShared> = const { Cell::new(ptr::null()) };
    static BATCHES: RefCell<Batches> = const { RefCell::new(Batches { batches: Vec::new(), last: 0 }) };
}

/// Publishes what this thread's dropped frames are owed to their pools. At the end of a service's batch.
pub fn flush_returns() {
    // A thread that is ending has flushed already.
    let _ = BATCHES.try_with(|batches| {
        for batch in &mut batches.borrow_mut().batches {
            batch.flush();
        }
    });
}

/// One thread's way back to one pool. Made by the pool, registered on the thread that drops its frames.
pub struct ReturnLane {
    /// Weak: a thread that has no frame of a pool keeps none of its memory, but its address stays taken.
    pool: Weak<PoolShared>,
    closing: Arc<AtomicBool>,
    entries: Producer<Return>,
}

impl ReturnLane {
    pub(super) fn new(
        pool: Weak<PoolShared>,
        closing: Arc<AtomicBool>,
        entries: Producer<Return>,
    ) -> ReturnLane {
        ReturnLane {
            pool,
            closing,
            entries,
        }
    }

    #[cfg(test)]
    pub(super) fn into_pool(self) -> Weak<PoolShared> {
        self.pool
    }

    /// Makes this the way back for frames of its pool that the current thread drops.
    pub fn register(self) {
        BATCHES.with_borrow_mut(|batches| {
            batches
                .batches
                .retain(|batch| batch.lane.pool.strong_count() > 0);
            batches.batches.push(Batch {
                lane: self,
                open: (0, 0),
                frames: 0,
            });
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
    let batched = BATCHES.try_with(|batches| batches.borrow_mut().add(pool, buffer));
    if !batched.unwrap_or(false) {
        // SAFETY: the caller's promise.
        unsafe { PoolShared::take_back(pool, (buffer, 1)) };
    }
}

struct Batches {
    batches: Vec<Batch>,
    /// Where the last frame belonged: frames of one shard come in runs.
    last: usize,
}

struct Batch {
    lane: ReturnLane,
    /// The entry that still grows; a count of 0 is none.
    open: Return,
    frames: u32,
}

impl Batches {
    /// False when this thread has no lane to `pool`.
    #[inline]
    fn add(&mut self, pool: NonNull<PoolShared>, buffer: u16) -> bool {
        let leads_there = |batch: &Batch| ptr::eq(batch.lane.pool.as_ptr(), pool.as_ptr());
        if !self.batches.get(self.last).is_some_and(leads_there) {
            match self.batches.iter().position(leads_there) {
                Some(found) => self.last = found,
                None => return false,
            }
        }
        self.batches[self.last].add(buffer);
        true
    }
}

impl Batch {
    #[inline]
    fn add(&mut self, buffer: u16) {
        if self.open.0 == buffer {
            self.open.1 += 1;
        } else {
            self.close_entry();
            self.open = (buffer, 1);
        }
        self.frames += 1;
        if self.frames == BATCH_FRAMES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.close_entry();
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

    /// Writes the open entry into the lane, not yet published.
    fn close_entry(&mut self) {
        let entry = std::mem::take(&mut self.open);
        if entry.1 == 0 {
            return;
        }
        if let Err(entry) = self.lane.entries.push(entry) {
            // SAFETY: the entry's references are counted until given back here, so the object
            // lives; the lane refused the entry, so nobody else gives it back. The pointer is the one the
            // `Weak` was made of, which is that of `Arc::into_raw`.
            unsafe {
                let pool = NonNull::new_unchecked(self.lane.pool.as_ptr().cast_mut());
                PoolShared::take_back(pool, entry);
            }
        }
    }
}

impl Drop for Batch {
    /// The thread ends, or the pool is gone (and then the batch is empty).
    fn drop(&mut self) {
        self.flush();
    }
}
