//! The ring of provided buffers: where the kernel takes its receive buffers from.
//!
//! Owns the shared array (16 bytes per buffer) and its tail. The buffers themselves are the pool's. Entries are written
//! first and the tail is published once after, so the kernel never sees half an entry. There are never more
//! entries than buffers, so the array cannot overflow.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};

use super::ops::BUFFER_GROUP;

/// The kernel's bound on the entries of one ring of buffers.
pub(super) const MOST_BUFFERS: u16 = 1 << 15;

/// How the kernel consumes a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consume {
    /// Each receive takes a whole buffer, however little it fills.
    Whole,
    /// Receives fill a buffer one after the other until it is full (`IOU_PBUF_RING_INC`).
    Incrementally,
}

/// The array shared with the kernel.
pub(super) struct ProvidedRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    /// Our copy of the tail, counting entries ever written.
    tail: u16,
}

impl ProvidedRing {
    /// Registers a ring with room for `buffers` buffers.
    pub(super) fn register(submitter: &Submitter<'_>, buffers: u16, consume: Consume) -> io::Result<ProvidedRing> {
        if buffers == 0 || buffers > MOST_BUFFERS {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let count = buffers.next_power_of_two();
        let size = usize::from(count) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(size, rustix::param::page_size())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast::<BufRingEntry>()) else { handle_alloc_error(layout) };
        let ring = ProvidedRing { entries, layout, mask: count - 1, tail: 0 };
        let flags = match consume {
            Consume::Whole => 0,
            Consume::Incrementally => IOU_PBUF_RING_INC as u16,
        };
        // SAFETY: page-aligned, zeroed, of `count` entries, and kept until after the io_uring has been torn down:
        // whoever owns the ring drops this after it (field order in `Ring`).
        unsafe {
            submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, count, BUFFER_GROUP, flags)?;
        }
        Ok(ring)
    }

    /// Writes one buffer; the kernel sees it after [`ProvidedRing::publish`].
    ///
    /// # Safety
    ///
    /// `ptr..ptr + len` must stay writable, and untouched, until the kernel has handed the buffer back or
    /// the io_uring is gone.
    pub(super) unsafe fn add(&mut self, bid: u16, ptr: *mut u8, len: u32) {
        let place = usize::from(self.tail & self.mask);
        // SAFETY: the mask keeps `place` inside the array. The kernel reads entries only below the published tail,
        // and this one lies above it. (The tail shares memory with a field of entry 0 that is not written here.)
        let entry = unsafe { &mut *self.entries.as_ptr().add(place) };
        entry.set_addr(ptr as u64);
        entry.set_len(len);
        entry.set_bid(bid);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes everything added visible to the kernel.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail is a `u16` inside the array, aligned, and accessed by atomics only (by the kernel, too).
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for ProvidedRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with this layout; the io_uring it was registered with is gone (see there).
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
