//! One run: servers started, slices dealt out in random order, samples gathered.
//!
//! Invariants: within a scenario all servers are alive for the whole of it on one core, only one is under load at a time,
//! and each gets exactly one slice per round, so samples of one round can be paired. A server that fails keeps the
//! samples it has and stops there; the others go on, unless it was the baseline.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::churn::Churn;
use crate::endpoint::Endpoint;
use crate::fanout::Fanout;
use crate::load::{Fleet, Load};
use crate::memory::{self, Footprint};
use crate::method::Random;
use crate::pattern::Pattern;
use crate::process::{Process, Program, Seat, Spec};
use crate::progress::Progress;
use crate::report::{Failure, IdleReport, Row, Sample, Table, Transport};
use crate::scenario::{Scenario, Shape};
use crate::servers::{Server, Work};

/// Rounds thrown away: tables grow, caches and branch predictors warm up.
const WARM_UP: usize = 2;

pub struct Plan {
    /// Without baselines and their twins, which every table has.
    pub servers: Vec<Server>,
    /// More echo servers.
    pub externals: Vec<Spec>,
    pub slices: usize,
    pub slice: Duration,
    pub unix: bool,
    pub seat: Seat,
    pub load_cpu: usize,
    pub idle_counts: [usize; 2],
    /// Measurements of a server's memory, each with a fresh process.
    pub idle_runs: usize,
    pub connections: Option<usize>,
    pub fanout_connections: usize,
    /// Of the scenarios with very many.
    pub crowd_connections: usize,
    /// What was asked for, where a scenario has a mind of its own.
    pub asked_slices: Option<usize>,
    pub asked_slice: Option<Duration>,
    pub quick: bool,
    pub random: Random,
}

/// In each, every server has so many slices of such a length at every point.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub count: usize,
    pub slices: usize,
    pub slice: Duration,
}

/// A row in the making.
struct Contender {
    row: Row,
    /// Gone when it failed.
    running: Option<Running>,
}

struct Running {
    // Dropped first: a load that outlives its server may find its connections broken.
    load: Box<dyn Load>,
    process: Process,
}

impl Plan {
    pub fn table(&mut self, scenario: Scenario) -> Table {
        let mut shape = scenario.shape();
        if scenario == Scenario::Fanout {
            shape.connections = self.fanout_connections;
        }
        shape.connections = self.connections.unwrap_or(shape.connections);
        let mut contenders = self.start_all(scenario, shape);
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        let mut progress = Progress::new(scenario.name(), WARM_UP + self.slices);
        for round in 0..WARM_UP + self.slices {
            if contenders[0].running.is_none() {
                // Nothing is left to pair the others with.
                break;
            }
            self.random.shuffle(&mut order);
            for &index in &order {
                let sample = contenders[index].slice(self.slice);
                if round >= WARM_UP {
                    contenders[index].row.samples.extend(sample);
                }
            }
            progress.at(round + 1);
        }
        Table {
            scenario,
            transport: self.transport(scenario),
            shape,
            slice_ms: self.slice.as_millis() as u64,
            slices: self.slices,
            bars: scenario.bars(),
            rows: contenders.into_iter().map(|contender| contender.row).collect(),
        }
    }

    fn start_all(&mut self, scenario: Scenario, shape: Shape) -> Vec<Contender> {
        let specs = self.specs(scenario);
        let start = |(index, spec): (usize, &Spec)| {
            let running = self.start(spec, scenario, index, shape.buffer).and_then(|mut process| {
                let load = connect(scenario, &process.endpoint, shape);
                let load = process.blame(load)?;
                Ok(Running { load, process })
            });
            let row = Row { name: spec.name.clone(), kind: spec.kind, samples: Vec::new(), failure: None };
            let mut contender = Contender { row, running: None };
            contender.running = contender.keep(running);
            contender
        };
        specs.iter().enumerate().map(start).collect()
    }

    /// The baseline, the baseline again, and everybody else who can do the work.
    pub fn specs(&self, scenario: Scenario) -> Vec<Spec> {
        let (work, baseline, transport) = (scenario.work(), scenario.baseline(), self.transport(scenario));
        let first = ours(baseline, work);
        let twin = Spec { name: format!("{} again", first.name), ..first.clone() };
        let chosen = self.servers.iter().filter(|&&server| server != baseline && server.does(work, transport));
        let chosen = chosen.map(|&server| ours(server, work));
        let externals = self.externals.iter().filter(|_| work == Work::Echo).cloned();
        [first, twin].into_iter().chain(chosen).chain(externals).collect()
    }

    fn start(&mut self, spec: &Spec, scenario: Scenario, index: usize, buffer: usize) -> Result<Process> {
        Process::start(spec, self.endpoint(scenario, index)?, buffer, &self.seat)
    }

    /// A place of its own for the scenario's `index`th server.
    pub fn endpoint(&mut self, scenario: Scenario, index: usize) -> Result<Endpoint> {
        Ok(match self.transport(scenario) {
            Transport::Unix => Endpoint::unix_in_temp(&index.to_string()),
            Transport::Tcp => Endpoint::free_tcp_port(self.random.next())?,
        })
    }

    fn transport(&self, scenario: Scenario) -> Transport {
        let unix = scenario.is_over_unix() || self.unix && !scenario.is_about_tails();
        if unix { Transport::Unix } else { Transport::Tcp }
    }

    /// How the tails are measured. A round of few active connections among many has to hold ten thousand messages for its
    /// p99.9; a storm has no length.
    pub fn rounds(&self, scenario: Scenario) -> Rounds {
        let (count, slices, ms) = match (scenario, self.quick) {
            (Scenario::Storm, quick) => (if quick { 2 } else { 9 }, 1, 0),
            (Scenario::Active, false) => (60, 20, 50),
            (Scenario::Active, true) => (4, 4, 40),
            (_, false) => (40, 10, 25),
            (_, true) => (4, 3, 20),
        };
        let slice = self.asked_slice.unwrap_or(Duration::from_millis(ms));
        Rounds { count: self.asked_slices.unwrap_or(count), slices, slice }
    }

    /// Memory is measured one server at a time: the kernel's slabs are shared by all.
    pub fn idle(&mut self) -> Result<IdleReport> {
        let plain = self.median_footprint(&ours(Server::Plain, Work::Echo))?;
        let mut footprints = vec![plain.clone()];
        let mut failures = Vec::new();
        let mut specs = self.specs(Scenario::Idle);
        // A slope has no use for a twin.
        specs.remove(1);
        for spec in specs {
            match self.median_footprint(&spec) {
                Ok(footprint) => footprints.push(footprint),
                Err(error) => {
                    let failure = Failure::new(&error);
                    failure.tell(&spec.name);
                    failures.push((spec.name, failure));
                }
            }
        }
        memory::subtract_client_end(&mut footprints, &plain);
        Ok(IdleReport { transport: self.transport(Scenario::Idle), counts: self.idle_counts, footprints, failures })
    }

    fn median_footprint(&mut self, spec: &Spec) -> Result<Footprint> {
        let runs = (0..self.idle_runs).map(|_| self.footprint(spec)).collect::<Result<Vec<_>>>()?;
        Ok(memory::median_of(&runs))
    }

    fn footprint(&mut self, spec: &Spec) -> Result<Footprint> {
        let Shape { message, buffer, .. } = Scenario::Idle.shape();
        memory::wait_for_slab_to_rest()?;
        let mut process = self.start(spec, Scenario::Idle, 0, buffer)?;
        let mut progress = Progress::new(format!("idle {}", spec.name), self.idle_counts[1]);
        memory::measure(&mut process, spec.kind, self.idle_counts, message, &mut |done| progress.at(done))
    }
}

fn ours(server: Server, work: Work) -> Spec {
    Spec { name: server.name().into(), kind: server.kind(), program: Program::Ours(server, work) }
}

fn connect(scenario: Scenario, endpoint: &Endpoint, shape: Shape) -> Result<Box<dyn Load>> {
    Ok(match scenario {
        Scenario::Churn => Box::new(Churn::new(endpoint, shape)?),
        Scenario::Fanout => Box::new(Fanout::connect(endpoint, shape)?),
        Scenario::Frames => Box::new(Fleet::connect(endpoint, shape, Pattern::lines())?),
        _ => Box::new(Fleet::connect(endpoint, shape, Pattern::noise())?),
    })
}

impl Contender {
    /// One slice, unless the server has failed before or does now.
    fn slice(&mut self, length: Duration) -> Option<Sample> {
        let sample = self.running.as_mut()?.slice(length);
        let sample = self.keep(sample);
        if sample.is_none() {
            self.running = None;
        }
        sample
    }

    fn keep<T>(&mut self, outcome: Result<T>) -> Option<T> {
        outcome
            .map_err(|error| {
                let failure = Failure::new(&error);
                failure.tell(&self.row.name);
                self.row.failure = Some(failure);
            })
            .ok()
    }
}

impl Running {
    fn slice(&mut self, length: Duration) -> Result<Sample> {
        let server_before = self.process.settled_cpu_ns()?;
        let load_before = own_cpu_ns();
        let slice = self.load.slice(length);
        let load_cpu_ns = own_cpu_ns() - load_before;
        let slice = self.process.blame(slice)?;
        let server_cpu_ns = self.process.settled_cpu_ns()? - server_before;
        Ok(Sample {
            units: slice.units,
            elapsed_ns: u64::try_from(slice.elapsed.as_nanos()).context("a slice of centuries")?,
            server_cpu_ns,
            load_cpu_ns,
            latencies_ns: slice.latencies_ns,
        })
    }
}

fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
