//! The io_uring floor: multishot accept into direct descriptors, multishot receive into incremental provided buffers,
//! sends straight from the received buffer, one wait per batch. No engine in between.
//!
//! Invariants: bytes leave a connection in the order they came, one send in flight at a time; a buffer goes back to the
//! kernel when the kernel is through with it and no segment refers to it; a slot is closed only when neither a receive
//! nor a send of it is under way, so no completion can meet a later connection. It trusts its peers: one that
//! sends and never reads pins the pool's buffers.

use std::os::fd::AsRawFd;

use anyhow::{Result, bail};
use io_uring::{opcode, types};
use rustix::process::{Resource, getrlimit};
use socket2::Socket;

use crate::ring::{Buffers, Completion, Ring};

/// Direct descriptors, unless the limit on open files allows fewer.
const SLOTS: u64 = 32 << 10;

const NONE: u32 = u32::MAX;

// What completed, in the low bits of `user_data`; the slot is above.
const ACCEPT: u64 = 0;
const RECV: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;
const SHUTDOWN: u64 = 4;
const KIND_BITS: u32 = 3;

/// Received bytes on their way back; segments of a connection form a list.
struct Segment {
    buffer: u16,
    start: u32,
    len: u32,
    next: u32,
}

#[derive(Clone)]
struct Conn {
    /// The segment being sent, first of the list.
    head: u32,
    tail: u32,
    /// The receive has ended for good: by the peer's end of stream or by an error.
    ended: bool,
}

impl Conn {
    const NEW: Self = Self { head: NONE, tail: NONE, ended: false };
}

#[derive(Clone, Copy, Default)]
struct Use {
    segments: u32,
    /// The kernel is through with the buffer.
    full: bool,
}

struct Uring {
    // Dropped before the buffers it writes to.
    ring: Ring,
    buffers: Buffers,
    uses: [Use; Buffers::COUNT],
    /// Buffers that are full and not given back yet.
    full: u32,
    listener: Socket,
    conns: Vec<Conn>,
    segments: Vec<Segment>,
    free_segment: u32,
    /// Slots whose receive found no buffer.
    starved: Vec<u32>,
}

pub fn run(listener: Socket) -> Result<()> {
    let ring = Ring::new()?;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(SLOTS);
    ring.uring().submitter().register_files_sparse(SLOTS.min(limit) as u32)?;
    let mut server = Uring {
        buffers: Buffers::register(&ring)?,
        ring,
        uses: [Use::default(); Buffers::COUNT],
        full: 0,
        listener,
        conns: Vec::new(),
        segments: Vec::new(),
        free_segment: NONE,
        starved: Vec::new(),
    };
    server.accept()?;
    let mut batch = Vec::new();
    loop {
        server.ring.wait()?;
        server.ring.reap(&mut batch);
        for completion in batch.drain(..) {
            server.dispatch(&completion)?;
        }
    }
}

impl Uring {
    fn dispatch(&mut self, completion: &Completion) -> Result<()> {
        let slot = (completion.user_data >> KIND_BITS) as u32;
        match completion.user_data & ((1 << KIND_BITS) - 1) {
            ACCEPT => self.on_accept(completion),
            RECV => self.on_recv(slot, completion),
            SEND => self.on_send(slot, completion),
            CLOSE if completion.result < 0 => bail!("closing slot {slot} failed with errno {}", -completion.result),
            // A shutdown fails where the connection is gone already.
            CLOSE | SHUTDOWN => Ok(()),
            kind => unreachable!("no operation is of kind {kind}"),
        }
    }

    fn on_accept(&mut self, completion: &Completion) -> Result<()> {
        if let Ok(slot) = u32::try_from(completion.result) {
            if self.conns.len() <= slot as usize {
                self.conns.resize(slot as usize + 1, Conn::NEW);
            }
            self.conns[slot as usize] = Conn::NEW;
            self.receive(slot)?;
        }
        if completion.more() { Ok(()) } else { self.accept() }
    }

    fn on_recv(&mut self, slot: u32, completion: &Completion) -> Result<()> {
        // Without bytes no buffer was consumed, whatever the flags say.
        if completion.result <= 0 {
            if completion.result == -libc::ENOBUFS {
                // Some buffer may have gone back since. Else one is full, and giving it back re-arms the slot.
                if self.full == 0 {
                    return self.receive(slot);
                }
                self.starved.push(slot);
                return Ok(());
            }
            self.conns[slot as usize].ended = true;
            return self.close_if_done(slot);
        }
        let len = completion.result as u32;
        let Some(buffer) = completion.buffer() else {
            bail!("{len} received bytes came without a buffer");
        };
        let start = self.buffers.take(buffer, len);
        if !completion.buffer_continues() {
            self.uses[usize::from(buffer)].full = true;
            self.full += 1;
        }
        self.enqueue(slot, buffer, start, len)?;
        if completion.more() { Ok(()) } else { self.receive(slot) }
    }

    fn on_send(&mut self, slot: u32, completion: &Completion) -> Result<()> {
        let sent = self.release_head(slot)?;
        if completion.result == sent as i32 {
            match self.conns[slot as usize].head {
                NONE => self.close_if_done(slot),
                head => self.send(slot, head),
            }
        } else {
            // MSG_WAITALL leaves only an error as the reason for less. Shutting down ends the receive too.
            while self.conns[slot as usize].head != NONE {
                self.release_head(slot)?;
            }
            if self.conns[slot as usize].ended {
                return self.close_if_done(slot);
            }
            let entry = opcode::Shutdown::new(types::Fixed(slot), libc::SHUT_RDWR)
                .build()
                .user_data(u64::from(slot) << KIND_BITS | SHUTDOWN);
            // SAFETY: the entry points to nothing.
            Ok(unsafe { self.ring.push(&entry) }?)
        }
    }

    /// Appends received bytes to what the connection sends.
    fn enqueue(&mut self, slot: u32, buffer: u16, start: u32, len: u32) -> Result<()> {
        let Conn { head, tail, .. } = self.conns[slot as usize];
        if tail != head {
            // The last segment is not under way: bytes that follow it in memory join it.
            let last = &mut self.segments[tail as usize];
            if last.buffer == buffer && last.start + last.len == start {
                last.len += len;
                return Ok(());
            }
        }
        let segment = self.new_segment(Segment { buffer, start, len, next: NONE });
        self.uses[usize::from(buffer)].segments += 1;
        let conn = &mut self.conns[slot as usize];
        conn.tail = segment;
        if head == NONE {
            conn.head = segment;
            self.send(slot, segment)
        } else {
            self.segments[tail as usize].next = segment;
            Ok(())
        }
    }

    /// Takes the first segment off the list and returns its length.
    fn release_head(&mut self, slot: u32) -> Result<u32> {
        let conn = &mut self.conns[slot as usize];
        let index = conn.head;
        let segment = &mut self.segments[index as usize];
        conn.head = segment.next;
        if conn.head == NONE {
            conn.tail = NONE;
        }
        segment.next = self.free_segment;
        self.free_segment = index;
        let (buffer, len) = (segment.buffer, segment.len);
        let usage = &mut self.uses[usize::from(buffer)];
        usage.segments -= 1;
        if usage.segments == 0 && usage.full {
            self.give(buffer)?;
        }
        Ok(len)
    }

    fn give(&mut self, buffer: u16) -> Result<()> {
        self.uses[usize::from(buffer)] = Use::default();
        self.full -= 1;
        self.buffers.give(buffer);
        while let Some(slot) = self.starved.pop() {
            self.receive(slot)?;
        }
        Ok(())
    }

    fn new_segment(&mut self, segment: Segment) -> u32 {
        match self.free_segment {
            NONE => {
                self.segments.push(segment);
                self.segments.len() as u32 - 1
            }
            index => {
                self.free_segment = self.segments[index as usize].next;
                self.segments[index as usize] = segment;
                index
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        let entry = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd()))
            .allocate_file_index(true)
            .build()
            .user_data(ACCEPT);
        // SAFETY: the entry points to nothing.
        Ok(unsafe { self.ring.push(&entry) }?)
    }

    fn receive(&mut self, slot: u32) -> Result<()> {
        let entry = opcode::RecvMulti::new(types::Fixed(slot), Buffers::GROUP)
            .build()
            .user_data(u64::from(slot) << KIND_BITS | RECV);
        // SAFETY: the entry points to nothing; the pool outlives the ring.
        Ok(unsafe { self.ring.push(&entry) }?)
    }

    fn send(&mut self, slot: u32, segment: u32) -> Result<()> {
        let Segment { buffer, start, len, .. } = self.segments[segment as usize];
        let entry = opcode::Send::new(types::Fixed(slot), self.buffers.pointer(buffer, start), len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(u64::from(slot) << KIND_BITS | SEND);
        // SAFETY: the buffer is not given back while a segment refers to it, and this one does until `on_send`.
        Ok(unsafe { self.ring.push(&entry) }?)
    }

    fn close_if_done(&mut self, slot: u32) -> Result<()> {
        let conn = &self.conns[slot as usize];
        if !conn.ended || conn.head != NONE {
            return Ok(());
        }
        let entry = opcode::Close::new(types::Fixed(slot)).build().user_data(u64::from(slot) << KIND_BITS | CLOSE);
        // SAFETY: the entry points to nothing.
        Ok(unsafe { self.ring.push(&entry) }?)
    }
}
