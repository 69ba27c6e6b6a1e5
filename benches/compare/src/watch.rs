//! An eye on a core: when it was not there for servers and generator, because the host or another program had it.
//!
//! A timer of the kernel interrupts the core ten times per millisecond while anything runs there, and the kernel notes that,
//! and when it switches to whom (a perf event on the cpu clock). An interrupt that comes late says that nothing ran on the
//! core, whatever there was to run; a switch to another program, that this one ran. Whether an idle core is interrupted is up
//! to the kernel; if it was, it counts. Invariant: none of this depends on what servers or generator do, so slices can be left out by it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Between interrupts. Each takes about a microsecond.
const PERIOD_NS: u64 = 100_000;

const PAGE: usize = 4096;
/// Of records, behind a page about them: for a sixth of a second of a core that switches 20,000 times a second. Where records
/// are missing the core counts as away.
const RING: usize = 64 * PAGE;

pub struct Watch {
    map: NonNull<u8>,
    _event: OwnedFd,
    /// Up to where records were read.
    read: u64,
    /// What the last record says.
    last: Option<Moment>,
    /// By process: whether it belongs here.
    known: HashMap<u32, bool>,
}

/// Who runs on the core from when on; nobody is process 0.
#[derive(Clone, Copy)]
struct Moment {
    ns: u64,
    runs: u32,
    /// Since when it runs.
    since_ns: u64,
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
        const IDS_OF_ALL_RECORDS: u64 = 1 << 18;
        const SWITCHES: u64 = 1 << 26;
        let attributes = Attributes {
            kind: SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: CPU_CLOCK,
            period: PERIOD_NS,
            sample: SAMPLE_TID | SAMPLE_TIME,
            read: 0,
            flags: IDS_OF_ALL_RECORDS | SWITCHES,
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
        Ok(Self { map, _event: event, read: 0, last: None, known: HashMap::new() })
    }

    /// The longest time that the core was taken away since this was asked last, in nanoseconds; less than two periods may be
    /// missed.
    pub fn longest_ns(&mut self) -> u64 {
        // SAFETY: `data_head` and `data_tail`, at 1024 of the first page; the kernel writes the one and reads the other.
        let (head, tail) = unsafe {
            (&*self.map.as_ptr().add(1024).cast::<AtomicU64>(), &*self.map.as_ptr().add(1032).cast::<AtomicU64>())
        };
        let head = head.load(Ordering::Acquire);
        let mut longest = 0;
        while self.read < head {
            // `struct perf_event_header`: type, misc and size; a sample and the end of a switch are process, thread and time.
            let header = self.word(0);
            let moment = match header as u32 {
                SAMPLE => Some((self.word(8) as u32, self.word(16), true)),
                SWITCH if header >> 32 & SWITCH_OUT != 0 => Some((self.word(8) as u32, self.word(24), false)),
                _ => None,
            };
            if let Some((runs, ns, interrupted)) = moment {
                longest = longest.max(self.away_ns(ns, interrupted));
                let since_ns = self.last.filter(|last| last.runs == runs).map_or(ns, |last| last.since_ns);
                self.last = Some(Moment { ns, runs, since_ns });
            }
            self.read += header >> 48;
        }
        tail.store(head, Ordering::Release);
        longest
    }

    /// How long, as seen now, the core has been away.
    fn away_ns(&mut self, now: u64, interrupted: bool) -> u64 {
        let Some(last) = self.last else { return 0 };
        if last.runs == IDLE && !interrupted {
            0
        } else if self.belongs_here(last.runs) {
            now.saturating_sub(last.ns + PERIOD_NS)
        } else {
            now - last.since_ns
        }
    }

    /// A word of the record that is read next. All have a multiple of eight bytes, so none of its words wraps around.
    fn word(&self, offset: u64) -> u64 {
        let at = PAGE + (self.read + offset) as usize % RING;
        // SAFETY: inside the mapping, aligned, and below the head: the kernel writes there no more before the tail moves.
        unsafe { self.map.as_ptr().add(at).cast::<u64>().read() }
    }

    fn belongs_here(&mut self, process: u32) -> bool {
        *self.known.entry(process).or_insert_with(|| process == IDLE || is_ours(process) || works_for_sockets(process))
    }
}

/// The process that runs where nothing does.
const IDLE: u32 = 0;

/// `PERF_RECORD_SAMPLE`, `PERF_RECORD_SWITCH_CPU_WIDE` and what it says if one stops running; the process is then the next.
const SAMPLE: u32 = 9;
const SWITCH: u32 = 15;
const SWITCH_OUT: u64 = 1 << 13;

/// This process, or one that it started. All live as long as the watch is asked about them.
fn is_ours(process: u32) -> bool {
    let own = std::process::id();
    process == own || of(process).is_some_and(|(_, parent)| parent == own)
}

/// A thread of the kernel (2 is the parent of all) that may do what servers or generator asked for. Others look after memory.
fn works_for_sockets(process: u32) -> bool {
    of(process).is_some_and(|(name, parent)| {
        parent == 2 && ["ksoftirqd/", "kworker/"].iter().any(|kind| name.starts_with(kind))
    })
}

/// Name and parent, from `PID (name) state parent ...`; names may hold anything.
fn of(process: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
    Some((name.to_owned(), rest.split(' ').nth(1)?.parse().ok()?))
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
        assert_eq!(of(child.id()).map(|(_, parent)| parent), Some(std::process::id()));
        assert!(is_ours(child.id()) && is_ours(std::process::id()));
        assert!(!is_ours(1) && !works_for_sockets(child.id()));
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
        assert!(watch.last.is_some());
    }
}
