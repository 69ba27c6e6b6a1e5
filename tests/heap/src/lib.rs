//! A global allocator that counts, for tests and programs of tests that measure what things take of the heap.
//!
//! ```
//! # fn main() {}
//! use megamux_heap_tests::Counting;
//!
//! #[global_allocator]
//! static COUNTING: Counting = Counting;
//! ```
//!
//! Every thread counts in [`ALL`] until it says otherwise. Memory that another thread gives back is taken off there: what
//! is counted apart must be freed where it was taken. It depends on nothing, so that every package's tests may use it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

/// What some threads took from the allocator.
#[derive(Debug, Default)]
pub struct Counts {
    calls: AtomicU64,
    in_use: AtomicI64,
    most: AtomicI64,
}

/// What threads took that have not chosen where to count.
pub static ALL: Counts = Counts::new();

/// What threads took that are left out.
static OUT: Counts = Counts::new();

thread_local! {
    static MINE: Cell<&'static Counts> = const { Cell::new(&ALL) };
}

impl Counts {
    /// Nothing yet.
    pub const fn new() -> Counts {
        Counts { calls: AtomicU64::new(0), in_use: AtomicI64::new(0), most: AtomicI64::new(0) }
    }

    /// From now on this thread counts here.
    pub fn count_this_thread(&'static self) {
        MINE.set(self);
    }

    /// Calls that gave memory, also by moving it.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Bytes taken and not given back.
    pub fn in_use(&self) -> i64 {
        self.in_use.load(Relaxed)
    }

    /// The most bytes that ever were in use.
    pub fn most(&self) -> i64 {
        self.most.load(Relaxed)
    }

    fn add(&self, calls: u64, bytes: i64) {
        self.calls.fetch_add(calls, Relaxed);
        let now = self.in_use.fetch_add(bytes, Relaxed) + bytes;
        self.most.fetch_max(now, Relaxed);
    }
}

/// From now on this thread counts for nothing.
pub fn leave_this_thread_out() {
    OUT.count_this_thread();
}

fn count(calls: u64, bytes: i64) {
    MINE.get().add(calls, bytes);
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing and cannot panic, because
// the thread-local is made at compile time and needs no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    #[test]
    fn a_thread_counts_where_it_says() {
        static OWN: Counts = Counts::new();
        thread::spawn(|| {
            OWN.count_this_thread();
            let memory = vec![1u8; 1000];
            assert_eq!((OWN.calls(), OWN.in_use()), (1, 1000));
            drop(memory);
            assert_eq!((OWN.in_use(), OWN.most()), (0, 1000));
            leave_this_thread_out();
            drop(vec![1u8; 1000]);
            assert_eq!(OWN.calls(), 1);
        })
        .join()
        .expect("it counts");
    }
}
