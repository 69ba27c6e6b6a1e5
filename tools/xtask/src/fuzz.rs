//! `cargo xtask fuzz`: it owns how cargo-fuzz is called, on the stable toolchain, and where inputs live.
//!
//! The committed corpus (`fuzz/corpus/<target>`) is read, never written: what a run finds goes to the build directory,
//! and becomes part of the corpus when somebody commits it there.

use anyhow::{Context, Result, bail};

use crate::metadata;
use crate::report::Done;
use crate::shell::{self, cargo, has_program, root, run_quietly};

const MANIFEST: &str = "fuzz/Cargo.toml";

/// How long the smoke run of `test` gives each target: enough to replay the corpus and try some ten thousand inputs more.
const SMOKE_SECONDS: u32 = 10;

/// One input that takes this long is a spin, and a finding.
const INPUT_TIMEOUT_SECONDS: u32 = 5;

pub fn run(target: &str, seconds: u32) -> Result<()> {
    if let Some(missing) = missing_program() {
        bail!("{missing} is missing: `cargo xtask setup` installs it");
    }
    let targets = targets()?;
    if !targets.iter().any(|known| known == target) {
        bail!("no fuzz target `{target}`; there are: {}", targets.join(", "));
    }
    shell::run(&mut fuzz(target, seconds)?)
}

/// A bounded run of every target.
pub fn smoke() -> Result<Done> {
    if !root().join(MANIFEST).is_file() {
        return Ok(Done::Nothing("no fuzz targets".into()));
    }
    if let Some(missing) = missing_program() {
        return Ok(Done::Skipped(format!("{missing} is missing")));
    }
    let mut failed = Vec::new();
    for target in targets()? {
        println!("{target}: {SMOKE_SECONDS} s");
        if let Err(error) = run_quietly(fuzz(&target, SMOKE_SECONDS)?) {
            println!("{target}: {error:#}");
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("{} (inputs are in fuzz/artifacts)", failed.join(", "));
    }
    Ok(Done::Passed)
}

/// cargo-fuzz drives, and libFuzzer itself is C++.
fn missing_program() -> Option<&'static str> {
    ["cargo-fuzz", "c++"].into_iter().find(|name| !has_program(name))
}

fn targets() -> Result<Vec<String>> {
    let names = metadata::read_manifest(MANIFEST)?.targets_of_kind("bin");
    if names.is_empty() {
        bail!("{MANIFEST} has no [[bin]]");
    }
    Ok(names)
}

fn fuzz(target: &str, seconds: u32) -> Result<std::process::Command> {
    let build = metadata::target_directory()?.join("fuzz");
    let found = build.join("corpus").join(target);
    std::fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;

    let mut command = cargo(&["fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"]);
    // Sanitizers are unstable compiler flags; this variable makes the pinned stable compiler take them, here only.
    command.env("RUSTC_BOOTSTRAP", "1");
    // libFuzzer reads all folders, and writes what it finds to the first.
    command.arg(&build).arg(target).arg(&found);
    let corpus = root().join("fuzz/corpus").join(target);
    if corpus.is_dir() {
        command.arg(corpus);
    }
    command.args(["--", &format!("-max_total_time={seconds}"), &format!("-timeout={INPUT_TIMEOUT_SECONDS}")]);
    Ok(command)
}
