//! `cargo xtask test`: it owns the order of the suites and the count at the end.
//!
//! It passes on a machine with only Rust and a C linker, and installs nothing: what is missing is skipped, counted and
//! printed. The count is what the runners counted, with the tests that skipped themselves taken out of those that passed.
//! The workspace's tests run last, so that a run ends with their result.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};

use crate::counts::{self, Counts};
use crate::report::{Done, Report, colours};
use crate::shell::{self, cargo, has_program, listen};
use crate::skips::{self, SkipFile};
use crate::{examples, features, fuzz, loom, metadata, tidy};

/// System tests find the released binary under this name.
const BINARY_VARIABLE: &str = "MEGAMUX_BIN";
/// The engine's tests over sockets run on the driver of this name.
const DRIVER_VARIABLE: &str = "MEGAMUX_DRIVER";

/// Success, or a failure that has been printed already.
pub fn run() -> Result<ExitCode> {
    let target = metadata::target_directory()?;
    let skip_file = SkipFile::create(&target.join("xtask"))?;
    let mut run = Run { report: Report::new(), counts: Counts::default() };

    run.stage("tidy", |_| tidy::run().map(|()| Done::Passed));
    let mut binary = None;
    run.stage("build", |_| {
        binary = Some(build_release(&target)?);
        Ok(Done::Passed)
    });
    // Without a build no later stage has anything of its own to say.
    if let Some(binary) = binary {
        run.stage("docs", |_| documentation().map(|()| Done::Passed));
        run.stage("examples", |_| examples::run_all());
        run.stage("features", |_| features::run_all());
        run.stage("fuzz", |_| fuzz::smoke());
        run.stage("loom", models);
        run.stage("doctests", doctests);
        run.stage("tests on epoll", |counts| tests(counts, Suite::Epoll, &binary, &skip_file));
        run.stage("tests", |counts| tests(counts, Suite::Workspace, &binary, &skip_file));
    }
    run.conclude(&skip_file)
}

struct Run {
    report: Report,
    counts: Counts,
}

impl Run {
    /// A stage that fails without a failed test is one failure, so that no failed run counts none.
    fn stage(&mut self, name: &str, work: impl FnOnce(&mut Counts) -> Result<Done>) {
        let before = self.counts.failed;
        let passed = self.report.stage(name, || work(&mut self.counts));
        if !passed && self.counts.failed == before {
            self.counts.failed += 1;
        }
    }

    /// The times, the skips, and as the very last line the count.
    fn conclude(&self, skip_file: &SkipFile) -> Result<ExitCode> {
        self.report.print();
        let of_tests = skip_file.read()?;
        let of_stages = self.report.skips();
        for skip in of_tests.iter().chain(&of_stages) {
            println!("SKIP: {skip}");
        }
        let counts = self.counts.with_skips(of_tests.len() as u64);
        let skipped = counts.skipped + of_stages.len() as u64;

        let mut verdict = self.report.verdict();
        if verdict.is_ok() && skips::all_required() && skipped > 0 {
            verdict = Err(anyhow!("{}=1 and {skipped} skipped", skips::REQUIRE_VARIABLE));
        }
        if let Err(error) = &verdict {
            println!("{error:#}");
        }
        println!("{} passed, {} failed, {skipped} skipped", counts.passed, counts.failed);
        Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn build_release(target: &Path) -> Result<PathBuf> {
    shell::run(&mut cargo(&["build", "--quiet", "--release", "-p", "megamux"]))?;
    let binary = target.join("release/megamux");
    if !binary.is_file() {
        bail!("the build left no {}", binary.display());
    }
    Ok(binary)
}

fn documentation() -> Result<()> {
    let mut command = cargo(&["doc", "--quiet", "--no-deps"]);
    command.args(shell::WORKSPACE).env("RUSTDOCFLAGS", "-D warnings");
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
    let mut command = cargo(&["test", "--quiet", "--doc", "--no-fail-fast"]);
    command.args(shell::WORKSPACE);
    let heard = listen(command)?;
    // No library has an example: cargo ends well and counts nothing.
    let counted = counts::cargo_test(&heard.text).unwrap_or_default();
    counts.add(counted);
    if !heard.success {
        bail!("{} failed", counted.failed);
    }
    Ok(Done::Passed)
}

/// Which tests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    Workspace,
    /// The engine's tests over sockets, on epoll. (The system tests choose their drivers themselves.)
    Epoll,
}

fn tests(counts: &mut Counts, suite: Suite, binary: &Path, skip_file: &SkipFile) -> Result<Done> {
    let nextest = has_program("cargo-nextest");
    let colour = if colours() { "--color=always" } else { "--color=never" };
    let mut command = if nextest {
        cargo(&["nextest", "run", "--no-fail-fast", colour])
    } else {
        cargo(&["test", "--no-fail-fast", colour])
    };
    match suite {
        Suite::Epoll => {
            command.args(["-p", "megamux-engine", "--test", "sockets", "--test", "allocations"]);
            command.env(DRIVER_VARIABLE, "epoll");
        }
        // Doctests and examples have their own stages.
        Suite::Workspace if !nextest => {
            command.args(["--lib", "--bins", "--tests"]).args(shell::WORKSPACE);
        }
        Suite::Workspace => {
            command.args(shell::WORKSPACE);
        }
    }
    command.env(BINARY_VARIABLE, binary).env(skips::FILE_VARIABLE, skip_file.path());
    let heard = listen(command)?;
    let counted = if nextest { counts::nextest(&heard.text) } else { counts::cargo_test(&heard.text) };
    let counted = counted.context("the tests did not run, or the runner's closing line changed")?;
    counts.add(counted);
    if !heard.success || counted.failed > 0 {
        bail!("{} failed", counted.failed);
    }
    Ok(Done::Passed)
}
