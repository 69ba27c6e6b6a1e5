//! What a run found, as JSON to keep and as tables to read.
//!
//! Invariant: the JSON holds every sample, and tables are drawn from it alone, so `show` draws a kept report as `run` did.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::memory::Footprint;
use crate::method::{Estimate, median, paired_ratio};
use crate::scenario::{Scenario, Shape};

/// A share of wall time spent on the CPU. Waiting and switching between slices leave a saturated side this much.
const SATURATED: f64 = 0.8;

/// What a server is in the comparison. The best peer is never a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A bare loop: what the kernel costs.
    Floor,
    /// What a user would pick.
    Peer,
    /// Given on the command line.
    External,
}

#[derive(Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub seed: u64,
    pub slice_ms: u64,
    pub transport: String,
    pub loads: Vec<LoadReport>,
    pub idle: Option<IdleReport>,
}

#[derive(Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    pub server_cpu: usize,
    pub load_cpu: usize,
}

/// One scenario's table. Row 0 is the baseline, row 1 the same binary again.
#[derive(Serialize, Deserialize)]
pub struct LoadReport {
    pub scenario: Scenario,
    pub shape: Shape,
    pub rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub kind: Kind,
    /// One per round, in the order of the rounds.
    pub samples: Vec<Sample>,
}

/// One slice of one server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub units: u64,
    pub elapsed_ns: u64,
    pub server_cpu_ns: u64,
    pub load_cpu_ns: u64,
}

#[derive(Serialize, Deserialize)]
pub struct IdleReport {
    pub counts: [usize; 2],
    pub footprints: Vec<Footprint>,
}

impl Report {
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report", path.display()))
    }

    pub fn store(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn draw(&self, out: &mut dyn Write) -> io::Result<()> {
        self.machine.draw(out)?;
        for load in &self.loads {
            load.draw(out, &self.transport, self.slice_ms, self.seed)?;
        }
        match &self.idle {
            Some(idle) => idle.draw(out, &self.transport),
            None => Ok(()),
        }
    }
}

impl Machine {
    pub fn draw(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { kernel, cpu, cpus, server_cpu, load_cpu } = self;
        writeln!(out, "Linux {kernel}, {cpus} x {cpu}; servers on core {server_cpu}, load on core {load_cpu}")
    }
}

impl LoadReport {
    pub fn draw(&self, out: &mut dyn Write, transport: &str, slice_ms: u64, seed: u64) -> io::Result<()> {
        let Shape { connections, depth, message, .. } = self.shape;
        let name = self.scenario.name();
        let baseline = self.rows[0].cpu_per_unit();
        let ratio = |row: &Row| paired_ratio(&row.cpu_per_unit(), &baseline, seed);
        let estimates: Vec<Estimate> = self.rows.iter().map(ratio).collect();
        let resolution = estimates[1].distance_from_one();
        writeln!(out)?;
        writeln!(out, "{name} over {transport}: {connections} connections, depth {depth}, {message} B")?;
        writeln!(
            out,
            "  {} slices of {slice_ms} ms; differences up to {:.1}% are not resolved",
            baseline.len(),
            resolution * 100.0
        )?;
        self.draw_head(out)?;
        for (index, (row, estimate)) in self.rows.iter().zip(&estimates).enumerate() {
            row.draw(out, verdict(index, estimate, resolution), estimate, message)?;
        }
        if self.rows[0].server_busy().max(self.rows[0].load_busy()) < SATURATED {
            writeln!(out, "  neither side was saturated: is there other work on these cores?")?;
        }
        Ok(())
    }

    fn draw_head(&self, out: &mut dyn Write) -> io::Result<()> {
        let unit = self.scenario.unit();
        writeln!(
            out,
            "  {:<16} {:<8} {:>9} {:>7} {:>16}  {:<12} {:>10} {:>8} {:>6} {:>10}",
            "server",
            "kind",
            format!("ns/{unit}"),
            "ratio",
            "95% interval",
            "verdict",
            format!("{unit}/s"),
            "MB/cpu-s",
            "busy",
            "load busy"
        )
    }
}

fn verdict(row: usize, estimate: &Estimate, resolution: f64) -> &'static str {
    match row {
        0 => "baseline",
        1 => "A/A",
        _ if estimate.high < 1.0 && estimate.median < 1.0 - resolution => "cheaper",
        _ if estimate.low > 1.0 && estimate.median > 1.0 + resolution => "dearer",
        _ => "not resolved",
    }
}

impl Row {
    fn draw(&self, out: &mut dyn Write, verdict: &str, estimate: &Estimate, message: usize) -> io::Result<()> {
        let ns = median(&mut self.cpu_per_unit());
        writeln!(
            out,
            "  {:<16} {:<8} {ns:>9.0} {:>7.3} {:>16}  {verdict:<12} {:>10.0} {:>8.0} {:>5.0}% {:>9.0}%",
            self.name,
            self.kind.name(),
            estimate.median,
            format!("[{:.3}, {:.3}]", estimate.low, estimate.high),
            self.median_of(|sample| sample.units as f64 * 1e9 / sample.elapsed_ns as f64),
            message as f64 / ns * 1e3,
            self.server_busy() * 100.0,
            self.load_busy() * 100.0,
        )
    }

    fn cpu_per_unit(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.server_cpu_ns as f64 / sample.units as f64).collect()
    }

    fn server_busy(&self) -> f64 {
        self.median_of(|sample| sample.server_cpu_ns as f64 / sample.elapsed_ns as f64)
    }

    fn load_busy(&self) -> f64 {
        self.median_of(|sample| sample.load_cpu_ns as f64 / sample.elapsed_ns as f64)
    }

    fn median_of(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        median(&mut self.samples.iter().map(value).collect::<Vec<_>>())
    }
}

impl IdleReport {
    pub fn draw(&self, out: &mut dyn Write, transport: &str) -> io::Result<()> {
        let [low, high] = self.counts;
        writeln!(out)?;
        writeln!(out, "idle over {transport}: bytes per connection, slope from {low} to {high}")?;
        writeln!(out, "  {:<16} {:<8} {:>8} {:>8} {:>8} {:>8}", "server", "kind", "kernel", "rss", "pss", "sum")?;
        for Footprint { name, kind, kernel, rss, pss, .. } in &self.footprints {
            let sum = kernel + rss;
            let kind = kind.name();
            writeln!(out, "  {name:<16} {kind:<8} {kernel:>8.0} {rss:>8.0} {pss:>8.0} {sum:>8.0}")?;
        }
        Ok(())
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Peer => "peer",
            Self::External => "external",
        }
    }
}
