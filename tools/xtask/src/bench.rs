//! `cargo xtask bench`: it owns how the two kinds of measurement are started; what they measure is theirs.
//!
//! `micro` belongs to the workspace. `compare` has a manifest and a build directory of its own, so that the engines it
//! measures against are built only by those who ask for it. It is built with all of them here, and its report is kept
//! beside that build unless the caller says where.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::c10m;
use crate::metadata;
use crate::shell::{self, cargo};

const MANIFEST: &str = "benches/compare/Cargo.toml";

/// Where the comparison's build goes, and its report.
const COMPARE: &str = "benches/compare/target";

#[derive(Subcommand)]
pub enum Bench {
    /// Criterion benches of single paths; further arguments go to criterion
    Micro {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The engine's own instructions per echoed message, over a driver without a kernel; needs valgrind
    Instructions,
    /// Very many connections at once, and what each costs; both ends are on this machine
    C10m(c10m::Options),
    /// Side by side with other engines; further arguments (--quick, or `show FILE`) go to the comparison. The report is
    /// kept as benches/compare/target/report.json and .html, unless --json and --html say otherwise
    Compare {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

pub fn run(what: &Bench) -> Result<()> {
    match what {
        Bench::Micro { args } => shell::run(cargo(&["bench", "-p", "megamux-micro", "--"]).args(args)),
        Bench::Instructions => instructions(),
        Bench::C10m(options) => c10m::run(options),
        Bench::Compare { args } => compare(args),
    }
}

/// Runs the same shard for two numbers of ticks: what start and end cost falls out of the difference.
fn instructions() -> Result<()> {
    let example = ["-p", "megamux-micro", "--example", "echo_ticks"];
    shell::run(cargo(&["build", "--quiet", "--release"]).args(example))?;
    let binary = metadata::target_directory()?.join("release/examples/echo_ticks");
    let per_message = |what| -> Result<f64> {
        let (short, long) = (count(&binary, 100, what)?, count(&binary, 200, what)?);
        Ok((long - short) as f64 / (100.0 * ECHO_CONNS))
    };
    let (all, driver) = (per_message("engine")?, per_message("alone")?);
    println!("instructions per echoed 64 B message: {all:.0}, of which the null driver {driver:.0}");
    Ok(())
}

/// Connections of `echo_ticks`: each sends one message a tick.
const ECHO_CONNS: f64 = 500.0;

fn count(binary: &Path, ticks: u32, what: &str) -> Result<u64> {
    let mut valgrind = shell::program("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(binary).args([&ticks.to_string(), what]);
    let output = valgrind.output().context("cannot start valgrind: `cargo xtask setup` installs it")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    refs(&text).with_context(|| format!("valgrind counted nothing:\n{text}"))
}

/// What callgrind says in its last lines: `==1== I   refs:      57,007,619`.
fn refs(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("refs:"))?;
    let digits: String = line.rsplit(':').next()?.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn compare(args: &[String]) -> Result<()> {
    let directory = shell::root().join(COMPARE);
    let args = if measures(args) { measurement(args, &directory) } else { args.to_vec() };
    let mut run = cargo(&["run", "--quiet", "--release", "--features", "all-peers"]);
    run.args(["--manifest-path", MANIFEST, "--target-dir", COMPARE, "--"]);
    shell::run(run.args(args))
}

/// Options alone mean a measurement; a word is a verb of the comparison.
fn measures(args: &[String]) -> bool {
    args.first().is_none_or(|first| first.starts_with('-') || first == "run")
}

/// The comparison's `run`, with a place for its report.
fn measurement(args: &[String], directory: &Path) -> Vec<String> {
    let mut words = vec!["run".to_owned()];
    words.extend(args.iter().filter(|arg| *arg != "run").cloned());
    for kind in ["json", "html"] {
        let option = format!("--{kind}");
        let given = args
            .iter()
            .any(|arg| arg.strip_prefix(&option).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')));
        if !given {
            words.extend([option, directory.join("report").with_extension(kind).display().to_string()]);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn callgrinds_count_is_found() {
        assert_eq!(refs("==1== Collected : 9\n==1== I   refs:      57,007,619\n"), Some(57_007_619));
        assert_eq!(refs("==1== nothing"), None);
    }

    #[test]
    fn options_alone_are_a_measurement_and_its_report_is_kept() {
        for (args, expect) in [
            ("", "run --json /t/report.json --html /t/report.html"),
            ("--quick", "run --quick --json /t/report.json --html /t/report.html"),
            ("run --html=a.html --quick", "run --html=a.html --quick --json /t/report.json"),
            ("--json a.json", "run --json a.json --html /t/report.html"),
        ] {
            let args = words(args);
            assert!(measures(&args));
            assert_eq!(measurement(&args, Path::new("/t")), words(expect));
        }
        assert!(!measures(&words("show report.json")));
    }
}
