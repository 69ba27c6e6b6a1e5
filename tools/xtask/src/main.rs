//! The developer's loop, `cargo xtask <verb>`: this file owns the command line and nothing else.
//!
//! Each verb is one module. A verb either succeeds, or prints why not and exits with status 1, so that CI needs to know
//! no other program than this one. xtask must not depend on any crate of the product: it has to build while they do not.

mod bench;
mod check;
mod counts;
mod examples;
mod fuzz;
mod loom;
mod metadata;
mod report;
mod setup;
mod shell;
mod skips;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's loop of megamux")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what the suites need: Debian packages (as root), cargo-nextest, cargo-fuzz
    Setup,
    /// Formatting, tidy and clippy: seconds when warm, run it before every commit
    Check,
    /// Every suite; what a machine lacks is skipped loudly (a failure with MEGAMUX_REQUIRE_ALL=1)
    Test,
    /// The house rules: walls, licences, unsafe, file sizes, leftovers, docs
    Tidy,
    /// Measure
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// Fuzz one target; new inputs go under the target directory, the committed corpus stays as it is
    Fuzz {
        /// A binary of the fuzz package, such as `telnet_decode`
        target: String,
        /// How long to search
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Model-check the engine's lock-free structures and wake protocols
    Loom,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Check => check::run(),
        // Its last line is the count, whatever the verdict.
        Verb::Test => return test::run().unwrap_or_else(|error| fail(&error)),
        Verb::Tidy => tidy::run(),
        Verb::Bench { what } => bench::run(&what),
        Verb::Fuzz { target, seconds } => fuzz::run(&target, seconds),
        Verb::Loom => loom::run(),
    };
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}
