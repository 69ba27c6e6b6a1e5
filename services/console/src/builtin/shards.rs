//! `shards`: each shard's connections and load, over the last seconds. Reads cells, asks no shard.
//!
//! Owns the samples that rates are made of. Invariant: while there are sessions, the sample that rates are counted from is at
//! most two [`SAMPLE_EVERY`] old; with none, there are no samples and no timer.

use std::time::Duration;

use megamux_engine::stats::{ConnState, EngineStats, Label, ShardSnapshot};

use super::stats::percentile;
use crate::event::mark;
use crate::text::{self, Align, Table};

/// How often a sample is taken: long enough for a steady rate, short enough to be called now.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Rates over less than this are noise: then the time since the engine's start stands in.
const LEAST_WINDOW: Duration = Duration::from_secs(1);

/// A tick that has run this long holds everything on its shard up.
pub(crate) const STALLED: Duration = Duration::from_millis(100);

/// The two latest samples, and rates counted from the older one.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    samples: Option<Box<[EngineStats; 2]>>,
}

impl Sampler {
    /// Takes the first sample, unless sampling goes on already; says whether it begins.
    pub(crate) fn start(&mut self, now: impl FnOnce() -> EngineStats) -> bool {
        let begins = self.samples.is_none();
        if begins {
            let now = now();
            self.samples = Some(Box::new([now.clone(), now]));
        }
        begins
    }

    pub(crate) fn stop(&mut self) {
        self.samples = None;
    }

    pub(crate) fn sample(&mut self, now: EngineStats) {
        if let Some(samples) = &mut self.samples {
            let [older, newer] = &mut **samples;
            *older = std::mem::replace(newer, now);
        }
    }

    /// The table of shards at `now`.
    pub(crate) fn render(&self, now: &EngineStats) -> String {
        let older = self.samples.as_ref().map(|samples| &samples[0]);
        let recent = older.filter(|older| now.at.since(older.at) >= LEAST_WINDOW);
        let start = EngineStats::default();
        let base = recent.unwrap_or(&start);
        let window = now.at.since(base.at);

        let mut table = Table::new(&columns());
        let none = ShardSnapshot::default();
        for (index, shard) in now.shards.iter().enumerate() {
            let before = base.shards.get(index).unwrap_or(&none);
            table.row(row(index.to_string(), shard, before, window));
        }
        if now.shards.len() > 1 {
            table.row(row("all".to_owned(), &now.total(), &base.total(), window));
        }
        let mut out = table.render();
        let since = if recent.is_some() { "the last" } else { "all" };
        out.push_str(&format!("rates and ticks over {since} {}\n", text::span(window)));
        for (index, shard) in now.shards.iter().enumerate() {
            let running = Duration::from_nanos(shard.tick_running_ns);
            if running >= STALLED {
                let running = text::span(running);
                let (bad, plain) = (mark::BAD, mark::PLAIN);
                out.push_str(&format!("{bad}shard {index} is stalled: one tick runs since {running}{plain}\n"));
            }
        }
        out
    }
}

fn columns() -> Vec<(&'static str, Align)> {
    let states = ConnState::ALL.iter().map(|state| state.word());
    let load = ["cpu", "accepts/s", "in/s", "out/s", "frames/s", "p50", "p99", "cqe/enter", "buffers", "queued"];
    let titles = ["shard"].into_iter().chain(states).chain(load);
    titles.map(|title| (title, Align::Right)).collect()
}

fn row(name: String, now: &ShardSnapshot, before: &ShardSnapshot, window: Duration) -> Vec<String> {
    let seconds = window.as_secs_f64().max(f64::MIN_POSITIVE);
    let grown = |count: fn(&ShardSnapshot) -> u64| count(now).saturating_sub(count(before));
    let rate = |count| text::rate(grown(count) as f64 / seconds);
    let byte_rate = |count| text::bytes((grown(count) as f64 / seconds) as u64);
    let ticks = now.ticks.since(&before.ticks);
    let (completions, enters) = (grown(|shard| shard.completions), grown(|shard| shard.enters));
    let per_enter = match enters {
        0 => "-".to_owned(),
        enters => format!("{:.1}", completions as f64 / enters as f64),
    };
    let states = now.connections.iter().map(|(_, count)| count.to_string());
    [name]
        .into_iter()
        .chain(states)
        .chain([
            format!("{:.0}%", grown(|shard| shard.cpu_ns) as f64 / 1e7 / seconds),
            rate(|shard| shard.accepts),
            byte_rate(|shard| shard.bytes_in),
            byte_rate(|shard| shard.bytes_out),
            rate(|shard| shard.frames_in),
            percentile(&ticks, 50.0),
            percentile(&ticks, 99.0),
            per_enter,
            now.buffers_free.to_string(),
            text::bytes(now.send_queue_bytes),
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use megamux_engine::Time;

    use super::*;

    #[test]
    fn rates_are_counted_from_a_sample_that_is_old_enough() {
        let at = |millis: u64, bytes: u64| {
            let mut shard = ShardSnapshot::default();
            shard.bytes_in = bytes;
            let mut stats = EngineStats::default();
            stats.at = Time::from_nanos(millis * 1_000_000);
            stats.shards = vec![shard.clone(), shard];
            stats
        };
        let mut sampler = Sampler::default();
        assert!(sampler.start(|| at(10_000, 1000)));
        assert!(!sampler.start(|| at(0, 0)), "one at a time");
        let table = sampler.render(&at(10_500, 10_500));
        assert!(table.ends_with("rates and ticks over all 10.5 s\n"), "{table}");

        sampler.sample(at(15_000, 1000));
        let table = sampler.render(&at(20_000, 3000));
        assert!(table.ends_with("rates and ticks over the last 10.0 s\n"), "{table}");
        assert_eq!(table.matches(" 200 B ").count(), 2, "each shard: {table}");
        assert_eq!(table.matches(" 400 B ").count(), 1, "all: {table}");

        sampler.stop();
        assert!(sampler.samples.is_none());
    }

    #[test]
    fn a_stalled_shard_is_named() {
        let mut shard = ShardSnapshot::default();
        shard.tick_running_ns = 4_000_000_000;
        let mut stats = EngineStats::default();
        stats.shards = vec![ShardSnapshot::default(), shard];
        let table = Sampler::default().render(&stats);
        assert!(table.contains("shard 1 is stalled: one tick runs since 4.00 s"), "{table}");
        assert!(!table.contains("shard 0 is"), "{table}");
    }
}
