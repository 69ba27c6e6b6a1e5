//! The open loop: messages are sent when they are due, whatever the server does, and latency counts from when they were due.
//!
//! Invariant: the due times follow from rate and seed alone, and are the same for every server of a round. A generator that is
//! late sends all that is due at once, each with its own due time: its delays and the server's are in the latencies
//! and never thin the load. As in `load`, nothing is under way between slices, and every byte is compared.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use io_uring::squeue::Flags;
use io_uring::{opcode, types};
use socket2::Socket;

use crate::endpoint::Endpoint;
use crate::load::{PATIENCE, PATIENCE_SPEC, gather};
use crate::method::Random;
use crate::pattern::Pattern;
use crate::ring::{Buffers, Completion, Ring};
use crate::scenario::Shape;

/// What one slice brought about.
pub struct Course {
    pub units: u64,
    pub elapsed: Duration,
    /// Nanoseconds from when each message was due to its last byte's return.
    pub latency: Histogram<u64>,
    /// Nanoseconds from when each message was due to when it was sent: the generator's own part.
    pub late: Histogram<u64>,
}

/// When messages are sent in a slice.
#[derive(Clone, Copy)]
pub struct Schedule {
    pub per_second: f64,
    pub length: Duration,
    pub seed: u64,
}

struct Conn {
    send_at: usize,
    receive_at: usize,
    /// Bytes of an answer that has begun.
    partial: usize,
    /// When each message under way was due, in nanoseconds of the slice.
    due: VecDeque<u64>,
}

pub struct OpenLoop {
    // Dropped before the buffers it writes to.
    ring: Ring,
    buffers: Buffers,
    conns: Vec<Conn>,
    message: usize,
    /// Where the descriptors that answers come in on begin: at 0, unless the generator is both ends.
    answers_at: u32,
    batch: Vec<Completion>,
    /// Connections whose message has come back in this turn.
    answered: Vec<u32>,
    under_way: usize,
    start: Instant,
    latency: Histogram<u64>,
    late: Histogram<u64>,
    _sockets: Vec<Socket>,
}

/// Anything up to a minute, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

impl OpenLoop {
    pub fn connect(endpoint: &Endpoint, shape: Shape) -> Result<Self> {
        let open = |index| endpoint.connect(index).with_context(|| format!("cannot open connection {index}"));
        let sockets = (0..shape.connections).map(open).collect::<Result<Vec<_>>>()?;
        Self::over(sockets, 0, shape)
    }

    /// The generator without a server: it is both ends, and what it sends comes back as soon as the kernel delivers it.
    pub fn null(shape: Shape) -> Result<Self> {
        let endpoint = Endpoint::free_tcp_port(1)?;
        let listener = endpoint.listen()?;
        let (mut sockets, mut ends) = (Vec::new(), Vec::new());
        for index in 0..shape.connections {
            sockets.push(endpoint.connect(index)?);
            ends.push(listener.accept()?.0);
        }
        sockets.append(&mut ends);
        Self::over(sockets, shape.connections as u32, shape)
    }

    fn over(sockets: Vec<Socket>, answers_at: u32, shape: Shape) -> Result<Self> {
        let ring = Ring::new()?;
        let buffers = Buffers::register(&ring)?;
        let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
        ring.uring().submitter().register_files(&descriptors).context("cannot register the connections")?;
        let conn = |index| {
            let at = Pattern::noise().start(index);
            Conn { send_at: at, receive_at: at, partial: 0, due: VecDeque::new() }
        };
        let mut open = Self {
            ring,
            buffers,
            conns: (0..shape.connections).map(conn).collect(),
            message: shape.message,
            answers_at,
            batch: Vec::new(),
            answered: Vec::new(),
            under_way: 0,
            start: Instant::now(),
            latency: histogram(),
            late: histogram(),
            _sockets: sockets,
        };
        for index in 0..shape.connections {
            open.receive(index)?;
        }
        Ok(open)
    }

    /// Messages per second of a closed loop: each connection sends again when its message has come back.
    pub fn ceiling(&mut self, length: Duration) -> Result<f64> {
        self.begin();
        for index in 0..self.conns.len() {
            self.send(index, 0)?;
        }
        let mut done = 0_u64;
        while self.under_way > 0 {
            let want = gather(self.under_way);
            ensure!(self.ring.wait_for(want, &PATIENCE_SPEC)?, "no answer within {} s", PATIENCE.as_secs());
            self.turn()?;
            done += self.answered.len() as u64;
            if self.start.elapsed() < length {
                for index in std::mem::take(&mut self.answered) {
                    self.send(index as usize, 0)?;
                }
            }
        }
        Ok(done as f64 / self.start.elapsed().as_secs_f64())
    }

    /// One slice of the open loop: Poisson arrivals, over the connections in turn.
    pub fn slice(&mut self, schedule: Schedule) -> Result<Course> {
        let mut random = Random::new(schedule.seed);
        let gap_ns = 1e9 / schedule.per_second;
        let mut gap = || {
            // In (0, 1], so that the logarithm is finite.
            let uniform = ((random.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
            -uniform.ln() * gap_ns
        };
        let end = schedule.length.as_nanos() as f64;
        let (mut next, mut place, mut units) = (gap(), 0, 0);
        self.begin();
        let mut heard = Instant::now();
        while next < end || self.under_way > 0 {
            while next < end && next <= self.now() as f64 {
                let index = place % self.conns.len();
                self.send(index, next as u64)?;
                self.late.saturating_record(self.now() - next as u64);
                (next, place, units) = (next + gap(), place + 1, units + 1);
            }
            // It never sleeps: waking would make it late.
            self.ring.poll()?;
            self.turn()?;
            if !self.answered.is_empty() || self.under_way == 0 {
                heard = Instant::now();
            }
            ensure!(heard.elapsed() < PATIENCE, "no answer within {} s", PATIENCE.as_secs());
        }
        let elapsed = self.start.elapsed();
        let take = |histogram: &mut Histogram<u64>| std::mem::replace(histogram, self::histogram());
        Ok(Course { units, elapsed, latency: take(&mut self.latency), late: take(&mut self.late) })
    }

    fn begin(&mut self) {
        self.start = Instant::now();
        self.latency.reset();
        self.late.reset();
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn turn(&mut self) -> Result<()> {
        self.answered.clear();
        let mut batch = std::mem::take(&mut self.batch);
        self.ring.reap(&mut batch);
        let now = self.now();
        for completion in batch.drain(..) {
            let index = (completion.user_data >> 1) as usize;
            match completion.user_data & 1 {
                SEND => bail!("sending on connection {index} ended with {}", completion.result),
                _ => self.on_recv(index, &completion, now)?,
            }
        }
        self.batch = batch;
        Ok(())
    }

    fn on_recv(&mut self, index: usize, completion: &Completion, now: u64) -> Result<()> {
        match completion.result {
            // Bytes are checked at once, so by now a buffer has gone back.
            errno if errno == -libc::ENOBUFS => return self.receive(index),
            0 => bail!("the server closed connection {index}"),
            errno @ ..0 => bail!("receiving on connection {index} failed with errno {}", -errno),
            1.. => {}
        }
        let len = completion.result as u32;
        let buffer = completion.buffer().context("received bytes came without a buffer")?;
        let start = self.buffers.take(buffer, len);
        let conn = &mut self.conns[index];
        conn.partial += len as usize;
        ensure!(conn.partial <= conn.due.len() * self.message, "connection {index} got more bytes than it sent");
        let right = self.buffers.slice(buffer, start, len) == Pattern::noise().run(conn.receive_at, len as usize);
        ensure!(right, "connection {index} got other bytes than it sent");
        conn.receive_at = Pattern::noise().after(conn.receive_at, len as usize);
        while conn.partial >= self.message {
            conn.partial -= self.message;
            let due = conn.due.pop_front().expect("as many are due as bytes were checked for");
            self.latency.saturating_record(now.saturating_sub(due));
            self.answered.push(index as u32);
            self.under_way -= 1;
        }
        if !completion.buffer_continues() {
            self.buffers.give(buffer);
        }
        if completion.more() { Ok(()) } else { self.receive(index) }
    }

    /// Only a send that fails completes: messages are far smaller than what a socket takes at once.
    fn send(&mut self, index: usize, due: u64) -> Result<()> {
        let conn = &mut self.conns[index];
        let bytes = Pattern::noise().run(conn.send_at, self.message);
        conn.send_at = Pattern::noise().after(conn.send_at, self.message);
        conn.due.push_back(due);
        self.under_way += 1;
        let entry = opcode::Send::new(types::Fixed(index as u32), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data((index as u64) << 1 | SEND);
        // SAFETY: the pattern is static.
        Ok(unsafe { self.ring.push(&entry) }?)
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let entry = opcode::RecvMulti::new(types::Fixed(self.answers_at + index as u32), Buffers::GROUP)
            .build()
            .user_data((index as u64) << 1 | RECV);
        // SAFETY: the entry points to nothing; the pool outlives the ring.
        Ok(unsafe { self.ring.push(&entry) }?)
    }
}

const RECV: u64 = 0;
const SEND: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { connections: 8, depth: 1, message: 64, buffer: 2 << 10 };

    #[test]
    fn what_is_due_is_sent_and_comes_back_and_is_counted_from_when_it_was_due() {
        let mut null = OpenLoop::null(SHAPE).expect("a generator that is both ends");
        let schedule = Schedule { per_second: 20_000.0, length: Duration::from_millis(50), seed: 3 };
        let course = null.slice(schedule).expect("a slice");
        assert_eq!(course.latency.len(), course.units);
        assert_eq!(course.late.len(), course.units);
        // Poisson: a thousand, give or take five deviations.
        assert!((840..1160).contains(&course.units), "{}", course.units);
        assert!(course.latency.max() >= course.late.max(), "a message cannot come back before it is sent");
        assert_eq!(null.slice(schedule).expect("another").units, course.units, "the same seed, the same schedule");
    }

    #[test]
    fn a_closed_loop_ends_with_nothing_under_way() {
        let mut null = OpenLoop::null(SHAPE).expect("a generator that is both ends");
        assert!(null.ceiling(Duration::from_millis(20)).expect("a ceiling") > 0.0);
        assert_eq!(null.under_way, 0);
    }
}
