//! What a run is: the command line with every default filled in, divided among shards, and checked against the machine.

use std::time::Duration;

use megamux_engine::ShardId;
use megamux_engine::net::Addr;
use rustix::thread::CpuSet;

use crate::cli::{Cli, Protocol, Scenario};
use crate::limits::{self, Unfit};
use crate::wire::{LONGEST, SHORTEST_LINE, Speech};

/// Dials under way per shard while the ramp is not limited: enough to keep a core busy, few enough for any backlog.
const WINDOW: u64 = 64;

/// A run as it will be.
#[derive(Debug)]
pub struct Plan {
    pub scenario: Scenario,
    pub target: Addr,
    pub connections: u32,
    pub shards: u16,
    pub pin: Vec<usize>,
    pub speech: Speech,
    pub size: u32,
    pub depth: u32,
    pub rate: Option<u64>,
    pub duration: Duration,
    pub ramp: Option<u32>,
    /// Percent of the connections, and the time between two messages of any.
    pub active: f64,
    pub every: Duration,
    pub keep_free: u64,
    pub quiet: bool,
}

/// Why a run cannot be.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("a scenario and a target are needed")]
    Nothing,
    #[error("--connections is from 1 to 10000000")]
    Connections,
    #[error("--size is from {0} to {LONGEST} bytes for this protocol")]
    Size(u32),
    #[error("--depth is from 1 to 1024")]
    Depth,
    #[error("--rate is at least 1 message per second, and goes with all but churn and storm")]
    Rate,
    #[error("a telnet target takes one line at a time: --depth 1, and not bulk or slow")]
    Telnet,
    #[error("frames and fanout are about lines: --protocol lines")]
    Lines,
    #[error("fanout has one message under way, or as many as --rate makes: no --depth")]
    FanoutDepth,
    #[error("slow takes at least 2 connections: one of them does not read")]
    Slow,
    #[error("--pin names CPU {0}, which this process may not use")]
    Pin(usize),
    #[error("--prompt cannot be empty")]
    Prompt,
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl Plan {
    pub fn new(cli: &Cli) -> Result<Plan, PlanError> {
        let (Some(scenario), Some(target)) = (cli.scenario, cli.target.clone()) else { return Err(PlanError::Nothing) };
        let connections = cli.connections.unwrap_or(match scenario {
            Scenario::Churn => 64,
            Scenario::Slow | Scenario::Fanout => 1_000,
            Scenario::Hold | Scenario::Storm => 10_000,
            Scenario::Bulk => 64,
            _ => 500,
        });
        let size = cli.size.unwrap_or(if scenario == Scenario::Bulk { 16_384 } else { 64 });
        let depth = cli.depth.unwrap_or(match scenario {
            Scenario::Pipeline | Scenario::Frames => 16,
            _ => 1,
        });
        let lines = matches!(scenario, Scenario::Frames | Scenario::Fanout);
        let protocol = cli.protocol.unwrap_or(if lines { Protocol::Lines } else { Protocol::Echo });
        check(cli, scenario, protocol, connections, size, depth)?;
        let shards = limits::shards(connections, cli.shards);
        let keep_free = (cli.keep_free.max(0.0) * (1u64 << 30) as f64) as u64;
        limits::check(&target, connections, shards, keep_free)?;
        let speech = match lines {
            true => Speech::numbered(size as usize),
            false => Speech::new(protocol, size as usize, &cli.line, &cli.prompt),
        };
        Ok(Plan {
            scenario,
            target,
            connections,
            shards: shards as u16,
            pin: cli.pin.clone(),
            size: if protocol == Protocol::Telnet { cli.line.len() as u32 + 2 } else { size },
            speech,
            depth,
            rate: cli.rate,
            duration: cli.duration,
            ramp: cli.ramp,
            active: cli.active,
            every: cli.every,
            keep_free,
            quiet: cli.quiet,
        })
    }

    /// How many of the connections are this shard's.
    pub fn share(&self, shard: usize) -> u64 {
        let (connections, shards) = (u64::from(self.connections), u64::from(self.shards));
        connections / shards + u64::from((shard as u64) < connections % shards)
    }

    /// How many dials of this shard are under way at once: with a limited ramp the main thread starts each one.
    pub fn window(&self, shard: usize) -> u64 {
        let most = if self.scenario == Scenario::Churn || self.ramp.is_some() { u64::MAX } else { WINDOW };
        self.share(shard).min(most)
    }

    /// The number of a connection in the whole run.
    pub fn number(&self, shard: usize, own: u64) -> u64 {
        own * u64::from(self.shards) + shard as u64
    }

    /// Which shard opens connection `number` of the ramp.
    pub fn shard_of(&self, number: u64) -> ShardId {
        ShardId((number % u64::from(self.shards)) as u16)
    }

    pub fn is_closed_loop(&self) -> bool {
        let by_order = matches!(self.scenario, Scenario::Hold | Scenario::Storm | Scenario::Churn | Scenario::Fanout);
        self.rate.is_none() && !by_order
    }

    /// Between two messages of a shard that has `count` of the connections.
    pub fn gap(&self, rate: u64, count: usize) -> Duration {
        let nanos = 1e9 * f64::from(self.connections) / (rate as f64 * count as f64);
        Duration::from_nanos(nanos as u64)
    }
}

fn check(
    cli: &Cli,
    scenario: Scenario,
    protocol: Protocol,
    connections: u32,
    size: u32,
    depth: u32,
) -> Result<(), PlanError> {
    if !(1..=10_000_000).contains(&connections) {
        return Err(PlanError::Connections);
    }
    let lines = matches!(scenario, Scenario::Frames | Scenario::Fanout);
    if lines && protocol != Protocol::Lines {
        return Err(PlanError::Lines);
    }
    if scenario == Scenario::Fanout && depth > 1 {
        return Err(PlanError::FanoutDepth);
    }
    let smallest = match protocol {
        _ if lines => SHORTEST_LINE,
        Protocol::Echo | Protocol::Lines => 1,
        Protocol::Telnet => 0,
    };
    if size < smallest || size as usize > LONGEST {
        return Err(PlanError::Size(smallest));
    }
    if !(1..=1024).contains(&depth) {
        return Err(PlanError::Depth);
    }
    if cli.rate == Some(0) || cli.rate.is_some() && matches!(scenario, Scenario::Churn | Scenario::Storm) {
        return Err(PlanError::Rate);
    }
    if scenario == Scenario::Slow && connections < 2 {
        return Err(PlanError::Slow);
    }
    let usable = rustix::thread::sched_getaffinity(None).ok();
    if let Some(cpu) =
        cli.pin.iter().find(|cpu| usable.is_some_and(|usable| **cpu >= CpuSet::MAX_CPU || !usable.is_set(**cpu)))
    {
        return Err(PlanError::Pin(*cpu));
    }
    let telnet = protocol == Protocol::Telnet;
    if telnet && (depth > 1 || matches!(scenario, Scenario::Bulk | Scenario::Slow)) {
        return Err(PlanError::Telnet);
    }
    if telnet && cli.prompt.is_empty() {
        return Err(PlanError::Prompt);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(arguments: &str) -> Result<Plan, String> {
        let words = format!("megamux-load {arguments}");
        let cli = Cli::try_parse_from(words.split_whitespace()).map_err(|error| error.to_string())?;
        Plan::new(&cli).map_err(|error| error.to_string())
    }

    #[test]
    fn shards_share_the_connections_and_number_them_apart() {
        let plan = plan("hold 127.0.0.1:7 --connections 10 --shards 3").unwrap();
        assert_eq!((0..3).map(|shard| plan.share(shard)).collect::<Vec<_>>(), [4, 3, 3]);
        let numbers = (0..3).flat_map(|shard| (0..plan.share(shard)).map(move |own| (shard, own)));
        let mut numbers: Vec<_> = numbers.map(|(shard, own)| plan.number(shard, own)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        assert!((0..10).all(|number| plan.number(plan.shard_of(number).0.into(), number / 3) == number));
    }

    #[test]
    fn a_rate_is_shared_by_the_connections_a_shard_has() {
        let plan = plan("pingpong 127.0.0.1:7 --connections 100 --rate 1000 --shards 2").unwrap();
        assert_eq!(plan.gap(1000, 50), Duration::from_millis(2));
        assert!(!plan.is_closed_loop());
    }

    #[test]
    fn names_and_units_are_understood() {
        let plan = plan("pingpong localhost:7 -c 2k --rate 1M -t 2m").unwrap();
        assert_eq!((plan.target.to_string().as_str(), plan.connections), ("127.0.0.1:7", 2_000));
        assert_eq!((plan.rate, plan.duration), (Some(1_000_000), Duration::from_secs(120)));
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let check = |arguments: &str, expect: &str| match plan(arguments) {
            Err(error) => assert!(error.contains(expect), "{arguments}: {error}"),
            Ok(_) => panic!("{arguments} was taken"),
        };
        check("pingpong", "TARGET");
        check("juggle 127.0.0.1:7", "possible values");
        check("pingpong localhost", "no address");
        check("pingpong 127.0.0.1:7 -c 5x", "20k");
        check("pingpong 127.0.0.1:7 -c 5000M", "too many");
        check("slow 127.0.0.1:7 -c 1", "at least 2");
        check("pingpong 127.0.0.1:7 -c 0", "--connections");
        check("pingpong 127.0.0.1:7 --size 0", "--size is from 1");
        check("frames 127.0.0.1:7 --size 5", "--size is from 6");
        check("fanout 127.0.0.1:7 -p echo", "--protocol lines");
        check("fanout 127.0.0.1:7 -d 3", "no --depth");
        check("pingpong 127.0.0.1:7 --pin 0,1023", "CPU 1023");
        check("churn 127.0.0.1:7 --rate 5", "--rate");
        check("pipeline 127.0.0.1:7 --protocol telnet", "one line at a time");
        check("hold 127.0.0.1:7 --duration 0", "seconds");
        check("hold 127.0.0.1:7 --active 101", "from 0 to 100");
        check("hold 127.0.0.1:7 -c 5000000 --shards 1", "--shards");
    }
}
