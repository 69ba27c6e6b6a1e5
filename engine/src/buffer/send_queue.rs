//! The send queue of one connection: bytes and frames in the order they were sent, the first of them in flight.
//!
//! Small sends are copied into the chunk at the tail, so many of them leave as one piece; frames are pieces
//! of their own. One chain is in flight at a time: the first pieces, as iovecs.
//!
//! Invariants:
//! - The first `in_flight` pieces belong to the kernel until [`SendQueue::complete`]: they are neither appended
//!   to, nor moved, nor freed. A queue dropped in spite of that leaks them.
//! - `queued` is the sum of the pieces' lengths, and no piece is empty.
//!
//! A queue exists only while something is queued; the shard boxes and recycles it.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::{ptr, slice};

use super::chunk::{CHUNK_BYTES, Chunk, Chunks};
use super::frame::Frame;

/// Pieces of one chain: 64 iovecs are 1 KiB, and the kernel copies them per send.
pub(crate) const CHAIN_PIECES: usize = 64;
/// Bytes of one chain: results are `i32`, the length of a plain send is `u32`, and the kernel takes less
/// than 2 GiB at once.
const CHAIN_BYTES: usize = 1 << 30;
/// Frames up to this are copied when the open tail chunk has room for them: one iovec less, and the frame's
/// memory is free at once. Never a new chunk for them: fan-out to many idle connections would take one each.
const COPIED_FRAME_BYTES: usize = 256;
/// Piece slots a recycled queue may keep.
const KEPT_PIECES: usize = 2 * CHAIN_PIECES;

/// See the module's page.
pub(crate) struct SendQueue {
    pieces: VecDeque<Piece>,
    queued: usize,
    in_flight: usize,
    /// On its own, so that it stays in place when the queue is moved, and stays at all when leaked.
    chain: ManuallyDrop<Box<SendChain>>,
}

enum Piece {
    Copied(Chunk),
    Whole(Frame),
}

impl SendQueue {
    /// An empty queue.
    pub(crate) fn new() -> SendQueue {
        SendQueue {
            pieces: VecDeque::new(),
            queued: 0,
            in_flight: 0,
            chain: ManuallyDrop::new(Box::new(SendChain::empty())),
        }
    }

    /// Bytes queued, those in flight included.
    #[inline]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Whether nothing is queued.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Whether a chain is with the kernel.
    #[inline]
    pub(crate) fn in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Queues a copy of `bytes`: into the open tail chunk as far as it has room, the rest into a new
    /// chunk, or into memory of its own if it fits into none.
    #[inline]
    pub(crate) fn push_copy(&mut self, bytes: &[u8], chunks: &mut Chunks) {
        self.queued += bytes.len();
        let taken = self.open_tail().map_or(0, |tail| tail.append(bytes));
        let rest = &bytes[taken..];
        if !rest.is_empty() {
            self.pieces.push_back(if rest.len() > CHUNK_BYTES {
                Piece::Whole(Frame::copy_from_slice(rest))
            } else {
                let mut chunk = chunks.take();
                chunk.append(rest);
                Piece::Copied(chunk)
            });
        }
    }

    /// Queues a frame as it is (a small one may be copied, see [`COPIED_FRAME_BYTES`]).
    #[inline]
    pub(crate) fn push_frame(&mut self, frame: Frame) {
        if frame.is_empty() {
            return;
        }
        self.queued += frame.len();
        if frame.len() <= COPIED_FRAME_BYTES
            && let Some(tail) = self.open_tail()
            && frame.len() <= tail.room()
        {
            tail.append(&frame);
            return;
        }
        self.pieces.push_back(Piece::Whole(frame));
    }

    /// Puts the first pieces in flight. What they refer to stays where it is until
    /// [`SendQueue::complete`].
    ///
    /// # Panics
    ///
    /// When nothing is queued or a chain is in flight already.
    pub(crate) fn begin(&mut self) -> &SendChain {
        assert!(
            !self.is_empty() && !self.in_flight(),
            "nothing to send, or sending already"
        );
        self.in_flight = self.chain.build(self.pieces.iter().map(Piece::bytes));
        &self.chain
    }

    /// Ends the flight: the first `taken` bytes are sent, the rest is queued as before.
    ///
    /// # Panics
    ///
    /// When nothing is in flight, or less than was taken.
    pub(crate) fn complete(&mut self, taken: usize, chunks: &mut Chunks) {
        assert!(
            self.in_flight() && taken <= self.chain.total,
            "took more than was in flight"
        );
        self.in_flight = 0;
        self.queued -= taken;
        let mut left = taken;
        while left > 0 {
            // `left` is within the sum of the pieces, so there is one.
            let Some(first) = self.pieces.front_mut() else {
                break;
            };
            let len = first.bytes().len();
            if left < len {
                first.advance(left);
                break;
            }
            left -= len;
            self.drop_first(chunks);
        }
    }

    /// Drops everything queued: the connection is gone.
    ///
    /// # Panics
    ///
    /// When a chain is in flight.
    pub(crate) fn clear(&mut self, chunks: &mut Chunks) {
        assert!(
            !self.in_flight(),
            "the kernel still reads what is in flight"
        );
        while !self.pieces.is_empty() {
            self.drop_first(chunks);
        }
        self.queued = 0;
    }

    /// Makes an empty queue ready for another connection: keeps its memory, unless it had grown large.
    ///
    /// # Panics
    ///
    /// When something is queued.
    pub(crate) fn recycle(&mut self) {
        assert!(
            self.is_empty() && !self.in_flight(),
            "recycled with bytes queued"
        );
        if self.pieces.capacity() > KEPT_PIECES {
            self.pieces.shrink_to(KEPT_PIECES);
        }
    }

    fn drop_first(&mut self, chunks: &mut Chunks) {
        if let Some(Piece::Copied(chunk)) = self.pieces.pop_front() {
            chunks.put(chunk);
        }
    }

    /// The last piece, if it is a chunk and not the kernel's.
    #[inline]
    fn open_tail(&mut self) -> Option<&mut Chunk> {
        if self.pieces.len() <= self.in_flight {
            return None;
        }
        match self.pieces.back_mut() {
            Some(Piece::Copied(chunk)) => Some(chunk),
            _ => None,
        }
    }
}

impl Piece {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Copied(chunk) => chunk.bytes(),
            Piece::Whole(frame) => frame,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Piece::Copied(chunk) => chunk.advance(count),
            Piece::Whole(frame) => frame.advance(count),
        }
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        if self.in_flight() {
            // The kernel may read these yet. Teardown waits for the completion, so this is a bug; leaked
            // memory is the harmless way to have it.
            std::mem::forget(std::mem::take(&mut self.pieces));
            debug_assert!(
                std::thread::panicking(),
                "a send queue was dropped in flight"
            );
            return;
        }
        // SAFETY: dropped once, here, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.chain) };
    }
}

/// What one send gives to the kernel: the ranges, and the header over them for `SENDMSG`.
pub(crate) struct SendChain {
    iovecs: [libc::iovec; CHAIN_PIECES],
    count: usize,
    total: usize,
    header: libc::msghdr,
}

impl SendChain {
    /// The ranges, in order; at least one while in flight.
    #[inline]
    pub(crate) fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs[..self.count]
    }

    /// A header over [`SendChain::iovecs`], without address or control data. In place while in flight.
    #[inline]
    pub(crate) fn msghdr(&self) -> *const libc::msghdr {
        &self.header
    }

    /// The sum of the ranges in bytes, below 2^31.
    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Appends the first `count` bytes (or all, if there are no more) to `out`: what a simulated kernel takes.
    pub(crate) fn copy_to(&self, count: usize, out: &mut Vec<u8>) {
        let mut left = count;
        for range in self.iovecs() {
            let len = range.iov_len.min(left);
            // SAFETY: built from a piece of the queue that lends this chain; the pieces stay in place
            // while it is in flight, and `complete`, which ends that, needs the queue for itself.
            out.extend_from_slice(unsafe { slice::from_raw_parts(range.iov_base.cast(), len) });
            left -= len;
        }
    }

    fn empty() -> SendChain {
        const NO_RANGE: libc::iovec = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        SendChain {
            iovecs: [NO_RANGE; CHAIN_PIECES],
            count: 0,
            total: 0,
            // SAFETY: a C struct of integers and nullable pointers, for which zeroes are a value.
            header: unsafe { std::mem::zeroed() },
        }
    }

    /// Fills the chain with the first of `pieces`, up to both bounds; says how many are in it.
    fn build<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> usize {
        (self.count, self.total) = (0, 0);
        for (range, piece) in self.iovecs.iter_mut().zip(pieces) {
            let len = piece.len().min(CHAIN_BYTES - self.total);
            *range = libc::iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: len,
            };
            self.count += 1;
            self.total += len;
            if self.total == CHAIN_BYTES {
                break;
            }
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.count as _;
        self.count
    }
}
