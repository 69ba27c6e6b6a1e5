//! The command line: its words and their help. What they mean together is decided in `plan`.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use clap_complete::Shell;
use megamux_engine::net::Addr;

const USAGE: &str = "megamux-load [OPTIONS] <SCENARIO> <TARGET>";

const NOTES: &str = "\
TARGET is 127.0.0.1:7777, [::1]:7777, localhost:7777 or unix:/path. Counts may be written 20k or 1M, times 30s, 2m or 1h.

Without --rate each connection sends again when its answer has come (closed loop). With --rate messages are sent when they \
are due, whatever the target does, and latency counts from when they were due (open loop).

Connections to 127.0.0.0/8 come from explicit addresses and ports (127.1.0.0 on), so that millions open without the kernel \
searching for a free port. In the end connections are reset, a step at a time.

Examples:
  megamux-load pingpong 127.0.0.1:7 --rate 5000
  megamux-load frames 127.0.0.1:7 --depth 32 --json -
  megamux-load fanout 127.0.0.1:7000 -c 2000        (a chat: cargo run --example chat)
  megamux-load pingpong 127.0.0.1:2323 -p telnet -c 50 --line whoami

Exit codes:
  0  done as asked
  1  the target refused, died, lost connections or broke the protocol, or memory ran short; results are partial, and say so
  2  command line not understood, or more than this machine can do";

/// Load for a TCP or Unix target: opens up to millions of connections, and measures from the intended time
#[derive(Debug, Parser)]
#[command(name = "megamux-load", version, override_usage = USAGE, after_help = NOTES)]
pub struct Cli {
    /// What to do
    #[arg(value_enum, required_unless_present = "completions")]
    pub scenario: Option<Scenario>,
    /// What to do it to
    #[arg(value_name = "TARGET", value_parser = target, required_unless_present = "completions")]
    pub target: Option<Addr>,
    /// Connections [default: 500; bulk and churn 64, slow and fanout 1000, hold and storm 10000]
    #[arg(short, long, value_name = "N", value_parser = count::<u32>)]
    pub connections: Option<u32>,
    /// What the target speaks [default: echo; frames and fanout lines]
    #[arg(short, long, value_enum)]
    pub protocol: Option<Protocol>,
    /// Bytes per message [default: 64; bulk 16384]
    #[arg(short, long, value_name = "BYTES")]
    pub size: Option<u32>,
    /// Messages under way per connection [default: 1; pipeline and frames 16]
    #[arg(short, long, value_name = "N")]
    pub depth: Option<u32>,
    /// Messages per second over all connections, sent when due (open loop)
    #[arg(short, long, value_name = "N", value_parser = count::<u64>)]
    pub rate: Option<u64>,
    /// Seconds to measure, after the ramp
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration: Duration,
    /// Open at most so many connections per second
    #[arg(long, value_name = "N", value_parser = count::<u32>)]
    pub ramp: Option<u32>,
    /// hold: this share of the connections sends a message every second
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    pub active: f64,
    /// hold: every connection sends a message this often
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub every: Duration,
    /// Threads, each with a ring of its own [default: as many as the connections need]
    #[arg(long, value_name = "N")]
    pub shards: Option<u16>,
    /// Run on these CPUs in turn, e.g. 1 or 0,2
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    pub pin: Vec<usize>,
    /// telnet: the line to send; its answer ends where the next prompt does
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub line: String,
    /// telnet: what the prompt ends with
    #[arg(long, value_name = "TEXT", default_value = "> ")]
    pub prompt: String,
    /// Memory in GiB that is to stay free; the ramp stops before it is touched
    #[arg(long, value_name = "GIB", default_value_t = 3.0)]
    pub keep_free: f64,
    /// Write the results as JSON to this file, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Print a completion script for a shell, and leave
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub completions: Option<Shell>,
}

/// What is done to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One message under way per connection
    Pingpong,
    /// Sixteen messages under way per connection
    Pipeline,
    /// Large messages
    Bulk,
    /// Numbered lines, sixteen under way; an answer ends with the line it answers
    Frames,
    /// One connection says a line, and all get it, itself among them; one line after another, or by --rate
    Fanout,
    /// Connect, one exchange, reset; again and again
    Churn,
    /// Open very many, then 1% active and one message per connection per minute
    Hold,
    /// As pingpong, while 1% of the connections send and never read
    Slow,
    /// All connections are reset at once and come back at once
    Storm,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Pingpong => "pingpong",
            Scenario::Pipeline => "pipeline",
            Scenario::Bulk => "bulk",
            Scenario::Frames => "frames",
            Scenario::Fanout => "fanout",
            Scenario::Churn => "churn",
            Scenario::Hold => "hold",
            Scenario::Slow => "slow",
            Scenario::Storm => "storm",
        }
    }
}

/// What the target speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Every byte comes back (RFC 862)
    Echo,
    /// Every line is answered by a line
    Lines,
    /// A line is answered by text and a new prompt; options are refused
    Telnet,
}

fn target(text: &str) -> Result<Addr, String> {
    text.parse::<Addr>().or_else(|unknown| {
        megamux_client::resolve(text).map(Addr::Tcp).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => unknown.to_string(),
            _ => error.to_string(),
        })
    })
}

/// A number, in thousands or millions if it says so.
fn count<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let (digits, unit) = unit(text, &[("k", 1_000.0), ("M", 1_000_000.0)]);
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit as u64));
    let number = number.ok_or("a whole number, such as 500, 20k or 1M")?;
    T::try_from(number).map_err(|_| "that is too many".into())
}

/// What stands before a unit, and how much the unit is.
fn unit<'a>(text: &'a str, units: &[(&str, f64)]) -> (&'a str, f64) {
    let found = units.iter().find_map(|(unit, worth)| Some((text.strip_suffix(unit)?, *worth)));
    found.unwrap_or((text, 1.0))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let (digits, unit) = unit(text, &[("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]);
    let seconds = unit * digits.parse::<f64>().map_err(|_| "a number of seconds, or such as 500ms, 30s, 2m or 1h")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time >= Duration::from_millis(100) && seconds <= 86_400.0 => Ok(time),
        _ => Err("from 0.1 to 86400 seconds".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("from 0 to 100".into()),
    }
}
