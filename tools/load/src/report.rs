//! The results: what a run came to, as text for people and JSON for programs.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plan::Plan;
use crate::progress::{grouped, span};

/// A run's results. Times are nanoseconds unless their name says otherwise.
#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: &'static str,
    pub target: String,
    pub connections: u32,
    pub shards: u16,
    pub message_bytes: u32,
    pub depth: u32,
    /// Messages per second asked for; absent in a closed loop.
    pub rate_asked: Option<u64>,
    /// Whether all went as asked, and if not, why the results are partial.
    pub complete: bool,
    pub incomplete: Option<String>,
    pub ramp: Ramp,
    pub run: Run,
    pub latency_ns: Latency,
    /// For fanout: from when a line was due until everybody had it.
    pub last_delivery_ns: Option<Latency>,
    /// Connections that ended although nobody asked for it.
    pub lost: u64,
    pub errors: BTreeMap<String, u64>,
    /// Processor time of this program while it measured, as a share of one CPU.
    pub own_cpu: f64,
}

#[derive(Debug, Default, Serialize)]
pub struct Ramp {
    pub opened: u64,
    pub failed_dials: u64,
    pub seconds: f64,
}

#[derive(Debug, Default, Serialize)]
pub struct Run {
    pub seconds: f64,
    pub sent: u64,
    /// Messages answered; for churn and storm, connections served; for fanout, lines that everybody got.
    pub done: u64,
    pub done_per_second: f64,
    /// For fanout: lines that one connection got.
    pub deliveries: Option<u64>,
    pub open_in_the_end: u64,
}

/// From when a message was due to when its answer was whole.
#[derive(Debug, Default, Serialize)]
pub struct Latency {
    pub count: u64,
    pub p50: u64,
    pub p90: u64,
    pub p95: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    /// Shares of all, and what they did not exceed.
    pub distribution: Vec<(f64, u64)>,
}

/// Where a distribution is read.
const SHARES: [f64; 15] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999];

impl Latency {
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let (count, max) = (histogram.len(), histogram.max());
        Latency {
            count,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max,
            distribution: SHARES.map(|share| (share, at(share))).to_vec(),
        }
    }
}

impl Report {
    pub fn new(plan: &Plan) -> Report {
        Report {
            scenario: plan.scenario.name(),
            target: plan.target.to_string(),
            connections: plan.connections,
            shards: plan.shards,
            message_bytes: plan.size,
            depth: plan.depth,
            rate_asked: plan.rate,
            complete: true,
            incomplete: None,
            ramp: Ramp::default(),
            run: Run::default(),
            latency_ns: Latency::default(),
            last_delivery_ns: None,
            lost: 0,
            errors: BTreeMap::new(),
            own_cpu: 0.0,
        }
    }

    /// The results are partial; the first reason stands.
    pub fn cut_short(&mut self, why: impl Into<String>) {
        self.complete = false;
        self.incomplete.get_or_insert_with(|| why.into());
    }

    /// Prints the text, or the JSON where it is to go. The text comes first: what cannot be kept is at least seen.
    pub fn deliver(&self, json: Option<&Path>) -> anyhow::Result<()> {
        let as_json = || Ok::<_, anyhow::Error>(serde_json::to_string_pretty(self)? + "\n");
        match json {
            None => print(self.text().as_bytes()),
            Some(path) if path == Path::new("-") => print(as_json()?.as_bytes()),
            Some(path) => {
                print(self.text().as_bytes())?;
                std::fs::write(path, as_json()?).with_context(|| format!("cannot write {}", path.display()))
            }
        }
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        let (ramp, run, latency) = (&self.ramp, &self.run, &self.latency_ns);
        if let Some(why) = &self.incomplete {
            lines.push(format!("INCOMPLETE: {why}"));
        }
        lines.push(format!(
            "{} on {}: {} connections, {} B, depth {}, {} shard{}",
            self.scenario,
            self.target,
            grouped(self.connections.into()),
            self.message_bytes,
            self.depth,
            self.shards,
            if self.shards == 1 { "" } else { "s" }
        ));
        let per_second = if ramp.seconds > 0.0 { (ramp.opened as f64 / ramp.seconds) as u64 } else { 0 };
        lines.push(format!(
            "ramp     {} opened in {:.2} s ({}/s), {} failed",
            grouped(ramp.opened),
            ramp.seconds,
            grouped(per_second),
            grouped(ramp.failed_dials)
        ));
        if run.seconds == 0.0 {
            lines.extend(self.errors.iter().map(|(error, count)| format!("error    {count} x {error}")));
            return lines.join("\n") + "\n";
        }
        let unit = match self.scenario {
            "churn" | "storm" => "connections",
            "frames" => "lines",
            "fanout" => "lines to all",
            _ => "messages",
        };
        lines.push(format!(
            "run      {} {unit} in {:.2} s ({}/s), {} open in the end, {} lost",
            grouped(run.done),
            run.seconds,
            grouped(run.done_per_second as u64),
            grouped(run.open_in_the_end),
            grouped(self.lost)
        ));
        if let Some(deliveries) = run.deliveries {
            let per_second = (deliveries as f64 / run.seconds.max(0.001)) as u64;
            lines.push(format!("         {} deliveries ({}/s)", grouped(deliveries), grouped(per_second)));
        }
        let due = if self.rate_asked.is_some() || self.scenario == "hold" { "  (from when due)" } else { "" };
        let answered = latency.count > 0;
        lines.extend(answered.then(|| {
            format!(
                "latency  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}{}",
                span(latency.p50),
                span(latency.p90),
                span(latency.p99),
                span(latency.p999),
                span(latency.max),
                due
            )
        }));
        if let Some(last) = self.last_delivery_ns.as_ref().filter(|last| last.count > 0) {
            let (p50, p95, max) = (span(last.p50), span(last.p95), span(last.max));
            lines.push(format!("to all   p50 {p50}  p95 {p95}  max {max}  (last delivery of a line)"));
        }
        lines.push(format!("own CPU  {:.0}% of one", 100.0 * self.own_cpu));
        for (error, count) in &self.errors {
            lines.push(format!("error    {count} x {error}"));
        }
        lines.join("\n") + "\n"
    }
}

/// To standard output. Whoever closed it has read enough.
pub fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}
