//! Sending: at once, as much as the socket takes; the rest when it has room again.
//!
//! Invariant: a send completes when its whole chain is taken, or the socket broke, or it was cancelled; until then one place
//! in `sends` and nobody else refers to its memory. A socket is watched for room from the first time it had none; a Unix
//! socket only while a send waits.

use std::io::IoSlice;
use std::os::fd::AsFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use super::EpollDriver;
use super::poller::{READ, Watched};
use super::slots::{NONE, flag};
use crate::buffer::{ChainRest, SendChain};
use crate::token::Token;

/// A send that waits for room.
#[derive(Debug)]
pub(super) struct Sending {
    token: Token,
    rest: ChainRest,
}

impl EpollDriver {
    #[inline]
    pub(super) fn send_now(&mut self, slot: u32, token: Token, chain: &SendChain) {
        let Some(fd) = self.table.fd(slot) else {
            return self.complete(token, -libc::EBADF);
        };
        match write(fd, chain.slices()) {
            Ok(taken) if taken == chain.total() => self.complete(token, taken as i32),
            Ok(taken) => self.wait_for_room(slot, Sending { token, rest: ChainRest::new(chain, taken) }),
            Err(Errno::AGAIN | Errno::INTR) => {
                self.wait_for_room(slot, Sending { token, rest: ChainRest::new(chain, 0) });
            }
            Err(error) => self.complete(token, -error.raw_os_error()),
        }
    }

    #[cold]
    fn wait_for_room(&mut self, slot: u32, sending: Sending) {
        let token = sending.token;
        debug_assert_eq!(self.table.at(slot).sending, NONE, "two sends on one connection");
        self.table.at(slot).sending = self.sends.insert(sending) as u32;
        if !self.table.at(slot).has(flag::WATCHED_OUT)
            && let Some(fd) = self.table.fd(slot)
        {
            match self.poller.watch_for(fd, Watched::Slot(slot), READ | EventFlags::OUT) {
                Ok(()) => self.table.at(slot).set(flag::WATCHED_OUT),
                // Out of memory: nobody would tell of the room.
                Err(error) => self.end_send(slot, token, -error.raw_os_error()),
            }
        }
    }

    /// The socket has room, or is broken: the send that waits goes on.
    pub(super) fn send_rest(&mut self, slot: u32) {
        let place = self.table.at(slot).sending as usize;
        let (Some(sending), Some(fd)) = (self.sends.get_mut(place), self.table.fd(slot)) else { return };
        let written = sending.rest.with_slices(|slices| write(fd, slices));
        match written {
            Ok(count) => sending.rest.advance(count),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(error) => {
                let (token, taken) = (sending.token, sending.rest.taken());
                let result = if taken > 0 { taken as i32 } else { -error.raw_os_error() };
                return self.end_send(slot, token, result);
            }
        }
        if sending.rest.is_done() {
            let (token, taken) = (sending.token, sending.rest.taken());
            self.end_send(slot, token, taken as i32);
        }
    }

    /// Ends the send with this token early, if it waits.
    pub(super) fn cancel_send(&mut self, target: Token) -> bool {
        let slot = target.slot();
        let place = self.table.at(slot).sending as usize;
        match self.sends.get(place) {
            Some(sending) if sending.token == target => {
                let taken = sending.rest.taken();
                self.end_send(slot, target, if taken > 0 { taken as i32 } else { -libc::ECANCELED });
                true
            }
            _ => false,
        }
    }

    fn end_send(&mut self, slot: u32, token: Token, result: i32) {
        let place = std::mem::replace(&mut self.table.at(slot).sending, NONE);
        self.sends.remove(place as usize);
        if self.table.at(slot).has(flag::UNIX)
            && let Some(fd) = self.table.fd(slot)
            && self.poller.watch_for(fd, Watched::Slot(slot), READ).is_ok()
        {
            self.table.at(slot).clear(flag::WATCHED_OUT);
        }
        self.complete(token, result);
    }
}

/// Gives the socket what it takes.
#[inline]
fn write(fd: impl AsFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    match slices {
        [slice] => send(fd, slice, SendFlags::NOSIGNAL),
        _ => sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL),
    }
}
