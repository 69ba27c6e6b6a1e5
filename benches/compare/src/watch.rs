//! An eye on a core: when it was not there for servers and generator, because the host or another program had it.
//!
//! A timer of the kernel interrupts the core four times per millisecond and notes when, and whom (a perf event on the cpu clock).
//! An interrupt that comes late says that nothing ran on the core, whatever there was to run; one that finds another
//! program, that this one ran. Invariant: neither depends on what servers or generator do, so slices can be left out by it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Between interrupts. Each takes about a microsecond.
const PERIOD_NS: u64 = 250_000;

const PAGE: usize = 4096;
/// Of records, behind a page about them: for more than two seconds.
const RING: usize = 64 * PAGE;

pub struct Watch {
    map: NonNull<u8>,
    _event: OwnedFd,
    /// Up to where records were read, and the time of the last.
    read: u64,
    last_ns: Option<u64>,
    /// By process: whether it belongs here.
    known: HashMap<u32, bool>,
}

/// `struct perf_event_attr`, as far as it is used.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    period: u64,
    sample: u64,
    read: u64,
    flags: u64,
    unused: [u64; 10],
}

impl Watch {
    pub fn on(cpu: usize) -> io::Result<Self> {
        const SOFTWARE: u32 = 1;
        const CPU_CLOCK: u64 = 0;
        const SAMPLE_TID: u64 = 1 << 1;
        const SAMPLE_TIME: u64 = 1 << 2;
        const EVERYBODY: libc::pid_t = -1;
        const CLOSE_ON_EXEC: u64 = 1 << 3;
        let attributes = Attributes {
            kind: SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: CPU_CLOCK,
            period: PERIOD_NS,
            sample: SAMPLE_TID | SAMPLE_TIME,
            read: 0,
            flags: 0,
            unused: [0; 10],
        };
        // SAFETY: the attributes are of the size they say, and only read.
        let event = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, EVERYBODY, cpu, -1, CLOSE_ON_EXEC)
        };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and nobody else has it.
        let event = unsafe { OwnedFd::from_raw_fd(event as i32) };
        // SAFETY: a mapping of its own, where there is room.
        let map = unsafe {
            mmap(ptr::null_mut(), PAGE + RING, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &event, 0)
        }?;
        let map = NonNull::new(map.cast()).expect("a mapping has an address");
        Ok(Self { map, _event: event, read: 0, last_ns: None, known: HashMap::new() })
    }

    /// The longest time that the core was taken away since this was asked last, in nanoseconds; less than two periods may be
    /// missed.
    pub fn longest_ns(&mut self) -> u64 {
        // SAFETY: `data_head` and `data_tail`, at 1024 of the first page; the kernel writes the one and reads the other.
        let (head, tail) = unsafe {
            (&*self.map.as_ptr().add(1024).cast::<AtomicU64>(), &*self.map.as_ptr().add(1032).cast::<AtomicU64>())
        };
        let head = head.load(Ordering::Acquire);
        let (mut longest, mut of_others) = (0, 0);
        while self.read < head {
            // `struct perf_event_header`: type, misc and size. A sample is 24 bytes: process, thread, time.
            let header = self.word(0);
            if header as u32 == SAMPLE {
                let (process, now) = (self.word(8) as u32, self.word(16));
                let late = self.last_ns.map_or(0, |last| now.saturating_sub(last + PERIOD_NS));
                self.last_ns = Some(now);
                of_others = if self.belongs_here(process) { 0 } else { of_others + PERIOD_NS };
                longest = longest.max(late).max(of_others);
            }
            self.read += header >> 48;
        }
        tail.store(head, Ordering::Release);
        longest
    }

    /// A word of the record that is read next. All have a multiple of eight bytes, so none of its words wraps around.
    fn word(&self, offset: u64) -> u64 {
        let at = PAGE + (self.read + offset) as usize % RING;
        // SAFETY: inside the mapping, aligned, and below the head: the kernel writes there no more before the tail moves.
        unsafe { self.map.as_ptr().add(at).cast::<u64>().read() }
    }

    fn belongs_here(&mut self, process: u32) -> bool {
        *self.known.entry(process).or_insert_with(|| process == 0 || is_ours(process) || is_the_kernels(process))
    }
}

/// `PERF_RECORD_SAMPLE`.
const SAMPLE: u32 = 9;

/// This process, or one that it started. All live as long as the watch is asked about them.
fn is_ours(process: u32) -> bool {
    process == std::process::id() || parent(process) == Some(std::process::id())
}

/// A thread of the kernel: 2 is the parent of all.
fn is_the_kernels(process: u32) -> bool {
    process == 2 || parent(process) == Some(2)
}

/// `PID (name) state parent ...`; names may hold anything.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: mapped so in `on`; no reference into it outlives a call.
        let _ = unsafe { munmap(self.map.as_ptr().cast(), PAGE + RING) };
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_parent_is_found_in_spite_of_names() {
        let mut child = Command::new("sleep").arg("100").spawn().expect("a child");
        assert!(is_ours(child.id()) && is_ours(std::process::id()));
        assert!(!is_ours(1) && !is_the_kernels(child.id()) && is_the_kernels(2));
        child.kill().and_then(|()| child.wait()).expect("an end");
    }

    #[test]
    fn interrupts_come_and_another_program_is_seen() {
        let mut watch = match Watch::on(0) {
            Ok(watch) => watch,
            Err(error) => return eprintln!("SKIP: no watch: {error}"),
        };
        crate::process::pin(0).expect("a core");
        watch.known.insert(std::process::id(), false);
        let deadline = Instant::now() + Duration::from_secs(20);
        while watch.longest_ns() < PERIOD_NS {
            assert!(Instant::now() < deadline, "it was never seen");
        }
        assert!(watch.last_ns.is_some());
    }
}
