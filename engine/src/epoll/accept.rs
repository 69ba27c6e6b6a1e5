//! Listening sockets: connections out of the backlog and into slots, and out of the door when there is none.
//!
//! Invariant: while accepting is armed, the backlog is emptied: a connection that finds no slot, or no descriptor, is accepted and
//! closed, one per attempt, and that attempt ends the operation with `-ENFILE` or `-EMFILE`. For the second case one
//! descriptor is held in reserve.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};

use super::EpollDriver;
use super::slots::NONE;
use crate::driver::{Completion, Payload};
use crate::token::Token;

/// Connections accepted per reap from one listener, so that a storm of them leaves time for those that are there.
const ACCEPTS: usize = 128;
/// Turns that a full table gets to become less so, before somebody is turned away: connections that have ended are at hand as
/// events, and it takes a poll, a receive and a close to be rid of them.
const TURNS: u8 = 4;
/// What accepting is put off with.
const LATER: Errno = Errno::BUSY;
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    fd: OwnedFd,
    is_unix: bool,
    /// Accepting is armed.
    token: Option<Token>,
    /// Somebody may be waiting.
    readable: bool,
    /// In the list of those to accept from.
    queued: bool,
    /// For so many turns there was no room.
    waited: u8,
}

impl Listener {
    pub(super) fn new(fd: OwnedFd, is_unix: bool) -> Listener {
        Listener { fd, is_unix, token: None, readable: false, queued: false, waited: 0 }
    }

    /// What [`Listener::new`] took.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl EpollDriver {
    pub(super) fn arm_accept(&mut self, number: u32, token: Token) {
        let listener = self.listeners[number as usize].as_mut().expect("an adopted listener");
        debug_assert!(listener.token.is_none(), "two accepts on one listener");
        listener.token = Some(token);
        self.queue_accept(number);
    }

    pub(super) fn somebody_waits(&mut self, number: u32) {
        if let Some(listener) = &mut self.listeners[number as usize] {
            listener.readable = true;
            self.queue_accept(number);
        }
    }

    fn queue_accept(&mut self, number: u32) {
        if let Some(listener) = &mut self.listeners[number as usize]
            && listener.readable
            && listener.token.is_some()
            && !std::mem::replace(&mut listener.queued, true)
        {
            self.accepting.push_back(number);
        }
    }

    /// Ends the accept with this token, if it is armed.
    pub(super) fn disarm_accept(&mut self, target: Token) -> bool {
        let mut armed = self.listeners.iter_mut().flatten();
        match armed.find(|listener| listener.token == Some(target)) {
            Some(listener) => listener.token.take().is_some(),
            None => false,
        }
    }

    /// Accepts from each listener that somebody waits at, up to `end` completions.
    pub(super) fn run_accepts(&mut self, out: &mut Vec<Completion>, end: usize) {
        for _ in 0..self.accepting.len() {
            let Some(number) = self.accepting.pop_front() else { return };
            let most = (end - out.len()).min(ACCEPTS);
            if let Some(listener) = &mut self.listeners[number as usize] {
                listener.queued = false;
                self.accept_some(number, out, most);
                self.queue_accept(number);
            }
        }
    }

    fn accept_some(&mut self, number: u32, out: &mut Vec<Completion>, most: usize) {
        for _ in 0..most {
            let Some(listener) = &self.listeners[number as usize] else { return };
            let Some(token) = listener.token else { return };
            let (result, more) = match self.accept_one(number) {
                Ok(slot) => (slot as i32, true),
                Err(Errno::AGAIN) => return self.nobody_waits(number),
                Err(LATER) => return,
                // The peer has given up, or the network said so of one that waited: on to the next.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO | Errno::NETDOWN | Errno::NETUNREACH) => continue,
                Err(Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NONET | Errno::NOPROTOOPT) => continue,
                Err(error) => (-error.raw_os_error(), false),
            };
            out.push(Completion { token, result, more, payload: Payload::None });
            if let Some(listener) = self.listeners[number as usize].as_mut().filter(|_| !more) {
                listener.token = None;
            }
        }
    }

    fn nobody_waits(&mut self, number: u32) {
        if let Some(listener) = &mut self.listeners[number as usize] {
            (listener.readable, listener.waited) = (false, 0);
        }
    }

    /// Whether to wait for room a turn longer: something is at hand that may be a connection's end.
    fn may_wait(&mut self, number: u32) -> bool {
        let some_may_end = !self.readable.is_empty();
        let listener =
            self.listeners[number as usize].as_mut().filter(|listener| some_may_end && listener.waited < TURNS);
        listener.map(|listener| listener.waited += 1).is_some()
    }

    /// Accepts one connection; an error other than `AGAIN` and `LATER` is about one that was there, and is not any more.
    fn accept_one(&mut self, number: u32) -> Result<u32, Errno> {
        let has_room = self.table.reserve();
        if !has_room && self.may_wait(number) {
            return Err(LATER);
        }
        let Some(listener) = &self.listeners[number as usize] else { return Err(Errno::AGAIN) };
        if !has_room {
            drop(accept_with(&listener.fd, FLAGS)?);
            return Err(Errno::NFILE);
        }
        let accepted = match listener.is_unix {
            true => accept_with(&listener.fd, FLAGS).map(|fd| (fd, None)),
            false => acceptfrom_with(&listener.fd, FLAGS),
        };
        let is_unix = listener.is_unix;
        let (fd, peer) = accepted.map_err(|error| {
            self.table.give_up();
            match error {
                Errno::MFILE | Errno::NFILE if self.may_wait(number) => LATER,
                Errno::MFILE | Errno::NFILE => self.turn_away(number, error),
                error => error,
            }
        })?;
        let slot = self.table.put(fd, is_unix);
        if let Some(listener) = &mut self.listeners[number as usize] {
            listener.waited = 0;
        }
        if let Err(error) = self.watch(slot) {
            self.table.remove(slot);
            return Err(error);
        }
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        self.note_peer(slot, peer);
        Ok(slot)
    }

    /// Keeps the address that came with a connection until somebody asks for it.
    pub(super) fn note_peer(&mut self, slot: u32, peer: Option<SocketAddr>) {
        self.table.at(slot).peer = peer.map_or(NONE, |peer| self.peers.insert(Some(peer)) as u32);
    }

    /// The address that came with a connection, if nobody has asked for it.
    pub(super) fn known_peer(&mut self, slot: u32) -> Option<SocketAddr> {
        *self.peers.get(self.table.at(slot).peer as usize)?
    }

    /// No descriptor is left: the one in reserve is given up for as long as it takes to accept one connection and close it.
    fn turn_away(&mut self, number: u32, error: Errno) -> Errno {
        let Some(listener) = &self.listeners[number as usize] else { return error };
        self.reserve = None;
        let turned_away = accept_with(&listener.fd, FLAGS);
        let outcome = match &turned_away {
            // The kernel asks for a descriptor before it looks whether anybody waits.
            Err(Errno::AGAIN) => Errno::AGAIN,
            _ => error,
        };
        drop(turned_away);
        self.reserve = spare();
        outcome
    }
}

/// A descriptor to be held in reserve.
pub(super) fn spare() -> Option<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}
