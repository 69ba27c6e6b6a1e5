//! What a handler reads from: received bytes where they lie, in the pool or in the connection's remainder.
//!
//! Invariant: the reference that came with a pooled range is released exactly once: by [`RecvBuf::finish`]
//! or drop, or by whoever takes the [`Unread`] range over. Frames taken from the range count on their own.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use super::frame::Frame;
use super::pool::{Pool, Received};
use super::remainder::Remainder;

/// The bytes a connection has received and its handler has not read yet, oldest first.
///
/// Dereferences to the unread bytes. What is left unread when the handler returns comes back in front of
/// the next bytes.
pub struct RecvBuf<'a>(Source<'a>);

enum Source<'a> {
    Pool(&'a Pool, Received),
    Remainder(&'a mut Remainder),
}

/// What a handler left unread, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// Everything was read. A pooled range is released; an empty remainder can be dropped.
    Nothing,
    /// This range, still counted: copy it into a remainder, then release it.
    InPool(Received),
    /// So many bytes, where they were.
    InRemainder(usize),
}

impl<'a> RecvBuf<'a> {
    /// Reads a received range, and takes over its reference.
    pub(crate) fn from_pool(pool: &'a mut Pool, received: Received) -> RecvBuf<'a> {
        RecvBuf(Source::Pool(pool, received))
    }

    /// Reads what was left over, with the new bytes already behind it.
    pub(crate) fn from_remainder(remainder: &'a mut Remainder) -> RecvBuf<'a> {
        RecvBuf(Source::Remainder(remainder))
    }

    /// Number of unread bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Pool(_, range) => range.len as usize,
            Source::Remainder(remainder) => remainder.len(),
        }
    }

    /// Whether everything was read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Marks the first `count` bytes as read.
    ///
    /// # Panics
    ///
    /// When fewer are left.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "read {count} of {} bytes", self.len());
        match &mut self.0 {
            Source::Pool(_, range) => {
                range.off += count as u32;
                range.len -= count as u32;
            }
            Source::Remainder(remainder) => remainder.consume(count),
        }
    }

    /// Reads the first `count` bytes as a frame: without a copy when they lie in the receive pool, copied
    /// when earlier bytes had to be kept in front of them.
    ///
    /// # Panics
    ///
    /// When fewer are left.
    #[inline]
    pub fn take(&mut self, count: usize) -> Frame {
        assert!(count <= self.len(), "read {count} of {} bytes", self.len());
        let frame = match &self.0 {
            Source::Pool(pool, range) => Frame::pooled(
                pool,
                Received {
                    len: count as u32,
                    ..*range
                },
            ),
            Source::Remainder(remainder) => Frame::copy_from_slice(&remainder.unread()[..count]),
        };
        self.consume(count);
        frame
    }

    /// Reads everything as one frame, as [`RecvBuf::take`] does.
    pub fn take_all(&mut self) -> Frame {
        self.take(self.len())
    }

    /// Ends the reading and says what is left.
    #[inline]
    pub(crate) fn finish(self) -> Unread {
        match &self.0 {
            Source::Pool(_, range) if range.len > 0 => {
                let range = *range;
                // Its reference goes on with the range.
                let _ = ManuallyDrop::new(self);
                Unread::InPool(range)
            }
            Source::Remainder(remainder) if !remainder.is_empty() => {
                Unread::InRemainder(remainder.len())
            }
            _ => Unread::Nothing,
        }
    }
}

impl Drop for RecvBuf<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Source::Pool(pool, range) = &self.0 {
            pool.give_up(*range);
        }
    }
}

impl Deref for RecvBuf<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Pool(pool, range) => pool.bytes(range),
            Source::Remainder(remainder) => remainder.unread(),
        }
    }
}

impl AsRef<[u8]> for RecvBuf<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for RecvBuf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuf")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
