//! One run: servers started, slices dealt out in random order, samples gathered.
//!
//! Invariant: within a scenario all servers are alive for the whole of it on one core, only one is under load at a time,
//! and each gets exactly one slice per round, so samples of one round can be paired.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::churn::Churn;
use crate::endpoint::Endpoint;
use crate::load::{Fleet, Load};
use crate::memory::{self, Footprint};
use crate::method::Random;
use crate::process::{Process, Program, Spec};
use crate::progress::Progress;
use crate::report::{IdleReport, Kind, LoadReport, Row, Sample};
use crate::scenario::{Scenario, Shape};
use crate::servers::Server;

/// Rounds thrown away: tables grow, caches and branch predictors warm up.
const WARM_UP: usize = 2;

/// Measurements of a server's memory, each with a fresh process.
const IDLE_RUNS: usize = 3;

pub struct Plan {
    /// Without the baseline and its twin, which every table has.
    pub specs: Vec<Spec>,
    pub slices: usize,
    pub slice: Duration,
    pub unix: bool,
    pub server_cpu: usize,
    pub idle_counts: [usize; 2],
    pub connections: Option<usize>,
    pub random: Random,
}

struct Contender {
    process: Process,
    load: Box<dyn Load>,
    kind: Kind,
    samples: Vec<Sample>,
}

impl Plan {
    pub fn load(&mut self, scenario: Scenario) -> Result<LoadReport> {
        let mut shape = scenario.shape();
        shape.connections = self.connections.unwrap_or(shape.connections);
        let mut contenders = self.start_all(scenario, shape)?;
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        let mut progress = Progress::new(scenario.name(), WARM_UP + self.slices);
        for round in 0..WARM_UP + self.slices {
            self.random.shuffle(&mut order);
            for &index in &order {
                let sample = contenders[index].slice(self.slice)?;
                if round >= WARM_UP {
                    contenders[index].samples.push(sample);
                }
            }
            progress.at(round + 1);
        }
        let rows = contenders.into_iter().map(Contender::into_row).collect();
        Ok(LoadReport { scenario, shape, rows })
    }

    fn start_all(&mut self, scenario: Scenario, shape: Shape) -> Result<Vec<Contender>> {
        let baseline = Spec { name: "bare-uring".into(), ..ours(Server::BareUring) };
        let twin = Spec { name: "bare-uring again".into(), ..ours(Server::BareUring) };
        let specs: Vec<Spec> = [baseline, twin].into_iter().chain(self.specs.iter().cloned()).collect();
        specs
            .iter()
            .enumerate()
            .map(|(index, spec)| {
                let mut process = self.start(spec, index, shape.buffer)?;
                let load = connect(scenario, &process.endpoint, shape);
                let load = process.blame(load)?;
                Ok(Contender { process, load, kind: spec.kind, samples: Vec::with_capacity(self.slices) })
            })
            .collect()
    }

    fn start(&mut self, spec: &Spec, index: usize, buffer: usize) -> Result<Process> {
        let endpoint = if self.unix {
            Endpoint::unix_in_temp(&index.to_string())
        } else {
            Endpoint::free_tcp_port(self.random.next())?
        };
        Process::start(spec, endpoint, buffer, self.server_cpu)
    }

    /// Memory is measured one server at a time: the kernel's slabs are shared by all.
    pub fn idle(&mut self) -> Result<IdleReport> {
        let plain = ours(Server::Plain);
        let baseline = ours(Server::BareUring);
        let specs: Vec<Spec> = [plain, baseline].into_iter().chain(self.specs.iter().cloned()).collect();
        let mut footprints = Vec::with_capacity(specs.len());
        for spec in &specs {
            let runs = (0..IDLE_RUNS).map(|_| self.footprint(spec)).collect::<Result<Vec<_>>>()?;
            footprints.push(memory::median_of(&runs));
        }
        let plain = footprints[0].clone();
        memory::subtract_client_end(&mut footprints, &plain);
        Ok(IdleReport { counts: self.idle_counts, footprints })
    }

    fn footprint(&mut self, spec: &Spec) -> Result<Footprint> {
        let Shape { message, buffer, .. } = Scenario::Idle.shape();
        memory::wait_for_slab_to_rest()?;
        let mut process = self.start(spec, 0, buffer)?;
        let mut progress = Progress::new(format!("idle {}", spec.name), self.idle_counts[1]);
        memory::measure(&mut process, spec.kind, self.idle_counts, message, &mut |done| progress.at(done))
    }
}

pub fn ours(server: Server) -> Spec {
    Spec { name: server.name().into(), kind: server.kind(), program: Program::Ours(server) }
}

fn connect(scenario: Scenario, endpoint: &Endpoint, shape: Shape) -> Result<Box<dyn Load>> {
    match scenario {
        Scenario::Churn => Ok(Box::new(Churn::new(endpoint, shape)?)),
        _ => Ok(Box::new(Fleet::connect(endpoint, shape)?)),
    }
}

impl Contender {
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
        })
    }

    fn into_row(self) -> Row {
        Row { name: self.process.name.clone(), kind: self.kind, samples: self.samples }
    }
}

fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
