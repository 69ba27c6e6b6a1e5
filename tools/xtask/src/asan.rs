//! `cargo xtask asan`: it owns how servers and the engine's tests are built and run so that they watch their own memory.
//!
//! AddressSanitizer finds what is used after it was freed, beyond its end or after its function has returned, and what nobody
//! freed. It is no part of `test`: it builds everything once more. The system tests themselves are ordinary ones, only the
//! servers that they start are instrumented, and what those take of the machine is not bounded.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::counts;
use crate::metadata;
use crate::report::{Done, Report};
use crate::shell::{self, cargo, listen};
use crate::skips::{self, SkipFile};

/// System tests take their servers from the folder of this name, and bound no memory.
const FOLDER_VARIABLE: &str = "MEGAMUX_INSTRUMENTED";

const OPTIONS: &str = "abort_on_error=1:detect_stack_use_after_return=1:detect_leaks=1";

/// A queue that is dropped while the kernel reads from it panics and gives its memory up: a leak on purpose.
const LEAKS: &str = "a_queue_dropped_in_flight_is_noticed";
/// Leaks are looked for by a process that stops the server (ptrace), which the server's seccomp profile forbids.
const UNTRACEABLE: &str = "the_profile_allows_all_that_the_server_does";

pub fn run() -> Result<()> {
    let asan = Asan::new()?;
    let mut report = Report::new();
    if report.stage("build", || asan.build()) {
        report.stage("engine", || asan.engine());
        report.stage("servers", || asan.servers());
        println!("left out: {LEAKS}, {UNTRACEABLE}");
    }
    report.print();
    report.verdict()
}

struct Asan {
    /// All that is built and found.
    folder: PathBuf,
    target: String,
}

impl Asan {
    fn new() -> Result<Asan> {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        Ok(Asan { folder: metadata::target_directory()?.join("asan"), target })
    }

    fn build(&self) -> Result<Done> {
        shell::run(&mut self.cargo(&["build", "-p", "megamux", "-p", "megamux-system-tests", "--bins"]))?;
        shell::run(&mut self.cargo(&[ENGINE, &["--no-run"]].concat()))?;
        Ok(Done::Passed)
    }

    fn engine(&self) -> Result<Done> {
        self.test(self.cargo(ENGINE), &["--skip", LEAKS])
    }

    /// One test at a time, so that a slow server has the machine for itself.
    fn servers(&self) -> Result<Done> {
        let mut command = cargo(&["test", "-p", "megamux-system-tests", "--tests", "--no-fail-fast"]);
        command.env(FOLDER_VARIABLE, self.folder.join(&self.target).join("debug"));
        self.test(command, &["--test-threads=1", "--skip", UNTRACEABLE])
    }

    /// The dev profile is optimised a little and not as a whole, so this is a matter of minutes.
    fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo(args);
        // With a target named, build scripts and macros stay as they are.
        command.arg("--target").arg(&self.target).arg("--target-dir").arg(&self.folder);
        // Sanitizers are unstable compiler flags; this variable makes the pinned stable compiler take them, here only.
        command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
        command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        command
    }

    fn test(&self, mut command: Command, args: &[&str]) -> Result<Done> {
        command.arg("--").args(args);
        let found = Findings::none(self.folder.join("findings"))?;
        let skip_file = SkipFile::create(&self.folder)?;
        command.env("ASAN_OPTIONS", found.options()).env(skips::FILE_VARIABLE, skip_file.path());
        let heard = listen(command)?;
        found.tell()?;
        let skips = skip_file.read()?;
        skips.iter().for_each(|skip| println!("SKIP: {skip}"));
        let counted = counts::cargo_test(&heard.text).context("the tests did not run")?.with_skips(skips.len() as u64);
        if !heard.success || counted.failed > 0 {
            bail!("{} failed", counted.failed);
        }
        println!("{} passed, {} skipped, nothing found", counted.passed, counted.skipped);
        Ok(Done::Passed)
    }
}

/// What is unsafe, with a kernel and without.
const ENGINE: &[&str] = &["test", "-p", "megamux-engine", "--lib", "--test", "sockets", "--no-fail-fast"];

/// Where each process that finds something writes it: nobody may listen to what a server says at its end.
struct Findings {
    folder: PathBuf,
}

impl Findings {
    fn none(folder: PathBuf) -> Result<Findings> {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Findings { folder })
    }

    fn options(&self) -> String {
        format!("{OPTIONS}:log_path='{}'", self.folder.join("process").display())
    }

    /// Prints them; an error if there are any.
    fn tell(&self) -> Result<()> {
        let mut count = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            println!("{}:\n{}", path.display(), String::from_utf8_lossy(&std::fs::read(&path)?));
            count += 1;
        }
        if count > 0 {
            bail!("{count} processes misused their memory");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_wrote_a_report_fails_the_run() {
        let folder = std::env::temp_dir().join(format!("xtask-asan-{}", std::process::id()));
        let found = Findings::none(folder.clone()).unwrap();
        assert!(found.tell().is_ok());
        std::fs::write(folder.join("process.1"), "ERROR: AddressSanitizer").unwrap();
        assert_eq!(found.tell().unwrap_err().to_string(), "1 processes misused their memory");
        assert!(Findings::none(folder.clone()).unwrap().tell().is_ok(), "an earlier run's are gone");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
