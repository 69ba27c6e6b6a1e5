//! Runs the scenarios that measure tails: latency under an open loop, few active among many, and everybody at once.
//!
//! Invariants: as in `run`: all servers of a scenario are alive on one core, and every round has a slice of each at each
//! point, as many as a round has, in random order. Within a round all are sent the same arrivals. Where connections are more than a process may
//! have descriptors for, a server is as many listeners on one port as it needs, of the same number for everybody.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::awake::Awake;
use crate::crowd::{self, Crowd, Return};
use crate::method::median;
use crate::open::{Course, OpenLoop, Schedule, histogram};
use crate::process::{Cluster, Core, Seat, Spec};
use crate::progress::Progress;
use crate::report::{Failure, Kind};
use crate::run::{Plan, Rounds};
use crate::scenario::{Scenario, Shape};
use crate::tails::{Network, Point, Rate, TailCourse, TailRow, TailSample, Tails};
use crate::watch::Watch;
use crate::wire::Wire;

/// Rounds thrown away.
const WARM_UP: usize = 1;

/// Closed-loop slices of each server, and in a quick run.
const CEILINGS: usize = 7;
const QUICK_CEILINGS: usize = 3;
const CEILING: Duration = Duration::from_millis(100);

/// Of the connections, in `active`; and the messages each of them sends per second.
const ACTIVE_SHARE: usize = 100;
const ACTIVE_RATE: f64 = 10.0;

/// A slice in which a core was away for longer is left out of what rows are compared by: twice what a message takes.
const AWAY_NS: u64 = 100_000;

/// After a storm, so that a server that puts work off does it in its own time.
const REST: Duration = Duration::from_millis(500);

/// What a server is put under.
enum Client {
    Open(OpenLoop),
    /// Most are silent.
    Held(Crowd, OpenLoop),
    Storm(Crowd),
}

/// A row in the making.
struct Entrant {
    row: TailRow,
    /// All slices together, and those of the round so far, by point.
    all: Vec<Histogram<u64>>,
    heaps: Vec<Heap>,
    /// Gone when it failed.
    running: Option<Running>,
}

/// What the slices of a round have brought about so far.
struct Heap {
    sample: TailSample,
    /// Of all slices, of those in which no core was taken away, and how late all were sent.
    latency: Histogram<u64>,
    calm: Histogram<u64>,
    late: Histogram<u64>,
}

struct Running {
    // Dropped first, as in `run`.
    client: Client,
    cluster: Cluster,
    /// The servers'.
    core: Core,
}

impl Plan {
    /// Many connections have a network of their own where there may be one.
    pub fn tails(&mut self, scenario: Scenario) -> Result<Tails> {
        if scenario == Scenario::Latency {
            return self.tails_over(scenario, None, Network::Loopback);
        }
        match Wire::lay(self.seat.cpu, self.load_cpu) {
            Ok(wire) => wire.run(|| self.tails_over(scenario, Some(&wire), Network::Wire)),
            Err(error) => {
                eprintln!("megamux-compare: {} runs over the loopback: {error:#}", scenario.name());
                self.tails_over(scenario, None, Network::LoopbackFor(format!("{error:#}")))
            }
        }
    }

    fn tails_over(&mut self, scenario: Scenario, wire: Option<&Wire>, network: Network) -> Result<Tails> {
        let mut shape = scenario.shape();
        shape.connections = self.connections.unwrap_or(match scenario {
            Scenario::Latency => shape.connections,
            _ => self.crowd_connections,
        });
        let per_ring = crowd::per_ring(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX));
        let listeners = match scenario {
            Scenario::Latency => 1,
            // A server may learn of a return before it has seen to the reset, and then needs two descriptors.
            Scenario::Storm => (2 * shape.connections).div_ceil(per_ring),
            _ => shape.connections.div_ceil(per_ring),
        };
        let points = points(scenario, shape.connections);
        let mut entrants = self.enter(scenario, wire, shape, listeners, per_ring, points.len());
        let rounds = self.rounds(scenario);
        let watched = match scenario {
            Scenario::Storm => None,
            _ => Some([self.seat.cpu, self.load_cpu].map(Watch::on)),
        };
        let (mut watches, mut unwatched) = (Vec::new(), None);
        let (_awake, drowsy) = match Awake::hold() {
            Ok(awake) => (Some(awake), None),
            Err(error) => (None, Some(error.to_string())),
        };
        for watch in watched.into_iter().flatten() {
            match watch {
                Ok(watch) => watches.push(watch),
                Err(error) => unwatched = Some(error.to_string()),
            }
        }
        let mut tails = Tails {
            scenario,
            connections: shape.connections,
            active: active(scenario, shape.connections),
            message: shape.message,
            listeners,
            network,
            slice_ms: rounds.slice.as_millis() as u64,
            slices: rounds.count,
            slices_per_round: rounds.slices,
            unwatched,
            drowsy,
            null_ceiling: None,
            points,
            rows: Vec::new(),
        };
        if scenario == Scenario::Latency {
            tails.null_ceiling = Some(self.ceilings(&mut entrants, shape, CEILING)?);
        }
        let peers = entrants.iter().filter(|entrant| entrant.row.kind == Kind::Peer);
        let best = peers.map(Entrant::ceiling).fold(0.0, f64::max);
        for entrant in &mut entrants {
            let own = entrant.ceiling();
            for (course, point) in entrant.row.courses.iter_mut().zip(&tails.points) {
                course.per_second = match point.rate {
                    Rate::OfOwnCeiling(share) => share * own,
                    Rate::OfBestPeersCeiling(share) => share * best,
                    Rate::PerSecond(rate) => rate,
                    Rate::AtOnce => 0.0,
                };
            }
        }
        self.run_rounds(scenario, &mut entrants, rounds, &mut watches);
        for entrant in &mut entrants {
            entrant.finish();
        }
        tails.rows = entrants.into_iter().map(|entrant| entrant.row).collect();
        Ok(tails)
    }

    fn enter(
        &mut self,
        scenario: Scenario,
        wire: Option<&Wire>,
        shape: Shape,
        listeners: usize,
        per_ring: usize,
        points: usize,
    ) -> Vec<Entrant> {
        let mut specs = self.specs(scenario);
        specs.retain(|Spec { name, program, .. }| {
            let takes_part = listeners == 1 || program.shares_a_port();
            if !takes_part {
                let scenario = scenario.name();
                eprintln!("megamux-compare: {name} is not in {scenario}: that takes {listeners} listeners, and its command no {{listeners}}");
            }
            takes_part
        });
        let mut progress = Progress::new(format!("{}, connecting", scenario.name()), specs.len());
        let mut entrants = Vec::with_capacity(specs.len());
        let seat = Seat { namespace: wire.map(|wire| wire.servers.clone()), ..self.seat.clone() };
        let core = Core(seat.cpu);
        for (number, spec) in specs.iter().enumerate() {
            let row = TailRow {
                name: spec.name.clone(),
                kind: spec.kind,
                ceilings: Vec::new(),
                courses: vec![TailCourse::default(); points],
                failure: None,
            };
            let heaps = (0..points).map(|_| Heap::new()).collect();
            let mut entrant = Entrant { row, all: vec![histogram(); points], heaps, running: None };
            let endpoint = wire.map_or_else(|| self.endpoint(scenario, number), |wire| Ok(wire.endpoint(number)));
            let started = endpoint.and_then(|endpoint| {
                let endpoint = endpoint.shared_by(listeners);
                let mut cluster = Cluster::start(spec, endpoint, shape.buffer, &seat)?;
                let client = Client::connect(scenario, &cluster, shape, per_ring, number);
                let client = cluster.blame(client)?;
                Ok(Running { client, cluster, core })
            });
            entrant.running = entrant.keep(started);
            entrants.push(entrant);
            progress.at(number + 1);
        }
        entrants
    }

    /// Closed loops of all, in turns; and of the generator against itself.
    fn ceilings(&mut self, entrants: &mut [Entrant], shape: Shape, slice: Duration) -> Result<f64> {
        let mut null = OpenLoop::null(shape).context("the generator against itself")?;
        let mut nulls = Vec::new();
        let mut order: Vec<usize> = (0..entrants.len()).collect();
        let rounds = WARM_UP + if self.quick { QUICK_CEILINGS } else { CEILINGS };
        let mut progress = Progress::new("latency, ceilings", rounds);
        for round in 0..rounds {
            self.random.shuffle(&mut order);
            for &index in &order {
                let ceiling = entrants[index].measure(|running| match &mut running.client {
                    Client::Open(open) => open.ceiling(slice),
                    _ => unreachable!("only an open loop has a ceiling"),
                });
                if round >= WARM_UP {
                    entrants[index].row.ceilings.extend(ceiling);
                }
            }
            nulls.push(null.ceiling(slice)?);
            progress.at(round + 1);
        }
        Ok(median(&mut nulls))
    }

    fn run_rounds(&mut self, scenario: Scenario, entrants: &mut [Entrant], rounds: Rounds, watches: &mut [Watch]) {
        let points = 0..entrants[0].row.courses.len();
        let places = (0..entrants.len()).flat_map(|index| points.clone().map(move |point| (index, point)));
        let mut order: Vec<_> =
            places.flat_map(|(index, point)| (0..rounds.slices).map(move |turn| (index, point, turn))).collect();
        let mut progress = Progress::new(scenario.name(), WARM_UP + rounds.count);
        for round in 0..WARM_UP + rounds.count {
            if entrants[0].running.is_none() {
                // Nothing is left to pair the others with.
                return;
            }
            self.random.shuffle(&mut order);
            let seeds: Vec<u64> = (0..rounds.slices).map(|_| self.random.next()).collect();
            for &(index, point, turn) in &order {
                let entrant = &mut entrants[index];
                let per_second = entrant.row.courses[point].per_second;
                let schedule = Schedule { per_second, length: rounds.slice, seed: seeds[turn] };
                let slice = entrant.measure(|running| running.slice(schedule, watches));
                if let Some(slice) = slice {
                    entrant.heaps[point].add(slice);
                }
            }
            for entrant in entrants.iter_mut() {
                entrant.end_round(round >= WARM_UP);
            }
            progress.at(round + 1);
        }
    }
}

fn points(scenario: Scenario, connections: usize) -> Vec<Point> {
    let point = |name: String, rate, at_most| Point { name, rate, at_most };
    match scenario {
        Scenario::Active => {
            let rate = active(scenario, connections) as f64 * ACTIVE_RATE;
            vec![point(format!("{rate:.0} messages per second"), Rate::PerSecond(rate), Some(1.0))]
        }
        Scenario::Storm => vec![point("all reset, all come back at once".into(), Rate::AtOnce, Some(0.8))],
        _ => vec![
            point("half of the best peer's ceiling".into(), Rate::OfBestPeersCeiling(0.5), Some(1.05)),
            point("half of each one's own ceiling".into(), Rate::OfOwnCeiling(0.5), None),
            point("70% of each one's own ceiling".into(), Rate::OfOwnCeiling(0.7), None),
            point("90% of each one's own ceiling".into(), Rate::OfOwnCeiling(0.9), None),
        ],
    }
}

fn active(scenario: Scenario, connections: usize) -> usize {
    match scenario {
        Scenario::Active => (connections / ACTIVE_SHARE).max(1),
        _ => connections,
    }
}

impl Client {
    fn connect(scenario: Scenario, cluster: &Cluster, shape: Shape, per_ring: usize, number: usize) -> Result<Self> {
        let (endpoint, all) = (&cluster.endpoint, shape.connections);
        let few = Shape { connections: active(scenario, all), ..shape };
        Ok(match scenario {
            Scenario::Storm => Self::Storm(Crowd::open(endpoint, all, per_ring, shape.message, number)?),
            Scenario::Active => {
                let silent = Crowd::open(endpoint, all - few.connections, per_ring, shape.message, number)?;
                Self::Held(silent, OpenLoop::connect(endpoint, few)?)
            }
            _ => Self::Open(OpenLoop::connect(endpoint, shape)?),
        })
    }

    fn slice(&mut self, schedule: Schedule) -> Result<Return> {
        match self {
            Self::Open(open) | Self::Held(_, open) => Ok(Return { course: open.slice(schedule)?, retries: 0 }),
            Self::Storm(crowd) => crowd.storm(),
        }
    }
}

impl Entrant {
    fn measure<T>(&mut self, what: impl FnOnce(&mut Running) -> Result<T>) -> Option<T> {
        let running = self.running.as_mut()?;
        let outcome = what(running);
        let outcome = running.cluster.blame(outcome);
        let kept = self.keep(outcome);
        if kept.is_none() {
            self.running = None;
        }
        kept
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

    /// Zero without closed-loop slices.
    fn ceiling(&self) -> f64 {
        let mut ceilings = self.row.ceilings.clone();
        if ceilings.is_empty() { 0.0 } else { median(&mut ceilings) }
    }

    /// A round that failed halfway leaves no sample.
    fn end_round(&mut self, counts: bool) {
        for ((heap, course), all) in self.heaps.iter_mut().zip(&mut self.row.courses).zip(&mut self.all) {
            let (sample, latency) = std::mem::replace(heap, Heap::new()).end();
            if counts && self.running.is_some() {
                course.samples.push(sample);
                all.add(latency).expect("histograms of the same bounds");
            }
        }
    }

    /// The silent must all still be there.
    fn finish(&mut self) {
        self.measure(|running| match &mut running.client {
            Client::Held(crowd, _) => {
                let lost = crowd.call()?.retries;
                ensure!(lost == 0, "{lost} of the silent connections were lost");
                Ok(())
            }
            _ => Ok(()),
        });
        for (course, all) in self.row.courses.iter_mut().zip(&self.all) {
            course.add(all);
        }
        self.running = None;
    }
}

/// What one slice brought about, and what it cost.
struct Slice {
    course: Course,
    retries: u64,
    dropped: u64,
    server_cpu_ns: u64,
    load_cpu_ns: u64,
    core_ns: Option<u64>,
    /// The longest time that a core was taken away from servers and generator.
    away_ns: u64,
}

impl Running {
    fn slice(&mut self, schedule: Schedule, watches: &mut [Watch]) -> Result<Slice> {
        let mut away_ns = || watches.iter_mut().map(Watch::longest_ns).max().unwrap_or(0);
        let is_storm = matches!(self.client, Client::Storm(_));
        let (server_before, dropped_before) = (self.cluster.settled_cpu_ns()?, self.cluster.dropped());
        let (load_before, idle_before, start) = (own_cpu_ns(), self.core.idle_ns()?, Instant::now());
        away_ns();
        let Return { course, retries } = self.client.slice(schedule)?;
        let (load_cpu_ns, away_ns) = (own_cpu_ns() - load_before, away_ns());
        if is_storm {
            thread::sleep(REST);
        }
        let server_cpu_ns = self.cluster.settled_cpu_ns()? - server_before;
        let idle_ns = self.core.idle_ns()? - idle_before;
        Ok(Slice {
            course,
            retries,
            // Of all that shares the network, so only a storm's are surely its own.
            dropped: if is_storm { self.cluster.dropped().saturating_sub(dropped_before) } else { 0 },
            server_cpu_ns,
            load_cpu_ns,
            core_ns: is_storm.then(|| (start.elapsed().as_nanos() as u64).saturating_sub(idle_ns)),
            away_ns,
        })
    }
}

impl Heap {
    fn new() -> Self {
        Self { sample: TailSample::default(), latency: histogram(), calm: histogram(), late: histogram() }
    }

    fn add(&mut self, slice: Slice) {
        let (sample, course) = (&mut self.sample, slice.course);
        sample.units += course.units;
        sample.elapsed_ns += course.elapsed.as_nanos() as u64;
        sample.server_cpu_ns += slice.server_cpu_ns;
        sample.load_cpu_ns += slice.load_cpu_ns;
        sample.core_ns = slice.core_ns.map(|ns| ns + sample.core_ns.unwrap_or(0));
        sample.retries += slice.retries;
        sample.dropped += slice.dropped;
        let bounds = "histograms of the same bounds";
        if slice.away_ns < AWAY_NS {
            self.calm.add(&course.latency).expect(bounds);
        } else {
            sample.left_out += 1;
        }
        self.latency.add(course.latency).expect(bounds);
        self.late.add(course.late).expect(bounds);
    }

    /// The round's sample, and all its latencies.
    fn end(self) -> (TailSample, Histogram<u64>) {
        let Self { sample, latency, calm, late } = self;
        let sample = TailSample {
            calm: calm.len(),
            late_p99_ns: late.value_at_quantile(0.99),
            p50_ns: calm.value_at_quantile(0.5),
            p99_ns: calm.value_at_quantile(0.99),
            p999_ns: calm.value_at_quantile(0.999),
            max_ns: calm.max(),
            ..sample
        };
        (sample, latency)
    }
}

/// Of all threads of this process: a crowd has its own.
fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
