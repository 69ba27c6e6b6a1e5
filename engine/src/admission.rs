//! Admission: how many connections may be open in all, per listener and per source address.
//!
//! Owns the counts that all shards share, and nothing else is shared this way: a few relaxed atomics, touched once when
//! a connection is accepted and once when it is closed. Invariants: a count never passes its cap by what was
//! admitted, and every [`Admit`] is given back once. While several shards stand at a cap at the same moment, one may be
//! refused for another's attempt that is just being undone: refusals may come early by as many as
//! attempts are under way, never late.
//! It must not lock, and must not remember single addresses: its memory is fixed whoever connects.

use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::stats::RefusalCause;

/// The caps that hold for the whole engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdmissionConfig {
    /// Connections in all.
    pub(crate) total: u32,
    /// Connections per source: one IPv4 address, or one IPv6 /64, which is what one subscriber gets. 0: no cap.
    pub(crate) per_source: u32,
    /// The table of sources has two rows of 2^`table_bits` cells of 4 bytes. See [`Admission`] for what follows.
    pub(crate) table_bits: u32,
}

impl AdmissionConfig {
    /// These caps, with a table that has a cell in each row for every 16 connections: 512 KiB for a million.
    pub(crate) fn new(total: u32, per_source: u32) -> Self {
        let cells = (total / 16).max(1).next_power_of_two();
        let table_bits = cells.ilog2().clamp(*TABLE_BITS.start(), *TABLE_BITS.end());
        AdmissionConfig {
            total,
            per_source,
            table_bits,
        }
    }
}

/// Tables beyond these bounds are mistakes: below, too many sources share a cell; above, a row takes more than 64 MiB.
const TABLE_BITS: RangeInclusive<u32> = 8..=24;

/// The counts of the whole engine.
///
/// A source counts in two cells, one of each row, and the lower one decides (a count-min sketch). So a cell shared with
/// another source refuses nobody; both must be shared, with sources that hold many. The estimate is never
/// below the truth. With `n` connections admitted it passes the truth by `k * n / 2^table_bits` for at most one source
/// in `k^2`. And if `s` other sources stand at their cap, they refuse one innocent source in `(2^table_bits / s)^2`:
/// a million connections from 1,024 sources at a cap of 1,024, in a table of 16 bits, one in 4,096.
/// The hash is seeded, so nobody can aim at another's cells.
#[derive(Debug)]
pub(crate) struct Admission {
    config: AdmissionConfig,
    seed: u64,
    total: AtomicU32,
    rows: [Box<[AtomicU32]>; 2],
}

/// The count of one listener, shared by the shards that accept from it.
#[derive(Debug)]
pub(crate) struct ListenerCount {
    cap: u32,
    open: AtomicU32,
}

/// One admitted connection's place in the counts, to be given back with [`Admission::release`]. It is moved, never
/// copied, so it cannot be given back twice.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an admission is given back by `Admission::release`"]
pub(crate) struct Admit {
    source: Source,
}

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::enum_variant_names, reason = "the words of the metric")]
pub(crate) enum Refusal {
    /// As many are open as may be in all.
    #[error("the engine is full")]
    TotalCap,
    /// As many are open as may be on this listener.
    #[error("the listener is full")]
    ListenerCap,
    /// As many are open as may be from this source.
    #[error("the source has too many connections")]
    SourceCap,
}

impl From<Refusal> for RefusalCause {
    fn from(refusal: Refusal) -> RefusalCause {
        match refusal {
            Refusal::TotalCap => RefusalCause::TotalCap,
            Refusal::ListenerCap => RefusalCause::ListenerCap,
            Refusal::SourceCap => RefusalCause::SourceCap,
        }
    }
}

impl Admission {
    /// Counts at zero. `seed` is random and secret.
    pub(crate) fn new(config: AdmissionConfig, seed: u64) -> Self {
        assert!(
            TABLE_BITS.contains(&config.table_bits),
            "table_bits outside {TABLE_BITS:?}"
        );
        // Leaves room for the attempts that stand above the cap until they are undone.
        assert!(
            config.total <= 1 << 31,
            "more connections than there are descriptors"
        );
        let cells = if config.per_source == 0 {
            0
        } else {
            1 << config.table_bits
        };
        let row = || (0..cells).map(|_| AtomicU32::new(0)).collect();
        Admission {
            config,
            seed,
            total: AtomicU32::new(0),
            rows: [row(), row()],
        }
    }

    /// Connections admitted now.
    pub(crate) fn total(&self) -> u32 {
        self.total.load(Relaxed)
    }

    /// Counts one more connection, unless a cap forbids it. Without `peer` no source is counted: for Unix sockets, and
    /// where a proxy in front will name the source later ([`Admission::rebind`]).
    pub(crate) fn try_admit(
        &self,
        listener: &ListenerCount,
        peer: Option<SocketAddr>,
    ) -> Result<Admit, Refusal> {
        if !try_count(&self.total, self.config.total) {
            return Err(Refusal::TotalCap);
        }
        if !try_count(&listener.open, listener.cap) {
            uncount(&self.total);
            return Err(Refusal::ListenerCap);
        }
        let source = self.source(peer);
        if !self.try_count_source(source) {
            uncount(&listener.open);
            uncount(&self.total);
            return Err(Refusal::SourceCap);
        }
        Ok(Admit { source })
    }

    /// Counts the connection under another source; if that one is full the old source stays.
    pub(crate) fn rebind(
        &self,
        admit: &mut Admit,
        peer: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        let source = self.source(peer);
        if source == admit.source {
            return Ok(());
        }
        if !self.try_count_source(source) {
            return Err(Refusal::SourceCap);
        }
        self.uncount_source(std::mem::replace(&mut admit.source, source));
        Ok(())
    }

    /// Gives back what [`Admission::try_admit`] counted, for the same listener.
    pub(crate) fn release(&self, listener: &ListenerCount, admit: Admit) {
        self.uncount_source(admit.source);
        uncount(&listener.open);
        uncount(&self.total);
    }

    fn source(&self, peer: Option<SocketAddr>) -> Source {
        match peer {
            Some(peer) if self.config.per_source != 0 => Source::of(peer, self.seed),
            _ => Source::NONE,
        }
    }

    fn try_count_source(&self, source: Source) -> bool {
        let Some(cells) = self.cells(source) else {
            return true;
        };
        let before = cells.map(|cell| cell.fetch_add(1, Relaxed));
        let admitted = before.into_iter().min() < Some(self.config.per_source);
        if !admitted {
            cells.into_iter().for_each(uncount);
        }
        admitted
    }

    fn uncount_source(&self, source: Source) {
        if let Some(cells) = self.cells(source) {
            cells.into_iter().for_each(uncount);
        }
    }

    /// A source's cell in each row: the low bits of its hash name the one, the high bits the other.
    fn cells(&self, source: Source) -> Option<[&AtomicU32; 2]> {
        let hash = source.hash()?;
        let bits = self.config.table_bits;
        let low = hash & ((1 << bits) - 1);
        let high = hash >> (u32::BITS - bits);
        Some([&self.rows[0][low as usize], &self.rows[1][high as usize]])
    }
}

impl ListenerCount {
    /// A count at zero. A `cap` of 0 is no cap.
    pub(crate) fn new(cap: u32) -> Self {
        let cap = if cap == 0 { u32::MAX } else { cap };
        ListenerCount {
            cap,
            open: AtomicU32::new(0),
        }
    }

    /// Connections open on this listener.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }
}

/// A source address as the table knows it: 32 bits of its hash. Two sources of the same hash count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source(NonZeroU32);

impl Source {
    /// No source to count.
    const NONE: Source = Source(NonZeroU32::MIN);

    fn of(peer: SocketAddr, seed: u64) -> Source {
        // SipHash, its state made secret by the seed that goes in first.
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        match peer.ip().to_canonical() {
            IpAddr::V4(ip) => hasher.write_u32(ip.to_bits()),
            IpAddr::V6(ip) => hasher.write_u64((ip.to_bits() >> 64) as u64),
        }
        let hash = NonZeroU32::new(hasher.finish() as u32).filter(|&hash| hash != Source::NONE.0);
        // Two hashes in 2^32 are taken; their sources share the cells of another.
        Source(hash.unwrap_or(NonZeroU32::MAX))
    }

    fn hash(self) -> Option<u32> {
        (self != Source::NONE).then_some(self.0.get())
    }
}

/// Counts one more, unless `cap` are counted.
fn try_count(count: &AtomicU32, cap: u32) -> bool {
    let admitted = count.fetch_add(1, Relaxed) < cap;
    if !admitted {
        uncount(count);
    }
    admitted
}

fn uncount(count: &AtomicU32) {
    let before = count.fetch_sub(1, Relaxed);
    debug_assert!(before > 0, "more was given back than admitted");
}
