//! RLIMIT_NOFILE: raised as far as it goes, and what it then allows.
//!
//! It owns the sum of what a server needs descriptors for. On io_uring, connections live in their rings' tables of
//! direct descriptors, not in the process's table, but the kernel bounds each of those by the same limit; on epoll they are
//! plain descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Standard streams, the log, the lock file, the signal pipe, the probe's ring with its sockets, and room for
/// what the runtime opens for a moment (files under /proc and /sys).
const SHARED_DESCRIPTORS: u64 = 24;
/// A ring, or epoll's descriptor and the one held in reserve; and the eventfd that wakes it.
const SHARD_DESCRIPTORS: u64 = 3;
/// The kernel's own bound on a ring's table (IORING_MAX_FIXED_FILES).
const LONGEST_TABLE: u64 = 1 << 20;

/// How many descriptors the process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// The soft limit now; `u64::MAX` is none.
    pub(crate) limit: u64,
    /// What it was, if it was raised.
    pub(crate) raised_from: Option<u64>,
}

/// There are fewer descriptors than the server needs to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "too few descriptors: RLIMIT_NOFILE allows {limit}, and {shards} shards with {listeners} listeners need {needed} \
     before the first connection; raise it (ulimit -Hn, LimitNOFILE=) or use fewer shards"
)]
pub struct TooFewDescriptors {
    /// What the process may have.
    pub limit: u64,
    /// What it needs.
    pub needed: u64,
    /// For so many shards,
    pub shards: usize,
    /// with so many listeners.
    pub listeners: usize,
}

/// Raises the soft limit to the hard one.
pub(crate) fn raise() -> Descriptors {
    let found = getrlimit(Resource::Nofile);
    let unraised = Descriptors { limit: found.current.unwrap_or(u64::MAX), raised_from: None };
    if found.current == found.maximum {
        return unraised;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum }) {
        Ok(()) => Descriptors { limit: found.maximum.unwrap_or(u64::MAX), raised_from: Some(unraised.limit) },
        Err(error) => {
            tracing::warn!(%error, "RLIMIT_NOFILE could not be raised");
            unraised
        }
    }
}

impl Descriptors {
    /// Whether a server of this size can start.
    pub(crate) fn check(self, shards: usize, listeners: usize) -> Result<(), TooFewDescriptors> {
        let needed = needed(shards, listeners);
        match self.limit < needed {
            true => Err(TooFewDescriptors { limit: self.limit, needed, shards, listeners }),
            false => Ok(()),
        }
    }

    /// How many are left for connections, where these take plain descriptors.
    pub(crate) fn left(self, shards: usize, listeners: usize) -> u64 {
        self.limit.saturating_sub(needed(shards, listeners))
    }

    /// How many connections one shard can have.
    pub(crate) fn connections_per_shard(self, configured: u32) -> u64 {
        self.limit.min(LONGEST_TABLE).min(configured.into())
    }
}

/// What a server takes before the first connection.
fn needed(shards: usize, listeners: usize) -> u64 {
    // Each listener is bound once per shard.
    let per_shard = SHARD_DESCRIPTORS + listeners as u64;
    SHARED_DESCRIPTORS + per_shard * shards as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_and_listener_is_counted() {
        let of = |limit| Descriptors { limit, raised_from: None };
        assert_eq!(of(SHARED_DESCRIPTORS + 2 * (SHARD_DESCRIPTORS + 3)).check(2, 3), Ok(()));
        let error = of(35).check(2, 3).unwrap_err();
        assert_eq!(error.needed, 36);
        assert!(error.to_string().starts_with("too few descriptors: RLIMIT_NOFILE allows 35, and 2 shards"));
        assert_eq!(of(u64::MAX).check(152, 3), Ok(()));
    }

    #[test]
    fn a_table_is_bounded_three_ways() {
        let of = |limit, configured| Descriptors { limit, raised_from: None }.connections_per_shard(configured);
        assert_eq!(of(20_000, 1 << 20), 20_000);
        assert_eq!(of(u64::MAX, u32::MAX), 1 << 20);
        assert_eq!(of(u64::MAX, 100), 100);
    }
}
