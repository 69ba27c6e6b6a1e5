//! What a run found, as JSON to keep.
//!
//! Invariant: the JSON holds every sample, and whatever is drawn is drawn from it alone, so `show` draws a kept report as
//! `run` did. What could not be measured is in it too, and says why.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::memory::Footprint;
use crate::scenario::{Bar, Scenario, Shape};
use crate::tails::Tails;

/// What a server is in the comparison. The best peer is never a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A bare loop: what the kernel costs.
    Floor,
    /// What a user would pick.
    Peer,
    /// What all this is about.
    Ours,
    /// Given on the command line.
    External,
}

#[derive(Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub seed: u64,
    /// A look, with few slices.
    pub quick: bool,
    pub tables: Vec<Table>,
    pub idle: Option<IdleReport>,
    #[serde(default)]
    pub tails: Vec<Tails>,
}

#[derive(Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: u64,
    /// Runnable tasks when the run began, averaged over a minute: other work that disturbed it.
    pub load_average: f64,
    pub open_files: u64,
    pub server_cpu: usize,
    pub load_cpu: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    Tcp,
    Unix,
}

/// One scenario's table. Row 0 is the baseline, row 1 the same binary again.
#[derive(Serialize, Deserialize)]
pub struct Table {
    pub scenario: Scenario,
    pub transport: Transport,
    pub shape: Shape,
    pub slice_ms: u64,
    /// Slices each row was to have.
    pub slices: usize,
    pub bars: Vec<Bar>,
    pub rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub kind: Kind,
    /// One per round, in the order of the rounds; fewer than the table's slices if the server failed.
    pub samples: Vec<Sample>,
    pub failure: Option<Failure>,
}

/// One slice of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub units: u64,
    pub elapsed_ns: u64,
    pub server_cpu_ns: u64,
    pub load_cpu_ns: u64,
    /// Of fan-out, one per message: from its send to its last delivery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies_ns: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
pub struct IdleReport {
    pub transport: Transport,
    pub counts: [usize; 2],
    pub footprints: Vec<Footprint>,
    /// Who could not be measured.
    pub failures: Vec<(String, Failure)>,
}

/// Why a server has no samples, or no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Failure(String);

impl Report {
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report", path.display()))
    }

    pub fn store(&self, path: &Path) -> Result<()> {
        write(path, &serde_json::to_string(self)?)
    }

    /// Servers that failed, each with its scenario.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let of_tables = self.tables.iter().flat_map(|table| {
            let failed = table.rows.iter().filter(|row| row.failure.is_some());
            failed.map(move |row| (table.scenario.name(), row.name.as_str()))
        });
        let idle = self.idle.iter().flat_map(|idle| &idle.failures);
        let idle = idle.map(|(name, _)| (Scenario::Idle.name(), name.as_str()));
        let of_tails = self.tails.iter().flat_map(|tails| {
            let failed = tails.rows.iter().filter(|row| row.failure.is_some());
            failed.map(move |row| (tails.scenario.name(), row.name.as_str()))
        });
        of_tables.chain(idle).chain(of_tails)
    }
}

/// Writes a whole file or leaves the one before: a run that is broken off loses no earlier table.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

impl Row {
    pub fn cpu_per_unit(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.server_cpu_ns as f64 / sample.units as f64).collect()
    }
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Unix => "Unix sockets",
        }
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Peer => "peer",
            Self::Ours => "ours",
            Self::External => "external",
        }
    }
}

impl Failure {
    pub fn new(error: &anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }

    /// At once, beside the progress; the tables repeat it.
    pub fn tell(&self, server: &str) {
        eprintln!("megamux-compare: {server} is out: {self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, cpu, cpus, memory_mib, load_average, open_files, server_cpu, load_cpu } = self;
        write!(
            f,
            "Linux {kernel}, {cpus} x {cpu}, {memory_mib} MiB, {open_files} open files, load {load_average:.2} at \
             the start; servers on core {server_cpu}, load on core {load_cpu}"
        )
    }
}
