//! What one send gives to the kernel: the ranges of the pieces in flight, and a header over them.
//!
//! Invariant: the ranges are those of the pieces that the queue put in flight, and stay readable while it lends
//! the chain out: the queue keeps the pieces in place until its `complete`.

use std::io::IoSlice;
use std::{ptr, slice};

/// Ranges of one chain: 64 iovecs are 1 KiB, and the kernel copies them per send.
pub(super) const CHAIN_PIECES: usize = 64;
/// Bytes of one chain: results are `i32`, the length of a plain send is `u32`, and the kernel takes less
/// than 2 GiB at once.
const CHAIN_BYTES: usize = 1 << 30;

const NO_RANGE: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// See the module's page.
#[repr(C)]
pub struct SendChain {
    // What a chain of one needs is together, in one line of the cache.
    count: usize,
    total: usize,
    /// The range of a chain of one, the usual one.
    lone: libc::iovec,
    /// The ranges of longer ones. Made when the first comes: without it a queue takes a third of the memory, and a fan-out
    /// to more connections than there are spare queues makes one for each.
    many: Option<Box<[libc::iovec; CHAIN_PIECES]>>,
    header: libc::msghdr,
}

impl SendChain {
    /// The ranges, in order; at least one while in flight.
    #[inline]
    pub fn iovecs(&self) -> &[libc::iovec] {
        match &self.many {
            Some(many) if self.count > 1 => &many[..self.count],
            _ => &slice::from_ref(&self.lone)[..self.count],
        }
    }

    /// The same as slices.
    #[inline]
    pub fn slices(&self) -> &[IoSlice<'_>] {
        let iovecs = self.iovecs();
        // SAFETY: `IoSlice` has the layout of an iovec (std promises it), and the module's invariant keeps the ranges
        // readable and unchanged while the queue, whose borrow `self` is, lends the chain out.
        unsafe { slice::from_raw_parts(iovecs.as_ptr().cast(), iovecs.len()) }
    }

    /// A header over [`SendChain::iovecs`], without address or control data, of a chain of several. In place while in flight.
    #[inline]
    pub fn msghdr(&self) -> *const libc::msghdr {
        debug_assert!(self.count > 1, "a range alone has no header");
        &self.header
    }

    /// The sum of the ranges in bytes, below 2^31.
    #[inline]
    pub fn total(&self) -> usize {
        self.total
    }

    /// What the kernel would read.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.total);
        for range in self.iovecs() {
            // SAFETY: see the module's invariant; `complete` needs the queue for itself, and with it the borrow
            // that `self` is.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(range.iov_base.cast(), range.iov_len) });
        }
        bytes
    }

    pub(super) fn empty() -> SendChain {
        SendChain {
            count: 0,
            total: 0,
            // SAFETY: a C struct of integers and nullable pointers, for which zeroes are a value.
            header: unsafe { std::mem::zeroed() },
            lone: NO_RANGE,
            many: None,
        }
    }

    /// Makes it a chain of one range, the usual one; says how many are in it.
    #[inline]
    pub(super) fn lone(&mut self, (start, len): (*const u8, usize)) -> usize {
        self.total = len.min(CHAIN_BYTES);
        self.lone = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: self.total };
        self.count = 1;
        1
    }

    /// Fills the chain with the first of `pieces`, up to both bounds; says how many are in it.
    pub(super) fn build(&mut self, pieces: impl Iterator<Item = (*const u8, usize)>) -> usize {
        (self.count, self.total) = (0, 0);
        let many = self.many.get_or_insert_with(|| Box::new([NO_RANGE; CHAIN_PIECES]));
        for (range, (start, len)) in many.iter_mut().zip(pieces) {
            let iov_len = len.min(CHAIN_BYTES - self.total);
            *range = libc::iovec { iov_base: start.cast_mut().cast(), iov_len };
            self.count += 1;
            self.total += iov_len;
            if self.total == CHAIN_BYTES {
                break;
            }
        }
        if self.count == 1 {
            // The first piece fills it.
            self.lone = many[0];
        }
        self.header.msg_iov = many.as_mut_ptr();
        self.header.msg_iovlen = self.count as _;
        self.count
    }
}
