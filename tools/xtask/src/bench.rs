//! `cargo xtask bench`: it owns how the two kinds of measurement are started; what they measure is theirs.
//!
//! `micro` belongs to the workspace. `compare` has a manifest and a build directory of its own, so that the engines it
//! measures against are built only by those who ask for it. It knows megamux only as a command line, like any other
//! server: this file adds that line.

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;

use crate::metadata;
use crate::shell::{self, cargo};

const COMPARE: [&str; 5] = [
    "--release",
    "--manifest-path",
    "benches/compare/Cargo.toml",
    "--target-dir",
    "benches/compare/target",
];

#[derive(Subcommand)]
pub enum Bench {
    /// Criterion benches of single paths; further arguments go to criterion
    Micro {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Side by side with other engines; further arguments (--quick, or `show FILE`) go to the comparison
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
        Bench::Compare { args } if measures(args) => {
            let echo = ["-p", "megamux-engine", "--example", "echo"];
            shell::run(cargo(&["build", "--quiet", "--release"]).args(echo))?;
            let echo = metadata::target_directory()?.join("release/examples/echo");
            compare(&measurement(args, &echo))
        }
        Bench::Compare { args } => compare(args),
    }
}

fn compare(args: &[String]) -> Result<()> {
    shell::run(
        cargo(&["run", "--quiet"])
            .args(COMPARE)
            .arg("--")
            .args(args),
    )
}

/// Options alone mean a measurement; a word is a verb of the comparison.
fn measures(args: &[String]) -> bool {
    args.first()
        .is_none_or(|first| first.starts_with('-') || first == "run")
}

/// The comparison's `run`, with megamux's own echo among the servers, on the servers' core like all of them.
fn measurement(args: &[String], echo: &Path) -> Vec<String> {
    let options = args.iter().filter(|arg| *arg != "run").cloned();
    let server = format!("megamux={} {{addr}} --shards 1 --pin 0", echo.display());
    ["run".to_owned(), "--external".to_owned(), server]
        .into_iter()
        .chain(options)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_alone_are_a_measurement_with_megamux_in_it() {
        for args in ["--quick", "run --quick"] {
            let args = words(args);
            assert!(measures(&args));
            let expect = [
                "run",
                "--external",
                "megamux=/t/echo {addr} --shards 1 --pin 0",
                "--quick",
            ];
            assert_eq!(measurement(&args, Path::new("/t/echo")), expect);
        }
        assert!(measures(&[]));
        assert!(!measures(&words("show report.json")));
    }
}
