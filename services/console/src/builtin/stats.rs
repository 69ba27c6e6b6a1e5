//! `stats`: every metric of the engine. Reads cells, asks no shard.

use megamux_engine::stats::{EngineStats, Metric, Unit, Value};

use super::shards::percentile;
use crate::text::{self, Align, Table};

/// The metrics that `filter` is a part of (of all, the empty filter), summed over the shards.
pub(crate) fn render(stats: &EngineStats, filter: &str) -> String {
    let total = stats.total();
    let engine = ("service_panics".to_owned(), stats.service_panics.to_string());
    let lines = total.metrics().map(|metric| (name(&metric), value(&metric)));
    let mut table = Table::new(&[("metric", Align::Left), ("value", Align::Right)]);
    let mut any = false;
    for (name, value) in lines.chain([engine]).filter(|(name, _)| name.contains(filter)) {
        table.row(vec![name, value]);
        any = true;
    }
    if any { table.render() } else { format!("no metric has {} in its name\n", text::safe_word(filter, 40)) }
}

fn name(metric: &Metric<'_>) -> String {
    match metric.labels.own {
        Some((label, word)) => format!("{}{{{label}=\"{word}\"}}", metric.name),
        None => metric.name.to_owned(),
    }
}

fn value(metric: &Metric<'_>) -> String {
    match metric.value {
        Value::Count(count) if metric.unit == Unit::Bytes => text::bytes(count),
        Value::Count(count) => count.to_string(),
        Value::Time(span) => text::span(span),
        Value::Histogram(histogram) => {
            let buckets: Vec<_> = histogram.buckets().collect();
            let (p50, p99) = (percentile(&buckets, 50), percentile(&buckets, 99));
            format!("{} (p50 {p50}, p99 {p99})", histogram.count())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_shown_once() {
        let stats = EngineStats::default();
        let all = render(&stats, "");
        assert_eq!(all.lines().count(), stats.total().metrics().count() + 2);
        let some = render(&stats, "closes_total{reason=\"ki");
        assert_eq!(some.lines().count(), 2);
        assert!(some.ends_with("megamux_closes_total{reason=\"kicked\"}      0\n"), "{some}");
        assert_eq!(render(&stats, "\x1b"), "no metric has \\u{1b} in its name\n");
    }
}
