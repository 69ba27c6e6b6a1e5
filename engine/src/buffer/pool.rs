//! The receive pool of one shard: which buffers are free, which are the kernel's, which are held by frames.
//!
//! A buffer goes `free -> kernel -> held -> free`. The kernel writes from a buffer's head on and reports
//! ranges ([`Pool::received`]); each range is one reference. A buffer is free again when the kernel is
//! done with it and its last reference is gone, whoever held it.
//!
//! Invariant: every [`Received`] is released exactly once, on this pool, or becomes a `RecvBuf` that does it.
//! The pool never leaves its thread; frames may, and may outlive it.

use std::io;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::range::Range;
use super::returns::{self, ReturnLane};
use super::shared::{Owner, PoolShared, Return};
use crate::handoff::lane::{Consumer, lane};

/// Entries a return lane holds: as many as a lane of frames that each lie in another buffer. With fewer, a service
/// that is ahead of the shard's next collecting falls back to the mutex.
const RETURN_LANE_ENTRIES: usize = 1024;

/// How large a pool is.
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    /// Number of buffers, a power of two, at most 2^15 (what a provided-buffer ring takes).
    pub buffers: u16,
    /// Bytes per buffer.
    pub buffer_size: u32,
}

impl Default for PoolConfig {
    /// 4 MiB, as swept: 16 KiB echoes cost 0.99 of a bare epoll loop's with 64 buffers, 1.07 with 256
    /// (colder caches) and 1.26 with 16 (starved).
    fn default() -> PoolConfig {
        PoolConfig { buffers: 64, buffer_size: 64 * 1024 }
    }
}

/// A free buffer on its way to the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Provided {
    /// The buffer's number.
    pub bid: u16,
    /// Its first byte.
    pub ptr: *mut u8,
    /// Its size in bytes.
    pub len: u32,
}

/// A received range: one counted reference to its buffer, to be released exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The buffer's number.
    pub buf: u16,
    /// Where the range starts in it.
    pub off: u32,
    /// Its length in bytes.
    pub len: u32,
}

/// See the module's page.
pub struct Pool {
    /// From `Arc::into_raw`: one strong count, which outstanding frames inherit when the pool goes.
    shared: NonNull<PoolShared>,
    lanes: Vec<Consumer<Return>>,
    closing: Arc<AtomicBool>,
    /// Buffers that may be with the kernel at once.
    most_lent: u16,
    /// The owner's counts are not atomic: neither the pool nor a reference to it may change threads.
    not_send: PhantomData<*const PoolShared>,
}

impl Pool {
    /// Maps a pool's memory, untouched.
    pub fn new(config: PoolConfig) -> io::Result<Pool> {
        if !config.buffers.is_power_of_two() || config.buffer_size == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a pool needs a power of two of buffers, each of at least one byte",
            ));
        }
        let shared = Arc::new(PoolShared::new(config.buffers, config.buffer_size)?);
        // SAFETY: an Arc's pointer is not null.
        let shared = unsafe { NonNull::new_unchecked(Arc::into_raw(shared).cast_mut()) };
        Ok(Pool {
            shared,
            lanes: Vec::new(),
            closing: Arc::default(),
            most_lent: config.buffers,
            not_send: PhantomData,
        })
    }

    /// Number of buffers.
    #[inline]
    pub fn buffers(&self) -> u16 {
        self.owner().buffers()
    }

    /// Bytes per buffer.
    #[inline]
    pub fn buffer_size(&self) -> u32 {
        self.owner().buffer_size()
    }

    /// Buffers that could go to the kernel now.
    pub fn free_buffers(&self) -> u16 {
        self.owner().free_buffers()
    }

    /// References not yet given back (as far as collected).
    #[cfg(any(test, feature = "sim"))]
    pub fn held_frames(&self) -> u64 {
        self.owner().held_frames()
    }

    /// Bytes of buffers that nothing but references keeps from being free.
    pub fn held_bytes(&self) -> u64 {
        u64::from(self.owner().held_buffers()) * u64::from(self.buffer_size())
    }

    /// Whether references hold so much that what is received from now on should be copied out, unless it is let go of soon:
    /// beyond three quarters. The rest goes around, however long those references are kept.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.owner().held_buffers() > self.buffers() / 4 * 3
    }

    /// Buffers that are with the kernel.
    #[inline]
    pub fn lent(&self) -> u16 {
        self.buffers() - self.free_buffers() - self.owner().held_buffers()
    }

    /// Lets at most this many buffers be with the kernel at once. It goes around all that it has, so the
    /// fewer they are the less memory is touched.
    pub fn lend_at_most(&mut self, buffers: u16) {
        self.most_lent = buffers.clamp(1, self.buffers());
    }

    /// Lets twice as many be with the kernel, up to `most`, if it has used up half of them: the load has grown.
    #[inline]
    pub fn lend_more_if_short(&mut self, most: u16) {
        if self.lent() <= self.most_lent / 2 {
            self.lend_at_most(self.most_lent.saturating_mul(2).min(most));
        }
    }

    /// Takes a free buffer to hand to the kernel, unless that has enough.
    #[inline]
    pub fn take_free(&mut self) -> Option<Provided> {
        if self.lent() >= self.most_lent {
            return None;
        }
        let bid = self.owner().take_free()?;
        Some(Provided { bid, ptr: self.shared().at(bid, 0, 0).as_ptr(), len: self.buffer_size() })
    }

    /// Counts `len` bytes that the kernel has written at the head of buffer `bid`, and one reference to them.
    ///
    /// # Panics
    ///
    /// When the buffer is not the kernel's or does not have that much room: the driver is broken.
    #[inline]
    pub fn received(&mut self, bid: u16, len: u32, kernel_keeps_rest: bool) -> Received {
        let off = self.owner().received(bid, len, kernel_keeps_rest);
        Received { buf: bid, off, len }
    }

    /// Writes as the kernel would, at the head of buffer `bid`: for simulated drivers, before
    /// [`Pool::received`].
    ///
    /// # Panics
    ///
    /// When the buffer is not the kernel's or does not have that much room.
    #[cfg(any(test, feature = "sim", feature = "internals"))]
    pub fn fill(&mut self, bid: u16, data: &[u8]) {
        let head = self.owner().head(bid);
        let room = (self.buffer_size() - head) as usize;
        assert!(data.len() <= room, "{} bytes into a room of {room}", data.len());
        let to = self.shared().at(bid, head, data.len() as u32);
        // SAFETY: the bytes from the head on are in the mapping and belong to the kernel, for whom the
        // caller stands in; no reference reaches beyond the head, so nobody reads them.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), to.as_ptr(), data.len()) };
    }

    /// Where the next bytes of buffer `bid` go: from its head to its end. For drivers that receive by themselves, before
    /// [`Pool::received`].
    ///
    /// # Panics
    ///
    /// When the buffer is not the kernel's.
    #[inline]
    pub fn room(&mut self, bid: u16) -> &mut [u8] {
        let head = self.owner().head(bid);
        let room = self.buffer_size() - head;
        let start = self.shared().at(bid, head, room);
        // SAFETY: the bytes from the head on are in the mapping, initialised (it began as zeroes), and the kernel's, for whom
        // the caller stands in; no reference reaches beyond the head, and `&mut self` makes this the only one that does.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), room as usize) }
    }

    /// The bytes of a range that was not released yet.
    #[inline]
    pub fn bytes(&self, received: &Received) -> &[u8] {
        let start = self.shared().at(received.buf, received.off, received.len);
        // SAFETY: as in `range`; it is not released before the borrow of the pool ends.
        unsafe { slice::from_raw_parts(start.as_ptr(), received.len as usize) }
    }

    /// Ends the reference that came with `received`.
    #[inline]
    pub fn release(&mut self, received: Received) {
        self.owner().release((received.buf, 1));
    }

    /// Takes in what other threads gave back. Once a tick.
    #[inline]
    pub fn collect_returns(&mut self) {
        // SAFETY: `Pool` is not `Send`, so this is its thread.
        let owner = unsafe {
            self.shared.as_ref().collect();
            self.shared.as_ref().owner()
        };
        self.lanes.retain_mut(|lane| {
            while let Some(entry) = lane.pop() {
                owner.release(entry);
            }
            lane.release();
            !lane.is_abandoned()
        });
    }

    /// Makes a way back for one thread that will drop many frames of this pool.
    pub fn return_lane(&mut self) -> ReturnLane {
        let (producer, consumer) = lane(RETURN_LANE_ENTRIES, 0);
        self.lanes.push(consumer);
        // SAFETY: the pointer came from `Arc::into_raw`; the count that `from_raw` takes over is
        // the one just added.
        let shared = unsafe {
            Arc::increment_strong_count(self.shared.as_ptr());
            Arc::from_raw(self.shared.as_ptr())
        };
        ReturnLane::new(Arc::downgrade(&shared), Arc::clone(&self.closing), producer)
    }

    /// Marks this thread as the pool's owner, in place of any other pool's: from here to
    /// [`Pool::clear_current`], frames of this pool are cloned and dropped on its plain counts.
    #[inline]
    pub fn set_current(&mut self) {
        returns::set_current(self.shared.as_ptr());
    }

    /// Ends what [`Pool::set_current`] began. Frames dropped meanwhile come back by `collect_returns`.
    #[inline]
    pub fn clear_current(&mut self) {
        if returns::is_current(self.shared) {
            returns::set_current(ptr::null());
        }
    }

    /// Tells whether the memory is still there.
    #[cfg(test)]
    pub(super) fn watch(&mut self) -> std::sync::Weak<PoolShared> {
        self.return_lane().into_pool()
    }

    /// The object that frames point to.
    #[inline(always)]
    pub(super) fn shared_ptr(&self) -> NonNull<PoolShared> {
        self.shared
    }

    /// The range as a pointer; the reference goes on with it.
    #[inline(always)]
    pub(super) fn range(&self, received: Received) -> Range {
        let start = self.shared().at(received.buf, received.off, received.len);
        // SAFETY: a counted range lies below its buffer's head, where the kernel no longer writes, and
        // stays there until released; the mapping began as zeroes, so every byte is initialised.
        unsafe { Range::new(start, received.len, received.buf) }
    }

    /// What is left of a range; the reference goes on with it.
    #[inline]
    pub(super) fn received_of(&self, range: &Range) -> Received {
        let base = self.shared().at(range.buffer(), 0, 0);
        Received {
            buf: range.buffer(),
            // A range of this pool begins in its buffer, which is smaller than 4 GiB.
            off: (range.start().as_ptr().addr() - base.as_ptr().addr()) as u32,
            len: range.len(),
        }
    }

    #[inline(always)]
    pub(super) fn owner(&self) -> &Owner {
        // SAFETY: `Pool` is not `Send`, so this is its thread, and it lives.
        unsafe { self.shared().owner() }
    }

    #[inline(always)]
    fn shared(&self) -> &PoolShared {
        // SAFETY: the pool's own strong count keeps the object alive.
        unsafe { self.shared.as_ref() }
    }
}

impl Drop for Pool {
    /// Frames may still be out there: see `PoolShared::orphan`.
    fn drop(&mut self) {
        self.clear_current();
        let lanes = std::mem::take(&mut self.lanes);
        // SAFETY: the pointer is `new`'s, from `Arc::into_raw`, and its count is taken back once.
        // `Pool` is not `Send`, so this is the owner's thread, and its marker has just been cleared.
        unsafe {
            let shared = Arc::from_raw(self.shared.as_ptr());
            if shared.orphan(&self.closing, lanes) {
                std::mem::forget(shared);
            }
        }
    }
}
