//! What a process takes of the machine, as the kernel counts it: this file owns the reading of `/proc`.

use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

use crate::binary;

/// The figures of one process.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pid: u32,
}

impl Usage {
    /// Of this process.
    pub fn of(pid: u32) -> Usage {
        Usage { pid }
    }

    /// Memory that is resident and its own, not shared with other processes, in bytes.
    pub fn memory(self) -> u64 {
        let pages: Vec<u64> =
            self.read("statm").split_whitespace().map(|word| word.parse().expect("statm has numbers")).collect();
        (pages[1] - pages[2]) * page_size() as u64
    }

    /// Asks that a server took no more bytes than this for `what`. One that watches its own memory keeps what was freed
    /// and a shadow of the rest: its figure is told only.
    #[track_caller]
    pub fn bounded(what: &str, bytes: u64, most: u64) {
        if binary::instrumented().is_some() {
            eprintln!("{what}: {bytes} bytes, which is not bounded for an instrumented server");
            return;
        }
        assert!(bytes <= most, "{what}: {bytes} bytes");
    }

    /// Time on a CPU so far, in the program and in the kernel.
    pub fn cpu_time(self) -> Duration {
        let stat = self.read("stat");
        // The second field is a name in parentheses that may hold anything; the third comes after the last of them.
        let (_, fields) = stat.rsplit_once(')').expect("stat has a name");
        let field = |number: usize| -> u64 {
            let word = fields.split_whitespace().nth(number - 3);
            word.and_then(|word| word.parse().ok()).expect("stat has numbers")
        };
        let ticks = field(14) + field(15);
        Duration::from_secs(ticks) / clock_ticks_per_second() as u32
    }

    /// The CPUs that its first thread may run on, as the kernel writes them.
    pub fn cpus(self) -> String {
        let cpus = field(&self.read("status"), CPUS).map(str::to_owned);
        cpus.expect("status says it")
    }

    /// The same of each thread with this name.
    pub fn cpus_of(self, thread: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("it has threads");
        let cpus = tasks.filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let cpus = field(&status, CPUS)?;
            (field(&status, "Name:")? == thread).then(|| cpus.to_owned())
        });
        cpus.collect()
    }

    fn read(self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).expect("the process lives")
    }
}

const CPUS: &str = "Cpus_allowed_list:";

/// A line of `status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name).map(str::trim);
    status.lines().find_map(value)
}
