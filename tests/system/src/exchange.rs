//! Much at once: many connections that connect, send and take back at the same time, none waiting for another.
//!
//! One thread serves them all from one epoll instance. What is sent are lines, each connection's its own, so it suits servers
//! that echo bytes and servers that answer lines. Invariant: every byte that comes back is compared with the one that is
//! due; a connection that ends before all came back fails the exchange, and so does one that never gets there.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::net::sockopt;

use crate::client::{begin_connect, prepare};
use crate::{DEADLINE, Deadline, LoadReport};

const LINE: usize = 64;
/// The lines of all connections come from one sheet, where each begins at another place.
const SHEET: usize = 1024;
const CHUNK: usize = 16 * 1024;

/// What to exchange on each connection.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// Lines of 64 bytes.
    pub lines: usize,
    /// How often each line comes back.
    pub answers: usize,
    /// How long it may take.
    pub within: Duration,
}

impl Exchange {
    /// So many lines, each answered by itself.
    pub fn of(lines: usize) -> Exchange {
        Exchange { lines, answers: 1, within: DEADLINE }
    }

    /// Begins so many connections at once and exchanges on each as soon as it stands. The report has one round trip
    /// for each: from the common beginning until its last byte was back. The connections are left open.
    #[track_caller]
    pub fn run(self, addr: SocketAddr, connections: usize) -> (Vec<TcpStream>, LoadReport) {
        let began = Instant::now();
        self.run_on((0..connections).map(|_| begin_connect(addr)).collect(), began)
    }

    /// The same on connections that may stand already.
    #[track_caller]
    pub fn run_on(self, streams: Vec<TcpStream>, began: Instant) -> (Vec<TcpStream>, LoadReport) {
        let poll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor");
        let sheet = sheet();
        let mut talks: Vec<_> = streams.into_iter().map(|stream| Talk::new(stream, self)).collect();
        for (number, talk) in talks.iter().enumerate() {
            talk.stream.set_nonblocking(true).expect("a socket");
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&poll, &talk.stream, EventData::new_u64(number as u64), flags).expect("a new socket");
        }
        let deadline = Deadline::after(self.within);
        let mut took = Vec::with_capacity(talks.len());
        while took.len() < talks.len() {
            let unfinished = || format!("{} of {} exchanges ended", took.len(), talks.len());
            let ready = wait(&poll, deadline.left(&unfinished()));
            for number in ready {
                let talk = &mut talks[number];
                if !talk.is_done() && talk.go_on(&sheet[number % SHEET * LINE..]) {
                    took.push(began.elapsed());
                }
            }
        }
        drop(poll);
        let streams = talks.into_iter().map(|talk| {
            talk.stream.set_nonblocking(false).expect("a socket");
            prepare(&talk.stream);
            talk.stream
        });
        (streams.collect(), LoadReport::of(took))
    }
}

/// One connection's part.
struct Talk {
    stream: TcpStream,
    stands: bool,
    sent: usize,
    to_send: usize,
    taken: usize,
    answers: usize,
}

impl Talk {
    fn new(stream: TcpStream, Exchange { lines, answers, .. }: Exchange) -> Talk {
        Talk { stream, stands: false, sent: 0, to_send: lines * LINE, taken: 0, answers }
    }

    fn is_done(&self) -> bool {
        self.taken == self.to_send * self.answers
    }

    /// Does what can be done now; whether that was the last.
    fn go_on(&mut self, sheet: &[u8]) -> bool {
        if !self.stands {
            match sockopt::socket_error(&self.stream).expect("a socket") {
                Err(error) => panic!("the server does not accept: {error}"),
                // Of a connection under way nothing is ready, but epoll tells of a new socket once.
                Ok(()) if self.stream.peer_addr().is_err() => return false,
                Ok(()) => self.stands = true,
            }
        }
        self.send(sheet).unwrap_or_else(|error| panic!("{} of {} sent: {error}", self.sent, self.to_send));
        let due = self.to_send * self.answers;
        self.take(sheet).unwrap_or_else(|error| panic!("{} of {due} came back: {error}", self.taken));
        self.is_done()
    }

    fn send(&mut self, sheet: &[u8]) -> io::Result<()> {
        while self.sent < self.to_send {
            let at = self.sent % (SHEET * LINE);
            let most = CHUNK.min(self.to_send - self.sent).min(SHEET * LINE - at);
            match self.stream.write(&sheet[at..at + most]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, sheet: &[u8]) -> io::Result<()> {
        let mut back = [0; CHUNK];
        while !self.is_done() {
            match self.stream.read(&mut back) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.compare(&back[..count], sheet),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn compare(&mut self, mut back: &[u8], sheet: &[u8]) {
        while !back.is_empty() {
            // Where in which line's answers this is.
            let line = self.taken / (LINE * self.answers) % SHEET;
            let within = self.taken % LINE;
            let most = back.len().min(LINE - within);
            let due = &sheet[line * LINE + within..][..most];
            assert!(&back[..most] == due, "other bytes came back at {}", self.taken);
            self.taken += most;
            back = &back[most..];
        }
    }
}

/// Lines that all differ, twice, so that a connection may begin anywhere.
fn sheet() -> Vec<u8> {
    (0..2 * SHEET).flat_map(|line| format!("{:0width$}\n", line % SHEET, width = LINE - 1).into_bytes()).collect()
}

fn wait(poll: &OwnedFd, most: Duration) -> Vec<usize> {
    let mut events = Vec::with_capacity(1024);
    let timeout = Timespec::try_from(most).expect("a short time");
    let waited = epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
    waited.expect("a good descriptor");
    events.iter().map(|event: &epoll::Event| event.data.u64() as usize).collect()
}
