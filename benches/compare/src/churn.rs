//! The churn load: connect, one exchange, close; a fixed number of connections at a time.
//!
//! Invariant: as in `load`, nothing is under way between slices. A connection is a chain connect -> send -> receive of
//! which only the end is reported; over TCP it is closed by reset, so no TIME_WAIT entry is left for another slice's
//! server to pay for.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use io_uring::squeue::Flags;
use io_uring::{opcode, types};
use socket2::{SockAddr, Socket};

use crate::endpoint::Endpoint;
use crate::load::{Load, PATIENCE, PATIENCE_SPEC, Slice, gather};
use crate::pattern::Pattern;
use crate::ring::{Completion, Ring};
use crate::scenario::Shape;

struct Slot {
    socket: Socket,
    answer: Box<[u8]>,
    expected: &'static [u8],
}

pub struct Churn {
    // Dropped before the slots and the address it refers to.
    ring: Ring,
    endpoint: Endpoint,
    address: Box<SockAddr>,
    shape: Shape,
    pattern: &'static Pattern,
    slots: Vec<Option<Slot>>,
    batch: Vec<Completion>,
    opened: usize,
    served: u64,
}

impl Churn {
    pub fn new(endpoint: &Endpoint, shape: Shape) -> Result<Self> {
        Ok(Self {
            ring: Ring::new()?,
            endpoint: endpoint.clone(),
            address: Box::new(endpoint.address()?),
            shape,
            pattern: Pattern::noise(),
            slots: Vec::new(),
            batch: Vec::new(),
            opened: 0,
            served: 0,
        })
    }

    fn open(&mut self, index: usize) -> Result<()> {
        let expected = self.pattern.run(self.pattern.start(self.opened), self.shape.message);
        self.opened += 1;
        let socket = self.endpoint.client_socket(0).context("cannot make a socket")?;
        let slot = self.slots[index].insert(Slot { socket, answer: vec![0; self.shape.message].into(), expected });
        let fd = types::Fd(slot.socket.as_raw_fd());
        let len = self.shape.message as u32;
        let quiet = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        let entries = [
            opcode::Connect::new(fd, self.address.as_ptr().cast(), self.address.len()).build().flags(quiet),
            opcode::Send::new(fd, expected.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build().flags(quiet),
            opcode::Recv::new(fd, slot.answer.as_mut_ptr(), len).flags(libc::MSG_WAITALL).build(),
        ];
        for entry in entries {
            // SAFETY: address and slot are boxed and stay until the chain's last completion; the pattern is static.
            unsafe { self.ring.push(&entry.user_data(index as u64)) }?;
        }
        Ok(())
    }

    fn close(&mut self, completion: &Completion) -> Result<()> {
        let slot = self.slots[completion.user_data as usize].take().context("a chain completed twice")?;
        ensure!(
            completion.result == self.shape.message as i32,
            "a connection's exchange ended with {} instead of {} bytes",
            completion.result,
            self.shape.message
        );
        ensure!(*slot.answer == *slot.expected, "a connection got other bytes than it sent");
        self.served += 1;
        Ok(())
    }
}

impl Load for Churn {
    fn slice(&mut self, length: Duration) -> Result<Slice> {
        let start = Instant::now();
        self.served = 0;
        self.slots.resize_with(self.shape.connections, || None);
        for index in 0..self.shape.connections {
            self.open(index)?;
        }
        let mut under_way = self.shape.connections;
        while under_way > 0 {
            let answered = self.ring.wait_for(gather(under_way), &PATIENCE_SPEC)?;
            ensure!(answered, "no answer within {} s", PATIENCE.as_secs());
            let mut batch = std::mem::take(&mut self.batch);
            self.ring.reap(&mut batch);
            let draining = start.elapsed() >= length;
            for completion in batch.drain(..) {
                self.close(&completion)?;
                if draining {
                    under_way -= 1;
                } else {
                    self.open(completion.user_data as usize)?;
                }
            }
            self.batch = batch;
        }
        Ok(Slice { units: self.served, elapsed: start.elapsed(), latencies_ns: Vec::new() })
    }
}
