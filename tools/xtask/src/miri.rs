//! `cargo xtask miri`: it owns which of the engine's tests run in an interpreter that knows whose each byte is.
//!
//! Miri comes with nightly compilers only, so it is no part of `test`, and where there is none this says how to get it. It runs
//! what is unsafe and needs no kernel: buffers, handoff, tokens. Tests that prove their point by many turns know that they are
//! interpreted and make few.

use anyhow::{Context, Result, bail};

use crate::counts;
use crate::metadata;
use crate::report::{Done, Report};
use crate::shell::{listen, program, run_quietly};

const ROOMS: [&str; 3] = ["token::", "handoff::", "buffer::"];

/// Unsafe code that Miri cannot run, because it does what only a kernel answers.
const LEFT_OUT: &str =
    "ring, net (system calls); what both sides of io_uring share is for `asan` and the tests over sockets";

pub fn run() -> Result<()> {
    // Through rustup, because the cargo that runs us is of another toolchain.
    let mut version = program("rustup");
    version.args(["run", "nightly", "cargo", "miri", "--version"]);
    if run_quietly(version).is_err() {
        bail!("no Miri here: `rustup toolchain install nightly --component miri,rust-src` installs it");
    }
    let mut report = Report::new();
    for room in ROOMS {
        report.stage(room.trim_end_matches(':'), || interpret(room));
    }
    println!("left out: {LEFT_OUT}");
    report.print();
    report.verdict()
}

/// Runs the tests with this in their path, and fails when there are none: then a rename has hidden them from us.
fn interpret(room: &str) -> Result<Done> {
    let mut miri = program("rustup");
    miri.args(["run", "nightly", "cargo", "miri", "test", "-p", "megamux-engine", "--lib", "--target-dir"]);
    miri.arg(metadata::target_directory()?.join("miri")).args(["--", room]);
    // The clock is for deadlines. Frames that outlive their pool are given up on purpose, and some tests end while threads
    // still drop theirs.
    miri.env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-ignore-leaks");
    let heard = listen(miri)?;
    let counted = counts::cargo_test(&heard.text).context("the tests did not run, or ended at what Miri found")?;
    if !heard.success || counted.failed > 0 {
        bail!("{} failed", counted.failed);
    }
    if counted.passed == 0 {
        bail!("no test of the engine has `{room}` in its path");
    }
    Ok(Done::Passed)
}
