//! A link through this process: packets wait a random while each, so they overtake one another, and some come twice.
//!
//! One thread carries both directions. Invariants: what was put in comes out once or twice and unchanged, unless more than
//! `MOST_WAITING` packets wait, of which the latest are lost as in any router; the order of packets is that of one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::network::Namespace;
use crate::tun;

/// What happens to packets on their way.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// The shortest way.
    pub least: Duration,
    /// The longest. Two packets less than the difference apart may change places.
    pub most: Duration,
    /// Of a hundred packets, how many come twice.
    pub doubled_percent: u64,
}

/// What a queue of the real world would hold at this delay.
const MOST_WAITING: usize = 10_000;
/// More than any packet: the devices' MTU is 1,500.
const LARGEST: usize = 2048;
/// How long it may take to notice the end.
const LOOK: Duration = Duration::from_millis(50);

/// A relay at work; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    over: Arc<AtomicBool>,
    overtaken: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Makes a device named `wire` in both namespaces and carries packets between them.
    pub(crate) fn new(near: &Namespace, far: &Namespace, weather: Weather) -> Relay {
        let ends = [near, far].map(|namespace| File::from(namespace.run(|| tun::device("wire"))));
        let (over, overtaken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let carrier = Carrier { ends, weather, random: 1, count: 0, waiting: BinaryHeap::new(), delivered: [0; 2] };
        let (until, counter) = (Arc::clone(&over), Arc::clone(&overtaken));
        let thread = thread::spawn(move || carrier.run(&until, &counter));
        Relay { over, overtaken, thread: Some(thread) }
    }

    /// Packets that were overtaken.
    pub(crate) fn overtaken(&self) -> u64 {
        self.overtaken.load(Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        // It says of itself why it failed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// When it is due, its number, the end it goes to, its bytes.
type Packet = (Instant, u64, usize, Vec<u8>);

struct Carrier {
    ends: [File; 2],
    weather: Weather,
    random: u64,
    count: u64,
    waiting: BinaryHeap<Reverse<Packet>>,
    /// The highest number that has come out at each end.
    delivered: [u64; 2],
}

impl Carrier {
    fn run(mut self, over: &AtomicBool, overtaken: &AtomicU64) {
        while !over.load(Relaxed) {
            self.wait();
            for from in 0..2 {
                self.take(from);
            }
            overtaken.fetch_add(self.deliver(), Relaxed);
        }
    }

    /// Until a packet comes or is due.
    fn wait(&self) {
        let due = self.waiting.peek().map(|Reverse((due, ..))| due.saturating_duration_since(Instant::now()));
        let timeout = Timespec::try_from(due.unwrap_or(LOOK).min(LOOK)).expect("a short time");
        let [near, far] = &self.ends;
        let mut fds = [near, far].map(|end| PollFd::new(end, PollFlags::IN));
        poll(&mut fds, Some(&timeout)).expect("the devices stand");
    }

    fn take(&mut self, from: usize) {
        let mut packet = [0; LARGEST];
        loop {
            match self.ends[from].read(&mut packet) {
                Ok(length) => self.put(1 - from, &packet[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the device does not read: {error}"),
            }
        }
    }

    fn put(&mut self, to: usize, packet: &[u8]) {
        self.count += 1;
        let copies = 1 + u64::from(self.random() % 100 < self.weather.doubled_percent);
        for _ in 0..copies {
            let Weather { least, most, .. } = self.weather;
            let spread = (most - least).as_micros() as u64;
            let due = Instant::now() + least + Duration::from_micros(self.random() % spread.max(1));
            if self.waiting.len() < MOST_WAITING {
                self.waiting.push(Reverse((due, self.count, to, packet.to_vec())));
            }
        }
    }

    /// Delivers what is due; says how many were overtaken.
    fn deliver(&mut self) -> u64 {
        let now = Instant::now();
        let mut count = 0;
        while self.waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, number, to, packet))) = self.waiting.pop() else { break };
            count += u64::from(number < self.delivered[to]);
            self.delivered[to] = self.delivered[to].max(number);
            // A device that is down, or full, loses it.
            let _ = self.ends[to].write(&packet);
        }
        count
    }

    /// Xorshift: any seed but zero goes through all of them.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
