//! Frames: immutable bytes that can be passed to other threads and kept.
//!
//! A frame is either a counted range of a shard's receive pool or a `Bytes`. The counts of pool memory
//! are the shard's own and not atomic: on the shard's thread a clone is an increment and a drop a decrement; on
//! any other thread a drop sends the reference home (see `returns`), and a clone copies the bytes out.
//!
//! Invariant: one pooled frame is one counted reference, so its range is neither written nor unmapped
//! while it lives, even when the pool itself is gone.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::ptr::NonNull;

use bytes::{Buf, Bytes};

use super::pool::Pool;
use super::range::Range;
use super::returns;
use super::shared::PoolShared;

/// Immutable bytes, cheap to pass on: what handlers take from the receive buffer and what is sent without a copy.
///
/// A frame taken from received bytes is a range of the shard's receive pool: no copy, but while it
/// lives its whole buffer (64 KiB by default) cannot receive again. Dropping it, on any thread, gives
/// the range back. Keep such frames briefly; [`Frame::detach`] the ones to be kept.
///
/// Cloning on the shard's own thread is a plain increment. On any other thread the clone of a pooled frame
/// copies its bytes; [`Frame::share`] first if there are to be many.
pub struct Frame(Repr);

enum Repr {
    Pooled(Pooled),
    Bytes(Bytes),
}

const _: () = assert!(size_of::<Frame>() == 32);

impl Frame {
    /// No bytes.
    pub const fn new() -> Frame {
        Frame(Repr::Bytes(Bytes::new()))
    }

    /// A frame of its own memory.
    pub fn copy_from_slice(bytes: &[u8]) -> Frame {
        Frame(Repr::Bytes(Bytes::copy_from_slice(bytes)))
    }

    /// A part of this frame that shares its memory (as a clone does: see [`Frame`]).
    ///
    /// # Panics
    ///
    /// When the range is not within the frame.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Frame {
        let (start, end) = bounds(range, self.len());
        match &self.0 {
            Repr::Bytes(bytes) => Frame(Repr::Bytes(bytes.slice(start..end))),
            Repr::Pooled(pooled) => {
                assert!(start <= end && end <= self.len(), "{start}..{end} of {} bytes", self.len());
                match pooled.clone_local() {
                    Some(mut part) => {
                        part.truncate(end);
                        part.advance(start);
                        Frame(Repr::Pooled(part))
                    }
                    None => Frame::copy_from_slice(&pooled.bytes()[start..end]),
                }
            }
        }
    }

    /// Takes the first `at` bytes off this frame; the two share their memory (as a clone does).
    ///
    /// # Panics
    ///
    /// When the frame has fewer bytes.
    pub fn split_to(&mut self, at: usize) -> Frame {
        let front = self.slice(..at);
        self.advance(at);
        front
    }

    /// Drops the first `count` bytes; never copies.
    ///
    /// # Panics
    ///
    /// When the frame has fewer bytes.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "{count} of {} bytes", self.len());
        match &mut self.0 {
            Repr::Pooled(pooled) => pooled.advance(count),
            Repr::Bytes(bytes) => bytes.advance(count),
        }
    }

    /// Keeps the first `len` bytes, or all if there are no more; never copies.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        match &mut self.0 {
            Repr::Pooled(pooled) => pooled.truncate(len),
            Repr::Bytes(bytes) => bytes.truncate(len),
        }
    }

    /// The same bytes outside the receive pool: copied if they lay in it. For frames to be kept.
    #[must_use]
    pub fn detach(self) -> Frame {
        match &self.0 {
            Repr::Pooled(pooled) => Frame::copy_from_slice(pooled.bytes()),
            Repr::Bytes(_) => self,
        }
    }

    /// The same memory behind an atomic count, so that clones share it on every thread: one small
    /// allocation, no copy. For frames to be cloned off the shard's thread.
    #[must_use]
    pub fn share(self) -> Frame {
        Frame(Repr::Bytes(Bytes::from(self)))
    }

    /// A frame for a range whose reference, already counted, becomes the frame's.
    #[inline(always)]
    pub(super) fn from_counted(pool: &Pool, range: Range) -> Frame {
        let pool = pool.shared_ptr();
        Frame(Repr::Pooled(Pooled { pool, range }))
    }

    /// Whether the bytes lie in a receive pool.
    #[inline]
    pub(crate) fn is_pooled(&self) -> bool {
        matches!(self.0, Repr::Pooled(_))
    }
}

/// One counted reference to a buffer of a pool, and the range it is about.
struct Pooled {
    pool: NonNull<PoolShared>,
    range: Range,
}

// SAFETY: the bytes are immutable while the reference is counted; the counts are touched only on the
// pool's own thread (`is_current`), and other threads go through `returns`, which is made for it.
unsafe impl Send for Pooled {}
// SAFETY: as above; through a shared reference one can read, and clone, which looks at the thread too.
unsafe impl Sync for Pooled {}

impl Pooled {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.range.bytes()
    }

    /// Another reference to the same range; `None` on a thread that must not touch the counts.
    #[inline]
    fn clone_local(&self) -> Option<Pooled> {
        if !returns::is_current(self.pool) {
            return None;
        }
        // SAFETY: this thread is marked as the owner: set by a living `Pool` that is not `Send`,
        // and cleared when it goes.
        unsafe { self.pool.as_ref().owner().retain(self.range.buffer()) };
        let range = self.range.first(self.range.len());
        Some(Pooled { pool: self.pool, range })
    }

    /// `count` is at most the length.
    #[inline]
    fn advance(&mut self, count: usize) {
        self.range.advance(count as u32);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if len < self.range.len() as usize {
            self.range = self.range.first(len as u32);
        }
    }
}

impl Drop for Pooled {
    #[inline]
    fn drop(&mut self) {
        if returns::is_current(self.pool) {
            // SAFETY: as in `clone_local`.
            unsafe { self.pool.as_ref().owner().release((self.range.buffer(), 1)) };
        } else {
            // SAFETY: `self` is one counted reference, given back here and nowhere else.
            unsafe { returns::give_back(self.pool, self.range.buffer()) };
        }
    }
}

impl Clone for Frame {
    #[inline]
    fn clone(&self) -> Frame {
        match &self.0 {
            Repr::Bytes(bytes) => Frame(Repr::Bytes(bytes.clone())),
            Repr::Pooled(pooled) => match pooled.clone_local() {
                Some(pooled) => Frame(Repr::Pooled(pooled)),
                None => Frame::copy_from_slice(pooled.bytes()),
            },
        }
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Pooled(pooled) => pooled.bytes(),
            Repr::Bytes(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Frame {
    fn default() -> Frame {
        Frame::new()
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Frame {
        Frame(Repr::Bytes(bytes))
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Frame {
        Frame(Repr::Bytes(bytes.into()))
    }
}

impl From<&'static [u8]> for Frame {
    fn from(bytes: &'static [u8]) -> Frame {
        Frame(Repr::Bytes(Bytes::from_static(bytes)))
    }
}

impl From<Frame> for Bytes {
    /// Without a copy: pooled frames become the owner behind the `Bytes`.
    fn from(frame: Frame) -> Bytes {
        match frame.0 {
            Repr::Bytes(bytes) => bytes,
            Repr::Pooled(_) => Bytes::from_owner(frame),
        }
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        **self == **other
    }
}

impl Eq for Frame {}

impl PartialEq<[u8]> for Frame {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<&[u8]> for Frame {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Frame {
    /// The bytes as an escaped string, cut after 64 of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let shown = &self[..self.len().min(SHOWN)];
        write!(f, "Frame(b\"{}\"", shown.escape_ascii())?;
        match self.len() {
            ..=SHOWN => f.write_str(")"),
            len => write!(f, ".. of {len} bytes)"),
        }
    }
}

fn bounds(range: impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last + 1,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    (start, end)
}
