//! A stretch of a shard's timeline as text, for `megamux-prof`.
//!
//! It owns the text and how much of a timeline goes into one answer. Lines `word value` say what there is; behind an empty line
//! comes a line per tick, whose columns the line `columns` names: times in nanoseconds, `entered` on the engine's clock and the ends of
//! the phases counted from there. Invariant: one answer has at most [`MOST_TICKS`] ticks and [`MOST_BYTES`] bytes.

use std::fmt::Write as _;

use crate::engine::{Handle, Phase, ShardId};

/// Ticks in one answer: about as many bytes as the figures of two shards.
const MOST_TICKS: usize = 1024;
/// A line has at most 11 numbers: one of 20 digits, six of 13, three of 8 and a tick's.
pub(crate) const MOST_BYTES: usize = (MOST_TICKS + 4) * 160;

/// The answer to `shard=NUMBER&from=TICK`, asked on shard `here`: ticks from that number on, without `from` those to come.
/// `None` for a query that cannot be.
pub fn text(engine: &Handle, here: ShardId, query: &str) -> Option<String> {
    let (mut shard, mut from) = (here.0, u64::MAX);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("shard", number) => shard = number.parse().ok()?,
            ("from", number) => from = number.parse().ok()?,
            _ => return None,
        }
    }
    let trace = engine.trace(ShardId(shard), from, MOST_TICKS)?;
    let mut out = String::with_capacity(128 + 64 * trace.ticks.len());
    let (process, shards, now) = (std::process::id(), engine.shards(), engine.now().as_nanos());
    // A String takes every write.
    let _ = writeln!(out, "process {process}\nshards {shards}\nanswered_by {here}\nshard {shard}\nnow {now}");
    let _ = writeln!(out, "next {}\nlost {}", trace.next, trace.lost);
    out.push_str("columns tick entered");
    Phase::ALL.iter().for_each(|phase| out.extend([" ", phase.word()]));
    out.push_str(" enters submissions completions phases\n\n");
    for tick in &trace.ticks {
        let _ = write!(out, "{} {}", tick.number, tick.entered.as_nanos());
        for end in tick.ends {
            let _ = write!(out, " {}", end.since(tick.entered).as_nanos());
        }
        let phases = u8::from(tick.has_phases);
        let _ = writeln!(out, " {} {} {} {phases}", tick.enters, tick.submissions, tick.completions);
    }
    Some(out)
}
