//! Chunks: the 4 KiB blocks that small sends are copied into, and the shard's free list of them.
//!
//! Invariant: `start <= end <= CHUNK_BYTES`, and a chunk's memory does not move or go while the chunk exists:
//! the kernel reads `start..end` of it while it is in flight.

use std::ptr::{self, NonNull};
use std::slice;

/// One block: one page, enough for dozens of small messages, little enough for one per slow connection.
pub(crate) const CHUNK_BYTES: usize = 4096;

/// The free chunks of a shard.
#[derive(Debug)]
pub(crate) struct Chunks {
    free: Vec<Chunk>,
    most_free: usize,
}

impl Chunks {
    /// An empty list that will keep at most `most_free` chunks.
    pub(crate) fn new(most_free: usize) -> Chunks {
        Chunks {
            free: Vec::new(),
            most_free,
        }
    }

    /// Free chunks kept right now.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    #[inline]
    pub(super) fn take(&mut self) -> Chunk {
        self.free.pop().unwrap_or_else(Chunk::new)
    }

    #[inline]
    pub(super) fn put(&mut self, mut chunk: Chunk) {
        if self.free.len() < self.most_free {
            (chunk.start, chunk.end) = (0, 0);
            self.free.push(chunk);
        }
    }
}

/// One block and the bytes in it that are still to be sent.
#[derive(Debug)]
pub(super) struct Chunk {
    /// From a `Box<[u8]>` of `CHUNK_BYTES`. Not a `Box`, whose moves would claim that nobody else reads it.
    memory: NonNull<u8>,
    start: u16,
    end: u16,
}

const _: () = assert!(CHUNK_BYTES <= u16::MAX as usize);

impl Chunk {
    fn new() -> Chunk {
        let memory = Box::into_raw(vec![0; CHUNK_BYTES].into_boxed_slice());
        // SAFETY: a box's pointer is not null.
        Chunk {
            memory: unsafe { NonNull::new_unchecked(memory.cast()) },
            start: 0,
            end: 0,
        }
    }

    /// Copies as much of `bytes` as fits behind what is there; says how much.
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        // SAFETY: `end + count <= CHUNK_BYTES`, so the target is within the block, which is ours: `bytes`
        // is somebody else's, and the kernel reads no chunk that is appended to (the queue sees to it).
        unsafe {
            let to = self.memory.add(usize::from(self.end));
            ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), count);
        }
        self.end += count as u16;
        count
    }

    #[inline]
    pub(super) fn room(&self) -> usize {
        CHUNK_BYTES - usize::from(self.end)
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: within the block and initialised: it began as zeroes.
        unsafe {
            let from = self.memory.add(usize::from(self.start));
            slice::from_raw_parts(from.as_ptr(), usize::from(self.end - self.start))
        }
    }

    /// Forgets the first `count` bytes, of which there are so many.
    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.bytes().len());
        self.start += count as u16;
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let memory = ptr::slice_from_raw_parts_mut(self.memory.as_ptr(), CHUNK_BYTES);
        // SAFETY: from `Box::into_raw` in `new`, with this length, freed once.
        drop(unsafe { Box::from_raw(memory) });
    }
}
