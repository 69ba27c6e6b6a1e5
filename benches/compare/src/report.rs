//! What a run found, as JSON to keep and as tables to read.
//!
//! Invariant: the JSON holds every sample, and tables are drawn from it alone, so `show` draws a kept report as `run` did.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::memory::Footprint;
use crate::method::{Estimate, median, paired_ratio};
use crate::scenario::{Scenario, Shape};

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
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report", path.display()))
    }

    pub fn store(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn print(&self) {
        self.print_machine();
        for load in &self.loads {
            load.print(&self.transport, self.slice_ms, self.seed);
        }
        if let Some(idle) = &self.idle {
            idle.print(&self.transport);
        }
    }

    pub fn print_machine(&self) {
        let Machine {
            kernel,
            cpu,
            cpus,
            server_cpu,
            load_cpu,
        } = &self.machine;
        println!(
            "Linux {kernel}, {cpus} x {cpu}; servers on core {server_cpu}, load on core {load_cpu}"
        );
    }
}

impl Row {
    fn cpu_per_unit(&self) -> Vec<f64> {
        self.samples
            .iter()
            .map(|sample| sample.server_cpu_ns as f64 / sample.units as f64)
            .collect()
    }

    fn median_of(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        median(&mut self.samples.iter().map(value).collect::<Vec<_>>())
    }
}

impl LoadReport {
    pub fn print(&self, transport: &str, slice_ms: u64, seed: u64) {
        let Shape {
            connections,
            depth,
            message,
            ..
        } = self.shape;
        let baseline = self.rows[0].cpu_per_unit();
        let estimates: Vec<Estimate> = self
            .rows
            .iter()
            .map(|row| paired_ratio(&row.cpu_per_unit(), &baseline, seed))
            .collect();
        let resolution = estimates[1].distance_from_one();
        println!();
        println!(
            "{} over {transport}: {connections} connections, depth {depth}, {message} B; {} slices of {slice_ms} ms; \
             resolves {:.1}%",
            self.scenario.name(),
            baseline.len(),
            resolution * 100.0
        );
        let unit = self.scenario.unit();
        println!(
            "  {:<16} {:<8} {:>9} {:>7} {:>16}  {:<12} {:>10} {:>8} {:>9} {:>10}",
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
        );
        for (index, (row, estimate)) in self.rows.iter().zip(&estimates).enumerate() {
            row.print(index, estimate, resolution, message);
        }
    }
}

impl Row {
    fn print(&self, index: usize, estimate: &Estimate, resolution: f64, message: usize) {
        let ns = median(&mut self.cpu_per_unit());
        let verdict = match index {
            0 => "baseline",
            1 => "A/A",
            _ if (estimate.median - 1.0).abs() <= resolution => "not resolved",
            _ if estimate.median < 1.0 => "cheaper",
            _ => "dearer",
        };
        let share = |cpu_ns: u64, sample: &Sample| 100.0 * cpu_ns as f64 / sample.elapsed_ns as f64;
        println!(
            "  {:<16} {:<8} {ns:>9.0} {:>7.3} {:>16}  {verdict:<12} {:>10.0} {:>8.0} {:>8.0}% {:>9.0}%",
            self.name,
            self.kind.name(),
            estimate.median,
            format!("[{:.3}, {:.3}]", estimate.low, estimate.high),
            self.median_of(|sample| sample.units as f64 * 1e9 / sample.elapsed_ns as f64),
            message as f64 / ns * 1e3,
            self.median_of(|sample| share(sample.server_cpu_ns, sample)),
            self.median_of(|sample| share(sample.load_cpu_ns, sample)),
        );
    }
}

impl IdleReport {
    pub fn print(&self, transport: &str) {
        println!();
        println!(
            "idle over {transport}: bytes per connection, slope from {} to {}",
            self.counts[0], self.counts[1]
        );
        println!(
            "  {:<16} {:<8} {:>8} {:>8} {:>8} {:>8}",
            "server", "kind", "kernel", "rss", "pss", "sum"
        );
        for footprint in &self.footprints {
            let Footprint {
                name,
                kind,
                kernel,
                rss,
                pss,
                ..
            } = footprint;
            println!(
                "  {name:<16} {:<8} {kernel:>8.0} {rss:>8.0} {pss:>8.0} {:>8.0}",
                kind.name(),
                kernel + rss
            );
        }
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
