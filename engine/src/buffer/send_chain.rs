//! What one send gives to the kernel: the ranges of the pieces in flight, and a header over them.
//!
//! Invariant: the ranges are those of the pieces that the queue put in flight, and stay readable while it lends
//! the chain out: the queue keeps the pieces in place until its `complete`.

use std::ptr;

/// Ranges of one chain: 64 iovecs are 1 KiB, and the kernel copies them per send.
pub(super) const CHAIN_PIECES: usize = 64;
/// Bytes of one chain: results are `i32`, the length of a plain send is `u32`, and the kernel takes less
/// than 2 GiB at once.
const CHAIN_BYTES: usize = 1 << 30;

/// See the module's page.
#[repr(C)] // A chain of one touches the first cache line or two.
pub struct SendChain {
    count: usize,
    total: usize,
    header: libc::msghdr,
    iovecs: [libc::iovec; CHAIN_PIECES],
}

impl SendChain {
    /// The ranges, in order; at least one while in flight.
    #[inline]
    pub fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs[..self.count]
    }

    /// A header over [`SendChain::iovecs`], without address or control data. In place while in flight.
    #[inline]
    pub fn msghdr(&self) -> *const libc::msghdr {
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
        const NO_RANGE: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        SendChain {
            count: 0,
            total: 0,
            // SAFETY: a C struct of integers and nullable pointers, for which zeroes are a value.
            header: unsafe { std::mem::zeroed() },
            iovecs: [NO_RANGE; CHAIN_PIECES],
        }
    }

    /// Makes it a chain of one range, the usual one; says how many are in it.
    #[inline]
    pub(super) fn lone(&mut self, (start, len): (*const u8, usize)) -> usize {
        self.total = len.min(CHAIN_BYTES);
        self.iovecs[0] = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: self.total };
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = 1;
        self.count = 1;
        1
    }

    /// Fills the chain with the first of `pieces`, up to both bounds; says how many are in it.
    pub(super) fn build(&mut self, pieces: impl Iterator<Item = (*const u8, usize)>) -> usize {
        (self.count, self.total) = (0, 0);
        for (range, (start, len)) in self.iovecs.iter_mut().zip(pieces) {
            let iov_len = len.min(CHAIN_BYTES - self.total);
            *range = libc::iovec { iov_base: start.cast_mut().cast(), iov_len };
            self.count += 1;
            self.total += iov_len;
            if self.total == CHAIN_BYTES {
                break;
            }
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.count as _;
        self.count
    }
}
