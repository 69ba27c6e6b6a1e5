//! OpenMetrics text as numbers: what one scrape said, by shard.
//!
//! Invariant: whatever the text is, reading it takes time linear in it and cannot fail halfway: a line that is no sample is
//! passed over, so that a newer server's figures do not hide those that are known.

use std::collections::BTreeMap;
use std::time::Instant;

/// One scrape.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub taken: Instant,
    pub version: String,
    pub uptime_seconds: f64,
    /// By shard number.
    pub shards: BTreeMap<u16, Shard>,
}

/// The figures of one shard: by metric name, and by the metric's own label (state, cause, reason, bucket) where it has one.
#[derive(Debug, Clone, Default)]
pub struct Shard {
    figures: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Shard {
    /// The sum over a metric's labels, 0 if the server does not have it.
    pub fn total(&self, name: &str) -> f64 {
        self.figures.get(name).map_or(0.0, |values| values.values().sum())
    }

    /// The figure under one label.
    pub fn of(&self, name: &str, label: &str) -> f64 {
        self.figures.get(name).and_then(|values| values.get(label)).copied().unwrap_or(0.0)
    }

    /// A histogram's cumulative buckets: upper bound in seconds (infinite for the last), and count.
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = self
            .figures
            .get(&format!("{name}_bucket"))
            .into_iter()
            .flatten()
            .filter_map(|(bound, count)| Some((bound.replace("+Inf", "inf").parse().ok()?, *count)))
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        buckets
    }
}

impl Snapshot {
    /// Reads a scrape; `None` if it is not that of a megamux server.
    pub fn read(text: &str, taken: Instant) -> Option<Snapshot> {
        let mut snapshot = Snapshot { taken, version: String::new(), uptime_seconds: 0.0, shards: BTreeMap::new() };
        for sample in text.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::read) {
            match (sample.name, sample.shard) {
                ("megamux_build_info", _) => snapshot.version = sample.label("version").unwrap_or("?").to_owned(),
                ("megamux_uptime_seconds", _) => snapshot.uptime_seconds = sample.value,
                (name, Some(shard)) => {
                    let figures = &mut snapshot.shards.entry(shard).or_default().figures;
                    let own = sample.own().unwrap_or_default().to_owned();
                    figures.entry(name.to_owned()).or_default().insert(own, sample.value);
                }
                _ => {}
            }
        }
        (!snapshot.version.is_empty()).then_some(snapshot)
    }
}

/// One line.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    shard: Option<u16>,
    value: f64,
}

impl<'a> Sample<'a> {
    /// `name{label="value",...} number`. Values of our labels hold neither quotes nor commas.
    fn read(line: &'a str) -> Option<Sample<'a>> {
        let (head, value) = line.rsplit_once(' ')?;
        let (name, labels) = match head.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}')?),
            None => (head, ""),
        };
        let pair = |label: &'a str| {
            let (key, value) = label.split_once('=')?;
            Some((key, value.trim_matches('"')))
        };
        let labels: Vec<_> = labels.split(',').filter_map(pair).collect();
        let mut sample = Sample { name, labels, shard: None, value: value.parse().ok()? };
        sample.shard = sample.label("shard").and_then(|shard| shard.parse().ok());
        Some(sample)
    }

    fn label(&self, name: &str) -> Option<&'a str> {
        self.labels.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// The label that is not the shard.
    fn own(&self) -> Option<&'a str> {
        self.labels.iter().find(|(key, _)| *key != "shard").map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE megamux_build info
megamux_build_info{version=\"0.1.0\",features=\"telnet http\"} 1
megamux_uptime_seconds 2.5
megamux_connections{shard=\"0\",state=\"parked\"} 7
megamux_connections{shard=\"0\",state=\"armed\"} 2
megamux_accepts_total{shard=\"1\"} 9
megamux_tick_seconds_bucket{shard=\"1\",le=\"+Inf\"} 5
megamux_tick_seconds_bucket{shard=\"1\",le=\"0.000000256\"} 3
a line that is no sample
# EOF
";

    #[test]
    fn samples_come_by_shard_and_label() {
        let snapshot = Snapshot::read(TEXT, Instant::now()).unwrap();
        assert_eq!((snapshot.version.as_str(), snapshot.uptime_seconds), ("0.1.0", 2.5));
        assert_eq!(snapshot.shards.len(), 2);
        assert_eq!(snapshot.shards[&0].total("megamux_connections"), 9.0);
        assert_eq!(snapshot.shards[&0].of("megamux_connections", "armed"), 2.0);
        assert_eq!(snapshot.shards[&1].total("megamux_accepts_total"), 9.0);
        assert_eq!(snapshot.shards[&1].total("megamux_unheard_of"), 0.0);
        assert_eq!(snapshot.shards[&1].buckets("megamux_tick_seconds"), [(2.56e-7, 3.0), (f64::INFINITY, 5.0)]);
    }

    #[test]
    fn other_servers_are_told_apart() {
        assert!(Snapshot::read("go_goroutines 12\n# EOF\n", Instant::now()).is_none());
        assert!(Snapshot::read("", Instant::now()).is_none());
    }
}
