//! Examples are run, not only built: this file owns what "an example works" means.
//!
//! Each example of the engine and of the node takes the address to listen on as its first argument. It works when it ends
//! by itself with success, or still serves after a moment; then it is stopped. Examples of other rooms are packages with
//! tests of their own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::metadata;
use crate::report::Done;
use crate::shell::{self, cargo, program};

/// Long enough to bind and to fail if it must; an example that serves costs this much of every run.
const MOMENT: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// Port 0, so that two runs on one machine do not collide.
const ADDRESS: &str = "127.0.0.1:0";

const ROOMS: [&str; 2] = ["engine", "services/node"];

pub fn run_all() -> Result<Done> {
    shell::run(cargo(&["build", "--quiet", "--examples"]).args(shell::WORKSPACE))?;
    let metadata = metadata::read()?;
    let names: Vec<String> = metadata
        .members()
        .filter(|package| ROOMS.contains(&metadata.folder(package).as_str()))
        .flat_map(|package| package.targets_of_kind("example"))
        .collect();
    if names.is_empty() {
        return Ok(Done::Nothing("no examples".into()));
    }
    let folder = metadata.target_directory.join("debug/examples");
    for name in names {
        let ended = run_one(&folder.join(&name)).with_context(|| format!("example {name}"))?;
        println!("{name}: {}", if ended { "ended well" } else { "serves" });
    }
    Ok(Done::Passed)
}

/// Whether it ended by itself; an error if it failed.
fn run_one(path: &Path) -> Result<bool> {
    let mut command = program(&path.to_string_lossy());
    command.arg(ADDRESS).stdin(Stdio::null());
    watch(&mut command, MOMENT)
}

fn watch(command: &mut Command, moment: Duration) -> Result<bool> {
    let mut child = command.spawn()?;
    let end = Instant::now() + moment;
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("ended with {status}");
            }
            return Ok(true);
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, moment: Duration) -> Result<bool> {
        watch(program("sh").args(["-c", script]), moment)
    }

    #[test]
    fn an_example_may_end_well_or_serve_but_not_fail() {
        assert!(check("exit 0", Duration::from_secs(10)).unwrap());
        assert!(!check("exec sleep 60", Duration::ZERO).unwrap());
        assert!(check("exit 2", Duration::from_secs(10)).is_err());
    }
}
