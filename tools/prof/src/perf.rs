//! `perf`, driven: which event there is to sample by, a recording, and its samples as text.
//!
//! Invariant: whatever perf says when it fails ends up in an error that says what to do.

use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{Process, permission};

const PROGRAM: &str = "perf";
/// Stack copied per sample: a shard's stacks with a handler's on top are a few KiB deep.
const STACK: &str = "dwarf,16384";
/// How often a recording is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What is sampled by: CPU cycles where the processor counts them for us, else the kernel's timer.
pub fn event() -> Result<&'static str> {
    let tried = output(&["stat", "-x,", "-e", "cycles:u", "--", "true"])?;
    let said = String::from_utf8_lossy(&tried.stderr);
    let counts = said.lines().any(|line| line.split(',').next().is_some_and(|count| count.parse::<u64>().is_ok()));
    Ok(if tried.status.success() && counts { "cycles" } else { "cpu-clock" })
}

/// Samples these threads for a while, or until interrupted. `look` is called now and then with the time passed.
pub fn record(
    process: &Process,
    threads: &[u32],
    (event, rate): (&str, u32),
    span: Duration,
    data: &Path,
    interrupted: &AtomicBool,
    mut look: impl FnMut(Duration),
) -> Result<()> {
    let threads: Vec<String> = threads.iter().map(u32::to_string).collect();
    let (rate, seconds) = (rate.to_string(), span.as_secs_f64().to_string());
    let mut command = Command::new(PROGRAM);
    command.args(["record", "--quiet", "--event", event, "--freq", &rate, "--call-graph", STACK]);
    command.args(["--tid", &threads.join(","), "--output"]).arg(data).args(["--", "sleep", &seconds]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(missing)?;
    let began = Instant::now();
    let mut told = false;
    while child.try_wait()?.is_none() {
        std::thread::sleep(LOOK);
        if interrupted.load(Relaxed) && !std::mem::replace(&mut told, true) {
            // From a terminal perf has been told already, and twice is as good. It writes what it has.
            // SAFETY: a child that has not been waited for, so the number is its own.
            unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
        }
        look(began.elapsed());
    }
    let said = finish(child)?;
    if !said.status.success() && !told {
        bail!(judge(&String::from_utf8_lossy(&said.stderr), process));
    }
    Ok(())
}

/// The samples of a recording as `perf script` prints them.
pub fn script(data: &Path) -> Result<String> {
    // Inlined frames take perf a run of addr2line for each address: minutes.
    let fields = ["script", "--fields", "comm,tid,ip,sym", "--no-inline", "--input"];
    let said = Command::new(PROGRAM).args(fields).arg(data).stdin(Stdio::null()).output().map_err(missing)?;
    if !said.status.success() {
        bail!("perf cannot read its own recording: {}", String::from_utf8_lossy(&said.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// A place for a recording, removed in the end.
pub struct Recording(pub PathBuf);

impl Recording {
    pub fn new() -> Result<Recording> {
        let folder = std::env::temp_dir().join(format!("megamux-prof-{}", std::process::id()));
        // Nobody else's, and never one that somebody has put there.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Recording(folder.join("perf.data")))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(folder) = self.0.parent() {
            // Left to whoever empties the temporary directory.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn output(args: &[&str]) -> Result<Output> {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().map_err(missing)
}

fn finish(child: Child) -> Result<Output> {
    Ok(child.wait_with_output()?)
}

fn missing(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "perf is not installed: it is in the package linux-perf (Debian), linux-tools (Ubuntu) or perf (Fedora, Arch)"
        ),
        _ => anyhow::anyhow!("cannot start perf: {error}"),
    }
}

/// What perf's words mean for whoever called us.
fn judge(said: &str, process: &Process) -> String {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if !process.is_alive() || has(&["No such process", "Couldn't create thread"]) {
        return format!("process {} is gone", process.id);
    }
    if has(&["ermission", "paranoid", "not permitted"]) {
        return format!("perf may not look into process {}: {}", process.id, permission());
    }
    format!("perf failed: {}", said.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_to_do() {
        let process = Process { id: std::process::id(), threads: Vec::new() };
        let judged = |said| judge(said, &process);
        assert!(
            judged("Error:\nAccess to performance monitoring is limited, perf_event_paranoid is 3").contains("be root")
        );
        assert!(judged("Couldn't create thread/CPU maps: No such process").contains("is gone"));
        assert_eq!(judged("odd\n"), "perf failed: odd");
    }
}
