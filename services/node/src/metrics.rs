//! The engine's figures as OpenMetrics text, version 1.0.
//!
//! It owns the text format and nothing of the figures' meaning: names, help and units come with them. Invariant: all
//! samples of a family stand together behind one description, and the last line is `# EOF`.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::config;
use crate::engine::stats::{EngineStats, Kind, Metric, Unit, Value};

/// The content type of [`exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All figures, each shard's by itself.
pub fn exposition(stats: &EngineStats) -> String {
    let mut out = String::new();
    node(&mut out, stats);
    let mut described = "";
    for metric in stats.metrics() {
        if metric.family() != described {
            described = metric.family();
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            describe(&mut out, described, kind, metric.unit, metric.help);
        }
        samples(&mut out, &metric);
    }
    out.push_str("# EOF\n");
    out
}

/// What is true of the process as a whole.
fn node(out: &mut String, stats: &EngineStats) {
    describe(out, "megamux_build", "info", Unit::None, "What is running.");
    let version = ("version", env!("CARGO_PKG_VERSION"));
    let features = config::features().join(" ");
    sample(out, "megamux_build_info", &[version, ("features", &features)], 1);
    describe(out, "megamux_uptime_seconds", "gauge", Unit::Seconds, "Time since the engine started.");
    let uptime = Duration::from_nanos(stats.at.as_nanos());
    sample(out, "megamux_uptime_seconds", &[], uptime.as_secs_f64());
    let help = "Panics of services, each followed by a restart.";
    describe(out, "megamux_service_panics", "counter", Unit::None, help);
    sample(out, "megamux_service_panics_total", &[], stats.service_panics);
}

/// The lines in front of a family's samples. The name ends with the unit, as the format demands.
fn describe(out: &mut String, family: &str, kind: &str, unit: Unit, help: &str) {
    line(out, format_args!("# TYPE {family} {kind}"));
    match unit {
        Unit::None => {}
        Unit::Bytes => line(out, format_args!("# UNIT {family} bytes")),
        Unit::Seconds => line(out, format_args!("# UNIT {family} seconds")),
    }
    line(out, format_args!("# HELP {family} {}", Escaped(help)));
}

fn samples(out: &mut String, metric: &Metric<'_>) {
    let shard = metric.labels.shard.map(|shard| shard.to_string());
    let mut labels: Vec<(&str, &str)> = Vec::with_capacity(3);
    labels.extend(shard.as_deref().map(|shard| ("shard", shard)));
    labels.extend(metric.labels.own);
    match metric.value {
        Value::Count(count) => sample(out, metric.name, &labels, count),
        Value::Time(span) => sample(out, metric.name, &labels, span.as_secs_f64()),
        Value::Histogram(spans) => histogram(out, metric.name, &labels, spans.buckets(), spans.sum()),
    }
}

/// Buckets count everything up to their bound; `buckets` count what lies between two.
fn histogram<'a>(
    out: &mut String,
    name: &str,
    labels: &[(&'a str, &'a str)],
    buckets: impl Iterator<Item = (Option<Duration>, u64)>,
    sum: Duration,
) {
    let mut count = 0;
    for (bound, more) in buckets {
        count += more;
        let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
        let labels = [labels, &[("le", &bound)]].concat();
        sample(out, &format!("{name}_bucket"), &labels, count);
    }
    sample(out, &format!("{name}_count"), labels, count);
    sample(out, &format!("{name}_sum"), labels, sum.as_secs_f64());
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    out.push_str(name);
    let mut between = '{';
    for (label, word) in labels {
        out.push(between);
        between = ',';
        // A String takes every write.
        let _ = write!(out, "{label}=\"{}\"", Escaped(word));
    }
    if between == ',' {
        out.push('}');
    }
    line(out, format_args!(" {value}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

/// Text with what would end its line or its quotes escaped.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stats::ShardSnapshot;

    fn stats() -> EngineStats {
        let mut stats = EngineStats::default();
        stats.shards = vec![ShardSnapshot::default(), ShardSnapshot::default()];
        stats.shards[1].bytes_in = 42;
        stats.shards[1].tick_running_ns = 1_500_000_000;
        stats
    }

    #[test]
    fn a_counter_of_bytes_is_described_once_and_sampled_per_shard() {
        let text = exposition(&stats());
        let expect = "\
# TYPE megamux_received_bytes counter
# UNIT megamux_received_bytes bytes
# HELP megamux_received_bytes Bytes received on connections.
megamux_received_bytes_total{shard=\"0\"} 0
megamux_received_bytes_total{shard=\"1\"} 42
";
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn time_is_in_seconds_and_labels_follow_the_shard() {
        let text = exposition(&stats());
        assert!(text.contains("\nmegamux_tick_running_seconds{shard=\"1\"} 1.5\n"), "{text}");
        assert!(text.contains("\nmegamux_closes_total{shard=\"0\",reason=\"kicked\"} 0\n"), "{text}");
    }

    #[test]
    fn buckets_are_cumulative_and_end_in_infinity() {
        let mut out = String::new();
        let buckets = [(Some(Duration::from_nanos(256)), 2), (Some(Duration::from_millis(500)), 3), (None, 1)];
        histogram(&mut out, "h_seconds", &[("shard", "0")], buckets.into_iter(), Duration::from_millis(2250));
        let expect = "\
h_seconds_bucket{shard=\"0\",le=\"0.000000256\"} 2
h_seconds_bucket{shard=\"0\",le=\"0.5\"} 5
h_seconds_bucket{shard=\"0\",le=\"+Inf\"} 6
h_seconds_count{shard=\"0\"} 6
h_seconds_sum{shard=\"0\"} 2.25
";
        assert_eq!(out, expect);
    }

    #[test]
    fn the_page_names_every_metric_and_no_other() {
        let page = include_str!("../../../docs/metrics.md");
        let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        let named: std::collections::BTreeSet<_> = page.lines().filter_map(row).collect();
        let mut told = std::collections::BTreeSet::new();
        for line in exposition(&stats()).lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (family, kind) = line.split_once(' ').unwrap();
            let name = match kind {
                "counter" => format!("{family}_total"),
                "info" => format!("{family}_info"),
                _ => family.to_owned(),
            };
            let of_page = page.lines().find(|line| line.starts_with(&format!("| `{name}`")));
            assert!(of_page.is_some_and(|row| row.contains(&format!("| {kind} |"))), "{name} is a {kind}");
            told.insert(name);
        }
        assert_eq!(named, told);
    }

    #[test]
    fn it_ends_with_eof_also_without_shards() {
        for stats in [stats(), EngineStats::default()] {
            let text = exposition(&stats);
            assert!(text.ends_with("\n# EOF\n"));
            assert_eq!(text.matches("# EOF").count(), 1);
        }
    }

    #[test]
    fn nothing_breaks_out_of_its_quotes() {
        let mut out = String::new();
        sample(&mut out, "a", &[("b", "c\"\\\nd")], 1);
        assert_eq!(out, "a{b=\"c\\\"\\\\\\nd\"} 1\n");
    }
}
