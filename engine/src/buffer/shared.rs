//! What a pool and its frames share: the memory, the owner's counts, and the way back for everybody else.
//!
//! Two halves, two rules:
//! - [`Owner`] (counts, free list) is touched by the pool's own thread only, so its counts are plain
//!   cells. Whoever asks for it ([`PoolShared::owner`]) vouches for being that thread.
//! - [`Remote`] is touched by any thread, under its mutex. What other threads give back waits there
//!   until the owner collects it.
//!
//! Invariant: a reference is counted in `Owner` from the moment it exists until the owner collects
//! its return, or until the pool is gone (see [`PoolShared::orphan`]). While any reference is
//! counted, this object and its memory live.

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::handoff::lane::Consumer;

/// So many references of one buffer have ended.
pub(super) type Return = (u16, u32);

/// See the module's page.
pub(super) struct PoolShared {
    memory: Mapping,
    owner: Owner,
    remote: Remote,
}

// SAFETY: `memory` is plain memory, whose ranges are handed out by the counts; `remote` is a mutex and
// an atomic; `owner` is reached only through `PoolShared::owner`, whose callers are on its one thread.
unsafe impl Send for PoolShared {}
// SAFETY: as above.
unsafe impl Sync for PoolShared {}

impl PoolShared {
    pub(super) fn new(buffers: u16, buffer_size: u32) -> io::Result<PoolShared> {
        Ok(PoolShared {
            memory: Mapping::anonymous(usize::from(buffers) * buffer_size as usize)?,
            owner: Owner::new(buffers, buffer_size),
            remote: Remote {
                waiting: AtomicBool::new(false),
                returned: Mutex::new(Returned {
                    counts: vec![0; usize::from(buffers)].into_boxed_slice(),
                    orphan: None,
                }),
            },
        })
    }

    /// The owner's half.
    ///
    /// # Safety
    ///
    /// The caller is on the thread that made the pool (`Pool` is not `Send`), and the pool lives.
    #[inline(always)]
    pub(super) unsafe fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Where a range of a buffer lies. Stays valid while the range is counted.
    #[inline(always)]
    pub(super) fn at(&self, buffer: u16, offset: u32, len: u32) -> NonNull<u8> {
        let size = self.owner.buffer_size;
        if usize::from(buffer) >= self.owner.buffers.len() || offset > size || len > size - offset {
            broken("a range beyond the end of a buffer", buffer);
        }
        // SAFETY: within the mapping, which is of so many buffers of this size and lives as long as `self`.
        unsafe { self.memory.base.add(usize::from(buffer) * size as usize + offset as usize) }
    }

    /// Takes back `count` references of `buffer`, from any thread, at once.
    ///
    /// # Safety
    ///
    /// The caller holds these references, and with them the object: they are counted and will not
    /// be given back by anybody else.
    pub(super) unsafe fn take_back(this: NonNull<PoolShared>, (buffer, count): Return) {
        // SAFETY: `this` came from `Arc::into_raw`, and the references still count, so the
        // object lives. The additional strong count keeps it alive through the unlocking below, after
        // which the owner may collect the references and be done with the pool.
        let keep = unsafe {
            Arc::increment_strong_count(this.as_ptr());
            Arc::from_raw(this.as_ptr())
        };
        let mut returned = keep.lock();
        match &mut returned.orphan {
            None => {
                returned.counts[usize::from(buffer)] += count;
                keep.remote.waiting.store(true, Ordering::Relaxed);
            }
            Some(orphan) => {
                orphan.outstanding -= u64::from(count);
                PoolShared::free_if_last(this, returned);
            }
        }
    }

    /// Takes in what was given back through [`PoolShared::take_back`]. Once a tick.
    ///
    /// # Safety
    ///
    /// As [`PoolShared::owner`].
    #[inline]
    pub(super) unsafe fn collect(&self) {
        // A flag that is missed now is seen a tick later; the mutex orders everything else.
        if self.remote.waiting.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            unsafe { self.collect_counts(&mut self.lock()) };
        }
    }

    /// Ends the owner's side. Returns true when references are left: they have inherited the pool's
    /// own strong count, and the last of them frees the object.
    ///
    /// From here on nobody is "the owner's thread", and every return goes through the mutex:
    /// - A return under the mutex before this one is in `counts` and subtracted here; one after it
    ///   finds `orphan` and subtracts itself. The count cannot be missed or taken twice.
    /// - A return through a lane is published, then the producer looks at `closing`; here `closing`
    ///   is set, then the lanes are read. A sequentially consistent fence stands between the two steps
    ///   on both sides, so either this sees the return, or the producer sees `closing` and
    ///   comes to [`PoolShared::settle`] (or both, and the lane yields each item once).
    /// - Whoever brings `outstanding` to zero, under the mutex, is the only one to free.
    ///
    /// # Safety
    ///
    /// As [`PoolShared::owner`]; called once, at the end of the pool.
    pub(super) unsafe fn orphan(&self, closing: &AtomicBool, lanes: Vec<Consumer<Return>>) -> bool {
        let mut returned = self.lock();
        closing.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut orphan = Orphan { outstanding: 0, lanes };
        // SAFETY: the caller's promise; and these are the last looks at the owner's half.
        let held = unsafe {
            self.collect_counts(&mut returned);
            self.owner.held_frames.get()
        };
        orphan.outstanding = held;
        orphan.drain_lanes();
        let left = orphan.outstanding > 0;
        returned.orphan = left.then_some(orphan);
        left
    }

    /// Takes in what lies in the lanes of a pool that is gone. For producers that saw `closing`.
    pub(super) fn settle(self: Arc<PoolShared>) {
        let mut returned = self.lock();
        if let Some(orphan) = &mut returned.orphan {
            orphan.drain_lanes();
            // SAFETY: an Arc's pointer is not null. (A pointer made from `&*self` could not reach the counts.)
            let this = unsafe { NonNull::new_unchecked(Arc::as_ptr(&self).cast_mut()) };
            PoolShared::free_if_last(this, returned);
        }
    }

    /// Gives up the inherited strong count when nothing is outstanding. The caller holds one of its own.
    fn free_if_last(this: NonNull<PoolShared>, mut returned: MutexGuard<'_, Returned>) {
        if !matches!(&returned.orphan, Some(orphan) if orphan.outstanding == 0) {
            return;
        }
        returned.orphan = None;
        drop(returned);
        // SAFETY: the strong count left by the pool is given up once: `orphan` was `Some` and is `None`
        // for good. `this` came from `Arc::into_raw`, and the caller's own count keeps it alive here.
        unsafe { Arc::decrement_strong_count(this.as_ptr()) };
    }

    /// # Safety
    ///
    /// As [`PoolShared::owner`].
    unsafe fn collect_counts(&self, returned: &mut Returned) {
        self.remote.waiting.store(false, Ordering::Relaxed);
        for (buffer, count) in returned.counts.iter_mut().enumerate() {
            if *count > 0 {
                self.owner.release((buffer as u16, *count));
                *count = 0;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Returned> {
        // Nothing under this lock leaves it half-done; a panic there is an accounting error and aborts.
        self.remote.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The half of any thread, on lines of its own so that it does not slow the owner's counts.
#[repr(align(128))]
struct Remote {
    /// Something may be in `returned.counts`.
    waiting: AtomicBool,
    returned: Mutex<Returned>,
}

struct Returned {
    /// References given back and not collected yet, by buffer: never full, never growing.
    counts: Box<[u32]>,
    /// Set when the pool is gone and references are left.
    orphan: Option<Orphan>,
}

struct Orphan {
    outstanding: u64,
    /// The pool's ends of the return lanes, in which something may still arrive.
    lanes: Vec<Consumer<Return>>,
}

impl Orphan {
    fn drain_lanes(&mut self) {
        for lane in &mut self.lanes {
            while let Some((_, count)) = lane.pop() {
                self.outstanding -= u64::from(count);
            }
            lane.release();
        }
    }
}

/// The owner's half: per buffer its state, how far it is written, and who refers to it.
pub(super) struct Owner {
    buffer_size: u32,
    buffers: Box<[Buffer]>,
    /// Free buffers are a stack, linked through `next_free`: the warmest goes out first.
    free_top: Cell<u16>,
    free_buffers: Cell<u16>,
    held_buffers: Cell<u16>,
    held_frames: Cell<u64>,
}

struct Buffer {
    references: Cell<u32>,
    /// Bytes written so far: where the kernel writes next.
    head: Cell<u32>,
    next_free: Cell<u16>,
    state: Cell<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// The kernel may write from `head` on.
    Kernel,
    /// The kernel is done with it; references keep it.
    Held,
}

/// No buffer: pools have at most 2^15 of them.
const NONE: u16 = u16::MAX;

impl Owner {
    fn new(buffers: u16, buffer_size: u32) -> Owner {
        let owner = Owner {
            buffer_size,
            buffers: (0..buffers)
                .map(|_| Buffer {
                    references: Cell::new(0),
                    head: Cell::new(0),
                    next_free: Cell::new(NONE),
                    state: Cell::new(State::Held),
                })
                .collect(),
            free_top: Cell::new(NONE),
            free_buffers: Cell::new(0),
            held_buffers: Cell::new(buffers),
            held_frames: Cell::new(0),
        };
        for buffer in (0..buffers).rev() {
            owner.free(buffer);
        }
        owner
    }

    pub(super) fn buffers(&self) -> u16 {
        self.buffers.len() as u16
    }

    pub(super) fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    pub(super) fn free_buffers(&self) -> u16 {
        self.free_buffers.get()
    }

    pub(super) fn held_buffers(&self) -> u16 {
        self.held_buffers.get()
    }

    #[cfg(any(test, feature = "sim"))]
    pub(super) fn held_frames(&self) -> u64 {
        self.held_frames.get()
    }

    /// Takes a free buffer for the kernel.
    #[inline]
    pub(super) fn take_free(&self) -> Option<u16> {
        let buffer = self.free_top.get();
        let slot = self.buffers.get(usize::from(buffer))?;
        debug_assert_eq!((slot.state.get(), slot.head.get()), (State::Free, 0));
        self.free_top.set(slot.next_free.get());
        self.free_buffers.set(self.free_buffers.get() - 1);
        slot.state.set(State::Kernel);
        Some(buffer)
    }

    /// Where the kernel writes next in a buffer it has.
    #[inline]
    pub(super) fn head(&self, buffer: u16) -> u32 {
        let slot = &self.buffers[usize::from(buffer)];
        if slot.state.get() != State::Kernel {
            broken("a buffer is used that is not the kernel's", buffer);
        }
        slot.head.get()
    }

    /// Counts `len` bytes that the kernel wrote and one reference to them; returns their offset.
    #[inline]
    pub(super) fn received(&self, buffer: u16, len: u32, kernel_keeps_rest: bool) -> u32 {
        let offset = self.head(buffer);
        let slot = &self.buffers[usize::from(buffer)];
        if len > self.buffer_size - offset {
            broken("received beyond the end of a buffer", buffer);
        }
        slot.head.set(offset + len);
        if !kernel_keeps_rest {
            slot.state.set(State::Held);
            self.held_buffers.set(self.held_buffers.get() + 1);
        }
        self.retain(buffer);
        offset
    }

    /// Counts one more reference.
    #[inline]
    pub(super) fn retain(&self, buffer: u16) {
        let slot = &self.buffers[usize::from(buffer)];
        let references = slot.references.get();
        // 2^32 frames of one buffer can only be forgotten frames; wrapping would free memory in use.
        if references == u32::MAX {
            broken("the references of a buffer overflow", buffer);
        }
        slot.references.set(references + 1);
        self.held_frames.set(self.held_frames.get() + 1);
    }

    /// Ends `count` references; the last one of a buffer that the kernel is done with frees it.
    #[inline]
    pub(super) fn release(&self, (buffer, count): Return) {
        let slot = &self.buffers[usize::from(buffer)];
        let references = slot.references.get();
        if references < count {
            broken("a buffer was released more often than taken", buffer);
        }
        slot.references.set(references - count);
        self.held_frames.set(self.held_frames.get() - u64::from(count));
        if references == count && slot.state.get() == State::Held {
            self.free(buffer);
        }
    }

    #[inline]
    fn free(&self, buffer: u16) {
        let slot = &self.buffers[usize::from(buffer)];
        slot.head.set(0);
        slot.state.set(State::Free);
        slot.next_free.set(self.free_top.replace(buffer));
        self.free_buffers.set(self.free_buffers.get() + 1);
        self.held_buffers.set(self.held_buffers.get() - 1);
    }
}

/// Apart and by value: what a message borrowed could not stay in registers on the way that never panics.
#[cold]
#[inline(never)]
fn broken(what: &'static str, buffer: u16) -> ! {
    panic!("{what}: number {buffer}")
}

/// Anonymous memory, zeroed, touched lazily: a pool costs what was received into it.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn anonymous(len: usize) -> io::Result<Mapping> {
        // Miri, which knows every byte's owner, knows no reservations.
        let unreserved = if cfg!(miri) { 0 } else { libc::MAP_NORESERVE };
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | unreserved);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Mapping { base, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `anonymous`, unmapped once; the owner (`PoolShared`) goes only when no
        // reference is counted, and the shard drops its driver before its pool.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
