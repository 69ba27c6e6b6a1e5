//! `megamux-load`: load for any TCP or Unix target, from one connection to millions.
//!
//! ```text
//! cli -> plan (what it takes, and whether it fits) -> run: engine with Client handlers and a Pacer per shard
//!                                                       |-> gauges -> progress (while it runs), report (in the end)
//! ```
//!
//! Connections are the engine's, the protocols spoken on them are this program's own (`wire`): a codec shared with the
//! server would hide what both get wrong. Owns the order of a run and the exit code.

mod cli;
mod client;
mod gauges;
mod limits;
mod pacer;
mod plan;
mod progress;
mod report;
mod rounds;
mod run;
mod source;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::Cli;
use crate::plan::Plan;

/// The run was cut short, or did not go as asked.
const INCOMPLETE: u8 = 1;
/// The command line was not understood, or this machine cannot do what it asks.
const UNFIT: u8 = 2;
/// Interrupted twice.
const KILLED: i32 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(shell) = cli.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "megamux-load", &mut script);
        return match report::print(&script) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure(&error, INCOMPLETE),
        };
    }
    let plan = match Plan::new(&cli).map_err(anyhow::Error::from) {
        Ok(plan) => can_write(cli.json.as_deref()).map(|()| Arc::new(plan)),
        Err(error) => Err(error),
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return failure(&error, UNFIT),
    };
    let interrupted = interrupted();
    match run::run(&plan, &interrupted).and_then(|report| report.deliver(cli.json.as_deref()).map(|()| report)) {
        Ok(report) if report.complete => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(INCOMPLETE),
        Err(error) => failure(&error, INCOMPLETE),
    }
}

fn failure(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("megamux-load: {error:#}");
    ExitCode::from(code)
}

/// Whether the results can be kept is to be known before they are made.
fn can_write(path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(()) };
    let file = std::fs::File::options().append(true).create(true).open(path);
    file.map(drop).with_context(|| format!("cannot write {}", path.display()))
}

/// Set by the first interrupt (or `timeout`'s signal), which ends the run; the second ends the process.
fn interrupted() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Without them an interrupt ends the process at once, as it does anyway.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, KILLED, Arc::clone(&flag));
        let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
    }
    flag
}
