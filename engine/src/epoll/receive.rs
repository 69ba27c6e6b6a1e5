//! Receiving: from sockets that may have something, straight into the pool's buffers.
//!
//! Invariant: a buffer is filled from its head on, by one connection after the other, until little room is left; the pool
//! counts each range. A socket is left alone when a receive has found the end of what it had: it found nothing, or less than
//! it had room for (and nothing is known that stops a receive short).

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recv, recvmsg};

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;

use super::EpollDriver;
use super::slots::{Reading, flag};
use crate::buffer::Pool;
use crate::driver::{Completion, Payload};
use crate::token::Token;

/// The free buffers at hand.
#[derive(Debug)]
pub(super) struct Buffers {
    /// A stack: the warmest goes first.
    lent: Vec<u16>,
    /// The one that is being filled.
    current: Option<u16>,
    /// Fill it in many receives.
    incrementally: bool,
}

impl Buffers {
    pub(super) fn new(incrementally: bool) -> Buffers {
        Buffers { lent: Vec::new(), current: None, incrementally }
    }

    pub(super) fn add(&mut self, buffer: u16) {
        self.lent.push(buffer);
    }

    #[inline]
    fn current(&mut self) -> Option<u16> {
        if self.current.is_none() {
            self.current = self.lent.pop();
        }
        self.current
    }
}

impl EpollDriver {
    /// Starts an operation that waits for something to be received.
    #[inline]
    pub(super) fn read(&mut self, slot: u32, reading: Reading) {
        let socket = self.table.at(slot);
        debug_assert!(matches!(socket.reading, Reading::No), "two receives on one connection");
        socket.reading = reading;
        if socket.has(flag::READABLE) {
            self.queue(slot);
        }
    }

    /// Starts an operation that waits for the peer's end.
    pub(super) fn watch_end(&mut self, slot: u32, token: Token) {
        let socket = self.table.at(slot);
        debug_assert!(matches!(socket.reading, Reading::No), "two receives on one connection");
        socket.reading = Reading::Hangup(token);
        self.tell_end(slot);
    }

    /// Tells whoever waits for the peer's end alone, if it has come.
    pub(super) fn tell_end(&mut self, slot: u32) {
        let socket = self.table.at(slot);
        if let Reading::Hangup(token) = socket.reading
            && socket.has(flag::FINISHED | flag::BROKEN)
        {
            let result = if socket.has(flag::BROKEN) { -libc::ECONNRESET } else { 0 };
            socket.reading = Reading::No;
            self.complete(token, result);
        }
    }

    /// Puts a socket into the list of those to receive from.
    #[inline]
    pub(super) fn queue(&mut self, slot: u32) {
        let socket = self.table.at(slot);
        if !socket.has(flag::QUEUED) {
            socket.set(flag::QUEUED);
            self.readable.push_back(slot);
        }
    }

    /// Receives once for each socket in the list, up to `end` completions; those that may have more go behind the others.
    pub(super) fn run_receives(&mut self, pool: &mut Pool, out: &mut Vec<Completion>, end: usize) {
        for _ in 0..self.readable.len() {
            if out.len() >= end {
                return;
            }
            let Some(slot) = self.readable.pop_front() else { return };
            let socket = self.table.at(slot);
            // A slot that was closed, or that is in the list twice since.
            if !socket.has(flag::QUEUED) {
                continue;
            }
            socket.clear(flag::QUEUED);
            let (token, most) = match socket.reading {
                Reading::No | Reading::Hangup(_) | Reading::Dial(_) => continue,
                Reading::Poll(token) => {
                    socket.reading = Reading::No;
                    out.push(Completion { token, result: 0, more: false, payload: Payload::None });
                    continue;
                }
                Reading::Once(token) => (token, u32::MAX),
                Reading::Credit { token, left } => (token, left),
            };
            if let Some(completion) = self.receive(slot, token, most, pool) {
                out.push(completion);
            }
        }
    }

    /// One receive of at most so many bytes; `None` if there was nothing.
    #[inline]
    fn receive(&mut self, slot: u32, token: Token, most: u32, pool: &mut Pool) -> Option<Completion> {
        let socket = self.table.at(slot);
        let ended = |result| Some(Completion { token, result, more: false, payload: Payload::None });
        let Some(buffer) = self.buffers.current() else {
            socket.reading = Reading::No;
            return ended(-libc::ENOBUFS);
        };
        let Some(fd) = &socket.fd else {
            socket.reading = Reading::No;
            return ended(-libc::EBADF);
        };
        let room = pool.room(buffer);
        let whole = room.len();
        let wanted = whole.min(most as usize);
        let received = match socket.has(flag::UNIX) {
            false => recv(fd, &mut room[..wanted], RecvFlags::empty()).map(|(count, _)| (count, false)),
            true => recv_unix(fd, &mut room[..wanted]),
        };
        let (count, cut) = match received {
            Ok((0, _)) => {
                socket.reading = Reading::No;
                return ended(0);
            }
            Ok(received) => received,
            Err(Errno::AGAIN) => {
                socket.clear(flag::READABLE | flag::READ_ON);
                return None;
            }
            Err(Errno::INTR) => {
                self.queue(slot);
                return None;
            }
            Err(error) => {
                socket.reading = Reading::No;
                return ended(-error.raw_os_error());
            }
        };
        if count < wanted && !cut && !socket.has(flag::READ_ON) {
            socket.clear(flag::READABLE);
        }
        let left = most - count as u32;
        let more = match &mut socket.reading {
            Reading::Credit { left: credit, .. } if left > 0 => {
                // No credit was given if it was all there is.
                *credit = if most == u32::MAX { most } else { left };
                true
            }
            reading => {
                *reading = Reading::No;
                false
            }
        };
        if more && socket.has(flag::READABLE) {
            self.queue(slot);
        }
        // A quarter would only cut the next large message into two.
        let keeps_rest = self.buffers.incrementally && whole - count >= pool.buffer_size() as usize / 4;
        let received = pool.received(buffer, count as u32, keeps_rest);
        if !keeps_rest {
            self.buffers.current = None;
        }
        Some(Completion { token, result: count as i32, more, payload: Payload::Data(received) })
    }
}

/// Receives from a Unix socket; also says whether descriptors came along, which are dropped, and which a receive stops at.
fn recv_unix(fd: &OwnedFd, into: &mut [u8]) -> Result<(usize, bool), Errno> {
    let mut ranges = [IoSliceMut::new(into)];
    let message = recvmsg(fd, &mut ranges, &mut RecvAncillaryBuffer::default(), RecvFlags::empty())?;
    Ok((message.bytes, message.flags.contains(ReturnFlags::CTRUNC)))
}
