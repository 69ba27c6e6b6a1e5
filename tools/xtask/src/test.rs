//! `cargo xtask test`: it owns the order of the suites and the count at the end.
//!
//! It passes on a machine with only Rust and a C linker, and installs nothing: what is missing is skipped, counted and
//! printed. The count is what the runners counted, with the tests that skipped themselves taken out of those that passed.
//! The workspace's tests run last, so that a run ends with their result.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::counts::{self, Counts};
use crate::report::{Done, Report, colours};
use crate::shell::{self, cargo, has_program, listen};
use crate::skips::{self, SkipFile};
use crate::{examples, fuzz, loom, metadata, tidy};

/// System tests find the released binary under this name.
const BINARY_VARIABLE: &str = "MEGAMUX_BIN";

/// Success, or a failure that has been printed already.
pub fn run() -> Result<ExitCode> {
    let target = metadata::target_directory()?;
    let skip_file = SkipFile::create(&target.join("xtask"))?;
    let mut counts = Counts::default();
    let mut report = Report::new();

    report.stage("tidy", || tidy::run().map(|()| Done::Passed));
    let mut binary = None;
    let built = report.stage("build", || {
        binary = Some(build_release(&target)?);
        Ok(Done::Passed)
    });
    if let (true, Some(binary)) = (built, binary) {
        report.stage("docs", || documentation().map(|()| Done::Passed));
        report.stage("examples", examples::run_all);
        report.stage("fuzz", fuzz::smoke);
        report.stage("loom", || models(&mut counts));
        report.stage("doctests", || doctests(&mut counts));
        report.stage("tests", || {
            workspace_tests(&mut counts, &binary, &skip_file)
        });
    }
    conclude(&report, counts, &skip_file)
}

fn build_release(target: &Path) -> Result<PathBuf> {
    shell::run(&mut cargo(&[
        "build",
        "--quiet",
        "--release",
        "-p",
        "megamux",
    ]))?;
    let binary = target.join("release/megamux");
    if !binary.is_file() {
        bail!("the build left no {}", binary.display());
    }
    Ok(binary)
}

fn documentation() -> Result<()> {
    let mut command = cargo(&["doc", "--quiet", "--no-deps", "--workspace"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    shell::run(&mut command)
}

fn models(counts: &mut Counts) -> Result<Done> {
    if !loom::has_models()? {
        return Ok(Done::Nothing("the engine has no loom models".into()));
    }
    counts.add(loom::run_models()?);
    Ok(Done::Passed)
}

fn doctests(counts: &mut Counts) -> Result<Done> {
    let heard = listen(cargo(&[
        "test",
        "--quiet",
        "--doc",
        "--workspace",
        "--no-fail-fast",
    ]))?;
    // No library has an example: cargo ends well and counts nothing.
    let counted = counts::cargo_test(&heard.text).unwrap_or_default();
    counts.add(counted);
    if !heard.success {
        bail!("{} failed", counted.failed);
    }
    Ok(Done::Passed)
}

fn workspace_tests(counts: &mut Counts, binary: &Path, skip_file: &SkipFile) -> Result<Done> {
    let nextest = has_program("cargo-nextest");
    let colour = if colours() {
        "--color=always"
    } else {
        "--color=never"
    };
    let mut command = if nextest {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast", colour])
    } else {
        // Doctests and examples have their own stages.
        cargo(&[
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
            colour,
        ])
    };
    command
        .env(BINARY_VARIABLE, binary)
        .env(skips::FILE_VARIABLE, skip_file.path());
    let heard = listen(command)?;
    let counted = if nextest {
        counts::nextest(&heard.text)
    } else {
        counts::cargo_test(&heard.text)
    };
    let counted = counted.context("the tests did not run, or the runner's closing line changed")?;
    counts.add(counted);
    if !heard.success || counted.failed > 0 {
        bail!("{} failed", counted.failed);
    }
    Ok(Done::Passed)
}

/// The times, the skips, and as the very last line the count.
fn conclude(report: &Report, counts: Counts, skip_file: &SkipFile) -> Result<ExitCode> {
    report.print();
    let of_tests = skip_file.read()?;
    let of_stages = report.skips();
    for skip in of_tests.iter().chain(&of_stages) {
        println!("SKIP: {skip}");
    }
    let counts = counts.with_skips(of_tests.len() as u64);
    let skipped = counts.skipped + of_stages.len() as u64;

    let mut verdict = report.verdict();
    if verdict.is_ok() && skips::all_required() && skipped > 0 {
        verdict = Err(anyhow::anyhow!(
            "{}=1 and {skipped} skipped",
            skips::REQUIRE_VARIABLE
        ));
    }
    if let Err(error) = &verdict {
        println!("{error:#}");
    }
    println!(
        "{} passed, {} failed, {skipped} skipped",
        counts.passed, counts.failed
    );
    Ok(if verdict.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
