//! The command line: run the suite, run one of its servers, or draw a kept report again.
//!
//! Invariant: everything a run depends on is an option with a default, or written to the report.

mod churn;
mod endpoint;
mod load;
mod memory;
mod method;
mod process;
mod progress;
mod report;
mod ring;
mod run;
mod scenario;
mod servers;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::endpoint::Endpoint;
use crate::method::Random;
use crate::process::{Program, Spec};
use crate::report::{Kind, Machine, Report};
use crate::run::Plan;
use crate::scenario::Scenario;
use crate::servers::Server;

/// Echo servers side by side: CPU per message and memory per connection, against a bare io_uring loop
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
    /// Draw the tables of a report kept by `run --json`
    Show { file: PathBuf },
}

#[derive(Args)]
struct Run {
    /// What to run; everything if not given
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    scenario: Vec<Scenario>,

    /// Whom to measure besides bare-uring, which is the baseline and runs twice
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_values = ["bare-epoll", "tokio", "monoio"])]
    servers: Vec<Server>,

    /// Another server: a shell command with {addr} where the address goes (127.0.0.1:PORT, or unix:PATH with --unix)
    /// and {buffer} where the bytes per connection go. It must echo and set TCP_NODELAY. May be repeated
    #[arg(long, value_name = "NAME=COMMAND", value_parser = parse_external)]
    external: Vec<Spec>,

    /// 30 slices, and smaller counts of idle connections: a look, not a result
    #[arg(long)]
    quick: bool,

    /// Slices per server [default: 100, with --quick 30]
    #[arg(long, value_name = "N")]
    slices: Option<usize>,

    /// Length of a slice in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 150)]
    slice_ms: u64,

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

    /// Keep every sample here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct Serve {
    name: Server,

    #[command(flatten)]
    place: Place,

    /// Bytes of each connection's own buffer, for servers that give it one
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10)]
    buffer: usize,
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
        Command::Show { file } => show(&file),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("megamux-compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(file: &Path) -> Result<()> {
    Ok(Report::load(file)?.draw(&mut std::io::stdout())?)
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
    let mut report = Report {
        machine: options.machine(),
        seed: options.seed,
        slice_ms: options.slice_ms,
        transport: if options.unix { "Unix sockets" } else { "TCP" }.into(),
        loads: Vec::new(),
        idle: None,
    };
    let mut out = std::io::stdout();
    report.machine.draw(&mut out)?;
    let scenarios = if options.scenario.is_empty() { &Scenario::ALL[..] } else { &options.scenario };
    for &scenario in scenarios {
        if scenario == Scenario::Idle {
            report.idle.insert(plan.idle()?).draw(&mut out, &report.transport)?;
        } else {
            let table = plan.load(scenario)?;
            table.draw(&mut out, &report.transport, report.slice_ms, report.seed)?;
            report.loads.push(table);
        }
        // After every scenario, so that a failure later loses nothing.
        if let Some(path) = &options.json {
            report.store(path)?;
        }
    }
    Ok(())
}

impl Serve {
    fn run(self) -> Result<()> {
        let endpoint = match self.place {
            Place { bind: Some(address), .. } => Endpoint::Tcp(address),
            Place { unix: Some(path), .. } => Endpoint::Unix(path),
            Place { bind: None, unix: None } => unreachable!("the parser requires one of the group"),
        };
        self.name.run(&endpoint, self.buffer).context(self.name.name())
    }
}

impl Run {
    fn plan(&self) -> Plan {
        let chosen = self.servers.iter().filter(|&&server| !matches!(server, Server::BareUring | Server::Plain));
        Plan {
            specs: chosen.map(|&server| run::ours(server)).chain(self.external.iter().cloned()).collect(),
            slices: self.slices.unwrap_or(if self.quick { 30 } else { 100 }),
            slice: Duration::from_millis(self.slice_ms),
            unix: self.unix,
            server_cpu: self.server_cpu,
            idle_counts: if self.quick { [2_000, 6_000] } else { [5_000, 15_000] },
            connections: self.connections,
            random: Random::new(self.seed),
        }
    }

    fn machine(&self) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
        Machine {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpu: model.trim_start_matches(['\t', ' ', ':']).into(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
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
