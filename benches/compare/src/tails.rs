//! Tails: how long messages take from when they were due, as kept in the report, and what that says.
//!
//! Invariant: as for tables, whatever is drawn is a function of this data. Rows are compared by one quantile of each slice,
//! paired round by round; the other figures are of all slices together, and pair nothing.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::findings::{OURS, Reach, Verdict, verdict};
use crate::method::{Estimate, median, paired_ratio};
use crate::open::histogram;
use crate::report::{Failure, Kind};
use crate::scenario::Scenario;

/// One scenario. Row 0 is the baseline, row 1 the same binary again.
#[derive(Serialize, Deserialize)]
pub struct Tails {
    pub scenario: Scenario,
    /// Connections to each server, and how many of them exchange messages.
    pub connections: usize,
    pub active: usize,
    pub message: usize,
    /// Listeners that share a server's port: shards of megamux, processes of others.
    pub listeners: usize,
    pub network: Network,
    pub slice_ms: u64,
    /// Rounds, and the slices each row was to have at each point in each of them.
    pub slices: usize,
    pub slices_per_round: usize,
    /// Why nobody watched whether a core was taken away.
    pub unwatched: Option<String>,
    /// Why idle cores may have gone to sleep.
    #[serde(default)]
    pub drowsy: Option<String>,
    /// Messages per second of a closed loop in which the generator is both ends.
    pub null_ceiling: Option<f64>,
    pub points: Vec<Point>,
    pub rows: Vec<TailRow>,
}

/// What lies between generator and servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// What is sent is received on the sender's core.
    Loopback,
    /// The same for want of a wire, and why.
    LoopbackFor(String),
    /// Each end receives on its own core.
    Wire,
}

/// A load that all rows are put under.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    pub name: String,
    pub rate: Rate,
    /// What megamux wants: at most so much of the best peer's quantile.
    pub at_most: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// A share of what the row itself can do in a closed loop.
    OfOwnCeiling(f64),
    /// A share of what the best peer can do.
    OfBestPeersCeiling(f64),
    PerSecond(f64),
    /// Everybody at once, once per slice.
    AtOnce,
}

#[derive(Serialize, Deserialize)]
pub struct TailRow {
    pub name: String,
    pub kind: Kind,
    /// Messages per second of closed-loop slices.
    pub ceilings: Vec<f64>,
    /// One per point.
    pub courses: Vec<TailCourse>,
    pub failure: Option<Failure>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct TailCourse {
    pub per_second: f64,
    /// One per round; fewer than the rounds if the server failed.
    pub samples: Vec<TailSample>,
    /// All slices together: nanoseconds and how often, to three digits.
    pub counts: Vec<(u64, u64)>,
}

/// The slices that a server had in one round. Its quantiles are of those slices in which no core was taken away.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TailSample {
    pub units: u64,
    pub elapsed_ns: u64,
    pub server_cpu_ns: u64,
    /// Of a storm: time that the servers' core was not idle, with what the kernel did in interrupts.
    pub core_ns: Option<u64>,
    pub load_cpu_ns: u64,
    /// From when a message was due to when it was sent: the generator's part.
    pub late_p99_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    /// Messages of the slices that the quantiles are of, and how many slices are left out.
    pub calm: u64,
    pub left_out: u64,
    /// Of a storm: dials and exchanges tried again, and connections that the kernel dropped for a full backlog.
    #[serde(default)]
    pub retries: u64,
    #[serde(default)]
    pub dropped: u64,
}

/// Of a storm's time: beyond, it is the generator's as much as the server's.
const GENERATOR_BOUND: f64 = 0.8;

/// The quantile by which rows are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    P99,
    P999,
    /// When the last one was served.
    Last,
}

impl Measure {
    pub fn of(scenario: Scenario) -> Self {
        match scenario {
            Scenario::Active => Self::P999,
            Scenario::Storm => Self::Last,
            _ => Self::P99,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Last => "time until all are served",
        }
    }

    /// Nothing of a round whose every slice is left out.
    fn read(self, sample: &TailSample) -> Option<f64> {
        let ns = match self {
            Self::P99 => sample.p99_ns,
            Self::P999 => sample.p999_ns,
            Self::Last => sample.max_ns,
        };
        (sample.calm > 0).then_some(ns as f64)
    }
}

impl TailCourse {
    pub fn add(&mut self, all: &Histogram<u64>) {
        self.counts = all.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    }

    pub fn histogram(&self) -> Histogram<u64> {
        let mut all = histogram();
        for &(ns, count) in &self.counts {
            all.saturating_record_n(ns, count);
        }
        all
    }
}

/// What one point says.
pub struct PointFindings<'a> {
    pub tails: &'a Tails,
    pub point: &'a Point,
    /// One per row.
    pub lines: Vec<TailLine<'a>>,
    pub resolution: Option<f64>,
    /// The best peer, and how megamux compares.
    pub bar: Option<(f64, &'a str, Reach)>,
}

pub struct TailLine<'a> {
    pub row: &'a TailRow,
    pub verdict: Verdict,
    pub figures: Option<TailFigures>,
}

pub struct TailFigures {
    pub per_second: f64,
    /// Of all slices together.
    pub all: Histogram<u64>,
    /// The median over rounds of what rows are compared by, in milliseconds, and its ratio to the baseline; nothing if every
    /// slice of either was left out.
    pub measured: Option<(f64, Estimate)>,
    /// The server's CPU time per message or connection, in microseconds, and its ratio to the baseline.
    pub cpu_us: f64,
    pub cpu_ratio: Estimate,
    /// The same of the servers' core as a whole, where measured.
    pub core: Option<(f64, Estimate)>,
    pub server_busy: f64,
    pub late_p99_ms: f64,
    pub left_out: u64,
    pub retries: u64,
    pub dropped: u64,
}

impl<'a> PointFindings<'a> {
    pub fn of(tails: &'a Tails, index: usize, seed: u64) -> Self {
        let measure = Measure::of(tails.scenario);
        let point = &tails.points[index];
        let of_rounds = |row: &TailRow, read: &dyn Fn(&TailSample) -> Option<f64>| -> Vec<Option<f64>> {
            let samples = row.courses.get(index).map_or(&[][..], |course| &course.samples);
            samples.iter().map(read).collect()
        };
        let values = |row: &TailRow| of_rounds(row, &|sample| measure.read(sample));
        let paired = |row: Vec<Option<f64>>, to: Vec<Option<f64>>| {
            let (row, to): (Vec<f64>, Vec<f64>) = row.into_iter().zip(to).filter_map(|(row, to)| row.zip(to)).unzip();
            (!row.is_empty()).then(|| paired_ratio(&row, &to, seed))
        };
        let middle = |values: Vec<Option<f64>>| median(&mut values.into_iter().flatten().collect::<Vec<_>>());
        let ratio = |row: &TailRow, to: &TailRow| paired(values(row), values(to));
        let per_unit_us = |row: &TailRow, ns: fn(&TailSample) -> Option<u64>| {
            of_rounds(row, &|sample| Some(ns(sample)? as f64 / 1e3 / sample.units.max(1) as f64))
        };
        let cpu_us = |row: &TailRow| per_unit_us(row, |sample| Some(sample.server_cpu_ns));
        let core_us = |row: &TailRow| per_unit_us(row, |sample| sample.core_ns);
        let baseline = &tails.rows[0];
        let ratios: Vec<Option<Estimate>> = tails.rows.iter().map(|row| ratio(row, baseline)).collect();
        let resolution = ratios[1].map(|twin| twin.distance_from_one());
        let lines = tails.rows.iter().zip(&ratios).enumerate().map(|(place, (row, ratio))| TailLine {
            row,
            verdict: match (&row.failure, ratio) {
                (None, None) => Verdict::NotResolved,
                (failure, ratio) => verdict(place, failure.is_some(), ratio.as_ref(), resolution),
            },
            figures: paired(cpu_us(row), cpu_us(baseline)).map(|cpu_ratio| {
                let (measured, cpu_us) = (ratio.map(|ratio| (middle(values(row)) / 1e6, ratio)), middle(cpu_us(row)));
                let core = paired(core_us(row), core_us(baseline)).map(|ratio| (middle(core_us(row)), ratio));
                TailFigures { core, ..TailFigures::of(&row.courses[index], measured, cpu_us, cpu_ratio) }
            }),
        });
        let peers = tails.rows.iter().zip(&ratios).enumerate();
        let peers = peers.filter(|(place, (row, _))| *place != 1 && row.kind == Kind::Peer);
        let best = peers.filter_map(|(_, (row, ratio))| Some((row, ratio.as_ref()?.median)));
        let best = best.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(row, _)| row);
        let ours = tails.rows.iter().find(|row| row.name == OURS);
        let bar = point.at_most.zip(best).map(|(at_most, best)| {
            let estimate = ours.and_then(|ours| ratio(ours, best));
            (at_most, best.name.as_str(), Reach::of(estimate, at_most))
        });
        Self { tails, point, lines: lines.collect(), resolution, bar }
    }

    pub fn title(&self) -> String {
        let Tails { scenario, connections, active, message, .. } = self.tails;
        let who = match active == connections {
            true => format!("{connections} connections"),
            false => format!("{active} of {connections} connections"),
        };
        format!("{} over TCP, {}: {who}, {message} B", scenario.name(), self.point.name)
    }

    pub fn subtitle(&self) -> String {
        let Tails { scenario, listeners, network, slice_ms, slices, slices_per_round, unwatched, drowsy, .. } =
            self.tails;
        let slices = match self.point.rate {
            Rate::AtOnce => format!("{slices} rounds"),
            _ => format!("{slices} rounds of {slices_per_round} slices of {slice_ms} ms"),
        };
        let shared = match listeners {
            1 => String::new(),
            _ => format!("; {listeners} listeners on the port, shards of megamux and processes of others"),
        };
        let network = match network {
            Network::Loopback => String::new(),
            Network::LoopbackFor(why) => format!("; over the loopback, for want of a network of its own: {why}"),
            Network::Wire => "; each end receives on its own core".to_owned(),
        };
        let watched = unwatched.as_ref().map_or(String::new(), |why| format!("; nobody watched the cores: {why}"));
        let drowsy = drowsy.as_ref().map_or(String::new(), |why| format!("; idle cores may have slept: {why}"));
        let measure = Measure::of(*scenario).name();
        let resolved = match self.resolution {
            Some(smallest) => format!("differences up to {:.1}% are not resolved", smallest * 100.0),
            None => "without an A/A row nothing is resolved".to_owned(),
        };
        format!("{slices}, compared by {measure}; {resolved}{shared}{network}{watched}{drowsy}")
    }

    pub fn remarks(&self) -> Vec<String> {
        let of_row = self.tails.slices * self.tails.slices_per_round;
        let left_out = self.lines.iter().filter_map(|line| Some(line.figures.as_ref()?.left_out)).max();
        let left_out = left_out.filter(|&left_out| left_out > 0).map(|most| {
            format!("left out because a core was taken away meanwhile: up to {most} of a server's {of_row} slices")
        });
        let failed = self.tails.rows.iter().filter_map(|row| {
            let failure = row.failure.as_ref()?;
            Some(format!("{} failed: {failure}", row.name))
        });
        let bar = self.bar.as_ref().map(|(at_most, best, reach)| reach.line(best, *at_most));
        bar.into_iter().chain(left_out).chain(failed).chain(self.late()).collect()
    }

    /// A storm in which the last dial is started just before the last answer comes says what the generator can do.
    fn late(&self) -> Option<String> {
        let baseline = self.lines[0].figures.as_ref().filter(|_| self.point.rate == Rate::AtOnce)?;
        let share = baseline.late_p99_ms / baseline.measured?.0;
        (share > GENERATOR_BOUND).then(|| {
            format!(
                "dials were still being started after {:.0}% of the time: the generator's core was the limit as much as the \
                 servers', and CPU time says more than time",
                share * 100.0
            )
        })
    }
}

impl Tails {
    /// What each could do in a closed loop, and what the generator could.
    pub fn ceilings(&self) -> Option<String> {
        let of = |row: &TailRow| {
            let mut ceilings = row.ceilings.clone();
            (!ceilings.is_empty()).then(|| format!("{} {:.0}", row.name, median(&mut ceilings)))
        };
        let rows: Vec<String> = self.rows.iter().filter_map(of).collect();
        let null = self.null_ceiling?;
        Some(format!(
            "closed loop, messages per second: {}; the generator against itself, without a server: {null:.0}",
            rows.join(", ")
        ))
    }

    pub fn findings(&self, seed: u64) -> impl Iterator<Item = PointFindings<'_>> {
        (0..self.points.len()).map(move |index| PointFindings::of(self, index, seed))
    }
}

impl TailFigures {
    fn of(course: &TailCourse, measured: Option<(f64, Estimate)>, cpu_us: f64, cpu_ratio: Estimate) -> Self {
        let samples = &course.samples;
        let median_of = |value: &dyn Fn(&TailSample) -> f64| median(&mut samples.iter().map(value).collect::<Vec<_>>());
        Self {
            per_second: course.per_second,
            all: course.histogram(),
            measured,
            cpu_us,
            cpu_ratio,
            core: None,
            server_busy: median_of(&|sample| sample.server_cpu_ns as f64 / sample.elapsed_ns as f64),
            late_p99_ms: median_of(&|sample| sample.late_p99_ns as f64) / 1e6,
            left_out: samples.iter().map(|sample| sample.left_out).sum(),
            retries: samples.iter().map(|sample| sample.retries).sum(),
            dropped: samples.iter().map(|sample| sample.dropped).sum(),
        }
    }

    /// Of all slices together, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.all.value_at_quantile(share) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, kind: Kind, p99_us: u64, slices: usize) -> TailRow {
        let ns = p99_us * 1_000;
        let sample = |_| TailSample {
            units: 1_000,
            elapsed_ns: 1_000_000,
            server_cpu_ns: 500_000,
            core_ns: Some(750_000),
            load_cpu_ns: 1,
            late_p99_ns: 1_000,
            p50_ns: ns / 2,
            p99_ns: ns,
            p999_ns: 2 * ns,
            max_ns: 4 * ns,
            calm: 1_000,
            left_out: 0,
            retries: 1,
            dropped: 0,
        };
        let counts = vec![(ns / 2, 500), (ns, 500)];
        let course = TailCourse { per_second: 1e6, samples: (0..slices).map(sample).collect(), counts };
        TailRow { name: name.into(), kind, ceilings: vec![2e6], courses: vec![course], failure: None }
    }

    fn tails(rows: Vec<TailRow>) -> Tails {
        Tails {
            scenario: Scenario::Latency,
            connections: 500,
            active: 500,
            message: 64,
            listeners: 1,
            network: Network::Loopback,
            slice_ms: 1,
            slices: 10,
            slices_per_round: 1,
            unwatched: None,
            drowsy: None,
            null_ceiling: Some(3e6),
            points: vec![Point { name: "half".into(), rate: Rate::OfOwnCeiling(0.5), at_most: Some(1.05) }],
            rows,
        }
    }

    #[test]
    fn the_bar_is_against_the_peer_with_the_shortest_tail_and_never_a_floor_or_the_twin() {
        let tails = tails(vec![
            row("tokio", Kind::Peer, 100, 10),
            row("tokio again", Kind::Peer, 50, 10),
            row("bare-uring", Kind::Floor, 10, 10),
            row("monoio", Kind::Peer, 80, 10),
            row("megamux", Kind::Ours, 60, 4),
        ]);
        let findings = PointFindings::of(&tails, 0, 1);
        assert_eq!(findings.remarks(), ["bar: megamux / monoio 0.750 [0.750, 0.750], at most 1.05: met"]);
        let figures = findings.lines[4].figures.as_ref().expect("figures");
        assert_eq!(figures.retries, 4);
        assert!((figures.quantile_ms(0.99) - 0.06).abs() < 0.001, "{}", figures.quantile_ms(0.99));
        assert!((figures.server_busy - 0.5).abs() < 1e-9);
        assert!((figures.cpu_us - 0.5).abs() < 1e-9 && figures.cpu_ratio.median == 1.0);
    }

    #[test]
    fn a_row_without_slices_is_in_the_findings_without_figures() {
        let mut dead = row("megamux", Kind::Ours, 60, 0);
        dead.failure = Some(Failure::new(&anyhow::anyhow!("it refused")));
        let tails = tails(vec![row("tokio", Kind::Peer, 100, 10), row("tokio again", Kind::Peer, 100, 10), dead]);
        let findings = PointFindings::of(&tails, 0, 1);
        assert_eq!(findings.lines[2].verdict, Verdict::Failed);
        assert!(findings.lines[2].figures.is_none());
        assert_eq!(findings.remarks()[0], "bar: megamux / tokio at most 1.05: not measured");
        assert_eq!(findings.remarks()[1], "megamux failed: it refused");
    }
}
