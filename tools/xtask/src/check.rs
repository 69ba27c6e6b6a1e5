//! `cargo xtask check`: what a commit must pass before it is one. It owns the choice of lints, cheapest first.
//!
//! It must stay a matter of seconds on a warm build directory; whatever runs a test belongs to `test`.

use anyhow::Result;

use crate::report::{Done, Report, colours};
use crate::shell::{self, cargo};
use crate::tidy;

pub fn run() -> Result<()> {
    let mut report = Report::new();
    report.stage("fmt", || formatting().map(|()| Done::Passed));
    report.stage("tidy", || tidy::run().map(|()| Done::Passed));
    report.stage("clippy", || clippy().map(|()| Done::Passed));
    report.print();
    report.verdict()
}

fn formatting() -> Result<()> {
    // rustfmt colours by TERM, also into a file.
    let style = ["--check", "--", "--color", if colours() { "always" } else { "never" }];
    shell::run(cargo(&["fmt", "--all"]).args(style))?;
    // Packages with manifests of their own are no members, so --all does not reach them.
    for manifest in ["fuzz/Cargo.toml", "benches/compare/Cargo.toml"] {
        if shell::root().join(manifest).is_file() {
            shell::run(cargo(&["fmt", "--manifest-path", manifest]).args(style))?;
        }
    }
    Ok(())
}

fn clippy() -> Result<()> {
    shell::run(cargo(&["clippy", "--quiet", "--all-targets"]).args(shell::WORKSPACE).args(["--", "-D", "warnings"]))
}
