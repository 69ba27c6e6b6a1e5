//! The tick timeline: what a shard's last ticks did and when, kept in a ring that anyone may read.
//!
//! Owns the record of a tick, how it is packed, and who asks for how much of it. Always there is when a tick entered the
//! kernel, came back and ended, from clock readings that the tick makes anyway. Its phases are told apart, by four more
//! readings, only while somebody reads. Invariant: recording changes nothing that a handler, a service or a peer can see.
//! docs/profiling.md draws it.

mod ring;

#[cfg(all(test, megamux_loom))]
mod loom_models;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::driver::DriverCounts;
use crate::limits;
use crate::time::Time;

use ring::SeqRing;

/// How long phases are told apart after somebody has read: readers come again within it, or are gone.
const INTEREST: Duration = Duration::from_secs(2);

/// A part of a tick, in the order they have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Submits, and waits for completions or a wake.
    Enter,
    /// Takes completions from the driver.
    Reap,
    /// Completions are acted on: the handlers' calls for what was received.
    Dispatch,
    /// Services that live on the shard, and the answers of all.
    Service,
    /// Timers, and unread bytes that are offered again.
    Resume,
    /// Marks become operations; lanes, buffers and figures are published.
    Flush,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Phase; PHASES] =
        [Phase::Enter, Phase::Reap, Phase::Dispatch, Phase::Service, Phase::Resume, Phase::Flush];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Enter => "enter",
            Phase::Reap => "reap",
            Phase::Dispatch => "dispatch",
            Phase::Service => "service",
            Phase::Resume => "resume",
            Phase::Flush => "flush",
        }
    }
}

const PHASES: usize = 6;

/// What one tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tick {
    /// Ticks of the shard before it.
    pub number: u64,
    /// When it went to the driver: the end of the tick before.
    pub entered: Time,
    /// When each phase ended, in the order of [`Phase::ALL`]. Where phases are not told apart, those between the first and
    /// the last seem to take no time, and the last takes it all.
    pub ends: [Time; PHASES],
    /// Whether phases are told apart.
    pub has_phases: bool,
    /// Calls into the kernel, at most 2^24 - 1 as of all that is counted here.
    pub enters: u32,
    /// Operations submitted.
    pub submissions: u32,
    /// Completions reaped.
    pub completions: u32,
}

/// A stretch of a shard's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Trace {
    /// Ticks by their number, without those that were overwritten before they could be read.
    pub ticks: Vec<Tick>,
    /// Where to go on reading.
    pub next: u64,
    /// How many of the ticks that were asked for have been overwritten.
    pub lost: u64,
}

/// A tick's record: when it entered, then for each phase when it ended (nanoseconds after that, 40 bits: 18 minutes) and
/// a count or none (24 bits).
const WORDS: usize = 1 + PHASES;
const TIME_BITS: u32 = 40;

/// The timeline of one shard, from all sides.
#[derive(Debug)]
pub(crate) struct Timeline {
    ring: SeqRing<WORDS>,
    /// Until when phases are told apart. Readers write it, the shard looks at it once per tick.
    wanted_until: Interest,
}

/// Apart from the ring's counter, which the shard writes each tick.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Interest(AtomicU64);

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { ring: SeqRing::new(limits::TRACED_TICKS), wanted_until: Interest::default() }
    }
}

impl Timeline {
    /// At most `most` ticks from number `from` on, and has phases told apart for a while from `now` on.
    pub(crate) fn read(&self, from: u64, most: usize, now: Time) -> Trace {
        self.wanted_until.0.fetch_max((now + INTEREST).as_nanos(), Relaxed);
        let end = self.ring.next();
        let from = from.min(end);
        let first = from.max(end.saturating_sub(self.ring.len()));
        let next = end.min(first.saturating_add(most as u64));
        let tick = |number| Some(unpack(number, self.ring.read(number)?));
        let ticks: Vec<Tick> = (first..next).filter_map(tick).collect();
        Trace { next, lost: next - from - ticks.len() as u64, ticks }
    }
}

/// The shard's end of its timeline: the one writer.
#[derive(Debug)]
pub(crate) struct Recorder {
    timeline: Arc<Timeline>,
    tick: Tick,
    counts: DriverCounts,
}

impl Recorder {
    /// For the thread of the shard whose timeline it is.
    pub(crate) fn new(timeline: Arc<Timeline>) -> Recorder {
        Recorder { timeline, tick: Tick::default(), counts: DriverCounts::default() }
    }

    /// The wait is over.
    #[inline]
    pub(crate) fn begin(&mut self, entered: Time, now: Time) {
        self.timeline.ring.prepare();
        self.tick.entered = entered;
        self.tick.ends = [now; PHASES];
        self.tick.has_phases = now.as_nanos() < self.timeline.wanted_until.0.load(Relaxed);
    }

    /// Whether [`Recorder::mark`] is wanted in this tick.
    #[inline]
    pub(crate) fn has_phases(&self) -> bool {
        self.tick.has_phases
    }

    /// A phase is over.
    pub(crate) fn mark(&mut self, phase: Phase, now: Time) {
        self.tick.ends[phase as usize] = now;
    }

    /// The tick is over; `counts` are the driver's so far.
    #[inline]
    pub(crate) fn end(&mut self, now: Time, counts: DriverCounts, completions: usize) {
        let tick = &mut self.tick;
        tick.ends[Phase::Flush as usize] = now;
        tick.enters = counts.enters.wrapping_sub(self.counts.enters) as u32;
        tick.submissions = counts.submissions.wrapping_sub(self.counts.submissions) as u32;
        tick.completions = completions as u32;
        self.counts = counts;
        self.timeline.ring.push(pack(tick));
    }
}

fn pack(tick: &Tick) -> [u64; WORDS] {
    let counts = [tick.enters, tick.submissions, tick.completions, 0, 0, tick.has_phases.into()];
    let mut words = [tick.entered.as_nanos(); WORDS];
    for ((word, end), count) in words[1..].iter_mut().zip(tick.ends).zip(counts) {
        let after = end.as_nanos().saturating_sub(tick.entered.as_nanos()).min((1 << TIME_BITS) - 1);
        *word = after | u64::from(count.min((1 << (u64::BITS - TIME_BITS)) - 1)) << TIME_BITS;
    }
    words
}

fn unpack(number: u64, words: [u64; WORDS]) -> Tick {
    let after = |phase: usize| words[1 + phase] & ((1 << TIME_BITS) - 1);
    let count = |phase: usize| (words[1 + phase] >> TIME_BITS) as u32;
    Tick {
        number,
        entered: Time::from_nanos(words[0]),
        ends: std::array::from_fn(|phase| Time::from_nanos(words[0] + after(phase))),
        enters: count(0),
        submissions: count(1),
        completions: count(2),
        has_phases: count(5) != 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// Ticks of a microsecond each, ten completions and two calls in each.
    fn record(recorder: &mut Recorder, ticks: std::ops::Range<u64>) {
        for number in ticks {
            let start = number * 1000;
            recorder.begin(at(start), at(start + 100));
            if recorder.has_phases() {
                recorder.mark(Phase::Reap, at(start + 150));
            }
            let counts = DriverCounts::default();
            let counts = DriverCounts { enters: 2 * (number + 1), submissions: 3 * (number + 1), ..counts };
            recorder.end(at(start + 900), counts, 10);
        }
    }

    #[test]
    fn ticks_come_back_as_they_were() {
        let timeline = Arc::new(Timeline::default());
        let mut recorder = Recorder::new(Arc::clone(&timeline));
        record(&mut recorder, 0..2);
        let trace = timeline.read(0, 10, at(2000));
        assert_eq!((trace.next, trace.lost, trace.ticks.len()), (2, 0, 2));
        let tick = trace.ticks[1];
        assert_eq!((tick.number, tick.entered, tick.has_phases), (1, at(1000), false));
        assert_eq!((tick.enters, tick.submissions, tick.completions), (2, 3, 10));
        assert_eq!(tick.ends, [1100, 1100, 1100, 1100, 1100, 1900].map(at));
    }

    #[test]
    fn phases_are_told_apart_while_somebody_reads() {
        let timeline = Arc::new(Timeline::default());
        let mut recorder = Recorder::new(Arc::clone(&timeline));
        timeline.read(0, 0, Time::ZERO);
        record(&mut recorder, 0..1);
        assert_eq!(timeline.read(0, 1, Time::ZERO).ticks[0].ends[Phase::Reap as usize], at(150));
        recorder.begin(Time::ZERO, Time::ZERO + INTEREST);
        assert!(!recorder.has_phases());
    }

    #[test]
    fn what_was_overwritten_is_counted() {
        let timeline = Arc::new(Timeline::default());
        let mut recorder = Recorder::new(Arc::clone(&timeline));
        let len = limits::TRACED_TICKS as u64;
        record(&mut recorder, 0..len + 5);
        let trace = timeline.read(2, 7, Time::ZERO);
        assert_eq!((trace.lost, trace.next), (3, 12));
        assert_eq!(trace.ticks.iter().map(|tick| tick.number).collect::<Vec<_>>(), (5..12).collect::<Vec<_>>());
        // Beyond the end there is nothing yet, and reading goes on at the end.
        assert_eq!(timeline.read(u64::MAX, 7, Time::ZERO), Trace { next: len + 5, ..Trace::default() });
    }

    #[test]
    fn long_ticks_and_great_counts_are_cut_and_stay_apart() {
        let tick = Tick { ends: [at(u64::MAX); PHASES], completions: u32::MAX, ..Tick::default() };
        let back = unpack(0, pack(&tick));
        assert_eq!((back.ends, back.completions), ([at((1 << 40) - 1); PHASES], (1 << 24) - 1));
        assert_eq!((back.enters, back.has_phases), (0, false));
    }

    #[test]
    fn a_reader_beside_the_writer_sees_whole_ticks_only() {
        let timeline = Arc::new(Timeline::default());
        let turns = if cfg!(miri) { 100 } else { 50 * limits::TRACED_TICKS as u64 };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                record(&mut Recorder::new(Arc::clone(&timeline)), 0..turns);
                done.store(true, Relaxed);
            });
            let mut from = 0;
            while !done.load(Relaxed) {
                let trace = timeline.read(from, usize::MAX, Time::ZERO);
                for tick in trace.ticks {
                    let start = tick.number * 1000;
                    assert_eq!(
                        (tick.entered, tick.ends[0], tick.ends[5]),
                        (at(start), at(start + 100), at(start + 900))
                    );
                    assert!(tick.number >= from && tick.number < trace.next);
                }
                from = trace.next;
            }
        });
    }
}
