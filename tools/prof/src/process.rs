//! The server's process as `/proc` shows it: which threads are shards.
//!
//! Invariant: a process that has no shards is never profiled, whatever number was given.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail};

use crate::Target;
use crate::ticks::Stretch;
use megamux_client::Client;

/// A running server.
#[derive(Debug, Clone)]
pub struct Process {
    pub id: u32,
    pub threads: Vec<Thread>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    pub id: u32,
    pub name: String,
}

impl Thread {
    /// Which shard it is.
    pub fn shard(&self) -> Option<u16> {
        self.name.strip_prefix("shard-")?.parse().ok()
    }
}

impl Process {
    /// The process that was named, or the one that answers.
    pub fn find(target: &Target) -> Result<Process> {
        if let Some(id) = target.pid {
            return Process::open(id);
        }
        let mut client = Client::connect(&target.source)?;
        let stretch = Stretch::get(&mut client, None, None).context("cannot ask which process it is; say --pid")?;
        Process::open(stretch.process)
            .with_context(|| format!("{} says that it is process {}", target.source, stretch.process))
    }

    /// Looks at its threads.
    pub fn open(id: u32) -> Result<Process> {
        let tasks = match fs::read_dir(format!("/proc/{id}/task")) {
            Ok(tasks) => tasks,
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("there is no process {id}"),
            Err(error) => bail!("cannot look at process {id}: {error}"),
        };
        let thread = |task: fs::DirEntry| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            Some(Thread { id: task.file_name().to_str()?.parse().ok()?, name: name.trim_end().to_owned() })
        };
        let threads = tasks.flatten().filter_map(thread).collect();
        let process = Process { id, threads };
        if !process.threads.iter().any(|thread| thread.shard().is_some()) {
            bail!(
                "process {id} is no megamux server here: it has no thread named shard-0; if it is in a container, say --pid"
            );
        }
        Ok(process)
    }

    /// The thread of a shard.
    pub fn shard(&self, shard: u16) -> Option<&Thread> {
        self.threads.iter().find(|thread| thread.shard() == Some(shard))
    }

    pub fn is_alive(&self) -> bool {
        fs::exists(format!("/proc/{}/task", self.id)).unwrap_or(false)
    }
}

/// Who may look into other processes here, for messages.
pub fn permission() -> String {
    let setting = |path: &str| fs::read_to_string(path).map_or("?".into(), |text| text.trim().to_owned());
    let paranoid = setting("/proc/sys/kernel/perf_event_paranoid");
    let scope = setting("/proc/sys/kernel/yama/ptrace_scope");
    format!("be root, or the server's user (perf_event_paranoid is {paranoid}, yama/ptrace_scope is {scope})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_no_server_is_refused() {
        let refused = |id| Process::open(id).unwrap_err().to_string();
        assert!(refused(std::process::id()).contains("no megamux server"));
        assert!(refused(u32::MAX).contains("there is no process"));
    }

    #[test]
    fn shards_are_known_by_their_names() {
        let shard = |name: &str| Thread { id: 1, name: name.into() }.shard();
        assert_eq!((shard("shard-12"), shard("shard-x"), shard("console")), (Some(12), None, None));
    }
}
