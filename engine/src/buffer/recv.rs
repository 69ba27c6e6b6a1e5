//! What a handler reads from: received bytes where they lie, in the pool or in the connection's remainder.
//!
//! Invariant: the reference that came with a pooled range has one owner: this buffer (which releases it in
//! [`RecvBuf::finish`] or drop), the frame that takes the last bytes, or whoever gets the [`Unread`] range.
//! Frames taken before count on their own.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use super::frame::Frame;
use super::pool::{Pool, Received};
use super::range::Range;
use super::remainder::Remainder;

/// The bytes a connection has received and its handler has not read yet, oldest first.
///
/// Dereferences to the unread bytes. What is left unread when the handler returns comes back in front of
/// the next bytes.
pub struct RecvBuf<'a>(Source<'a>);

enum Source<'a> {
    Pool(&'a Pool, Range),
    Remainder(&'a mut Remainder),
    /// A range that went, with its reference, into the frame that took its last bytes.
    Spent,
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
    #[inline]
    pub(crate) fn from_pool(pool: &'a mut Pool, received: Received) -> RecvBuf<'a> {
        RecvBuf(Source::Pool(pool, pool.range(received)))
    }

    /// Reads what was left over, with the new bytes already behind it.
    #[inline]
    pub(crate) fn from_remainder(remainder: &'a mut Remainder) -> RecvBuf<'a> {
        RecvBuf(Source::Remainder(remainder))
    }

    /// Number of unread bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Pool(_, range) => range.len() as usize,
            Source::Remainder(remainder) => remainder.len(),
            Source::Spent => 0,
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
        if count > self.len() {
            read_too_much(count, self.len());
        }
        match &mut self.0 {
            Source::Pool(_, range) => range.advance(count as u32),
            Source::Remainder(remainder) => remainder.consume(count),
            Source::Spent => {}
        }
    }

    /// Reads the first `count` bytes as a frame: without a copy when they lie in the receive pool, copied
    /// when earlier bytes had to be kept in front of them.
    ///
    /// # Panics
    ///
    /// When fewer are left.
    // Always inlined, so that a frame can be made where it goes, in the slot of a lane: one that goes by way of
    // the stack costs the shard 5 ns more.
    #[inline(always)]
    pub fn take(&mut self, count: usize) -> Frame {
        if count > self.len() {
            read_too_much(count, self.len());
        }
        let (pool, range) = match &mut self.0 {
            Source::Pool(pool, range) => (*pool, range),
            Source::Remainder(remainder) => return take_copied(remainder, count),
            Source::Spent => return Frame::new(),
        };
        let part = range.first(count as u32);
        if part.len() == range.len() {
            // The reference is the frame's now: nothing to release here.
            self.0 = Source::Spent;
        } else {
            pool.owner().retain(part.buffer());
            range.advance(part.len());
        }
        Frame::from_counted(pool, part)
    }

    /// Reads everything as one frame, as [`RecvBuf::take`] does.
    #[inline(always)]
    pub fn take_all(&mut self) -> Frame {
        self.take(self.len())
    }

    /// The frame of a part of the unread bytes, as a sans-IO decoder gives it: without a copy when it lies in the
    /// receive pool, copied when it lies elsewhere. It is read by [`RecvBuf::consume`] like any other.
    #[inline]
    pub fn frame(&self, part: &[u8]) -> Frame {
        match &self.0 {
            Source::Pool(pool, range) if !part.is_empty() => match range.part(part) {
                Some(range) => {
                    pool.owner().retain(range.buffer());
                    Frame::from_counted(pool, range)
                }
                None => Frame::copy_from_slice(part),
            },
            _ => Frame::copy_from_slice(part),
        }
    }

    /// Ends the reading and says what is left.
    #[inline]
    pub(crate) fn finish(self) -> Unread {
        match &self.0 {
            Source::Pool(pool, range) if range.len() > 0 => {
                let range = pool.received_of(range);
                // Its reference goes on with the range.
                let _ = ManuallyDrop::new(self);
                Unread::InPool(range)
            }
            Source::Remainder(remainder) if !remainder.is_empty() => Unread::InRemainder(remainder.len()),
            _ => Unread::Nothing,
        }
    }
}

impl Drop for RecvBuf<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Source::Pool(pool, range) = &self.0 {
            pool.owner().release((range.buffer(), 1));
        }
    }
}

impl Deref for RecvBuf<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Pool(_, range) => range.bytes(),
            Source::Remainder(remainder) => remainder.unread(),
            Source::Spent => &[],
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
        f.debug_struct("RecvBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cold]
fn take_copied(remainder: &mut Remainder, count: usize) -> Frame {
    let frame = Frame::copy_from_slice(&remainder.unread()[..count]);
    remainder.consume(count);
    frame
}

// Apart and by value: what a message would borrow could not stay in registers on the way that never panics.
#[cold]
fn read_too_much(count: usize, len: usize) -> ! {
    panic!("read {count} of {len} bytes")
}
