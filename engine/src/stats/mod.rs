//! Counts: what each shard did and holds, written by the shard alone and read by anyone without disturbing it.
//!
//! Owns every metric of the engine: name, help, kind, unit and labels of each stand once, in `shard_metrics!` below;
//! the shard's cells, the plain snapshot, the totals and the list of metrics all follow from that one entry.
//! Invariant: a cell has one writer, so that counting is a load, an add and a store, never a locked instruction.
//! A reader sees each cell whole, but not all cells at the same instant.
//! It must not print: text formats belong to whoever serves them.

mod cells;
mod figures;
mod metric;
mod named;

use crate::close_reason::CloseReason;
use crate::listing::{EndpointRow, ServiceRow};
use crate::time::Time;

use cells::{Cell64, CellFamily, HistogramCells, Read, SinceCell};
use figures::Plain;
use metric::Definition;

pub use figures::{Family, Histogram, Label};
pub use metric::{Kind, Labels, Metric, Unit, Value};

/// Defines the metrics of a shard. An entry reads `/// Help.` and then `field: shape = Kind Unit "name";`, where
/// the shape is `value`, `family(Label)`, `histogram` or `since`. Spans of time count nanoseconds in the cells.
macro_rules! shard_metrics {
    ($(
        #[doc = $help:literal]
        $field:ident: $shape:ident $(($label:ty))? = $kind:ident $unit:ident $name:literal;
    )*) => {
        /// The cells of one shard. Only that shard writes them, anyone reads them.
        #[derive(Debug, Default)]
        #[repr(align(128))] // Two cache lines: the prefetcher fetches them in pairs.
        pub(crate) struct ShardStats {
            $(#[doc = $help] pub(crate) $field: shape!(cell $shape $(($label))?),)*
        }

        /// What one shard did and holds, or the sum over shards.
        #[derive(Debug, Clone, Default)]
        #[non_exhaustive]
        pub struct ShardSnapshot {
            $(#[doc = $help] pub $field: shape!(plain $shape $(($label))?),)*
        }

        impl ShardStats {
            /// Reads every cell; `at` is the time of reading.
            pub(crate) fn snapshot(&self, at: Time) -> ShardSnapshot {
                ShardSnapshot { $($field: self.$field.read(at),)* }
            }
        }

        impl ShardSnapshot {
            /// Adds another shard's figures to these.
            fn absorb(&mut self, other: &ShardSnapshot) {
                $(self.$field.absorb(&other.$field);)*
            }
        }

        /// Every metric of a shard, in the order of definition.
        const DEFINITIONS: &[Definition] = &[$(Definition {
            name: $name,
            help: $help.trim_ascii(),
            kind: Kind::$kind,
            unit: Unit::$unit,
            sample: |shard, index| shard.$field.sample(index),
        },)*];
    };
}

/// The types of a metric's shape, in the cells and in the snapshot.
macro_rules! shape {
    (cell value) => { Cell64 };
    (plain value) => { u64 };
    (cell since) => { SinceCell };
    (plain since) => { u64 };
    (cell histogram) => { HistogramCells };
    (plain histogram) => { Histogram };
    (cell family($label:ty)) => { CellFamily<$label, { <$label as Label>::ALL.len() }> };
    (plain family($label:ty)) => { Family<$label> };
}

shard_metrics! {
    /// Connections now, by what they are doing.
    connections: family(ConnState) = Gauge None "megamux_connections";
    /// Sockets that the shard's table of descriptors has room for.
    slots: value = Gauge None "megamux_slots";
    /// Connections accepted from listeners and let in.
    accepts: value = Counter None "megamux_accepts_total";
    /// Accepted connections that wait now to be let in: a crowd is, by and by.
    arrivals: value = Gauge None "megamux_arrivals_waiting";
    /// Connections accepted here and passed to other shards.
    passed: value = Counter None "megamux_passed_total";
    /// Connections refused, by what refused them.
    refusals: family(RefusalCause) = Counter None "megamux_refusals_total";
    /// Outgoing connections begun.
    dials_started: value = Counter None "megamux_dials_started_total";
    /// Outgoing connections that could not be made.
    dials_failed: value = Counter None "megamux_dials_failed_total";
    /// Connections closed, by reason.
    closes: family(CloseReason) = Counter None "megamux_closes_total";
    /// Bytes received on connections.
    bytes_in: value = Counter Bytes "megamux_received_bytes_total";
    /// Bytes sent on connections.
    bytes_out: value = Counter Bytes "megamux_sent_bytes_total";
    /// Frames handed from handlers to services.
    frames_in: value = Counter None "megamux_frames_total";
    /// Send chains submitted.
    sends: value = Counter None "megamux_sends_total";
    /// Datagrams received.
    datagrams_in: value = Counter None "megamux_datagrams_received_total";
    /// Datagrams sent.
    datagrams_out: value = Counter None "megamux_datagrams_sent_total";
    /// Datagrams not sent, because too many were under way.
    datagrams_dropped: value = Counter None "megamux_datagrams_dropped_total";
    /// Datagrams received that were cut to fit.
    datagrams_truncated: value = Counter None "megamux_datagrams_truncated_total";
    /// Calls into the kernel.
    enters: value = Counter None "megamux_enters_total";
    /// Operations submitted to the kernel.
    submissions: value = Counter None "megamux_submissions_total";
    /// Completions reaped.
    completions: value = Counter None "megamux_completions_total";
    /// Times the completion queue overflowed.
    completion_overflows: value = Counter None "megamux_completion_overflows_total";
    /// Operations that found the submission queue full, so that it was submitted on the spot.
    submissions_crowded: value = Counter None "megamux_submission_queue_full_total";
    /// Receives armed, for the first time or again, each good for many completions where the kernel can.
    receives_armed: value = Counter None "megamux_receives_armed_total";
    /// Receives that found no free buffer (ENOBUFS).
    no_buffers: value = Counter None "megamux_no_buffers_total";
    /// Connections that wait for a free buffer now.
    starved: value = Gauge None "megamux_starved_connections";
    /// Receive buffers that the kernel has or may get now.
    buffers_free: value = Gauge None "megamux_buffers_free";
    /// Bytes held now by send queues and unread beginnings of frames, as budgets count them.
    send_queue_bytes: value = Gauge Bytes "megamux_send_queue_bytes";
    /// Bytes kept now as the beginnings of incomplete frames.
    remainder_bytes: value = Gauge Bytes "megamux_remainder_bytes";
    /// Bytes of received frames that services hold now.
    held_frame_bytes: value = Gauge Bytes "megamux_held_frame_bytes";
    /// Items waiting now in the handoff rings to services.
    handoff_occupancy: value = Gauge None "megamux_handoff_occupancy";
    /// Permits refused because a handoff ring was full: reads paused instead.
    permits_refused: value = Counter None "megamux_permits_refused_total";
    /// Open and close messages, and replies on their way back, that wait now for room in a handoff ring.
    lifecycle_waiting: value = Gauge None "megamux_lifecycle_waiting";
    /// Replies whose connection was gone.
    replies_gone: value = Counter None "megamux_replies_gone_total";
    /// Of these, replies that were not given back to their service, because too many were on their way back.
    replies_lost: value = Counter None "megamux_replies_lost_total";
    /// Wakes sent to sleeping shards and services.
    wakes_sent: value = Counter None "megamux_wakes_sent_total";
    /// Wakes not sent, because the other side was awake.
    wakes_suppressed: value = Counter None "megamux_wakes_suppressed_total";
    /// Timers fired.
    timers_fired: value = Counter None "megamux_timers_fired_total";
    /// Panics of handlers and services, each contained.
    panics: value = Counter None "megamux_panics_total";
    /// Time that the shard's thread spent on a CPU.
    cpu_ns: value = Counter Seconds "megamux_cpu_seconds_total";
    /// Threads that the kernel keeps now for operations of the shard's ring that it could not do at once (io-wq).
    kernel_workers: value = Gauge None "megamux_kernel_workers";
    /// Entries of the submission queue, 0 where there is none.
    submission_entries: value = Gauge None "megamux_submission_entries";
    /// Entries of the completion queue, 0 where there is none.
    completion_entries: value = Gauge None "megamux_completion_entries";
    /// Time per tick, without its wait in the kernel.
    ticks: histogram = Histogram Seconds "megamux_tick_seconds";
    /// How long the tick in progress has run, 0 while the shard waits: large means stalled.
    tick_running_ns: since = Gauge Seconds "megamux_tick_running_seconds";
}

impl ShardStats {
    /// A tick's work begins: the wait is over. The other end is [`ShardStats::end_tick`].
    pub(crate) fn begin_tick(&self, now: Time) {
        self.tick_running_ns.start(now);
    }

    /// A tick's work, begun at `began`, is done: the shard goes to wait.
    pub(crate) fn end_tick(&self, began: Time, now: Time) {
        self.tick_running_ns.stop();
        self.ticks.record(now.since(began));
    }
}

/// The figures of one shard at one time, and of all.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EngineStats {
    /// When they were read, on the engine's clock.
    pub at: Time,
    /// One per shard, by its index.
    pub shards: Vec<ShardSnapshot>,
    /// Panics of services, each followed by a restart.
    pub service_panics: u64,
    /// Every endpoint, over all shards.
    pub endpoints: Vec<EndpointRow>,
    /// Every service.
    pub services: Vec<ServiceRow>,
}

impl EngineStats {
    /// The sum over all shards.
    pub fn total(&self) -> ShardSnapshot {
        let mut total = ShardSnapshot::default();
        for shard in &self.shards {
            total.absorb(shard);
        }
        total
    }

    /// Every metric of every shard, labelled with its shard, then those of endpoints and services, labelled with their
    /// names; the samples of one metric stand together.
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'_>> {
        let of_shards = DEFINITIONS.iter().flat_map(|definition| {
            (0..).zip(&self.shards).flat_map(|(index, shard)| definition.metrics(Some(index), shard))
        });
        of_shards.chain(named::metrics(self))
    }
}

impl ShardSnapshot {
    /// Every metric of this shard (or of this sum), without a shard label.
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'_>> {
        DEFINITIONS.iter().flat_map(|definition| definition.metrics(None, self))
    }
}

macro_rules! labels {
    ($(#[$doc:meta])* $type:ident $name:literal { $(#[doc = $help:literal] $value:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $type { $(#[doc = $help] $value,)* }

        impl Label for $type {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &[$($type::$value,)*];

            fn place(self) -> usize {
                self as usize
            }

            fn word(self) -> &'static str {
                match self { $($type::$value => $word,)* }
            }
        }
    };
}

labels! {
    /// What a connection is doing: each is in exactly one of these states.
    ConnState "state" {
        /// Accepted or dialled, not yet open to its handler.
        Opening = "opening",
        /// Open, neither parked nor armed: a one-shot receive is under way, or reading is paused.
        Open = "open",
        /// Idle, waiting by a one-shot poll.
        Parked = "parked",
        /// Busy, receiving by an armed multishot receive.
        Armed = "armed",
        /// Closing: what is queued goes out, operations in flight come back.
        Closing = "closing",
    }
}

labels! {
    /// What refused a connection.
    RefusalCause "cause" {
        /// The cap on all connections.
        TotalCap = "total_cap",
        /// The cap of its listener.
        ListenerCap = "listener_cap",
        /// The cap per source address.
        SourceCap = "source_cap",
        /// No slot was free.
        TableFull = "table_full",
        /// A filter in front of the handler.
        Filter = "filter",
        /// The handler.
        Handler = "handler",
        /// Its service is too far behind.
        ServiceBehind = "service_behind",
    }
}

impl Label for CloseReason {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = CloseReason::ALL;

    fn place(self) -> usize {
        self.index()
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn at(micros: u64) -> Time {
        Time::ZERO + Duration::from_micros(micros)
    }

    fn engine(shards: &[ShardStats], at: Time) -> EngineStats {
        let shards = shards.iter().map(|shard| shard.snapshot(at)).collect();
        EngineStats { at, shards, ..EngineStats::default() }
    }

    #[test]
    fn names_keep_the_conventions_of_openmetrics() {
        let mut names = BTreeSet::new();
        for Definition { name, help, kind, unit, .. } in DEFINITIONS {
            assert!(names.insert(name), "{name} is defined twice");
            assert!(name.starts_with("megamux_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            let family = name.strip_suffix("_total");
            assert_eq!(family.is_some(), *kind == Kind::Counter, "{name}");
            let family = family.unwrap_or(name);
            assert_eq!(family.ends_with("_bytes"), *unit == Unit::Bytes, "{name}");
            assert_eq!(family.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
            assert!(help.ends_with('.') && !help.starts_with(' '), "{name}: {help:?}");
        }
    }

    #[test]
    fn every_sample_is_listed_once_and_metric_by_metric() {
        let stats = engine(&[ShardStats::default(), ShardStats::default()], Time::ZERO);
        let metrics: Vec<_> = stats.metrics().collect();

        let samples: BTreeSet<_> = metrics.iter().map(|m| (m.name, m.labels.shard, m.labels.own)).collect();
        assert_eq!(samples.len(), metrics.len());
        let labelled = [ConnState::ALL.len(), RefusalCause::ALL.len(), CloseReason::ALL.len()];
        let per_shard = DEFINITIONS.len() - labelled.len() + labelled.iter().sum::<usize>();
        assert_eq!(metrics.len(), 2 * per_shard);
        assert_eq!(stats.total().metrics().count(), per_shard);

        let mut names: Vec<_> = metrics.iter().map(Metric::family).collect();
        names.dedup();
        assert_eq!(names.len(), DEFINITIONS.len());
    }

    #[test]
    fn what_a_shard_counts_is_what_the_metrics_say() {
        let shards = [ShardStats::default(), ShardStats::default()];
        shards[0].bytes_in.add(10);
        shards[1].bytes_in.add(32);
        shards[1].closes.of(CloseReason::IdleTimeout).add(1);
        shards[1].connections.of(ConnState::Opening).add(1);
        shards[1].connections.of(ConnState::Parked).add(1);
        let stats = engine(&shards, Time::ZERO);

        let check = |name, shard, own, count| {
            let labels = Labels { shard: Some(shard), own };
            let found = stats.metrics().find(|m| m.name == name && m.labels == labels).unwrap();
            assert_eq!(found.value, Value::Count(count), "{name} {labels:?}");
        };
        check("megamux_received_bytes_total", 0, None, 10);
        check("megamux_received_bytes_total", 1, None, 32);
        check("megamux_closes_total", 1, Some(("reason", "idle_timeout")), 1);
        check("megamux_closes_total", 1, Some(("reason", "kicked")), 0);
        check("megamux_connections", 1, Some(("state", "opening")), 1);
        check("megamux_connections", 1, Some(("state", "parked")), 1);

        let total = stats.total();
        assert_eq!((total.bytes_in, total.closes.of(CloseReason::IdleTimeout)), (42, 1));
        assert_eq!(total.connections.total(), 2);
        assert!(total.connections.iter().any(|entry| entry == (ConnState::Parked, 1)));
    }

    #[test]
    fn ticks_are_counted_by_how_long_they_took() {
        let shard = ShardStats::default();
        for nanos in [0, 256, 257, 512, 513, 1 << 30, (1 << 30) + 1, u64::MAX / 2] {
            shard.begin_tick(Time::ZERO);
            shard.end_tick(Time::ZERO, Time::from_nanos(nanos));
        }
        let ticks = shard.snapshot(Time::ZERO).ticks;
        let filled: Vec<_> = ticks.buckets().filter(|&(_, count)| count > 0).collect();
        let bound = |nanos| Some(Duration::from_nanos(nanos));
        assert_eq!(filled, [(bound(256), 2), (bound(512), 2), (bound(1024), 1), (bound(1 << 30), 1), (None, 2)]);
        assert_eq!(ticks.count(), 8);
        assert!(ticks.sum() > Duration::from_nanos(u64::MAX / 2));
    }

    #[test]
    fn a_histogram_tells_percentiles_of_the_time_between_two_readings() {
        let cells = HistogramCells::default();
        let record = |nanos, times| (0..times).for_each(|_| cells.record(Duration::from_nanos(nanos)));
        let read = || cells.read(Time::ZERO);
        assert_eq!(read().percentile(50.0), None);
        record(1_000_000, 50);
        let earlier = read();
        record(200, 90);
        record(1000, 9);
        record(3_000_000_000, 1);
        let lately = read().since(&earlier);
        assert_eq!((lately.count(), lately.sum()), (100, Duration::from_nanos(90 * 200 + 9 * 1000 + 3_000_000_000)));
        let at = |percent| lately.percentile(percent);
        assert_eq!((at(0.0), at(90.0)), (Some(Duration::from_nanos(256)), Some(Duration::from_nanos(256))));
        assert_eq!((at(90.1), at(99.0)), (Some(Duration::from_nanos(1024)), Some(Duration::from_nanos(1024))));
        assert_eq!(at(100.0), None, "beyond the last bound");
        assert_eq!(earlier.since(&read()).count(), 0);
    }

    #[test]
    fn a_stalled_tick_shows_and_a_waiting_shard_does_not() {
        let shard = ShardStats::default();
        let running = |now| shard.snapshot(now).tick_running_ns;
        assert_eq!(running(at(5)), 0);
        shard.begin_tick(at(10));
        assert_eq!(running(at(4_000_010)), 4_000_000_000);
        shard.end_tick(at(10), at(4_000_020));
        assert_eq!(running(at(9_000_000)), 0);
    }

    #[test]
    fn every_label_stands_at_its_place() {
        fn check<L: Label>() {
            let words: BTreeSet<_> = L::ALL.iter().map(|label| label.word()).collect();
            assert_eq!(words.len(), L::ALL.len());
            assert!(L::ALL.iter().enumerate().all(|(place, label)| label.place() == place));
        }
        check::<ConnState>();
        check::<RefusalCause>();
        check::<CloseReason>();
    }
}
