//! The CPU time of a shard's thread and the kernel's workers for it, read by whoever asks: the shard itself spends nothing on it.
//!
//! Invariant: a clock that has stopped keeps its last figure, and one that never started (the simulator) shows zero.

use std::fs;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The CPU clock of one thread.
#[derive(Debug, Default)]
pub(crate) struct CpuClock {
    /// The kernel's number of the thread while it runs, else 0.
    thread: AtomicU32,
    last: AtomicU64,
}

impl CpuClock {
    /// The calling thread is the one to be looked at.
    pub(crate) fn start(&self) {
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned(), Relaxed);
    }

    /// The calling thread is about to end.
    pub(crate) fn stop(&self) {
        self.last.store(self.nanos(), Relaxed);
        self.thread.store(0, Relaxed);
    }

    /// Nanoseconds spent running; what was last known where `/proc` does not say.
    pub(crate) fn nanos(&self) -> u64 {
        let spent = match self.thread.load(Relaxed) {
            0 => None,
            thread => spent(thread),
        };
        spent.unwrap_or_else(|| self.last.load(Relaxed))
    }

    /// Whether its thread runs.
    pub(crate) fn runs(&self) -> bool {
        self.thread.load(Relaxed) != 0
    }

    /// Whether this is the thread that is looked at.
    pub(crate) fn is_of(&self, thread: u32) -> bool {
        thread != 0 && self.thread.load(Relaxed) == thread
    }
}

/// The threads that the kernel's workers (io-wq) in this process work for, once for each worker: their names are `iou-wrk-THREAD`.
pub(crate) fn workers() -> Vec<u32> {
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let worker = |name: String| name.trim_end().strip_prefix("iou-wrk-")?.parse().ok();
    fs::read_dir("/proc/self/task").into_iter().flatten().flatten().filter_map(name).filter_map(worker).collect()
}

/// The first field of `schedstat`: nanoseconds on a CPU.
fn spent(thread: u32) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_runs_with_its_thread_and_keeps_its_last_figure() {
        let clock = CpuClock::default();
        assert_eq!(clock.nanos(), 0);
        std::thread::scope(|scope| {
            let work = || {
                clock.start();
                let began = clock.nanos();
                while clock.nanos() == began {}
                clock.stop();
            };
            scope.spawn(work);
        });
        assert!(clock.nanos() > 0);
    }
}
