//! A server's process: started on its core, watched, its CPU time and memory read, killed at the end.
//!
//! Invariant: no server outlives the suite: `Drop` kills it, and the kernel does if the suite itself dies. CPU time read
//! while the server sleeps is exact, because the scheduler's counters are brought up to date when a task stops.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::endpoint::Endpoint;
use crate::report::Kind;
use crate::servers::{Server, Work};
use crate::wire;

const START: Duration = Duration::from_secs(10);

/// A server that still runs after so long without load has work of its own; its time counts as it is.
const SETTLE: Duration = Duration::from_millis(20);
const SETTLE_STEP: Duration = Duration::from_millis(1);

/// What to start, and under which name it stands in the tables.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub kind: Kind,
    pub program: Program,
}

#[derive(Clone, Debug)]
pub enum Program {
    Ours(Server, Work),
    /// A shell command with `{addr}`, `{buffer}` and `{listeners}`.
    External(String),
}

/// Where servers run: their core, and the namespace of their network if it is not this one.
#[derive(Clone, Debug)]
pub struct Seat {
    pub cpu: usize,
    pub namespace: Option<Arc<OwnedFd>>,
}

pub struct Process {
    pub name: String,
    pub endpoint: Endpoint,
    child: Child,
    /// Nanoseconds of each thread when last seen, so that threads that end stay counted.
    threads: HashMap<String, u64>,
}

impl Process {
    /// Starts a server in its seat and waits until it accepts.
    pub fn start(spec: &Spec, endpoint: Endpoint, buffer: usize, seat: &Seat) -> Result<Self> {
        let mut command = spec.program.command(&endpoint, buffer)?;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let seat = seat.clone();
        // SAFETY: between fork and exec only three system calls are made.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                seat.namespace.as_ref().map_or(Ok(()), wire::enter)?;
                Ok(pin(seat.cpu)?)
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}: {command:?}", spec.name))?;
        let mut process = Self { name: spec.name.clone(), endpoint, child, threads: HashMap::new() };
        process.wait_until_it_accepts()?;
        Ok(process)
    }

    fn wait_until_it_accepts(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while let Err(error) = self.endpoint.connect(0) {
            self.check()?;
            ensure!(
                Instant::now() < deadline,
                "{} does not accept on {} after {} s: {error}",
                self.name,
                self.endpoint,
                START.as_secs()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// An error if the server died.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} died: {status}", self.name),
        }
    }

    /// Says of a failure whose it is, and whether the server died of it.
    pub fn blame<T>(&mut self, outcome: Result<T>) -> Result<T> {
        outcome.or_else(|error| {
            // The connection may break a moment before the process is gone.
            thread::sleep(SETTLE);
            self.check()?;
            Err(error.context(format!("under load, {}", self.name)))
        })
    }

    /// CPU time used so far, in nanoseconds, once the server is asleep.
    pub fn settled_cpu_ns(&mut self) -> Result<u64> {
        let deadline = Instant::now() + SETTLE;
        let mut last = self.cpu_ns()?;
        loop {
            thread::sleep(SETTLE_STEP);
            let now = self.cpu_ns()?;
            if now == last || Instant::now() >= deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    fn cpu_ns(&mut self) -> Result<u64> {
        let tasks = match fs::read_dir(format!("/proc/{}/task", self.child.id())) {
            Ok(tasks) => tasks,
            Err(_) => {
                self.check()?;
                bail!("cannot read the threads of {}", self.name);
            }
        };
        for task in tasks {
            let task = task?;
            // A thread may end between the listing and the read.
            let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let ns = schedstat.split(' ').next().and_then(|field| field.parse().ok());
            let ns = ns.with_context(|| format!("not a schedstat: {schedstat:?}"))?;
            self.threads.insert(task.file_name().to_string_lossy().into_owned(), ns);
        }
        Ok(self.threads.values().sum())
    }

    /// Bytes of (resident set, proportional set).
    pub fn memory(&self) -> Result<(u64, u64)> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))
            .with_context(|| format!("cannot read the memory of {}", self.name))?;
        let field = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
            kib.map(|kib| kib << 10).with_context(|| format!("no {name} in smaps_rollup"))
        };
        Ok((field("Rss:")?, field("Pss:")?))
    }
}

/// A core as a whole, by what it does not spend idle: with what the kernel does for a server in interrupts.
#[derive(Clone, Copy)]
pub struct Core(pub usize);

impl Core {
    /// Time spent idle so far, to a tick of `/proc/stat`, 10 ms.
    pub fn idle_ns(self) -> Result<u64> {
        let text = fs::read_to_string("/proc/stat")?;
        let name = format!("cpu{} ", self.0);
        let fields = text.lines().find_map(|line| line.strip_prefix(&name));
        // user nice system idle iowait
        let idle =
            fields.and_then(|fields| fields.split(' ').skip(3).take(2).map(|ticks| ticks.parse::<u64>().ok()).sum());
        let ticks: Option<u64> = idle;
        let ticks = ticks.with_context(|| format!("no idle time of core {} in /proc/stat", self.0))?;
        Ok(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
    }
}

/// A server that is one process or, where a process may not have as many descriptors as it needs, several on one port.
pub struct Cluster {
    pub endpoint: Endpoint,
    processes: Vec<Process>,
}

impl Cluster {
    /// Starts as many processes as the endpoint has listeners; megamux is one process with as many shards, and any external
    /// server is one that is told how many.
    pub fn start(spec: &Spec, endpoint: Endpoint, buffer: usize, seat: &Seat) -> Result<Self> {
        let listeners = endpoint.listeners();
        let processes = match spec.program {
            Program::Ours(Server::Megamux, _) | Program::External(_) => 1,
            Program::Ours(..) => listeners,
        };
        let start = |_| Process::start(spec, endpoint.clone(), buffer, seat);
        let mut cluster =
            Self { endpoint: endpoint.clone(), processes: (0..processes).map(start).collect::<Result<_>>()? };
        let deadline = Instant::now() + START;
        // Any of them accepts; all must.
        while listeners > 1 && endpoint.count_listening(cluster.network())? < listeners {
            cluster.check()?;
            ensure!(Instant::now() < deadline, "{} does not listen {listeners} times on {endpoint}", spec.name);
            thread::sleep(Duration::from_millis(10));
        }
        Ok(cluster)
    }

    /// What the kernel says of the servers' network.
    fn network(&self) -> PathBuf {
        format!("/proc/{}/net", self.processes[0].child.id()).into()
    }

    /// Connections that the kernel dropped because a listener could not take them, in the whole of the servers' network.
    pub fn dropped(&self) -> u64 {
        let text = fs::read_to_string(self.network().join("netstat")).unwrap_or_default();
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut fields = names.split(' ').zip(values.split(' '));
        fields.find(|(name, _)| *name == "ListenDrops").and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }

    pub fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// As [`Process::blame`].
    pub fn blame<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.processes.iter_mut().fold(
            outcome,
            |outcome, process| {
                if outcome.is_ok() { outcome } else { process.blame(outcome) }
            },
        )
    }

    /// As [`Process::settled_cpu_ns`], of all together.
    pub fn settled_cpu_ns(&mut self) -> Result<u64> {
        self.processes.iter_mut().map(Process::settled_cpu_ns).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if the server is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Endpoint::Unix(path) = &self.endpoint {
            let _ = fs::remove_file(path);
        }
    }
}

impl Program {
    /// Whether the server can be listeners that share a port, as it must where a ring's table does not hold everybody.
    pub fn shares_a_port(&self) -> bool {
        match self {
            Self::Ours(..) => true,
            Self::External(line) => line.contains("{listeners}"),
        }
    }

    fn command(&self, endpoint: &Endpoint, buffer: usize) -> io::Result<Command> {
        match self {
            Self::Ours(server, work) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["server", server.name(), "--work", work.name(), "--buffer", &buffer.to_string()]);
                match endpoint {
                    Endpoint::Tcp(address, listeners) => {
                        command.args(["--bind", &address.to_string(), "--listeners", &listeners.to_string()])
                    }
                    Endpoint::Unix(path) => command.arg("--unix").arg(path),
                };
                Ok(command)
            }
            Self::External(line) => {
                let line = line
                    .replace("{addr}", &endpoint.to_string())
                    .replace("{buffer}", &buffer.to_string())
                    .replace("{listeners}", &endpoint.listeners().to_string());
                let mut command = Command::new("sh");
                // `exec`, so that the process started is the server itself.
                command.args(["-c", &format!("exec {line}")]);
                Ok(command)
            }
        }
    }
}

/// Pins the calling thread, and what it starts, to a core.
pub fn pin(cpu: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
}
