//! The developer's loop, `cargo xtask <verb>`: this file owns the command line and nothing else.
//!
//! Each verb is one module. A verb either succeeds, or prints why not and exits with status 1, so that CI needs to know
//! no other program than this one. xtask must not depend on any crate of the product: it has to build while they do not.

mod asan;
mod bench;
mod c10m;
mod check;
mod counts;
mod examples;
mod features;
mod fuzz;
mod loom;
mod metadata;
mod miri;
mod report;
mod setup;
mod shell;
mod sim;
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
    /// Install what the suites need: Debian packages (as root), cargo-nextest, cargo-fuzz, Python packages of judges
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
    /// Simulate whole engines: replay a seed, search for a while, or run very many connections
    Sim {
        #[command(flatten)]
        what: sim::What,
    },
    /// The engine's buffers, handoff and tokens under Miri; needs a nightly toolchain with it
    Miri,
    /// The engine's tests, and the system tests against servers, with AddressSanitizer
    Asan,
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
        Verb::Sim { what } => sim::run(&what),
        Verb::Miri => miri::run(),
        Verb::Asan => asan::run(),
        Verb::Loom => loom::run(),
    };
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}
