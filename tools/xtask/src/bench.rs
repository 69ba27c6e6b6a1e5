//! `cargo xtask bench`: it owns how the two kinds of measurement are started; what they measure is theirs.
//!
//! `micro` belongs to the workspace. `compare` has a manifest and a build directory of its own, so that the engines it
//! measures against are built only by those who ask for it.

use anyhow::Result;
use clap::Subcommand;

use crate::shell::{self, cargo};

const COMPARE_MANIFEST: &str = "benches/compare/Cargo.toml";
const COMPARE_TARGET: &str = "benches/compare/target";

#[derive(Subcommand)]
pub enum Bench {
    /// Criterion benches of single paths; further arguments go to criterion
    Micro {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Side by side with other engines; further arguments (--quick) go to the comparison
    Compare {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

pub fn run(what: &Bench) -> Result<()> {
    match what {
        Bench::Micro { args } => {
            shell::run(cargo(&["bench", "-p", "megamux-micro", "--"]).args(args))
        }
        Bench::Compare { args } => {
            let own = [
                "--release",
                "--manifest-path",
                COMPARE_MANIFEST,
                "--target-dir",
                COMPARE_TARGET,
            ];
            // All binaries first: the comparison starts its rivals from the same build directory.
            shell::run(cargo(&["build"]).args(own))?;
            shell::run(cargo(&["run"]).args(own).arg("--").args(args))
        }
    }
}
