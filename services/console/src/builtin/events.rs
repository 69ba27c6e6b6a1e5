//! `events`: what happens, as it happens.
//!
//! Owns one session's view: the figures it has seen, and the lines that wait to be shown. Invariant: at most [`MAX_LINES`] lines
//! wait; what comes beyond them is counted.

use megamux_engine::stats::{ConnState, EngineStats, Metric, Value};

use super::shards::STALLED;
use crate::event::mark;
use crate::text;

/// Lines that are shown at a time; more in that time are counted.
pub const MAX_LINES: usize = 200;

/// The longest line, in characters.
const MAX_LINE: usize = 400;

/// Counters that tell of happenings; the others tell of traffic.
const TELLING: [&str; 8] = [
    "megamux_accepts_total",
    "megamux_refusals_total",
    "megamux_dials_failed_total",
    "megamux_closes_total",
    "megamux_datagrams_dropped_total",
    "megamux_completion_overflows_total",
    "megamux_no_buffers_total",
    "megamux_panics_total",
];

#[derive(Debug)]
pub(crate) struct Events {
    filter: String,
    seen: EngineStats,
    waiting: Vec<String>,
    left_out: usize,
}

impl Events {
    pub(crate) fn new(filter: &str, now: EngineStats) -> Events {
        Events { filter: filter.to_owned(), seen: now, waiting: Vec::new(), left_out: 0 }
    }

    /// Something happened.
    pub(crate) fn add(&mut self, topic: &str, what: &str) {
        let line = format!("{:<10}  {}", text::safe_word(topic, 40), text::safe_word(what, MAX_LINE));
        if !line.contains(&self.filter) {
            return;
        }
        if self.waiting.len() < MAX_LINES {
            self.waiting.push(line);
        } else {
            self.left_out += 1;
        }
    }

    /// What the figures say happened since the last time.
    pub(crate) fn look(&mut self, now: EngineStats) {
        let (before, after) = (self.seen.total(), now.total());
        let grown = before.metrics().zip(after.metrics()).filter_map(|(before, after)| told(&before, &after));
        for what in grown.collect::<Vec<_>>() {
            self.add("engine", &what);
        }
        if now.service_panics > self.seen.service_panics {
            self.add("engine", &format!("service panics +{}", now.service_panics - self.seen.service_panics));
        }
        for (index, shard) in now.shards.iter().enumerate() {
            if u128::from(shard.tick_running_ns) >= STALLED.as_nanos() {
                self.add("engine", &format!("shard {index} is stalled"));
            }
        }
        self.seen = now;
    }

    /// Takes the lines that wait.
    pub(crate) fn take(&mut self) -> Option<String> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut out = String::new();
        for line in self.waiting.drain(..) {
            out.push_str(&line);
            out.push('\n');
        }
        match std::mem::take(&mut self.left_out) {
            0 => {}
            count => out.push_str(&format!("{}and {count} more{}\n", mark::FAINT, mark::PLAIN)),
        }
        Some(out)
    }

    /// How to begin.
    pub(crate) fn heading(&self) -> String {
        let open = self.seen.total().connections;
        let open = open.total() - open.of(ConnState::Closing);
        format!("{}{open} connections are open; any key ends this{}\n", mark::FAINT, mark::PLAIN)
    }
}

/// What a counter's growth says, if it says anything.
fn told(before: &Metric<'_>, after: &Metric<'_>) -> Option<String> {
    let (Value::Count(before), Value::Count(count)) = (&before.value, &after.value) else {
        return None;
    };
    let grown = count.saturating_sub(*before);
    if grown == 0 || !TELLING.contains(&after.name) {
        return None;
    }
    let name = after.name.strip_prefix("megamux_").unwrap_or(after.name);
    let name = name.strip_suffix("_total").unwrap_or(name).replace('_', " ");
    Some(match after.labels.own {
        Some((_, word)) => format!("{name} ({}) +{grown}", word.replace('_', " ")),
        None => format!("{name} +{grown}"),
    })
}

#[cfg(test)]
mod tests {
    use megamux_engine::stats::ShardSnapshot;

    use super::*;

    fn stats(accepts: u64) -> EngineStats {
        let mut shard = ShardSnapshot::default();
        shard.accepts = accepts;
        shard.bytes_in = 100 * accepts;
        let mut stats = EngineStats::default();
        stats.shards = vec![shard];
        stats
    }

    #[test]
    fn counters_that_grew_are_told() {
        let mut events = Events::new("", stats(3));
        events.look(stats(3));
        assert_eq!(events.take(), None);
        events.look(stats(5));
        assert_eq!(events.take().as_deref(), Some("engine      accepts +2\n"));
        let mut later = stats(5);
        later.service_panics = 1;
        later.shards[0].tick_running_ns = 1_000_000_000;
        events.look(later);
        assert_eq!(events.take().unwrap().lines().count(), 2);
    }

    #[test]
    fn a_filter_leaves_out_and_a_flood_is_counted() {
        let mut events = Events::new("im", stats(0));
        events.add("im", "user\x1b[2J came");
        events.add("http", "x");
        let shown = events.take().unwrap();
        assert_eq!(shown, "im          user\\u{1b}[2J came\n");
        for number in 0..1000 {
            events.add("im", &number.to_string());
        }
        let shown = events.take().unwrap();
        assert_eq!(shown.lines().count(), MAX_LINES + 1);
        assert!(shown.contains("and 800 more"));
    }
}
