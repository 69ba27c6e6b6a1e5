//! A chain as a simulated kernel keeps it: the ranges alone, read when the kernel would read them.
//!
//! Invariant: whoever holds one is a driver, and a driver reads the memory of a send until that send's completion and no
//! longer. Until then the queue keeps the ranges in place (see `send_queue`), and simulated memory errors
//! are found by comparing what is read late with what was read first.

use std::slice;

use super::send_chain::SendChain;

/// The ranges of a chain in flight.
pub(crate) struct LentChain {
    ranges: Vec<(*const u8, usize)>,
    total: usize,
}

impl LentChain {
    /// Notes where a chain's bytes lie.
    pub(crate) fn new(chain: &SendChain) -> LentChain {
        let range = |iovec: &libc::iovec| (iovec.iov_base.cast_const().cast(), iovec.iov_len);
        LentChain { ranges: chain.iovecs().iter().map(range).collect(), total: chain.total() }
    }

    /// The sum of the ranges in bytes.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// At most `len` bytes from `from` on, as they are now.
    pub(crate) fn read(&self, mut from: usize, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        for &(start, range) in &self.ranges {
            let skipped = from.min(range);
            from -= skipped;
            let wanted = (range - skipped).min(len - bytes.len());
            // SAFETY: the module's invariant: the send is in flight, so the queue keeps its pieces in place; and
            // `skipped + wanted` is within the range.
            bytes.extend_from_slice(unsafe { slice::from_raw_parts(start.add(skipped), wanted) });
        }
        bytes
    }
}
