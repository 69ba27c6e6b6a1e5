//! What is shown: the difference of two scrapes as one row per shard and one for all, and the columns with their words.

use std::time::Duration;

use crate::metrics::{Shard, Snapshot};

/// A tick that has run this long stalls its shard: everything on it waits.
const STALL: f64 = 0.1;

/// Two scrapes compared.
#[derive(Debug, Clone)]
pub struct View {
    pub version: String,
    pub uptime: Duration,
    /// One row per shard, and the last one for all of them if there are several.
    pub rows: Vec<Row>,
}

/// What a shard did between two looks, and what it has now.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub name: String,
    pub connections: f64,
    pub parked: f64,
    pub armed: f64,
    pub accepts_per_second: f64,
    pub closes_per_second: f64,
    pub received_per_second: f64,
    pub sent_per_second: f64,
    pub frames_per_second: f64,
    pub completions: f64,
    pub enters: f64,
    pub tick_buckets: Vec<(f64, f64)>,
    /// Share of the time spent in ticks.
    pub busy: f64,
    pub buffers_free: f64,
    pub send_queue_bytes: f64,
    pub handoff: f64,
    pub starved: f64,
    pub refusals: f64,
    pub slow_consumers: f64,
    pub stalled_seconds: f64,
}

/// A column: its title, what stands in it, and whether that wants attention.
pub struct Column {
    pub title: &'static str,
    pub cell: fn(&Row) -> String,
    pub alarm: fn(&Row) -> bool,
}

/// All columns, from left to right.
pub const COLUMNS: &[Column] = &[
    column("shard", |row| row.name.clone()),
    column("conns", |row| count(row.connections)),
    column("parked", |row| count(row.parked)),
    column("armed", |row| count(row.armed)),
    column("accept/s", |row| count(row.accepts_per_second)),
    column("close/s", |row| count(row.closes_per_second)),
    column("in/s", |row| bytes(row.received_per_second)),
    column("out/s", |row| bytes(row.sent_per_second)),
    column("frames/s", |row| count(row.frames_per_second)),
    column("cqe/enter", |row| ratio(row.completions, row.enters)),
    column("busy", |row| format!("{:.0}%", 100.0 * row.busy)),
    column("tick p50", |row| percentile(&row.tick_buckets, 0.5)),
    column("tick p99", |row| percentile(&row.tick_buckets, 0.99)),
    column("buffers", |row| count(row.buffers_free)),
    column("queued", |row| bytes(row.send_queue_bytes)),
    column("handoff", |row| count(row.handoff)),
    Column { title: "starved", cell: |row| count(row.starved), alarm: |row| row.starved > 0.0 },
    Column { title: "refused", cell: |row| count(row.refusals), alarm: |row| row.refusals > 0.0 },
    Column { title: "slow", cell: |row| count(row.slow_consumers), alarm: |row| row.slow_consumers > 0.0 },
    Column { title: "stall", cell: |row| stall(row.stalled_seconds), alarm: |row| row.stalled_seconds >= STALL },
];

const fn column(title: &'static str, cell: fn(&Row) -> String) -> Column {
    Column { title, cell, alarm: |_| false }
}

impl View {
    /// What happened from `before` to `now`. A server that was restarted in between starts anew.
    pub fn between(before: &Snapshot, now: &Snapshot) -> View {
        let restarted = now.uptime_seconds < before.uptime_seconds;
        let seconds = now.taken.duration_since(before.taken).as_secs_f64();
        let nothing = Shard::default();
        let mut rows: Vec<Row> = Vec::new();
        for (number, shard) in &now.shards {
            let earlier = before.shards.get(number).filter(|_| !restarted).unwrap_or(&nothing);
            rows.push(Row::between(number.to_string(), earlier, shard, seconds));
        }
        if rows.len() > 1 {
            let mut all = Row { name: "all".into(), ..Row::default() };
            rows.iter().for_each(|row| all.absorb(row));
            all.busy /= rows.len() as f64;
            rows.push(all);
        }
        let uptime = Duration::try_from_secs_f64(now.uptime_seconds).unwrap_or_default();
        View { version: now.version.clone(), uptime, rows }
    }
}

impl Row {
    fn between(name: String, before: &Shard, now: &Shard, seconds: f64) -> Row {
        let grown = |metric: &str| (now.total(metric) - before.total(metric)).max(0.0);
        let per_second = |metric: &str| if seconds > 0.0 { grown(metric) / seconds } else { 0.0 };
        let closed = |reason: &str| {
            let metric = "megamux_closes_total";
            (now.of(metric, reason) - before.of(metric, reason)).max(0.0)
        };
        let earlier = before.buckets("megamux_tick_seconds");
        let was = |place: usize| earlier.get(place).map_or(0.0, |(_, count)| *count);
        let buckets = now.buckets("megamux_tick_seconds").into_iter().enumerate();
        let busy = if seconds > 0.0 { grown("megamux_tick_seconds_sum") / seconds } else { 0.0 };
        Row {
            name,
            connections: now.total("megamux_connections"),
            parked: now.of("megamux_connections", "parked"),
            armed: now.of("megamux_connections", "armed"),
            accepts_per_second: per_second("megamux_accepts_total"),
            closes_per_second: per_second("megamux_closes_total"),
            received_per_second: per_second("megamux_received_bytes_total"),
            sent_per_second: per_second("megamux_sent_bytes_total"),
            frames_per_second: per_second("megamux_frames_total"),
            completions: grown("megamux_completions_total"),
            enters: grown("megamux_enters_total"),
            tick_buckets: buckets.map(|(place, (bound, count))| (bound, (count - was(place)).max(0.0))).collect(),
            busy: busy.min(1.0),
            buffers_free: now.total("megamux_buffers_free"),
            send_queue_bytes: now.total("megamux_send_queue_bytes"),
            handoff: now.total("megamux_handoff_occupancy"),
            starved: now.total("megamux_starved_connections"),
            refusals: grown("megamux_refusals_total"),
            slow_consumers: closed("slow_consumer") + closed("write_stall") + closed("budget_victim"),
            stalled_seconds: now.total("megamux_tick_running_seconds"),
        }
    }

    /// Adds another shard's figures; a stall is the longest.
    fn absorb(&mut self, other: &Row) {
        self.connections += other.connections;
        self.parked += other.parked;
        self.armed += other.armed;
        self.accepts_per_second += other.accepts_per_second;
        self.closes_per_second += other.closes_per_second;
        self.received_per_second += other.received_per_second;
        self.sent_per_second += other.sent_per_second;
        self.frames_per_second += other.frames_per_second;
        self.completions += other.completions;
        self.enters += other.enters;
        self.busy += other.busy;
        self.buffers_free += other.buffers_free;
        self.send_queue_bytes += other.send_queue_bytes;
        self.handoff += other.handoff;
        self.starved += other.starved;
        self.refusals += other.refusals;
        self.slow_consumers += other.slow_consumers;
        self.stalled_seconds = self.stalled_seconds.max(other.stalled_seconds);
        if self.tick_buckets.is_empty() {
            self.tick_buckets.clone_from(&other.tick_buckets);
        } else {
            let sums = self.tick_buckets.iter_mut().zip(&other.tick_buckets);
            sums.for_each(|(sum, (_, count))| sum.1 += count);
        }
    }
}

/// The upper bound of the bucket in which a share of all ticks ends.
fn percentile(cumulative: &[(f64, f64)], share: f64) -> String {
    let all = cumulative.last().map_or(0.0, |(_, count)| *count);
    if all == 0.0 {
        return "-".into();
    }
    let bound = cumulative.iter().find(|(_, count)| *count >= share * all).map_or(f64::INFINITY, |(bound, _)| *bound);
    match bound.is_finite() {
        true => format!("<{}", span(bound)),
        false => ">1s".into(),
    }
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0}ns", s * 1e9),
        s if s < 1e-3 => format!("{:.0}us", s * 1e6),
        s if s < 1.0 => format!("{:.0}ms", s * 1e3),
        s => format!("{s:.1}s"),
    }
}

/// Nothing below a millisecond: every tick that is under way runs for some microseconds.
fn stall(seconds: f64) -> String {
    if seconds < 1e-3 { "-".into() } else { span(seconds) }
}

fn ratio(of: f64, to: f64) -> String {
    if to > 0.0 { format!("{:.1}", of / to) } else { "-".into() }
}

/// A count with at most four digits.
fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G"])
}

fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 9999.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{value:.0}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn snapshot(uptime: f64, after: Duration, accepts: u64, fast: u64, slow: u64, start: Instant) -> Snapshot {
        let text = format!(
            "megamux_build_info{{version=\"1\"}} 1\nmegamux_uptime_seconds {uptime}\n\
             megamux_accepts_total{{shard=\"0\"}} {accepts}\nmegamux_accepts_total{{shard=\"1\"}} {accepts}\n\
             megamux_tick_seconds_bucket{{shard=\"0\",le=\"0.001\"}} {fast}\n\
             megamux_tick_seconds_bucket{{shard=\"0\",le=\"+Inf\"}} {}\nmegamux_tick_seconds_sum{{shard=\"0\"}} {uptime}\n",
            fast + slow,
        );
        Snapshot::read(&text, start + after).unwrap()
    }

    fn cell(row: &Row, title: &str) -> String {
        let column = COLUMNS.iter().find(|column| column.title == title).unwrap();
        (column.cell)(row)
    }

    #[test]
    fn rates_are_differences_over_time_and_the_last_row_is_all() {
        let start = Instant::now();
        let before = snapshot(10.0, Duration::ZERO, 100, 0, 0, start);
        let now = snapshot(12.0, Duration::from_secs(2), 300, 98, 2, start);
        let view = View::between(&before, &now);
        let accepts: Vec<_> = view.rows.iter().map(|row| cell(row, "accept/s")).collect();
        assert_eq!(accepts, ["100", "100", "200"]);
        assert_eq!((cell(&view.rows[0], "tick p50"), cell(&view.rows[0], "tick p99")), ("<1ms".into(), ">1s".into()));
        assert_eq!((cell(&view.rows[0], "busy"), cell(&view.rows[2], "busy")), ("100%".into(), "50%".into()));
    }

    #[test]
    fn a_restarted_server_starts_anew() {
        let start = Instant::now();
        let before = snapshot(1000.0, Duration::ZERO, 5000, 0, 0, start);
        let now = snapshot(1.0, Duration::from_secs(1), 30, 0, 0, start);
        assert_eq!(cell(&View::between(&before, &now).rows[0], "accept/s"), "30");
    }

    #[test]
    fn numbers_stay_short() {
        let check = |shown: String, expect: &str| assert_eq!(shown, expect);
        check(count(0.0), "0");
        check(count(9999.0), "9999");
        check(count(10_000.0), "10k");
        check(count(2_940_000.0), "2940k");
        check(bytes(1_048_576.0), "1024KiB");
        check(span(2.56e-7), "256ns");
        check(span(0.25), "250ms");
        check(stall(0.0002), "-");
        check(ratio(3.0, 0.0), "-");
        check(percentile(&[], 0.5), "-");
    }
}
