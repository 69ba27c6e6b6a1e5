//! Admission: how many connections may be open in all, per listener and per source address.
//!
//! Owns the counts that all shards share, and nothing else is shared this way: a few atomics, touched once when a
//! connection is accepted and once when it is closed. Invariants: a count never passes its cap by what was
//! admitted, and every [`Admit`] is given back once. While several shards stand at a cap at the same moment, one may be
//! refused for another's attempt that is just being undone: refusals may come early by as many as
//! attempts are under way, never late.
//! It must not lock, and must not remember single addresses: its memory is fixed whoever connects.

use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::handoff::sync::AtomicU32;
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
        AdmissionConfig { total: total.min(MOST_TOTAL), per_source, table_bits }
    }
}

/// More than descriptors can be had, and room above it for attempts that are counted until they are undone.
const MOST_TOTAL: u32 = 1 << 31;

/// Tables beyond these bounds are mistakes: below, too many sources share a cell; above, a row takes more than 64 MiB.
const TABLE_BITS: RangeInclusive<u32> = 8..=24;

/// The counts of the whole engine.
///
/// A source counts in two cells, one of each row, and the lower one decides (a count-min sketch). So a cell shared with
/// another source refuses nobody; both must be shared, with sources that hold many. The estimate is never
/// below the truth. With `n` connections admitted it passes the truth by `k * n / 2^table_bits` with a probability of
/// `1 / k^2` at most. And if `s` other sources stand at their cap, about one innocent source in
/// `(2^table_bits / s)^2` is refused for them: a million connections from 1,024 sources at a cap of 1,024, in a
/// table of 16 bits, refuse one in 4,096.
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
        assert!(TABLE_BITS.contains(&config.table_bits), "table_bits outside {TABLE_BITS:?}");
        assert!(config.total <= MOST_TOTAL, "total above {MOST_TOTAL}");
        let cells = if config.per_source == 0 { 0 } else { 1 << config.table_bits };
        let row = || (0..cells).map(|_| AtomicU32::new(0)).collect();
        Admission { config, seed, total: AtomicU32::new(0), rows: [row(), row()] }
    }

    /// Connections admitted now.
    #[cfg(any(all(test, not(megamux_loom)), feature = "sim"))]
    pub(crate) fn total(&self) -> u32 {
        self.total.load(Relaxed)
    }

    /// Counts one more connection, unless a cap forbids it. Without `peer` no source is counted: for Unix sockets, and
    /// where a proxy in front will name the source later ([`Admission::rebind`]).
    pub(crate) fn try_admit(&self, listener: &ListenerCount, peer: Option<SocketAddr>) -> Result<Admit, Refusal> {
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

    /// Whether one more would fit, its source left aside. Others may be faster.
    pub(crate) fn has_room(&self, listener: &ListenerCount) -> bool {
        self.total.load(Relaxed) < self.config.total && listener.open.load(Relaxed) < listener.cap
    }

    /// Counts the connection under another source; if that one is full the old source stays.
    pub(crate) fn rebind(&self, admit: &mut Admit, peer: Option<SocketAddr>) -> Result<(), Refusal> {
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

    /// Counts the connection for another listener; if that one is full it counts for neither.
    pub(crate) fn move_to(&self, from: &ListenerCount, to: &ListenerCount, admit: Admit) -> Result<Admit, Refusal> {
        if !try_count(&to.open, to.cap) {
            self.release(from, admit);
            return Err(Refusal::ListenerCap);
        }
        uncount(&from.open);
        Ok(admit)
    }

    /// Gives back what [`Admission::try_admit`] counted, for the same listener.
    pub(crate) fn release(&self, listener: &ListenerCount, admit: Admit) {
        self.uncount_source(admit.source);
        uncount(&listener.open);
        uncount(&self.total);
    }

    /// Whether it has to know where connections come from.
    pub(crate) fn counts_sources(&self) -> bool {
        self.config.per_source != 0
    }

    fn source(&self, peer: Option<SocketAddr>) -> Source {
        match peer {
            Some(peer) if self.counts_sources() => Source::of(peer, self.seed),
            _ => Source::NONE,
        }
    }

    fn try_count_source(&self, source: Source) -> bool {
        self.cells(source).is_none_or(|cells| try_count_both(cells, self.config.per_source))
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
        ListenerCount { cap, open: AtomicU32::new(0) }
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

/// Counts one more in both cells, unless both hold more than `cap` then.
///
/// Each attempt counts in both before it looks at either, in the one order that `SeqCst` gives all of these: so the last to
/// count sees everybody in both, and the cap is not passed. (What the `fetch_add`s returned would not do: of two attempts that
/// pass each other, each is the first in one cell.) `loom_models` tries the orders.
fn try_count_both(cells: [&AtomicU32; 2], cap: u32) -> bool {
    for cell in cells {
        cell.fetch_add(1, SeqCst);
    }
    let admitted = cells.iter().any(|cell| cell.load(SeqCst) <= cap);
    if !admitted {
        cells.into_iter().for_each(uncount);
    }
    admitted
}

fn uncount(count: &AtomicU32) {
    let before = count.fetch_sub(1, Relaxed);
    debug_assert!(before > 0, "more was given back than admitted");
}

#[cfg(all(test, megamux_loom))]
mod loom_models;

#[cfg(all(test, not(megamux_loom)))]
mod tests {
    use std::thread;

    use super::*;

    const THREADS: usize = 8;

    fn peer(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().unwrap(), 4242))
    }

    fn admission(total: u32, per_source: u32) -> Admission {
        Admission::new(AdmissionConfig::new(total, per_source), 0x5EED)
    }

    fn assert_empty(admission: &Admission, listener: &ListenerCount) {
        assert_eq!((admission.total(), listener.open()), (0, 0));
        let cells = admission.rows.iter().flatten();
        assert_eq!(cells.filter(|cell| cell.load(Relaxed) != 0).count(), 0);
    }

    /// Every thread asks `attempts` times; all that was admitted, before any of it is given back.
    fn race(admission: &Admission, listener: &ListenerCount, attempts: usize, address: &str) -> Vec<Admit> {
        let attempt = |_| admission.try_admit(listener, peer(address)).ok();
        thread::scope(|scope| {
            let work = || (0..attempts).filter_map(attempt).collect::<Vec<_>>();
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn caps_hold_exactly_against_many_threads_and_releases_bring_back_zero() {
        for (total, listener, source) in [(1000, 0, 0), (100_000, 1000, 0), (100_000, 0, 1000)] {
            let admission = admission(total, source);
            let listener = ListenerCount::new(listener);
            let mut admitted = race(&admission, &listener, 1000, "192.0.2.1");
            assert!(admitted.len() <= 1000);
            // The last attempts may have refused each other; alone, nobody is refused early.
            while let Ok(admit) = admission.try_admit(&listener, peer("192.0.2.1")) {
                admitted.push(admit);
            }
            assert_eq!(admitted.len(), 1000);
            assert_eq!((admission.total(), listener.open()), (1000, 1000));

            admitted.into_iter().for_each(|admit| admission.release(&listener, admit));
            assert_empty(&admission, &listener);
        }
    }

    #[test]
    fn no_cap_is_passed_while_connections_come_and_go() {
        for (total, listener, source) in [(1, 0, 0), (9, 1, 0), (9, 0, 1), (9, 0, 5)] {
            let cap = [total, listener, source].into_iter().filter(|&cap| cap > 0).min().unwrap();
            let (admission, listener) = (admission(total, source), ListenerCount::new(listener));
            let open = AtomicU32::new(0);
            let come_and_go = || {
                for _ in 0..20_000 {
                    if let Ok(admit) = admission.try_admit(&listener, peer("2001:db8::1")) {
                        assert!(open.fetch_add(1, Relaxed) < cap);
                        open.fetch_sub(1, Relaxed);
                        admission.release(&listener, admit);
                    }
                }
            };
            thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(come_and_go))));
            assert_empty(&admission, &listener);
        }
    }

    #[test]
    fn each_cap_refuses_in_its_own_name_and_leaves_no_trace() {
        let check = |total, listener, source, refusal| {
            let (admission, listener) = (admission(total, source), ListenerCount::new(listener));
            let admit = admission.try_admit(&listener, peer("192.0.2.1")).unwrap();
            assert_eq!(admission.try_admit(&listener, peer("192.0.2.1")), Err(refusal));
            admission.release(&listener, admit);
            assert_empty(&admission, &listener);
        };
        check(1, 9, 9, Refusal::TotalCap);
        check(9, 1, 9, Refusal::ListenerCap);
        check(9, 9, 1, Refusal::SourceCap);
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_prefix_of_64_bits() {
        let same = |a, b| {
            let (admission, listener) = (admission(100, 1), ListenerCount::new(0));
            let first = admission.try_admit(&listener, peer(a));
            assert!(first.is_ok());
            admission.try_admit(&listener, peer(b)) == Err(Refusal::SourceCap)
        };
        assert!(same("192.0.2.1", "192.0.2.1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(!same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
    }

    #[test]
    fn connections_without_a_source_meet_the_other_caps_only() {
        let (admission, listener) = (admission(3, 1), ListenerCount::new(0));
        let admitted: Vec<_> = (0..3).map(|_| admission.try_admit(&listener, None).unwrap()).collect();
        assert_eq!(admission.try_admit(&listener, None), Err(Refusal::TotalCap));
        admitted.into_iter().for_each(|admit| admission.release(&listener, admit));
        assert_empty(&admission, &listener);
    }

    /// Sources that share cells with `victim`, by which rows they share.
    fn sharing(admission: &Admission, victim: Source, rows: [bool; 2]) -> impl Iterator<Item = SocketAddr> {
        let cell = |source: Source| admission.cells(source).unwrap().map(std::ptr::from_ref);
        let target = cell(victim);
        (0x0A00_0000u32..).map(|ip| SocketAddr::new(IpAddr::V4(ip.into()), 1)).filter(move |&peer| {
            let cells = cell(Source::of(peer, admission.seed));
            [cells[0] == target[0], cells[1] == target[1]] == rows
        })
    }

    #[test]
    fn only_a_collision_in_both_rows_refuses_an_innocent_source() {
        const CAP: u32 = 4;
        let config = AdmissionConfig { total: 1000, per_source: CAP, table_bits: 8 };
        let (admission, listener) = (Admission::new(config, 1), ListenerCount::new(0));
        let victim = peer("192.0.2.1");
        let source = Source::of(victim.unwrap(), admission.seed);
        let mut admitted = Vec::new();
        let mut fill = |peer| {
            admitted.extend((0..CAP).map(|_| admission.try_admit(&listener, Some(peer)).unwrap()));
        };

        sharing(&admission, source, [true, false]).take(3).for_each(&mut fill);
        let admit = admission.try_admit(&listener, victim).expect("the other row knows better");
        admission.release(&listener, admit);

        sharing(&admission, source, [false, true]).take(1).for_each(&mut fill);
        assert_eq!(admission.try_admit(&listener, victim), Err(Refusal::SourceCap));

        admitted.into_iter().for_each(|admit| admission.release(&listener, admit));
        assert_empty(&admission, &listener);
    }

    #[test]
    fn a_proxy_names_the_source_later() {
        let (admission, listener) = (admission(100, 1), ListenerCount::new(0));
        let mut first = admission.try_admit(&listener, None).unwrap();
        let mut second = admission.try_admit(&listener, None).unwrap();
        assert_eq!(admission.rebind(&mut first, peer("192.0.2.1")), Ok(()));
        assert_eq!(admission.rebind(&mut first, peer("192.0.2.1")), Ok(()));
        assert_eq!(admission.rebind(&mut second, peer("192.0.2.1")), Err(Refusal::SourceCap));
        assert_eq!(admission.rebind(&mut second, peer("192.0.2.2")), Ok(()));
        admission.release(&listener, first);
        assert_eq!(admission.rebind(&mut second, peer("192.0.2.1")), Ok(()));
        admission.release(&listener, second);
        assert_empty(&admission, &listener);
    }

    #[test]
    fn the_table_grows_with_the_cap_and_an_admission_is_four_bytes() {
        assert_eq!(AdmissionConfig::new(0, 1).table_bits, 8);
        assert_eq!(AdmissionConfig::new(1 << 20, 1).table_bits, 16);
        assert_eq!(AdmissionConfig::new(10_000_000, 1).table_bits, 20);
        assert_eq!(AdmissionConfig::new(u32::MAX, 1).table_bits, 24);
        assert_eq!(size_of::<Option<Admit>>(), 4);
    }
}
