//! A range of pool memory as a pointer: what receive buffers and frames read through.
//!
//! Invariant: a range is made of a checked, counted [`Received`](super::Received) and only ever shrinks, and
//! whoever holds it holds the reference. So its bytes are mapped, initialised and immutable while it exists.

use std::ptr::NonNull;
use std::slice;

/// See the module's page.
pub(super) struct Range {
    start: NonNull<u8>,
    len: u32,
    buffer: u16,
}

impl Range {
    /// # Safety
    ///
    /// The `len` bytes from `start` on are a counted range of `buffer`, whose reference the range stands for.
    #[inline(always)]
    pub(super) unsafe fn new(start: NonNull<u8>, len: u32, buffer: u16) -> Range {
        Range { start, len, buffer }
    }

    #[inline(always)]
    pub(super) fn buffer(&self) -> u16 {
        self.buffer
    }

    #[inline(always)]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the module's invariant.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }

    /// The first `len` bytes, which the caller counts (or hands on the count of), at most all.
    #[inline(always)]
    pub(super) fn first(&self, len: u32) -> Range {
        let len = len.min(self.len);
        Range { len, ..*self }
    }

    /// The range of these bytes, which the caller counts; `None` if they are not all of this range.
    #[inline]
    pub(super) fn part(&self, bytes: &[u8]) -> Option<Range> {
        let offset = bytes.as_ptr().addr().checked_sub(self.start.addr().get())?;
        let left = (self.len as usize).checked_sub(offset)?;
        (bytes.len() <= left).then(|| {
            let mut part = self.first((offset + bytes.len()) as u32);
            part.advance(offset as u32);
            part
        })
    }

    /// Forgets the first `count` bytes, at most all.
    #[inline(always)]
    pub(super) fn advance(&mut self, count: u32) {
        let count = count.min(self.len);
        self.len -= count;
        // SAFETY: within or at the end of the range.
        self.start = unsafe { self.start.add(count as usize) };
    }
}
