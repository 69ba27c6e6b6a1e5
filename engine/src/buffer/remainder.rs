//! The remainder of a connection: bytes received and left unread, in memory of their own.
//!
//! Exists only while something is left: the shard makes one when a handler leaves bytes behind and drops
//! it when they are read. How long it may grow is the shard's bound (`FrameTooLarge`), not known here.
//!
//! Invariant: `read <= bytes.len()`, and the memory grows only while more is unread than read: it is at
//! most four times the unread bytes at their peak.

/// See the module's page.
#[derive(Debug, Default)]
pub struct Remainder {
    bytes: Vec<u8>,
    read: usize,
}

impl Remainder {
    /// Puts bytes behind those that are left.
    pub fn append(&mut self, bytes: &[u8]) {
        let full = self.bytes.capacity() - self.bytes.len() < bytes.len();
        // Moving the unread bytes down costs no more than reading what they follow did, so it is paid for.
        if self.read > 0 && (full || self.read == self.bytes.len()) && self.read >= self.len() {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Number of unread bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Whether everything was read, and the remainder can go.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The unread bytes.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    /// Marks the first `count` unread bytes as read. `count` is at most [`Remainder::len`].
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.read += count;
    }
}
