//! The send queue of one connection: bytes and frames in the order they were sent, the first of them in flight.
//!
//! Small sends are copied into chunks, one behind the other, so many of them leave as one piece; frames are
//! pieces of their own. One chain is in flight at a time: the first pieces.
//!
//! Invariants:
//! - What the chain refers to, bytes of the first `in_flight` pieces, is the kernel's until
//!   [`SendQueue::complete`]: it neither changes, nor moves, nor goes. A queue dropped in spite of that leaks it.
//! - The copied pieces, in order, are the unsent bytes of `chunks`, in order; each lies in one chunk.
//! - `queued` is the sum of the pieces' lengths, and no piece is empty.
//!
//! A queue exists only while something is queued; the shard boxes and recycles it.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::chunk::{CHUNK_BYTES, Chunk, Chunks};
use super::frame::Frame;
use super::send_chain::{CHAIN_PIECES, SendChain};

/// Frames up to this are copied when the open chunk has room for them: half the cost of queueing one (34 to 60 ns
/// at this size, benches/micro `frame`), one iovec less, and the frame's memory is free at once. No chunk is opened for
/// them: fan-out to many idle connections would take one each.
const COPIED_FRAME_BYTES: usize = 1024;
/// Piece slots that a recycled queue may keep.
const KEPT_PIECES: usize = 2 * CHAIN_PIECES;
/// The same for chunks.
const KEPT_CHUNKS: usize = 16;

/// See the module's page.
pub struct SendQueue {
    pieces: VecDeque<Piece>,
    /// Those with unsent bytes; the last one is open: it may have room.
    chunks: VecDeque<Chunk>,
    queued: usize,
    /// Of these, the bytes in chunks.
    copied: usize,
    in_flight: usize,
    /// On its own, so that it stays in place when the queue is moved, and stays at all when leaked.
    chain: ManuallyDrop<Box<SendChain>>,
}

enum Piece {
    /// A range of one of `chunks`.
    Copied {
        start: NonNull<u8>,
        len: usize,
    },
    Whole(Frame),
}

impl SendQueue {
    /// An empty queue.
    pub fn new() -> SendQueue {
        SendQueue {
            pieces: VecDeque::new(),
            chunks: VecDeque::new(),
            queued: 0,
            copied: 0,
            in_flight: 0,
            chain: ManuallyDrop::new(Box::new(SendChain::empty())),
        }
    }

    /// Bytes queued, those in flight included.
    #[inline]
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Memory held for them: more than the bytes when there are many small pieces. (Not what a piece of a received frame
    /// keeps of its buffer: the pool is bounded by itself.) Nothing when nothing is queued.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        let frames = self.queued - self.copied;
        frames + self.pieces.len() * size_of::<Piece>() + self.chunks.len() * CHUNK_BYTES
    }

    /// Whether nothing is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Whether a chain is with the kernel.
    #[inline]
    pub fn in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Queues a copy of `bytes`: into the open chunk as far as it has room, the rest into a new
    /// one, or into memory of its own if it fits into none. Says how much more memory it holds.
    #[inline]
    pub fn push_copy(&mut self, bytes: &[u8], chunks: &mut Chunks) -> usize {
        let held = self.held_bytes();
        self.queued += bytes.len();
        let rest = &bytes[self.copy_into_open(bytes)..];
        if rest.len() > CHUNK_BYTES {
            self.pieces.push_back(Piece::Whole(Frame::copy_from_slice(rest)));
        } else if !rest.is_empty() {
            self.chunks.push_back(chunks.take());
            self.copy_into_open(rest);
        }
        self.held_bytes() - held
    }

    /// Queues a frame as it is (a small one is copied when the open chunk has room for it). Says how much more memory
    /// it holds.
    #[inline]
    pub fn push_frame(&mut self, frame: Frame) -> usize {
        let len = frame.len();
        self.queued += len;
        let room = self.chunks.back().map_or(0, Chunk::room);
        if len <= room.min(COPIED_FRAME_BYTES) {
            let pieces = self.pieces.len();
            self.copy_into_open(&frame);
            return (self.pieces.len() - pieces) * size_of::<Piece>();
        }
        #[cfg(feature = "planted")]
        if crate::planted::is(crate::planted::Bug::ReorderedSend) && !self.in_flight() {
            self.pieces.push_front(Piece::Whole(frame));
            return len + size_of::<Piece>();
        }
        self.pieces.push_back(Piece::Whole(frame));
        len + size_of::<Piece>()
    }

    /// Puts the first pieces in flight. What they refer to stays where it is until
    /// [`SendQueue::complete`].
    ///
    /// # Panics
    ///
    /// When nothing is queued or a chain is in flight already.
    #[inline]
    pub fn begin(&mut self) -> &SendChain {
        assert!(!self.is_empty() && !self.in_flight(), "nothing to send, or sending already");
        self.in_flight = match self.pieces.front() {
            Some(first) if self.pieces.len() == 1 => self.chain.lone(first.range()),
            _ => self.build_chain(),
        };
        &self.chain
    }

    #[inline(never)]
    fn build_chain(&mut self) -> usize {
        self.chain.build(self.pieces.iter().map(Piece::range))
    }

    /// Ends the flight: the first `taken` bytes are sent, the rest is queued as before. Says how much less memory it holds.
    ///
    /// # Panics
    ///
    /// When nothing is in flight, or less than was taken.
    #[inline]
    pub fn complete(&mut self, taken: usize, chunks: &mut Chunks) -> usize {
        assert!(self.in_flight() && taken <= self.chain.total(), "took more than was in flight");
        self.in_flight = 0;
        if taken == self.queued {
            return self.clear(chunks);
        }
        let held = self.held_bytes();
        self.queued -= taken;
        let mut left = taken;
        while left > 0 {
            left -= self.drop_front(left, chunks);
        }
        held - self.held_bytes()
    }

    /// Drops everything queued, and says how much memory it held.
    ///
    /// # Panics
    ///
    /// When a chain is in flight.
    #[inline]
    pub fn clear(&mut self, chunks: &mut Chunks) -> usize {
        assert!(!self.in_flight(), "the kernel still reads what is in flight");
        let held = self.held_bytes();
        // The usual queue has one piece and no chunk.
        drop(self.pieces.pop_front());
        if !(self.pieces.is_empty() && self.chunks.is_empty()) {
            self.clear_rest(chunks);
        }
        (self.queued, self.copied) = (0, 0);
        held
    }

    #[inline(never)]
    fn clear_rest(&mut self, chunks: &mut Chunks) {
        self.pieces.clear();
        while let Some(chunk) = self.chunks.pop_front() {
            chunks.put(chunk);
        }
    }

    /// Copies frames that are not in flight out of the receive pool, when it runs short of buffers; says
    /// how many.
    pub fn detach_frames(&mut self) -> usize {
        let mut detached = 0;
        for piece in self.pieces.iter_mut().skip(self.in_flight) {
            if let Piece::Whole(frame) = piece
                && frame.is_pooled()
            {
                *frame = std::mem::take(frame).detach();
                detached += 1;
            }
        }
        detached
    }

    /// Makes an empty queue ready for another connection: keeps its memory, unless it had grown large.
    ///
    /// # Panics
    ///
    /// When something is queued.
    #[inline]
    pub fn recycle(&mut self) {
        assert!(self.is_empty() && !self.in_flight(), "recycled with bytes queued");
        if self.pieces.capacity() > KEPT_PIECES {
            self.pieces.shrink_to(KEPT_PIECES);
        }
        if self.chunks.capacity() > KEPT_CHUNKS {
            self.chunks.shrink_to(KEPT_CHUNKS);
        }
    }

    /// Copies what fits into the open chunk, as part of the last piece if that is a copied one; says how much.
    /// (If that piece is in flight, its new bytes are not: the chain has the length it had.)
    #[inline]
    fn copy_into_open(&mut self, bytes: &[u8]) -> usize {
        let Some(open) = self.chunks.back_mut() else {
            return 0;
        };
        let (start, count) = open.append(bytes);
        if count == 0 {
            return 0;
        }
        self.copied += count;
        match self.pieces.back_mut() {
            // A chunk just opened does not continue the last piece, whatever its address.
            Some(Piece::Copied { len, .. }) if !open.began_with(count) => *len += count,
            _ => self.pieces.push_back(Piece::Copied { start, len: count }),
        }
        count
    }

    /// Takes at most `most` bytes off the first piece, and the piece away with its last one; says how many.
    #[inline]
    fn drop_front(&mut self, most: usize, chunks: &mut Chunks) -> usize {
        let Some(first) = self.pieces.front_mut() else { unreachable!("`queued` is the sum of the pieces") };
        let count = most.min(first.range().1);
        let all = count == first.range().1;
        match first {
            Piece::Copied { start, len } => {
                // SAFETY: `count <= len`: within or at the end of the piece's range.
                *start = unsafe { start.add(count) };
                *len -= count;
                self.copied -= count;
                if self.chunks.front_mut().is_some_and(|chunk| chunk.spend(count))
                    && let Some(chunk) = self.chunks.pop_front()
                {
                    chunks.put(chunk);
                }
            }
            Piece::Whole(frame) if !all => frame.advance(count),
            Piece::Whole(_) => {}
        }
        if all {
            self.pieces.pop_front();
        }
        count
    }
}

impl Default for SendQueue {
    fn default() -> SendQueue {
        SendQueue::new()
    }
}

impl Piece {
    #[inline]
    fn range(&self) -> (*const u8, usize) {
        match self {
            Piece::Copied { start, len } => (start.as_ptr(), *len),
            Piece::Whole(frame) => (frame.as_ptr(), frame.len()),
        }
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        if self.in_flight() {
            // The kernel may read these yet. Teardown waits for the completion, so this is a bug; leaked
            // memory is the harmless way to have it.
            std::mem::forget(std::mem::take(&mut self.pieces));
            std::mem::forget(std::mem::take(&mut self.chunks));
            debug_assert!(std::thread::panicking(), "a send queue was dropped in flight");
            return;
        }
        // SAFETY: dropped once, here, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.chain) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::tests::{XorShift, runs, steps};

    fn sent(queue: &mut SendQueue, chunks: &mut Chunks) -> Vec<Vec<u8>> {
        let chain = queue.begin();
        let all = chain.bytes();
        let mut ranges = Vec::new();
        let mut at = 0;
        for range in chain.iovecs() {
            ranges.push(all[at..at + range.iov_len].to_vec());
            at += range.iov_len;
        }
        let total = chain.total();
        assert_eq!((at, total), (all.len(), all.len()));
        queue.complete(total, chunks);
        ranges
    }

    #[test]
    fn small_sends_leave_as_one_piece() {
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        queue.push_copy(b"HTTP/1.1 200 OK\r\n", &mut chunks);
        queue.push_copy(b"", &mut chunks);
        queue.push_copy(b"\r\n", &mut chunks);
        queue.push_frame(Frame::from(&b"body"[..]));
        assert_eq!(queue.queued_bytes(), 23);
        assert_eq!(sent(&mut queue, &mut chunks), [b"HTTP/1.1 200 OK\r\n\r\nbody"]);
        assert_eq!((queue.is_empty(), chunks.free()), (true, 1));
        queue.recycle();
    }

    #[test]
    fn a_frame_is_sent_from_where_it_lies() {
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        let frame = Frame::from(vec![1; COPIED_FRAME_BYTES + 1]);
        let small = Frame::from(vec![2; 10]);
        let starts = [small.as_ptr(), frame.as_ptr()];
        queue.push_frame(small);
        queue.push_frame(frame);
        queue.push_frame(Frame::new());
        let chain = queue.begin();
        assert_eq!([chain.iovecs()[0].iov_base, chain.iovecs()[1].iov_base], starts.map(|at| at.cast_mut().cast()));
        let total = chain.total();
        queue.complete(total, &mut chunks);
        assert!(queue.is_empty());
    }

    #[test]
    fn headers_between_frames_share_a_chunk() {
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        for _ in 0..10 {
            queue.push_copy(b"header", &mut chunks);
            queue.push_frame(Frame::from(vec![0; COPIED_FRAME_BYTES + 1]));
        }
        assert_eq!((queue.pieces.len(), queue.chunks.len()), (20, 1));
        assert_eq!(sent(&mut queue, &mut chunks).len(), 20);
        assert_eq!(chunks.free(), 1);
    }

    #[test]
    fn what_is_in_flight_does_not_grow() {
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        queue.push_copy(b"in flight", &mut chunks);
        let chain: *const SendChain = queue.begin();
        queue.push_copy(b"later", &mut chunks);
        queue.push_frame(Frame::from(&b" and a frame"[..]));
        // SAFETY: the chain is boxed by the queue and not built anew until `complete`.
        assert_eq!(unsafe { (*chain).iovecs()[0].iov_len }, 9);
        queue.complete(9, &mut chunks);
        assert_eq!(sent(&mut queue, &mut chunks), [b"later and a frame"]);
    }

    #[test]
    fn a_slice_larger_than_a_chunk_has_its_own_memory() {
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        queue.push_copy(b"x", &mut chunks);
        queue.push_copy(&[7; 3 * CHUNK_BYTES], &mut chunks);
        let lengths: Vec<usize> = sent(&mut queue, &mut chunks).iter().map(Vec::len).collect();
        assert_eq!(lengths, [CHUNK_BYTES, 2 * CHUNK_BYTES + 1]);
    }

    #[test]
    fn a_chain_is_bounded_and_the_header_covers_it() {
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        for _ in 0..CHAIN_PIECES + 1 {
            queue.push_frame(Frame::from(vec![0; 300]));
        }
        let chain = queue.begin();
        // SAFETY: the header lies in the chain.
        let header = unsafe { &*chain.msghdr() };
        assert_eq!((header.msg_iov.cast_const(), header.msg_iovlen), (chain.iovecs().as_ptr(), CHAIN_PIECES));
        assert_eq!(chain.total(), 300 * CHAIN_PIECES);
        queue.complete(0, &mut chunks);
        queue.clear(&mut chunks);
        assert_eq!((queue.queued_bytes(), queue.held_bytes()), (0, 0));
    }

    #[test]
    fn frames_not_in_flight_can_be_copied_out_of_the_pool() {
        let mut pool = crate::buffer::tests::pool(1, 4096);
        pool.set_current();
        let bid = pool.take_free().unwrap().bid;
        pool.fill(bid, &[9; 600]);
        let received = pool.received(bid, 600, false);
        let frame = crate::buffer::RecvBuf::from_pool(&mut pool, received).take_all();
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        queue.push_frame(frame.slice(..300));
        queue.begin();
        queue.push_frame(frame.slice(300..));
        drop(frame);
        assert_eq!((queue.detach_frames(), pool.held_frames()), (1, 1));
        queue.complete(300, &mut chunks);
        assert_eq!(pool.free_buffers(), 1);
        assert_eq!(sent(&mut queue, &mut chunks), [[9; 300]]);
    }

    #[test]
    fn recycling_keeps_a_bounded_part_of_the_memory() {
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        for _ in 0..4 * KEPT_PIECES {
            queue.push_frame(Frame::from(vec![0; 300]));
        }
        queue.clear(&mut chunks);
        queue.recycle();
        assert!(queue.pieces.capacity() <= 2 * KEPT_PIECES);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_queue_dropped_in_flight_is_noticed() {
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        queue.push_copy(b"the kernel reads this", &mut chunks);
        queue.begin();
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(queue)));
        assert!(dropped.is_err());
    }

    /// Random pushes, flights, partial completions and ends, against a plain vector of bytes.
    #[test]
    fn it_agrees_with_a_vector_of_bytes() {
        for seed in 0..runs(200) {
            random_run(seed);
        }
    }

    fn random_run(seed: u64) {
        let mut random = XorShift::new(seed);
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(3));
        let mut model: Vec<u8> = Vec::new();
        // What the kernel was given, and may read until the end of the flight.
        let mut flight: Option<(*const SendChain, Vec<u8>)> = None;
        for step in 0..steps(1000) {
            let size = match random.below(4) {
                0 => random.below(3 * CHUNK_BYTES),
                1 => random.below(2 * COPIED_FRAME_BYTES),
                _ => random.below(60),
            };
            match random.below(5) {
                0 => {
                    let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + step) as u8).collect();
                    model.extend_from_slice(&bytes);
                    queue.push_frame(Frame::from(bytes));
                }
                1 | 2 => {
                    let bytes: Vec<u8> = (0..size).map(|at| (at * 3 + step) as u8).collect();
                    model.extend_from_slice(&bytes);
                    queue.push_copy(&bytes, &mut chunks);
                }
                3 if flight.is_none() && !queue.is_empty() => {
                    let chain = queue.begin();
                    let bytes = chain.bytes();
                    assert_eq!(bytes.len(), chain.total());
                    assert!(model.starts_with(&bytes), "seed {seed} step {step}");
                    flight = Some((chain, bytes));
                }
                _ => {
                    let Some((chain, before)) = flight.take() else {
                        continue;
                    };
                    // SAFETY: the chain is boxed by the queue and not built anew until `complete`.
                    let now = unsafe { (*chain).bytes() };
                    assert_eq!(now, before, "seed {seed} step {step}: changed in flight");
                    let taken = match random.below(3) {
                        0 => random.below(before.len() + 1),
                        _ => before.len(),
                    };
                    queue.complete(taken, &mut chunks);
                    model.drain(..taken);
                    if queue.is_empty() {
                        assert!(queue.pieces.is_empty() && queue.chunks.is_empty());
                        queue.recycle();
                    }
                }
            }
            assert_eq!((queue.queued_bytes(), queue.in_flight()), (model.len(), flight.is_some()));
            assert!(queue.held_bytes() <= queue.queued_bytes() + (queue.pieces.len() + 2) * CHUNK_BYTES);
            assert!(chunks.free() <= 3);
        }
        if flight.is_some() {
            queue.complete(0, &mut chunks);
        }
        queue.clear(&mut chunks);
    }
}
