//! The sum of what connections hold in send queues and unread remainders, per shard and per engine.
//! A million times a per-connection cap is no bound; this is.
//!
//! The shard's own sum is exact and free of atomics. The engine's sum is told the difference once per tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One shard's view of both sums.
pub(crate) struct Budget {
    held: usize,
    told: usize,
    limit: usize,
    engine: Arc<EngineBudget>,
}

/// The engine's sum, shared by its shards.
pub(crate) struct EngineBudget {
    held: AtomicUsize,
    limit: usize,
}

impl EngineBudget {
    pub(crate) fn new(limit: usize) -> Arc<EngineBudget> {
        Arc::new(EngineBudget { held: AtomicUsize::new(0), limit })
    }
}

impl Budget {
    pub(crate) fn new(limit: usize, engine: Arc<EngineBudget>) -> Budget {
        Budget { held: 0, told: 0, limit, engine }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.held += bytes;
    }

    pub(crate) fn sub(&mut self, bytes: usize) {
        debug_assert!(self.held >= bytes, "more bytes were given back than taken");
        self.held = self.held.saturating_sub(bytes);
    }

    /// What this shard's connections hold, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Tells the engine's sum what changed, and says how many bytes this shard should free now. When the engine's sum
    /// is over, each shard owes at most what it holds, and whoever looks first pays first.
    pub(crate) fn settle(&mut self) -> usize {
        if self.held != self.told {
            let change = self.held.wrapping_sub(self.told);
            self.engine.held.fetch_add(change, Ordering::Relaxed);
            self.told = self.held;
        }
        let over_here = self.held.saturating_sub(self.limit);
        let over_there = self.engine.held.load(Ordering::Relaxed).saturating_sub(self.engine.limit);
        over_here.max(over_there.min(self.held))
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.engine.held.fetch_sub(self.told, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_over_its_limit_owes_the_difference() {
        let mut budget = Budget::new(100, EngineBudget::new(1000));
        budget.add(130);
        assert_eq!(budget.settle(), 30);
        budget.sub(130);
        assert_eq!(budget.settle(), 0);
    }

    #[test]
    fn the_engine_is_over_when_its_shards_are_together() {
        let engine = EngineBudget::new(150);
        let mut a = Budget::new(100, Arc::clone(&engine));
        let mut b = Budget::new(100, Arc::clone(&engine));
        a.add(90);
        assert_eq!(a.settle(), 0);
        b.add(90);
        assert_eq!(b.settle(), 30);
        drop(a);
        assert_eq!(b.settle(), 0);
    }
}
