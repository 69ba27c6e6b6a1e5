//! The rings of an engine's shards, as each of them finds the others to pass connections to.
//!
//! Invariant: a descriptor that was found stays open, and the same ring's, as long as this lives: a submission that names it
//! cannot reach anybody else. So a stopped shard's ring lives until the last shard has stopped; its table of connections
//! does not, and what is passed to it is refused by the kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use crate::id::ShardId;

/// One ring per shard, once it has started.
#[derive(Debug)]
pub(crate) struct Rings(Box<[OnceLock<OwnedFd>]>);

impl Rings {
    /// For so many shards.
    pub(crate) fn new(shards: usize) -> Rings {
        Rings((0..shards).map(|_| OnceLock::new()).collect())
    }

    /// A shard has made its ring.
    pub(super) fn add(&self, shard: ShardId, ring: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(place) = self.0.get(usize::from(shard.0)) {
            // A shard makes one ring; of two the first would stay.
            let _ = place.set(ring.try_clone_to_owned()?);
        }
        Ok(())
    }

    /// A shard's ring, if it has made it.
    pub(super) fn of(&self, shard: ShardId) -> Option<BorrowedFd<'_>> {
        self.0.get(usize::from(shard.0))?.get().map(AsFd::as_fd)
    }
}
