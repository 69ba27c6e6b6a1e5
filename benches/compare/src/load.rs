//! The load generator: what a slice is, and the closed loop over kept connections.
//!
//! Invariant: between slices nothing is under way: every message sent in a slice has come back, byte for byte, before the
//! slice ends. Knows nothing of the server but its endpoint.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use io_uring::types::Timespec;
use io_uring::{opcode, types};
use socket2::Socket;

use crate::endpoint::Endpoint;
use crate::pattern::Pattern;
use crate::ring::{Buffers, Completion, Ring};
use crate::scenario::Shape;

/// A server that leaves the generator without any answer for so long is taken for dead.
pub const PATIENCE: Duration = Duration::from_secs(5);
pub const PATIENCE_SPEC: Timespec = Timespec::new().sec(PATIENCE.as_secs());

/// Answers the generator lets gather before it wakes: enough to make it cheaper per message than any server, so
/// that the server is the busy side; few enough to never leave a server without work.
const GATHER_MAX: usize = 32;
const GATHER_SHARE: usize = 8;

/// What one slice brought about.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Messages answered or delivered, or connections served.
    pub units: u64,
    /// From the first send to the last answer.
    pub elapsed: Duration,
    /// From each message's send to its last delivery, where the load measures that.
    pub latencies_ns: Vec<u64>,
}

pub trait Load {
    /// Loads the server for `length`, then lets everything under way come back.
    fn slice(&mut self, length: Duration) -> Result<Slice>;
}

/// How many completions to wait for when `pending` are bound to come.
pub fn gather(pending: usize) -> usize {
    (pending / GATHER_SHARE).clamp(1, GATHER_MAX)
}

const RECV: u64 = 0;
const SEND: u64 = 1;

struct Conn {
    socket: Socket,
    /// Positions in the pattern of the next byte to send and to receive.
    send_at: usize,
    receive_at: usize,
    /// Messages sent and not echoed yet, and the bytes echoed of the first.
    pending: usize,
    partial: usize,
    /// Messages that wait for the send under way to finish.
    owed: usize,
    /// Bytes of the send under way, or zero.
    sending: usize,
}

/// Connections that are kept and each hold `depth` messages under way.
pub struct Fleet {
    // Dropped before the buffers it writes to.
    ring: Ring,
    buffers: Buffers,
    conns: Vec<Conn>,
    shape: Shape,
    pattern: &'static Pattern,
    batch: Vec<Completion>,
    /// Connections with messages under way.
    busy: usize,
    sends: usize,
    echoed: u64,
    /// No new messages: the slice is over.
    draining: bool,
}

impl Fleet {
    pub fn connect(endpoint: &Endpoint, shape: Shape, pattern: &'static Pattern) -> Result<Self> {
        let ring = Ring::new()?;
        let buffers = Buffers::register(&ring)?;
        let conns = (0..shape.connections)
            .map(|index| {
                let socket = endpoint.connect(index).with_context(|| format!("cannot open connection {index}"))?;
                Ok(Conn {
                    socket,
                    send_at: pattern.start(index),
                    receive_at: pattern.start(index),
                    pending: 0,
                    partial: 0,
                    owed: 0,
                    sending: 0,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let descriptors: Vec<_> = conns.iter().map(|conn| conn.socket.as_raw_fd()).collect();
        ring.uring().submitter().register_files(&descriptors).context("cannot register the connections")?;
        let mut fleet = Self {
            ring,
            buffers,
            conns,
            shape,
            pattern,
            batch: Vec::new(),
            busy: 0,
            sends: 0,
            echoed: 0,
            draining: false,
        };
        for index in 0..shape.connections {
            fleet.receive(index)?;
        }
        Ok(fleet)
    }

    fn on_recv(&mut self, index: usize, completion: &Completion) -> Result<()> {
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
        self.check(index, buffer, start, len)?;
        if !completion.buffer_continues() {
            self.buffers.give(buffer);
        }
        if !completion.more() {
            self.receive(index)?;
        }
        self.count(index, len as usize)
    }

    fn check(&mut self, index: usize, buffer: u16, start: u32, len: u32) -> Result<()> {
        let conn = &mut self.conns[index];
        let under_way = conn.pending * self.shape.message - conn.partial;
        ensure!(len as usize <= under_way, "connection {index} got {len} bytes back and sent only {under_way}");
        let expected = self.pattern.run(conn.receive_at, len as usize);
        ensure!(self.buffers.slice(buffer, start, len) == expected, "connection {index} got other bytes than it sent");
        conn.receive_at = self.pattern.after(conn.receive_at, len as usize);
        Ok(())
    }

    /// Counts what is whole now and sends as many again.
    fn count(&mut self, index: usize, len: usize) -> Result<()> {
        let conn = &mut self.conns[index];
        conn.partial += len;
        let whole = conn.partial / self.shape.message;
        conn.partial %= self.shape.message;
        conn.pending -= whole;
        self.echoed += whole as u64;
        if self.draining {
            if whole > 0 && conn.pending == 0 {
                self.busy -= 1;
            }
            return Ok(());
        }
        conn.pending += whole;
        conn.owed += whole;
        self.send(index)
    }

    fn on_send(&mut self, index: usize, completion: &Completion) -> Result<()> {
        self.sends -= 1;
        let conn = &mut self.conns[index];
        let len = std::mem::take(&mut conn.sending);
        ensure!(completion.result == len as i32, "sending on connection {index} ended with {}", completion.result);
        self.send(index)
    }

    /// Sends what is owed, in one piece, unless a send is under way.
    fn send(&mut self, index: usize) -> Result<()> {
        let conn = &mut self.conns[index];
        if conn.sending > 0 || conn.owed == 0 {
            return Ok(());
        }
        let bytes = self.pattern.run(conn.send_at, conn.owed * self.shape.message);
        conn.owed = 0;
        conn.sending = bytes.len();
        conn.send_at = self.pattern.after(conn.send_at, bytes.len());
        self.sends += 1;
        let entry = opcode::Send::new(types::Fixed(index as u32), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data((index as u64) << 1 | SEND);
        // SAFETY: the pattern is static.
        Ok(unsafe { self.ring.push(&entry) }?)
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let entry = opcode::RecvMulti::new(types::Fixed(index as u32), Buffers::GROUP)
            .build()
            .user_data((index as u64) << 1 | RECV);
        // SAFETY: the entry points to nothing; the pool outlives the ring.
        Ok(unsafe { self.ring.push(&entry) }?)
    }

    fn turn(&mut self) -> Result<()> {
        // Every send completes, and every busy connection receives at least once more.
        let want = self.sends + gather(self.busy);
        ensure!(self.ring.wait_for(want, &PATIENCE_SPEC)?, "no answer within {} s", PATIENCE.as_secs());
        let mut batch = std::mem::take(&mut self.batch);
        self.ring.reap(&mut batch);
        for completion in batch.drain(..) {
            let index = (completion.user_data >> 1) as usize;
            match completion.user_data & 1 {
                SEND => self.on_send(index, &completion)?,
                _ => self.on_recv(index, &completion)?,
            }
        }
        self.batch = batch;
        Ok(())
    }
}

impl Load for Fleet {
    fn slice(&mut self, length: Duration) -> Result<Slice> {
        let start = Instant::now();
        self.echoed = 0;
        self.draining = false;
        self.busy = self.conns.len();
        for index in 0..self.conns.len() {
            self.conns[index].pending = self.shape.depth;
            self.conns[index].owed = self.shape.depth;
            self.send(index)?;
        }
        while self.busy > 0 || self.sends > 0 {
            self.turn()?;
            self.draining = self.draining || start.elapsed() >= length;
        }
        Ok(Slice { units: self.echoed, elapsed: start.elapsed(), latencies_ns: Vec::new() })
    }
}
