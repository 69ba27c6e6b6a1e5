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
mod run;
mod source;
mod wire;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::Cli;
use crate::plan::Plan;

/// The run was cut short, or did not go as asked.
const INCOMPLETE: u8 = 1;
/// The command line was not understood, or this machine cannot do what it asks.
const UNFIT: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(shell) = cli.completions {
        clap_complete::generate(shell, &mut Cli::command(), "megamux-load", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::new(&cli).map(std::sync::Arc::new) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("megamux-load: {error}");
            return ExitCode::from(UNFIT);
        }
    };
    match run::run(&plan).and_then(|report| report.deliver(cli.json.as_deref()).map(|()| report)) {
        Ok(report) if report.complete() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(INCOMPLETE),
        Err(error) => {
            eprintln!("megamux-load: {error:#}");
            ExitCode::from(INCOMPLETE)
        }
    }
}
