//! `stats`, `buffers`, `services`: the engine's figures. Reads cells, asks no shard.

use std::time::Duration;

use megamux_engine::Placement;
use megamux_engine::stats::{EngineStats, Histogram, Metric, ShardSnapshot, Unit, Value};

use crate::event::mark;
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

/// The names of all metrics.
pub(crate) fn names(stats: &EngineStats) -> Vec<String> {
    let mut names: Vec<String> = stats.total().metrics().map(|metric| metric.name.to_owned()).collect();
    names.dedup();
    names
}

/// What memory each shard holds for connections.
pub(crate) fn buffers(stats: &EngineStats) -> String {
    let columns = ["shard", "free", "starved", "refusals", "queued", "remainders", "held frames"];
    let row = |name: String, shard: &ShardSnapshot| {
        vec![
            name,
            shard.buffers_free.to_string(),
            shard.starved.to_string(),
            shard.no_buffers.to_string(),
            text::bytes(shard.send_queue_bytes),
            text::bytes(shard.remainder_bytes),
            text::bytes(shard.held_frame_bytes),
        ]
    };
    per_shard(stats, &columns, row)
}

/// The services, and how they keep up.
pub(crate) fn services(stats: &EngineStats) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("runs on", Align::Left),
        ("under way", Align::Right),
        ("panics", Align::Right),
        ("restarts", Align::Right),
        ("state", Align::Left),
    ]);
    for row in &stats.services {
        let state = if row.given_up { format!("{}given up{}", mark::BAD, mark::PLAIN) } else { "runs".to_owned() };
        let place = match row.placement {
            Placement::PerShard => "every shard".to_owned(),
            Placement::Shard(shard) => format!("shard {shard}"),
            Placement::Thread => "a thread".to_owned(),
        };
        let figures = [row.queued, row.panics, row.restarts].map(|figure| figure.to_string());
        let [queued, panics, restarts] = figures;
        table.row(vec![text::safe_word(&row.name, 40), place, queued, panics, restarts, state]);
    }
    let total = stats.total();
    let mut out = table.render();
    out.push_str(&format!(
        "{} items wait in rings, {} permits were refused, {} replies found nobody\n",
        total.handoff_occupancy, total.permits_refused, total.replies_gone
    ));
    out
}

fn per_shard(stats: &EngineStats, columns: &[&str], row: impl Fn(String, &ShardSnapshot) -> Vec<String>) -> String {
    let columns: Vec<_> = columns.iter().map(|&title| (title, Align::Right)).collect();
    let mut table = Table::new(&columns);
    for (index, shard) in stats.shards.iter().enumerate() {
        table.row(row(index.to_string(), shard));
    }
    if stats.shards.len() > 1 {
        table.row(row("all".to_owned(), &stats.total()));
    }
    table.render()
}

/// The bound that `percent` of the spans do not pass.
pub(crate) fn percentile(histogram: &Histogram, percent: f64) -> String {
    match histogram.percentile(percent) {
        Some(bound) => format!("<={}", text::span(bound)),
        None if histogram.count() == 0 => "-".to_owned(),
        None => {
            let last = histogram.buckets().filter_map(|(bound, _)| bound).last();
            format!(">{}", text::span(last.unwrap_or(Duration::ZERO)))
        }
    }
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
            let (p50, p99) = (percentile(histogram, 50.0), percentile(histogram, 99.0));
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

    #[test]
    fn each_shard_has_a_row_and_all_have_one() {
        let mut stats = EngineStats::default();
        stats.shards = vec![ShardSnapshot::default(), ShardSnapshot::default()];
        stats.shards[1].send_queue_bytes = 2048;
        let buffers = buffers(&stats);
        assert_eq!(buffers.lines().count(), 4);
        assert_eq!(buffers.matches("2.00 KiB").count(), 2, "{buffers}");
    }
}
