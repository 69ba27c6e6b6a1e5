//! Datagram sockets: one receive at a time each, and sends that leave at once.
//!
//! Invariant: the last datagram of a socket stays readable until its next receive. A send that finds the socket's buffer full
//! is copied and waits, [`SENDS`] of them at most per shard; later ones of that socket wait behind it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use super::EpollDriver;
use super::poller::Watched;
use crate::driver::{Completion, Payload};
use crate::token::Token;

/// Datagrams that may wait for room per shard.
const SENDS: usize = 256;
/// The largest UDP datagram, and a byte to spare.
const LARGEST: usize = 65_536;

/// One datagram socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// A receive is under way.
    token: Option<Token>,
    /// There may be something to receive.
    readable: bool,
    queued: bool,
    /// Zeroed memory of this size is mapped only where a datagram reaches.
    bytes: Box<[u8]>,
    /// The last datagram: sender, length, cut to fit.
    last: (SocketAddr, usize, bool),
    /// Sends that wait for room.
    waiting: VecDeque<(Token, SocketAddr, Box<[u8]>)>,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Socket {
        let last = ((Ipv4Addr::UNSPECIFIED, 0).into(), 0, false);
        let bytes = vec![0; LARGEST].into_boxed_slice();
        Socket { fd, token: None, readable: false, queued: false, bytes, last, waiting: VecDeque::new() }
    }

    /// The last datagram received.
    pub(super) fn last(&self) -> (SocketAddr, &[u8], bool) {
        let (from, length, cut) = self.last;
        (from, &self.bytes[..length], cut)
    }

    /// Receives one datagram: its length.
    fn receive(&mut self) -> Result<usize, Errno> {
        let (length, whole, from) = recvfrom(&self.fd, &mut self.bytes[..], RecvFlags::TRUNC)?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok()).ok_or(Errno::AFNOSUPPORT)?;
        self.last = (from, length, whole > length);
        Ok(length)
    }
}

impl EpollDriver {
    pub(super) fn watch_datagram(&mut self, number: u32) -> Result<(), Errno> {
        let socket = &self.datagrams[number as usize];
        self.poller.watch(&socket.fd, Watched::Datagram(number), EventFlags::IN | EventFlags::OUT)
    }

    pub(super) fn datagram_event(&mut self, number: u32, flags: EventFlags) {
        if flags.intersects(EventFlags::IN | EventFlags::ERR) {
            self.datagrams[number as usize].readable = true;
            self.queue_datagram(number);
        }
        if flags.intersects(EventFlags::OUT | EventFlags::ERR) {
            self.send_waiting(number);
        }
    }

    pub(super) fn arm_datagram(&mut self, number: u32, token: Token) {
        self.datagrams[number as usize].token = Some(token);
        self.queue_datagram(number);
    }

    fn queue_datagram(&mut self, number: u32) {
        let socket = &mut self.datagrams[number as usize];
        if socket.readable && socket.token.is_some() && !std::mem::replace(&mut socket.queued, true) {
            self.arrived.push_back(number);
        }
    }

    /// Ends the receive with this token, if it is under way.
    pub(super) fn disarm_datagram(&mut self, target: Token) -> bool {
        let mut armed = self.datagrams.iter_mut();
        armed.find(|socket| socket.token == Some(target)).is_some_and(|socket| socket.token.take().is_some())
    }

    /// Receives one datagram from each socket that may have one.
    pub(super) fn run_datagrams(&mut self, out: &mut Vec<Completion>, end: usize) {
        for _ in 0..self.arrived.len().min(end - out.len()) {
            let Some(number) = self.arrived.pop_front() else { return };
            let socket = &mut self.datagrams[number as usize];
            socket.queued = false;
            let Some(token) = socket.token else { continue };
            let (result, payload) = match socket.receive() {
                Ok(length) => (length as i32, Payload::Datagram(number)),
                Err(Errno::AGAIN) => {
                    socket.readable = false;
                    continue;
                }
                // What the network said of an earlier send; the next datagram may lie behind it.
                Err(error) => (-error.raw_os_error(), Payload::None),
            };
            socket.token = None;
            out.push(Completion { token, result, more: false, payload });
        }
    }

    pub(super) fn send_datagram(&mut self, number: u32, token: Token, to: SocketAddr, bytes: &[u8]) -> bool {
        let socket = &mut self.datagrams[number as usize];
        let sent = match socket.waiting.is_empty() {
            true => sendto(&socket.fd, bytes, SendFlags::NOSIGNAL, &to),
            false => Err(Errno::AGAIN),
        };
        match sent {
            Ok(count) => self.complete(token, count as i32),
            Err(Errno::AGAIN) if self.datagrams_waiting == SENDS => return false,
            Err(Errno::AGAIN) => {
                socket.waiting.push_back((token, to, bytes.into()));
                self.datagrams_waiting += 1;
            }
            Err(error) => self.complete(token, -error.raw_os_error()),
        }
        true
    }

    fn send_waiting(&mut self, number: u32) {
        loop {
            let socket = &mut self.datagrams[number as usize];
            let Some((token, to, bytes)) = socket.waiting.front() else { return };
            let token = *token;
            let result = match sendto(&socket.fd, bytes, SendFlags::NOSIGNAL, to) {
                Ok(count) => count as i32,
                Err(Errno::AGAIN) => return,
                Err(error) => -error.raw_os_error(),
            };
            socket.waiting.pop_front();
            self.datagrams_waiting -= 1;
            self.complete(token, result);
        }
    }
}
