//! A chain as a driver keeps it that reads it itself: the epoll driver what is left to send, a simulated kernel all of it.
//!
//! Invariant: whoever holds one is a driver, and a driver reads the memory of a send until that send's completion and no
//! longer. Until then the queue keeps chain and ranges in place (see `send_queue`), and simulated memory errors
//! are found by comparing what is read late with what was read first.

use std::io::IoSlice;
use std::ptr::NonNull;
#[cfg(feature = "sim")]
use std::slice;

use super::send_chain::{CHAIN_PIECES, SendChain};

/// What is left to send of a chain in flight.
#[derive(Debug)]
pub(crate) struct ChainRest {
    chain: NonNull<SendChain>,
    taken: usize,
}

impl ChainRest {
    /// A chain of which so many bytes are sent.
    pub(crate) fn new(chain: &SendChain, taken: usize) -> ChainRest {
        ChainRest { chain: NonNull::from(chain), taken }
    }

    /// Bytes sent.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.taken == self.chain().total()
    }

    /// So many more bytes are sent.
    pub(crate) fn advance(&mut self, count: usize) {
        self.taken += count;
        debug_assert!(self.taken <= self.chain().total());
    }

    /// Shows what is left.
    pub(crate) fn with_slices<R>(&self, read: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); CHAIN_PIECES];
        let all = self.chain().slices();
        let mut sent = self.taken;
        let mut count = 0;
        for slice in all {
            let skipped = sent.min(slice.len());
            sent -= skipped;
            if skipped < slice.len() {
                slices[count] = IoSlice::new(&slice[skipped..]);
                count += 1;
            }
        }
        read(&slices[..count])
    }

    fn chain(&self) -> &SendChain {
        // SAFETY: the module's invariant: the send is in flight, so its queue keeps the chain in place and does not write to it.
        unsafe { self.chain.as_ref() }
    }
}

/// The ranges of a chain in flight.
#[cfg(feature = "sim")]
pub(crate) struct LentChain {
    ranges: Vec<(*const u8, usize)>,
    total: usize,
}

#[cfg(feature = "sim")]
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
