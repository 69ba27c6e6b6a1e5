//! Ticks as Chrome trace events, which Perfetto and chrome://tracing show: a track per shard, a slice per tick and one per phase
//! inside it, and a counter of completions.
//!
//! Invariant: events are written as they come; nothing is kept, so a trace may be longer than memory.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::ticks::{PHASES, Stretch, Tick};

pub struct Writer<W> {
    out: W,
    process: u32,
    is_first: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a trace of these shards.
    pub fn begin(out: W, process: u32, shards: u16) -> io::Result<Writer<W>> {
        let mut writer = Writer { out, process, is_first: true };
        writer.out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
        writer.event(json!({"ph": "M", "name": "process_name", "pid": process, "args": {"name": "megamux"}}))?;
        for shard in 0..shards {
            let args = json!({"name": format!("shard {shard}")});
            writer.event(json!({"ph": "M", "name": "thread_name", "pid": process, "tid": shard, "args": args}))?;
        }
        Ok(writer)
    }

    /// Adds a stretch; what of it was overwritten shows as a mark.
    pub fn add(&mut self, stretch: &Stretch) -> io::Result<()> {
        let shard = stretch.shard;
        if let (Some(first), true) = (stretch.ticks.first(), stretch.lost > 0) {
            let name = format!("{} ticks overwritten", stretch.lost);
            let at = micros(first.entered);
            self.event(json!({"ph": "i", "s": "t", "name": name, "pid": self.process, "tid": shard, "ts": at}))?;
        }
        stretch.ticks.iter().try_for_each(|tick| self.tick(shard, tick))
    }

    fn tick(&mut self, shard: u16, tick: &Tick) -> io::Result<()> {
        let counts = json!({
            "number": tick.number,
            "enters": tick.enters,
            "submissions": tick.submissions,
            "completions": tick.completions,
        });
        let end = tick.ends[PHASES.len() - 1];
        self.slice(shard, "tick", tick.entered, end, Some(counts))?;
        let mut begin = 0;
        for (name, end) in parts(tick) {
            if end > begin {
                self.slice(shard, name, tick.entered + begin, end - begin, None)?;
            }
            begin = end;
        }
        let name = format!("shard {shard} completions per enter");
        let (at, per) = (micros(tick.entered + tick.ends[0]), json!({"completions": tick.completions}));
        self.event(json!({"ph": "C", "name": name, "pid": self.process, "ts": at, "args": per}))
    }

    fn slice(&mut self, shard: u16, name: &str, begin: u64, span: u64, args: Option<Value>) -> io::Result<()> {
        let (ts, dur) = (micros(begin), micros(span));
        let mut event = json!({"ph": "X", "name": name, "pid": self.process, "tid": shard, "ts": ts, "dur": dur});
        if let Some(args) = args {
            event["args"] = args;
        }
        self.event(event)
    }

    fn event(&mut self, event: Value) -> io::Result<()> {
        let between = if std::mem::take(&mut self.is_first) { "\n" } else { ",\n" };
        write!(self.out, "{between}{event}")
    }

    /// Ends the trace. Without this most viewers read it all the same.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()
    }
}

/// The phases of a tick with their ends; where they are not told apart there is the wait and the work.
fn parts(tick: &Tick) -> Vec<(&'static str, u64)> {
    let last = PHASES.len() - 1;
    match tick.has_phases {
        true => PHASES.into_iter().zip(tick.ends).collect(),
        false => vec![(PHASES[0], tick.ends[0]), ("work", tick.ends[last])],
    }
}

/// The format counts microseconds.
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticks::tests::TEXT;

    const GOLDEN: &str = include_str!("../tests/golden.json");

    #[test]
    fn a_stretch_becomes_the_golden_trace() {
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, 77, 2).unwrap();
        writer.add(&Stretch::read(TEXT).unwrap()).unwrap();
        writer.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, GOLDEN, "{text}");
        serde_json::from_str::<Value>(&text).expect("it is JSON");
    }
}
