//! The command line: run the suite, run one of its servers, or draw a kept report again.
//!
//! Invariant: everything a run depends on is an option with a default, or written to the report.

mod awake;
mod churn;
mod crowd;
mod endpoint;
mod fanout;
mod findings;
mod load;
mod memory;
mod method;
mod open;
mod page;
mod pattern;
mod plot;
mod process;
mod progress;
mod report;
mod ring;
mod run;
mod scenario;
mod servers;
mod tails;
mod text;
mod trial;
mod watch;
mod wire;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::endpoint::Endpoint;
use crate::method::Random;
use crate::process::{Program, Seat, Spec};
use crate::report::{Kind, Machine, Report};
use crate::run::Plan;
use crate::scenario::Scenario;
use crate::servers::{Server, Work};

/// Servers side by side: CPU per message and memory per connection
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure: all servers on one core, the load generator on another, in alternating slices
    Run(Run),
    /// Be one of the servers, until killed
    Server(Serve),
    /// Draw a report kept by `run --json` again
    Show(Show),
}

#[derive(Args)]
struct Show {
    file: PathBuf,

    /// Write the page here, besides the tables
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Args)]
struct Run {
    /// What to run; everything if not given
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    scenario: Vec<Scenario>,

    /// Whom to measure besides a table's baseline, which runs twice; all that this was built with if not given
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    servers: Vec<Server>,

    /// Another echo server: a shell command with {addr} where the address goes (127.0.0.1:PORT, or unix:PATH with --unix)
    /// and {buffer} where the bytes per connection go. It must echo and set TCP_NODELAY. For active and storm {listeners} says
    /// how many sockets of one process must share the port. May be repeated
    #[arg(long, value_name = "NAME=COMMAND", value_parser = parse_external)]
    external: Vec<Spec>,

    /// Few short slices, and smaller counts of connections: a look, not a result
    #[arg(long)]
    quick: bool,

    /// Slices per server, or rounds of latency, active and storm [default: 100; 40, 60 and 9; fewer with --quick]
    #[arg(long, value_name = "N")]
    slices: Option<usize>,

    /// Length of a slice in milliseconds [default: 150, latency 25, active 50; shorter with --quick]
    #[arg(long, value_name = "MS")]
    slice_ms: Option<u64>,

    /// Connections per server, instead of the scenario's own (not for idle)
    #[arg(long, value_name = "N")]
    connections: Option<usize>,

    /// Over Unix sockets instead of TCP
    #[arg(long)]
    unix: bool,

    /// Core of the servers
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    server_cpu: usize,

    /// Core of the load generator
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    load_cpu: usize,

    /// Decides the order of slices and the resampling
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Keep every sample here; written after every scenario
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw the page here; written after every scenario
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Args)]
struct Serve {
    name: Server,

    /// What to do with what is received
    #[arg(long, default_value = "echo")]
    work: Work,

    #[command(flatten)]
    place: Place,

    /// Bytes of each connection's own buffer, for servers that give it one
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10)]
    buffer: usize,

    /// Listeners that share the TCP address: shards of megamux, and of others as many processes as are to be started
    #[arg(long, value_name = "N", default_value_t = 1)]
    listeners: usize,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Listen on this address
    #[arg(long, value_name = "ADDR")]
    bind: Option<SocketAddr>,

    /// Listen on a Unix socket at this path
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => measure(&options),
        Command::Server(serve) => serve.run(),
        Command::Show(options) => show(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("megamux-compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(options: &Show) -> Result<()> {
    let report = Report::load(&options.file)?;
    if let Some(path) = &options.html {
        report::write(path, &page::draw(&report))?;
    }
    Ok(text::draw(&report, &mut std::io::stdout())?)
}

fn measure(options: &Run) -> Result<()> {
    ensure!(options.server_cpu != options.load_cpu, "servers and load need a core each");
    ensure!(options.slices != Some(0), "a median needs at least one slice");
    // The servers' core only to see that it is there.
    for cpu in [options.server_cpu, options.load_cpu] {
        process::pin(cpu).with_context(|| format!("cannot pin to core {cpu}"))?;
    }
    raise_open_files()?;
    let mut plan = options.plan();
    let (machine, seed, quick) = (options.machine(), options.seed, options.quick);
    let mut report = Report { machine, seed, quick, tables: Vec::new(), idle: None, tails: Vec::new() };
    let mut out = std::io::stdout();
    writeln!(out, "{}", report.machine)?;
    let scenarios = if options.scenario.is_empty() { &Scenario::ALL[..] } else { &options.scenario };
    for &scenario in scenarios {
        if scenario == Scenario::Idle {
            text::draw_idle(report.idle.insert(plan.idle()?), &mut out)?;
        } else if scenario.is_about_tails() {
            let tails = plan.tails(scenario)?;
            text::draw_tails(&tails, seed, &mut out)?;
            report.tails.push(tails);
        } else {
            let table = plan.table(scenario);
            text::draw_table(&table, seed, &mut out)?;
            report.tables.push(table);
        }
        // After every scenario, so that a failure later loses nothing.
        options.keep(&report)?;
    }
    let failures: Vec<String> = report.failures().map(|(scenario, name)| format!("{name} in {scenario}")).collect();
    ensure!(failures.is_empty(), "the report is incomplete: {} failed", failures.join(", "));
    Ok(())
}

impl Serve {
    fn run(self) -> Result<()> {
        let endpoint = match self.place {
            Place { bind: Some(address), .. } => Endpoint::Tcp(address, self.listeners),
            Place { unix: Some(path), .. } => Endpoint::Unix(path),
            Place { bind: None, unix: None } => unreachable!("the parser requires one of the group"),
        };
        self.name.run(self.work, &endpoint, self.buffer).context(self.name.name())
    }
}

impl Run {
    fn plan(&self) -> Plan {
        let (slices, slice_ms) = if self.quick { (15, 50) } else { (100, 150) };
        Plan {
            servers: if self.servers.is_empty() { Server::value_variants().to_vec() } else { self.servers.clone() },
            externals: self.external.clone(),
            slices: self.slices.unwrap_or(slices),
            slice: Duration::from_millis(self.slice_ms.unwrap_or(slice_ms)),
            unix: self.unix,
            seat: Seat { cpu: self.server_cpu, namespace: None },
            load_cpu: self.load_cpu,
            idle_counts: if self.quick { [1_000, 3_000] } else { [5_000, 15_000] },
            idle_runs: if self.quick { 1 } else { 3 },
            connections: self.connections,
            fanout_connections: if self.quick { 2_000 } else { Scenario::Fanout.shape().connections },
            // With --quick fewer than a backlog, so that none waits a second to try again.
            crowd_connections: if self.quick { 4_000 } else { Scenario::Storm.shape().connections },
            asked_slices: self.slices,
            asked_slice: self.slice_ms.map(Duration::from_millis),
            quick: self.quick,
            random: Random::new(self.seed),
        }
    }

    fn keep(&self, report: &Report) -> Result<()> {
        if let Some(path) = &self.json {
            report.store(path)?;
        }
        if let Some(path) = &self.html {
            report::write(path, &page::draw(report))?;
        }
        Ok(())
    }

    fn machine(&self) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
        let number = |path, field: usize| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_ascii_whitespace().nth(field).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0)
        };
        Machine {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpu: model.trim_start_matches(['\t', ' ', ':']).into(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_mib: number("/proc/meminfo", 1) as u64 / 1024,
            load_average: number("/proc/loadavg", 0),
            open_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            server_cpu: self.server_cpu,
            load_cpu: self.load_cpu,
        }
    }
}

fn parse_external(text: &str) -> Result<Spec, String> {
    match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && command.contains("{addr}") => {
            Ok(Spec { name: name.into(), kind: Kind::External, program: Program::External(command.into()) })
        }
        _ => Err("expected NAME=COMMAND with {addr} in the command".into()),
    }
}

/// Servers inherit the limit: 15,000 idle connections need more than the usual soft one on both sides.
fn raise_open_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit on open files")
}
