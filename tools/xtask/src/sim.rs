//! `cargo xtask sim`: it owns how the simulator's program is built and called, and nothing of what it runs.
//!
//! Seeds run with debug assertions, as the tests do. Only the mass run is a release build: it is about size and time.

use anyhow::Result;
use clap::Args;

use crate::shell::{self, cargo};

const PACKAGE: [&str; 2] = ["-p", "megamux-sim-tests"];

/// What to simulate.
#[derive(Args)]
#[group(required = true)]
pub struct What {
    /// Replay this seed of the scenario that has everything in it, or of TEST
    #[arg(long)]
    seed: Option<u64>,
    /// Search fresh seeds for so long; ends at the first that fails
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// Open so many connections on real shards, 1% of them active, and measure what they take
    #[arg(long, conflicts_with_all = ["seed", "minutes"])]
    mass: Option<u64>,
    /// A test of `tests/sim`, with --seed
    #[arg(requires = "seed")]
    test: Option<String>,
}

pub fn run(what: &What) -> Result<()> {
    match (what.seed, &what.test) {
        (Some(seed), Some(test)) => {
            let mut command = cargo(&["test"]);
            command.args(PACKAGE).args([test, "--", "--nocapture"]).env("MEGAMUX_SIM_SEED", seed.to_string());
            shell::run(&mut command)
        }
        (Some(seed), None) => program(&[], "seed", seed),
        (None, _) => match (what.minutes, what.mass) {
            (_, Some(connections)) => program(&["--release"], "mass", connections),
            (minutes, None) => program(&[], "seconds", 60 * minutes.unwrap_or(1)),
        },
    }
}

fn program(profile: &[&str], verb: &str, number: u64) -> Result<()> {
    let mut command = cargo(&["run", "--quiet", "--bin", "megamux-sim"]);
    command.args(PACKAGE).args(profile).args(["--", verb, &number.to_string()]);
    shell::run(&mut command)
}
