//! The fan-out load: one connection sends a message, every connection gets it.
//!
//! Invariant: as in `load`, nothing is under way between slices; the next message is sent when the last connection has
//! got the one before. Connections are direct descriptors alone, so that the fleets of all servers of a table fit
//! under one process's limit on open files.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use io_uring::{opcode, types};

use crate::endpoint::Endpoint;
use crate::load::{Load, PATIENCE, PATIENCE_SPEC, Slice, gather};
use crate::pattern::Pattern;
use crate::ring::{Buffers, Completion, Ring};
use crate::scenario::Shape;

const RECV: u64 = 0;
const SEND: u64 = 1;

pub struct Fanout {
    // Dropped before the buffers it writes to. It holds the connections.
    ring: Ring,
    buffers: Buffers,
    shape: Shape,
    /// Bytes of the message that each connection has.
    got: Vec<usize>,
    message: &'static [u8],
    at: usize,
    /// Connections that do not have the whole message yet.
    missing: usize,
    sending: bool,
    delivered: u64,
    batch: Vec<Completion>,
}

impl Fanout {
    pub fn connect(endpoint: &Endpoint, shape: Shape) -> Result<Self> {
        let ring = Ring::new()?;
        let buffers = Buffers::register(&ring)?;
        let open = |index| endpoint.connect(index).with_context(|| format!("cannot open connection {index}"));
        let conns = (0..shape.connections).map(open).collect::<Result<Vec<_>>>()?;
        let descriptors: Vec<_> = conns.iter().map(|conn| conn.as_raw_fd()).collect();
        ring.uring().submitter().register_files(&descriptors).context("cannot register the connections")?;
        let mut fanout = Self {
            ring,
            buffers,
            shape,
            got: vec![0; shape.connections],
            message: &[],
            at: 0,
            missing: 0,
            sending: false,
            delivered: 0,
            batch: Vec::new(),
        };
        for index in 0..shape.connections {
            fanout.receive(index)?;
        }
        Ok(fanout)
    }

    /// Sends the next message on connection 0.
    fn publish(&mut self) -> Result<()> {
        self.message = Pattern::noise().run(self.at, self.shape.message);
        self.at = Pattern::noise().after(self.at, self.shape.message);
        self.got.fill(0);
        self.missing = self.got.len();
        self.sending = true;
        let entry = opcode::Send::new(types::Fixed(0), self.message.as_ptr(), self.message.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(SEND);
        // SAFETY: the pattern is static.
        Ok(unsafe { self.ring.push(&entry) }?)
    }

    fn turn(&mut self) -> Result<()> {
        let want = usize::from(self.sending) + gather(self.missing);
        let answered = self.ring.wait_for(want, &PATIENCE_SPEC)?;
        ensure!(answered, "{} connections without the message after {} s", self.missing, PATIENCE.as_secs());
        let mut batch = std::mem::take(&mut self.batch);
        self.ring.reap(&mut batch);
        for completion in batch.drain(..) {
            match completion.user_data & 1 {
                SEND => {
                    let sent = completion.result;
                    ensure!(sent == self.shape.message as i32, "sending the message ended with {sent}");
                    self.sending = false;
                }
                _ => self.on_recv((completion.user_data >> 1) as usize, &completion)?,
            }
        }
        self.batch = batch;
        Ok(())
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
        let got = self.got[index];
        let expected = self.message.get(got..got + len as usize);
        let right = expected == Some(self.buffers.slice(buffer, start, len));
        ensure!(right, "connection {index} got {len} bytes that are not the message's");
        self.got[index] += len as usize;
        if self.got[index] == self.message.len() {
            self.missing -= 1;
            self.delivered += 1;
        }
        if !completion.buffer_continues() {
            self.buffers.give(buffer);
        }
        if completion.more() { Ok(()) } else { self.receive(index) }
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let entry = opcode::RecvMulti::new(types::Fixed(index as u32), Buffers::GROUP)
            .build()
            .user_data((index as u64) << 1 | RECV);
        // SAFETY: the entry points to nothing; the pool outlives the ring.
        Ok(unsafe { self.ring.push(&entry) }?)
    }
}

impl Load for Fanout {
    fn slice(&mut self, length: Duration) -> Result<Slice> {
        let start = Instant::now();
        self.delivered = 0;
        let mut latencies_ns = Vec::new();
        while start.elapsed() < length {
            let sent = Instant::now();
            self.publish()?;
            while self.missing > 0 || self.sending {
                self.turn()?;
            }
            latencies_ns.push(sent.elapsed().as_nanos() as u64);
        }
        Ok(Slice { units: self.delivered, elapsed: start.elapsed(), latencies_ns })
    }
}
