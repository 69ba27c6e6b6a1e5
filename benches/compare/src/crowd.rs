//! Very many client connections to one server, that come back all at once.
//!
//! Invariant: a crowd is served when every one of its connections has had a message of its own echoed, byte for byte, since it was
//! last reset; a dial or an exchange that fails is tried again, and counted. Connections are direct descriptors of several
//! rings, each on a thread of its own, because RLIMIT_NOFILE bounds a ring's table as it bounds a process. Each connects
//! from an address and port of its own and ends by reset, so the kernel neither searches for ports nor keeps TIME_WAIT.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fixed, Timespec};
use socket2::SockAddr;

use crate::endpoint::Endpoint;
use crate::load::gather;
use crate::open::{Course, histogram};
use crate::pattern::Pattern;
use crate::ring::{Completion, Ring};

/// Dials under way per ring when a crowd opens for the first time, where nothing is measured: no backlog overflows.
const WINDOW: usize = 64;

/// Dials started between looks at what has completed. A look runs at most 20 pieces of deferred work (the kernel's
/// `IO_LOCAL_TW_DEFAULT_MAX`), and a dial takes two or three: more at a time and everybody would be served at the end.
const STRIDE: usize = 6;

/// A crowd in which nobody is served for so long is given up. Lost SYNs come again after 1, 2, 4 s.
const STUCK: Duration = Duration::from_secs(15);
const STUCK_SPEC: Timespec = Timespec::new().sec(STUCK.as_secs());

pub struct Crowd {
    herds: Vec<Herd>,
}

/// What a return of everybody brought about.
pub struct Return {
    /// Latency: from the start to when each was served. Late: from the start to when its dial was started.
    pub course: Course,
    /// Dials and exchanges that failed and were tried again.
    pub retries: u64,
}

impl Return {
    fn new(units: u64) -> Self {
        let course = Course { units, elapsed: Duration::ZERO, latency: histogram(), late: histogram() };
        Self { course, retries: 0 }
    }
}

/// A thread with a ring.
struct Herd {
    orders: Option<Sender<Order>>,
    answers: Receiver<Result<Return>>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    /// Everybody connects, a few at a time.
    Open,
    /// Everybody is reset.
    Reset,
    /// Everybody connects again at once; time counts from when they were reset.
    Return(Instant),
    /// Everybody exchanges a message on the connection they have.
    Call,
}

/// Connections that one ring holds: the limit on open files, and some to spare for everything else.
pub fn per_ring(open_files: u64) -> usize {
    (open_files - open_files / 6).min(1 << 20) as usize
}

impl Crowd {
    /// Opens `connections`, of which `per_ring` fit in a ring. `number` tells crowds apart: no two share local addresses.
    pub fn open(
        endpoint: &Endpoint,
        connections: usize,
        per_ring: usize,
        message: usize,
        number: usize,
    ) -> Result<Self> {
        let rings = connections.div_ceil(per_ring).max(1);
        let herds = (0..rings)
            .map(|ring| {
                let share = connections / rings + usize::from(ring < connections % rings);
                Herd::start(endpoint, share, message, (number * rings + ring) as u64)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut crowd = Self { herds };
        crowd.order(|| Order::Open)?;
        Ok(crowd)
    }

    /// Resets everybody and waits until all have come back and been served. Nobody dials before all are reset.
    pub fn storm(&mut self) -> Result<Return> {
        let start = Instant::now();
        self.order(|| Order::Reset)?;
        let mut storm = self.order(|| Order::Return(start))?;
        storm.course.elapsed = start.elapsed();
        Ok(storm)
    }

    /// Has everybody exchange a message. Who has lost the connection connects again, and is counted as a retry.
    pub fn call(&mut self) -> Result<Return> {
        self.order(|| Order::Call)
    }

    fn order(&mut self, order: impl Fn() -> Order) -> Result<Return> {
        let start = Instant::now();
        for herd in &self.herds {
            let orders = herd.orders.as_ref().context("a crowd that was dropped")?;
            orders.send(order()).map_err(|_| anyhow!("a thread of the crowd ended"))?;
        }
        let mut all = Return::new(0);
        // Every answer is waited for, even after an error: none may be left for the next order.
        let answers: Vec<_> = self.herds.iter().map(|herd| herd.answers.recv()).collect();
        for answer in answers {
            let part = answer.context("a thread of the crowd ended")??;
            all.course.units += part.course.units;
            all.course.latency.add(&part.course.latency)?;
            all.course.late.add(&part.course.late)?;
            all.retries += part.retries;
        }
        all.course.elapsed = start.elapsed();
        Ok(all)
    }
}

impl Herd {
    fn start(endpoint: &Endpoint, connections: usize, message: usize, number: u64) -> Result<Self> {
        let (orders, inbox) = channel();
        let (outbox, answers) = channel();
        let (address, net) = (endpoint.address()?, endpoint.client_net());
        let thread = thread::Builder::new().name(format!("crowd-{number}")).spawn(move || {
            let mut flock = Flock::new(address, net, connections, message, number);
            for order in inbox {
                let answer = match &mut flock {
                    Ok(flock) => flock.carry_out(order),
                    Err(error) => Err(anyhow!("{error:#}")),
                };
                if outbox.send(answer).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders: Some(orders), answers, thread: Some(thread) })
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        // Without orders the thread ends, and its connections with its ring.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The connections of one ring.
struct Flock {
    // Dropped before the memory it refers to.
    ring: Ring,
    address: SockAddr,
    /// First byte of the local addresses.
    net: u8,
    /// By connection: its local address, its answer, and where its message begins in the pattern.
    sources: Vec<SockAddr>,
    answers: Vec<u8>,
    starts: Vec<usize>,
    message: usize,
    number: u64,
    /// Dials so far: each has a local address of its own.
    dials: u64,
    opened: bool,
    batch: Vec<Completion>,
}

impl Flock {
    fn new(address: SockAddr, net: u8, connections: usize, message: usize, number: u64) -> Result<Self> {
        let ring = Ring::new()?;
        let table = ring.uring().submitter().register_files_sparse(connections as u32);
        table.with_context(|| format!("cannot register {connections} direct descriptors: see RLIMIT_NOFILE"))?;
        Ok(Self {
            ring,
            address,
            net,
            sources: vec![source(net, number, 0); connections],
            answers: vec![0; connections * message],
            starts: vec![0; connections],
            message,
            number,
            dials: 0,
            opened: false,
            batch: Vec::new(),
        })
    }

    fn carry_out(&mut self, order: Order) -> Result<Return> {
        match order {
            Order::Open => {
                ensure!(!self.opened, "a crowd opens once");
                self.opened = true;
                self.come(Instant::now(), WINDOW, Self::dial)
            }
            Order::Reset => self.reset(),
            Order::Return(start) => self.come(start, self.sources.len(), Self::connect),
            Order::Call => self.come(Instant::now(), WINDOW, Self::exchange),
        }
    }

    /// Ends every connection by reset, and keeps its socket: a new one would cost the generator a third more than a dial.
    fn reset(&mut self) -> Result<Return> {
        ensure!(self.opened, "a crowd opens before it storms");
        for slot in 0..self.sources.len() as u32 {
            let reset = opcode::Connect::new(Fixed(slot), (&raw const NOWHERE).cast(), size_of_val(&NOWHERE) as u32);
            self.push(reset.build().flags(Flags::SKIP_SUCCESS), slot, END)?;
        }
        self.ring.poll()?;
        Ok(Return::new(0))
    }

    /// Begins with everybody, `window` at a time, and goes on until each has been served.
    fn come(&mut self, start: Instant, window: usize, begin: impl Fn(&mut Self, u32) -> Result<()>) -> Result<Return> {
        let count = self.sources.len();
        let mut come = Return::new(count as u64);
        let (mut begun, mut served, mut under_way, mut heard) = (0, 0, 0, Instant::now());
        while served < count {
            let now = start.elapsed().as_nanos() as u64;
            for _ in 0..STRIDE.min(count - begun).min(window - under_way) {
                begin(self, begun as u32)?;
                come.course.late.saturating_record(now);
                (begun, under_way) = (begun + 1, under_way + 1);
            }
            if begun < count && under_way < window {
                self.ring.poll()?;
            } else {
                self.ring.wait_for(gather(under_way), &STUCK_SPEC)?;
            }
            let mut batch = std::mem::take(&mut self.batch);
            self.ring.reap(&mut batch);
            let now = start.elapsed().as_nanos() as u64;
            for completion in batch.drain(..) {
                let slot = (completion.user_data >> 3) as u32;
                if self.is_served(slot, &completion)? {
                    come.course.latency.saturating_record(now);
                    (served, under_way, heard) = (served + 1, under_way - 1, Instant::now());
                } else {
                    come.retries += 1;
                    ensure!(
                        come.retries < 8 * count as u64,
                        "connections fail over and over, last: {}",
                        completion.result
                    );
                    self.dial(slot)?;
                }
            }
            self.batch = batch;
            ensure!(heard.elapsed() < STUCK, "{} of {count} connections not served for {STUCK:?}", count - served);
        }
        Ok(come)
    }

    /// Whether a chain ended well. One that the network broke is worth another try; anything else is an error.
    fn is_served(&self, slot: u32, completion: &Completion) -> Result<bool> {
        let step = completion.user_data & 7;
        if step == ANSWER && completion.result == self.message as i32 {
            let (at, start) = (slot as usize * self.message, self.starts[slot as usize]);
            let right = self.answers[at..at + self.message] == *Pattern::noise().run(start, self.message);
            ensure!(right, "a connection got other bytes than it sent");
            return Ok(true);
        }
        let broken = [libc::ECONNREFUSED, libc::ECONNRESET, libc::ETIMEDOUT, libc::EPIPE];
        if step >= CONNECT && (broken.contains(&-completion.result) || step == ANSWER && completion.result >= 0) {
            return Ok(false);
        }
        let what = ["an end", "a socket", "an option", "a bind", "a connect", "a send", "an answer"][step as usize];
        bail!("{what} of connection {slot} ended with {}", completion.result)
    }

    /// A socket in its slot, in place of any before, with an address of its own, and a connection.
    fn dial(&mut self, slot: u32) -> Result<()> {
        let index = slot as usize;
        self.sources[index] = source(self.net, self.number, self.dials);
        let source = &self.sources[index];
        let destination = DestinationSlot::try_from_slot_target(slot).map_err(|slot| anyhow!("no slot {slot}"))?;
        let fd = Fixed(slot);
        let option = |name, value: *const i32, len: usize| {
            opcode::SetSockOpt::new(fd, libc::SOL_SOCKET as u32, name as u32, value.cast(), len as u32).build()
        };
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).file_index(Some(destination)).build();
        let reset = option(libc::SO_LINGER, RESET.as_ptr(), size_of_val(&RESET));
        let reuse = option(libc::SO_REUSEADDR, &raw const REUSE, size_of_val(&REUSE));
        let bind = opcode::Bind::new(fd, source.as_ptr().cast(), source.len()).build();
        let quiet = Flags::SKIP_SUCCESS;
        self.push(socket.flags(quiet), slot, SOCKET)?;
        self.push(reset.flags(quiet), slot, OPTION)?;
        self.push(reuse.flags(quiet), slot, OPTION)?;
        self.push(bind.flags(quiet), slot, BIND)?;
        self.connect(slot)
    }

    /// Connect, send and receive as a chain that reports its end alone.
    fn connect(&mut self, slot: u32) -> Result<()> {
        self.starts[slot as usize] = Pattern::noise().start(self.dials as usize);
        self.dials += 1;
        let connect = opcode::Connect::new(Fixed(slot), self.address.as_ptr().cast(), self.address.len()).build();
        self.push(connect.flags(Flags::SKIP_SUCCESS | Flags::IO_LINK), slot, CONNECT)?;
        self.exchange(slot)
    }

    fn exchange(&mut self, slot: u32) -> Result<()> {
        let (index, fd, len) = (slot as usize, Fixed(slot), self.message as u32);
        let sent = Pattern::noise().run(self.starts[index], self.message);
        let answer = &mut self.answers[index * self.message..][..self.message];
        answer.fill(0);
        let send = opcode::Send::new(fd, sent.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build();
        let answer = opcode::Recv::new(fd, answer.as_mut_ptr(), len).flags(libc::MSG_WAITALL).build();
        self.push(send.flags(Flags::SKIP_SUCCESS | Flags::IO_LINK), slot, SEND)?;
        self.push(answer, slot, ANSWER)
    }

    fn push(&mut self, entry: Entry, slot: u32, step: u64) -> Result<()> {
        // SAFETY: addresses and answers lie in vectors that keep their size and outlive the ring, and a connection's are not
        // touched while its chain is under way; the pattern and the options are static.
        Ok(unsafe { self.ring.push(&entry.user_data(u64::from(slot) << 3 | step)) }?)
    }
}

/// Steps of a connection, in its completions' low bits.
const END: u64 = 0;
const SOCKET: u64 = 1;
const OPTION: u64 = 2;
const BIND: u64 = 3;
const CONNECT: u64 = 4;
const SEND: u64 = 5;
const ANSWER: u64 = 6;

/// `struct linger { on, seconds }`: closing sends RST.
static RESET: [i32; 2] = [1, 0];
/// To connect to `AF_UNSPEC` is to end the connection (connect(2)), by RST; the socket keeps its address.
static NOWHERE: libc::sockaddr = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
/// Another run may have the same local address, towards another port.
static REUSE: i32 = 1;

/// The local address of a ring's dial: of a /10 in `net`, and a port below those that the kernel picks by itself. Rings have
/// a /18 each, of which the address changes fastest.
fn source(net: u8, ring: u64, dial: u64) -> SockAddr {
    const PORTS: std::ops::Range<u64> = 1_024..20_000;
    const ADDRESSES: u64 = 1 << 14;
    let address = u32::from_be_bytes([net, 64, 0, 0]) + (ring % 256 * ADDRESSES + dial % ADDRESSES) as u32;
    let port = PORTS.start + dial / ADDRESSES % (PORTS.end - PORTS.start);
    SockAddr::from(SocketAddrV4::new(Ipv4Addr::from(address), port as u16))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn no_two_dials_of_any_rings_share_an_address_and_port() {
        let sources: Vec<_> = [0, 1, 255]
            .into_iter()
            .flat_map(|ring| (0..40_000).map(move |dial| source(127, ring, dial).as_socket_ipv4().expect("IPv4")))
            .collect();
        assert_eq!(sources.iter().collect::<HashSet<_>>().len(), sources.len());
        assert!(sources.iter().all(|source| source.ip().is_loopback() && source.port() < 20_000));
    }

    #[test]
    fn a_crowd_comes_back_after_a_storm_even_if_some_are_refused_at_first() {
        let endpoint = Endpoint::free_tcp_port(7).expect("a port");
        let listener = endpoint.listen().expect("a listener");
        thread::spawn(move || {
            for turn in 0_usize.. {
                let Ok((mut socket, _)) = listener.accept() else { return };
                if turn == 250 {
                    // Closed without an answer: that one has to try again.
                    continue;
                }
                thread::spawn(move || {
                    let mut bytes = [0; 64];
                    while let Ok(len @ 1..) = socket.read(&mut bytes) {
                        socket.write_all(&bytes[..len]).expect("an answer");
                    }
                });
            }
        });
        let mut crowd = Crowd::open(&endpoint, 200, 80, 64, 0).expect("a crowd");
        let storm = crowd.storm().expect("a storm");
        assert_eq!((storm.course.units, storm.course.latency.len()), (200, 200));
        assert_eq!(storm.retries, 1);
        let call = crowd.call().expect("a call");
        assert_eq!((call.course.latency.len(), call.retries), (200, 0));
    }
}
