//! Chunks: the 4 KiB blocks that small sends are copied into, and the shard's free list of them.
//!
//! Invariant: `spent <= end <= CHUNK_BYTES`. Bytes below `end` are never written again, and the memory stays in
//! place while the chunk exists, so the kernel may read them while more is appended behind.

use std::ptr::{self, NonNull};

/// One block: one page, enough for dozens of small messages, little enough for one per slow connection.
pub(super) const CHUNK_BYTES: usize = 4096;

/// The free chunks of a shard.
#[derive(Debug)]
pub struct Chunks {
    free: Vec<Chunk>,
    most_free: usize,
}

impl Chunks {
    /// An empty list that will keep at most `most_free` chunks.
    pub fn new(most_free: usize) -> Chunks {
        Chunks { free: Vec::new(), most_free }
    }

    /// Free chunks kept right now.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    #[inline]
    pub(super) fn take(&mut self) -> Chunk {
        self.free.pop().unwrap_or_else(Chunk::new)
    }

    #[inline]
    pub(super) fn put(&mut self, mut chunk: Chunk) {
        if self.free.len() < self.most_free {
            (chunk.spent, chunk.end) = (0, 0);
            self.free.push(chunk);
        }
    }
}

/// One block: how much of it is written, and how much of that was sent.
#[derive(Debug)]
pub(super) struct Chunk {
    /// From a `Box<[u8]>` of `CHUNK_BYTES`. Not a `Box`, whose moves would claim that nobody else reads it.
    memory: NonNull<u8>,
    spent: u16,
    end: u16,
}

const _: () = assert!(CHUNK_BYTES <= u16::MAX as usize);

impl Chunk {
    fn new() -> Chunk {
        let memory: Box<[u8]> = vec![0; CHUNK_BYTES].into_boxed_slice();
        // SAFETY: a box's pointer is not null.
        let memory = unsafe { NonNull::new_unchecked(Box::into_raw(memory).cast::<u8>()) };
        Chunk { memory, spent: 0, end: 0 }
    }

    /// Copies as much of `bytes` as fits behind what is there; says where it begins and how much it is.
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) -> (NonNull<u8>, usize) {
        let count = bytes.len().min(self.room());
        // SAFETY: `end + count <= CHUNK_BYTES`, so the target is within the block. Nobody reads from
        // `end` on, and `bytes`, being borrowed, does not lie there.
        let start = unsafe {
            let start = self.memory.add(usize::from(self.end));
            ptr::copy_nonoverlapping(bytes.as_ptr(), start.as_ptr(), count);
            start
        };
        self.end += count as u16;
        (start, count)
    }

    #[inline]
    pub(super) fn room(&self) -> usize {
        CHUNK_BYTES - usize::from(self.end)
    }

    /// Whether nothing was appended before the last `count` bytes.
    #[inline]
    pub(super) fn began_with(&self, count: usize) -> bool {
        usize::from(self.end) == count
    }

    /// Counts `count` more bytes as sent; true when nothing unsent is left.
    #[inline]
    pub(super) fn spend(&mut self, count: usize) -> bool {
        self.spent += count as u16;
        debug_assert!(self.spent <= self.end);
        self.spent == self.end
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let memory: *mut [u8] = ptr::slice_from_raw_parts_mut(self.memory.as_ptr(), CHUNK_BYTES);
        // SAFETY: from `Box::into_raw` in `new`, with this length, freed once. The queue drops no chunk
        // with bytes in flight.
        drop(unsafe { Box::from_raw(memory) });
    }
}
