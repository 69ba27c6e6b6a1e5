//! What a table says: ratios, how far they can be trusted, and whether the bars are met.
//!
//! Invariant: a function of the report alone. Text and page draw the same findings.

use crate::method::{Estimate, median, paired_ratio};
use crate::report::{Kind, Row, Table};
use crate::scenario::{BEST_PEER, Bar};

/// A share of wall time spent on the CPU. Waiting and switching between slices leave a saturated side this much.
const SATURATED: f64 = 0.8;

/// The row the bars are about.
pub const OURS: &str = "megamux";

pub struct Findings<'a> {
    pub table: &'a Table,
    /// One per row.
    pub lines: Vec<Line<'a>>,
    /// The smallest difference the table resolves, by the A/A row.
    pub resolution: Option<f64>,
    pub bars: Vec<Judged<'a>>,
    pub saturated: bool,
}

/// A bar, against whom in this table, and what came of it.
pub struct Judged<'a> {
    pub against: &'a str,
    pub at_most: f64,
    pub reach: Reach,
}

pub struct Line<'a> {
    pub row: &'a Row,
    pub verdict: Verdict,
    /// Nothing without samples of both.
    pub figures: Option<Figures>,
    pub latency: Option<Latency>,
}

pub struct Figures {
    pub ns: f64,
    /// To the baseline.
    pub ratio: Estimate,
    pub units_per_s: f64,
    pub mb_per_cpu_s: f64,
    pub server_busy: f64,
    pub load_busy: f64,
}

/// From a message's send to its last delivery, in milliseconds.
pub struct Latency {
    /// All of them, ascending.
    pub sorted_ms: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Baseline,
    Twin,
    Cheaper,
    Dearer,
    NotResolved,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    Met(Estimate),
    Missed(Estimate),
    NotResolved(Estimate),
    NotMeasured,
}

impl<'a> Findings<'a> {
    pub fn of(table: &'a Table, seed: u64) -> Self {
        let ratio = |row: &Row, to: &Row| ratio(row, to, seed);
        let baseline = &table.rows[0];
        let ratios: Vec<Option<Estimate>> = table.rows.iter().map(|row| ratio(row, baseline)).collect();
        let resolution = ratios[1].map(|twin| twin.distance_from_one());
        let lines: Vec<Line<'_>> = table
            .rows
            .iter()
            .zip(&ratios)
            .enumerate()
            .map(|(index, (row, ratio))| Line {
                row,
                verdict: verdict(index, row.failure.is_some(), ratio.as_ref(), resolution),
                figures: ratio.map(|ratio| Figures::of(row, ratio, table.shape.message)),
                latency: Latency::of(row),
            })
            .collect();
        let row_of = |name: &str| table.rows.iter().find(|row| row.name == name);
        let peers = table.rows.iter().zip(&ratios).filter(|(row, _)| row.kind == Kind::Peer && row.failure.is_none());
        let peers = peers.filter_map(|(row, ratio)| Some((row, ratio.as_ref()?.median)));
        let best = peers.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(row, _)| row);
        let judge = |bar: &'a Bar| {
            let other = if bar.against == BEST_PEER { best } else { row_of(&bar.against) };
            let estimate = row_of(OURS).zip(other).and_then(|(ours, other)| ratio(ours, other));
            let against = other.map_or(bar.against.as_str(), |row| &row.name);
            Judged { against, at_most: bar.at_most, reach: Reach::of(estimate, bar.at_most) }
        };
        let saturated = lines[0].figures.as_ref().is_none_or(|at| at.server_busy.max(at.load_busy) >= SATURATED);
        Self { table, lines, resolution, bars: table.bars.iter().map(judge).collect(), saturated }
    }

    pub fn title(&self) -> String {
        let Table { scenario, transport, shape, .. } = self.table;
        let (name, transport) = (scenario.name(), transport.name());
        format!(
            "{name} over {transport}: {} connections, depth {}, {} B",
            shape.connections, shape.depth, shape.message
        )
    }

    pub fn subtitle(&self) -> String {
        let Table { slices, slice_ms, .. } = self.table;
        match self.resolution {
            Some(smallest) => {
                format!("{slices} slices of {slice_ms} ms; differences up to {:.1}% are not resolved", smallest * 100.0)
            }
            None => format!("{slices} slices of {slice_ms} ms; without an A/A row nothing is resolved"),
        }
    }

    /// What the reader must know besides.
    pub fn remarks(&self) -> Vec<String> {
        let failed = self.table.rows.iter().filter_map(|row| {
            let failure = row.failure.as_ref()?;
            let (got, of) = (row.samples.len(), self.table.slices);
            Some(format!("{} failed after {got} of {of} slices: {failure}", row.name))
        });
        let idle = "neither side was saturated: is there other work on these cores?";
        failed.chain((!self.saturated).then(|| idle.to_owned())).collect()
    }

    pub fn bar_lines(&self) -> impl Iterator<Item = String> {
        self.bars.iter().map(|bar| bar.reach.line(bar.against, bar.at_most))
    }
}

/// Round by round, over the rounds that both have.
fn ratio(row: &Row, to: &Row, seed: u64) -> Option<Estimate> {
    let rounds = row.samples.len().min(to.samples.len());
    (rounds > 0).then(|| paired_ratio(&row.cpu_per_unit()[..rounds], &to.cpu_per_unit()[..rounds], seed))
}

/// Of the row at `index`: the first is the baseline, the second its twin.
pub fn verdict(index: usize, failed: bool, ratio: Option<&Estimate>, resolution: Option<f64>) -> Verdict {
    let (Some(ratio), false) = (ratio, failed) else {
        return Verdict::Failed;
    };
    match (index, resolution) {
        (0, _) => Verdict::Baseline,
        (1, _) => Verdict::Twin,
        (_, Some(smallest)) if ratio.high < 1.0 && ratio.median < 1.0 - smallest => Verdict::Cheaper,
        (_, Some(smallest)) if ratio.low > 1.0 && ratio.median > 1.0 + smallest => Verdict::Dearer,
        _ => Verdict::NotResolved,
    }
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Twin => "A/A",
            Self::Cheaper => "cheaper",
            Self::Dearer => "dearer",
            Self::NotResolved => "not resolved",
            Self::Failed => "failed",
        }
    }

    /// The same of a time and not of a cost.
    pub fn tail_name(self) -> &'static str {
        match self {
            Self::Cheaper => "shorter",
            Self::Dearer => "longer",
            other => other.name(),
        }
    }
}

impl Reach {
    pub fn of(estimate: Option<Estimate>, at_most: f64) -> Self {
        match estimate {
            None => Self::NotMeasured,
            Some(estimate) if estimate.high <= at_most => Self::Met(estimate),
            Some(estimate) if estimate.low > at_most => Self::Missed(estimate),
            Some(estimate) => Self::NotResolved(estimate),
        }
    }

    pub fn line(&self, against: &str, at_most: f64) -> String {
        let (word, estimate) = match self {
            Self::Met(estimate) => ("met", Some(estimate)),
            Self::Missed(estimate) => ("missed", Some(estimate)),
            Self::NotResolved(estimate) => ("not resolved", Some(estimate)),
            Self::NotMeasured => ("not measured", None),
        };
        let figure = estimate
            .map_or(String::new(), |Estimate { median, low, high }| format!(" {median:.3} [{low:.3}, {high:.3}],"));
        format!("bar: {OURS} / {against}{figure} at most {at_most:.2}: {word}")
    }
}

impl Figures {
    fn of(row: &Row, ratio: Estimate, message: usize) -> Self {
        let median_of = |value: &dyn Fn(&crate::report::Sample) -> f64| {
            median(&mut row.samples.iter().map(value).collect::<Vec<_>>())
        };
        let ns = median(&mut row.cpu_per_unit());
        Self {
            ns,
            ratio,
            units_per_s: median_of(&|sample| sample.units as f64 * 1e9 / sample.elapsed_ns as f64),
            mb_per_cpu_s: message as f64 / ns * 1e3,
            server_busy: median_of(&|sample| sample.server_cpu_ns as f64 / sample.elapsed_ns as f64),
            load_busy: median_of(&|sample| sample.load_cpu_ns as f64 / sample.elapsed_ns as f64),
        }
    }
}

impl Latency {
    fn of(row: &Row) -> Option<Self> {
        let all = row.samples.iter().flat_map(|sample| &sample.latencies_ns);
        let mut sorted_ms: Vec<f64> = all.map(|&ns| ns as f64 / 1e6).collect();
        sorted_ms.sort_by(f64::total_cmp);
        (!sorted_ms.is_empty()).then_some(Self { sorted_ms })
    }

    /// The value that a share of all are not above.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.sorted_ms.len() as f64).ceil() as usize;
        self.sorted_ms[rank.clamp(1, self.sorted_ms.len()) - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Failure, Sample, Transport};
    use crate::scenario::Scenario;

    fn row(name: &str, cpu: u64, slices: usize, failure: Option<&str>) -> Row {
        let sample = |_| Sample {
            units: 1_000,
            elapsed_ns: 1_000_000,
            server_cpu_ns: cpu,
            load_cpu_ns: 1,
            latencies_ns: vec![cpu, 2 * cpu],
        };
        let failure = failure.map(|text| Failure::new(&anyhow::anyhow!("{text}")));
        Row { name: name.into(), kind: Kind::Peer, samples: (0..slices).map(sample).collect(), failure }
    }

    fn table(rows: Vec<Row>) -> Table {
        let scenario = Scenario::Frames;
        let (shape, bars) = (scenario.shape(), scenario.bars());
        Table { scenario, transport: Transport::Tcp, shape, slice_ms: 1, slices: 10, bars, rows }
    }

    #[test]
    fn rows_are_judged_against_the_first_and_bars_against_theirs() {
        let rows = vec![
            row("tokio", 1_000_000, 10, None),
            row("tokio again", 1_000_000, 10, None),
            row("megamux", 500_000, 10, None),
            row("other", 1_500_000, 10, None),
        ];
        let table = table(rows);
        let findings = Findings::of(&table, 1);
        let verdicts: Vec<Verdict> = findings.lines.iter().map(|line| line.verdict).collect();
        assert_eq!(verdicts, [Verdict::Baseline, Verdict::Twin, Verdict::Cheaper, Verdict::Dearer]);
        let half = Estimate { median: 0.5, low: 0.5, high: 0.5 };
        assert!(matches!(findings.bars[..], [Judged { reach: Reach::Met(estimate), .. }] if estimate == half));
        assert!(findings.remarks().is_empty());
    }

    #[test]
    fn the_best_peer_is_the_cheapest_that_lived() {
        let rows = vec![
            row("bare-uring", 1_000_000, 10, None),
            row("bare-uring again", 1_000_000, 10, None),
            row("bare-epoll", 1_200_000, 10, None),
            row("megamux", 900_000, 10, None),
            row("slow", 2_000_000, 10, None),
            row("fast", 1_500_000, 10, None),
            row("fastest", 1_000_000, 4, Some("it died")),
        ];
        let mut table = Table { scenario: Scenario::Churn, bars: Scenario::Churn.bars(), ..table(rows) };
        for row in &mut table.rows {
            let is_floor = row.name.starts_with("bare");
            row.kind = if is_floor {
                Kind::Floor
            } else if row.name == OURS {
                Kind::Ours
            } else {
                Kind::Peer
            };
        }
        let findings = Findings::of(&table, 1);
        let lines: Vec<String> = findings.bar_lines().collect();
        assert_eq!(lines[0], "bar: megamux / fast 0.600 [0.600, 0.600], at most 0.88: met");
        assert_eq!(lines[1], "bar: megamux / bare-epoll 0.750 [0.750, 0.750], at most 0.98: met");
    }

    #[test]
    fn a_row_that_failed_keeps_what_it_has_and_says_so() {
        let rows = vec![
            row("tokio", 1_000_000, 10, None),
            row("tokio again", 1_000_000, 10, None),
            row("megamux", 500_000, 4, Some("it died")),
            row("other", 1, 0, Some("it refused")),
        ];
        let table = table(rows);
        let findings = Findings::of(&table, 1);
        assert!(findings.lines[2].figures.as_ref().is_some_and(|figures| figures.ratio.median == 0.5));
        assert!(findings.lines[3].figures.is_none());
        assert!(findings.lines[2..].iter().all(|line| line.verdict == Verdict::Failed));
        let remarks = findings.remarks();
        assert_eq!(remarks[0], "megamux failed after 4 of 10 slices: it died");
        assert_eq!(remarks[1], "other failed after 0 of 10 slices: it refused");
    }

    #[test]
    fn without_a_baseline_nothing_is_judged() {
        let rows =
            vec![row("tokio", 1, 0, Some("it refused")), row("tokio again", 1, 0, None), row("megamux", 1, 0, None)];
        let table = table(rows);
        let findings = Findings::of(&table, 1);
        assert!(findings.lines.iter().all(|line| line.verdict == Verdict::Failed));
        assert!(matches!(findings.bars[..], [Judged { reach: Reach::NotMeasured, .. }]));
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let latency = Latency { sorted_ms: (1..=100).map(f64::from).collect() };
        for (share, expect) in [(0.0, 1.0), (0.5, 50.0), (0.95, 95.0), (0.999, 100.0), (1.0, 100.0)] {
            assert_eq!(latency.quantile(share), expect);
        }
    }
}
