//! One metric as it is shown: name, help, kind, unit, labels, value.
//!
//! Owns the form in which every reader (a metrics endpoint, the console, a test) meets a metric, and nothing of its
//! meaning: that stands in the table of definitions. It must not format numbers.

use std::time::Duration;

use super::ShardSnapshot;
use super::figures::{Histogram, Raw, Sample};

/// One sample of one metric, with all that a text format wants to know of it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Metric<'a> {
    /// Full name by the conventions of OpenMetrics: unit, then `_total` for counters.
    pub name: &'static str,
    /// One sentence about it.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// What its value counts; the name says it too.
    pub unit: Unit,
    /// What tells it from the metric's other samples.
    pub labels: Labels<'a>,
    /// The value.
    pub value: Value<'a>,
}

impl Metric<'_> {
    /// The name of its family: what OpenMetrics puts in `# TYPE` lines.
    pub fn family(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the engine lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// The unit of a metric's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain count.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// The labels of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Labels<'a> {
    /// The index of the shard.
    pub shard: Option<u32>,
    /// Name and word of the metric's own label.
    pub own: Option<(&'static str, &'a str)>,
}

/// The value of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A count of things or bytes.
    Count(u64),
    /// A span of time.
    Time(Duration),
    /// Spans of time, by size.
    Histogram(&'a Histogram),
}

/// What the table knows of one metric.
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    pub(super) sample: fn(&ShardSnapshot, usize) -> Option<Sample<'_>>,
}

impl Definition {
    /// The samples of `shard`, labelled with its index if one is given.
    pub(super) fn metrics<'a>(
        &'static self,
        index: Option<u32>,
        shard: &'a ShardSnapshot,
    ) -> impl Iterator<Item = Metric<'a>> {
        (0..).map_while(move |sample| (self.sample)(shard, sample)).map(move |(own, raw)| Metric {
            name: self.name,
            help: self.help,
            kind: self.kind,
            unit: self.unit,
            labels: Labels { shard: index, own },
            value: match raw {
                Raw::Count(nanos) if self.unit == Unit::Seconds => Value::Time(Duration::from_nanos(nanos)),
                Raw::Count(count) => Value::Count(count),
                Raw::Histogram(histogram) => Value::Histogram(histogram),
            },
        })
    }
}
