//! The node with each protocol alone and with none: this file owns which combinations are built and asked.
//!
//! The tests of a start are what a build says of itself; they run the binary that was built with the same features.

use anyhow::{Context, Result};

use crate::report::Done;
use crate::shell::{self, cargo};

const ALONE: [&str; 5] = ["", "telnet", "http", "echo", "proxy"];

pub fn run_all() -> Result<Done> {
    for features in ALONE {
        let mut command = cargo(&["test", "--quiet", "-p", "megamux", "--no-default-features", "--test", "node"]);
        command.args(["--features", features, "start::"]);
        shell::run(&mut command).with_context(|| format!("features {features:?}"))?;
    }
    Ok(Done::Passed)
}
