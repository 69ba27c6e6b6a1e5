//! Dials: a socket made, set up and connected without waiting.
//!
//! Invariant: a dial ends exactly once, and a failed one after its slot was freed. The table's index is the slot field of the
//! shard's token. A Unix socket whose listener's backlog is full has nothing to be watched for, so such dials are tried
//! again now and then, a bounded number at a time.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::sockopt::socket_error;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::EpollDriver;
use super::poller::{READ, Watched};
use super::slots::{Reading, flag};
use crate::driver::Driver;
use crate::net::{Addr, Dial, bind_address_alone};
use crate::time::Time;
use crate::token::Token;

/// Between two attempts to reach a listener whose backlog is full.
const RETRY_EVERY: Duration = Duration::from_millis(5);
/// Dials tried again at a time.
const RETRIES: usize = 256;

/// All dials of one driver.
#[derive(Debug, Default)]
pub(super) struct Dials {
    under_way: Vec<Option<Dialling>>,
    /// Those to be tried again; some may be over.
    retries: VecDeque<u32>,
    next_retry: Time,
}

#[derive(Debug)]
struct Dialling {
    token: Token,
    slot: u32,
    addr: SockAddr,
}

impl Dials {
    /// When a dial has to be tried again.
    pub(super) fn next_retry(&self) -> Option<Time> {
        (!self.retries.is_empty()).then_some(self.next_retry)
    }

    fn end(&mut self, index: u32) -> Option<Dialling> {
        self.under_way.get_mut(index as usize)?.take()
    }
}

impl EpollDriver {
    pub(super) fn start_dial(&mut self, dial: &Dial, token: Token) {
        let misfit = matches!(dial.route.to, Addr::Unix(_)) && dial.route.source.is_some();
        let Some(addr) = dial.route.to.to_sock_addr().ok().filter(|_| !misfit) else {
            return self.complete(token, -libc::EINVAL);
        };
        if !self.table.reserve() {
            return self.complete(token, -libc::ENFILE);
        }
        let socket = match socket(dial, &addr) {
            Ok(socket) => socket,
            Err(error) => {
                self.table.give_up();
                return self.complete(token, -error.raw_os_error().unwrap_or(libc::EIO));
            }
        };
        let slot = self.table.put(socket, matches!(dial.route.to, Addr::Unix(_)));
        let index = token.slot() as usize;
        if self.dials.under_way.len() <= index {
            self.dials.under_way.resize_with(index + 1, || None);
        }
        assert!(self.dials.under_way[index].is_none(), "two dials under one token");
        self.dials.under_way[index] = Some(Dialling { token, slot, addr });
        self.table.at(slot).reading = Reading::Dial(index as u32);
        self.connect(index as u32);
    }

    fn connect(&mut self, index: u32) {
        let Some(Some(dialling)) = self.dials.under_way.get(index as usize) else { return };
        let slot = dialling.slot;
        let Some(fd) = self.table.fd(slot) else { return };
        let connected = SockRef::from(fd).connect(&dialling.addr);
        match connected.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)) {
            Ok(()) => {
                let watched = self.watch(slot);
                self.end_dial(index, watched.map_err(|error| error.raw_os_error()));
            }
            // From here on the event of its end tells how it went.
            Err(libc::EINPROGRESS | libc::EINTR) => {
                let watched = self.poller.watch(fd, Watched::Slot(slot), READ | EventFlags::OUT);
                self.table.at(slot).set(flag::WATCHED_OUT);
                if let Err(error) = watched {
                    self.end_dial(index, Err(error.raw_os_error()));
                }
            }
            Err(libc::EAGAIN) => self.retry_later(index),
            Err(errno) => self.end_dial(index, Err(errno)),
        }
    }

    /// Something happened to a socket that is connecting.
    pub(super) fn dial_event(&mut self, index: u32) {
        let Some(Some(dialling)) = self.dials.under_way.get(index as usize) else { return };
        let Some(fd) = self.table.fd(dialling.slot) else { return };
        let outcome = match socket_error(fd) {
            Ok(outcome) => outcome,
            Err(error) => Err(error),
        };
        self.end_dial(index, outcome.map_err(|error| error.raw_os_error()));
    }

    fn end_dial(&mut self, index: u32, outcome: Result<(), i32>) {
        let Some(Dialling { token, slot, .. }) = self.dials.end(index) else { return };
        match outcome {
            Ok(()) => {
                self.table.at(slot).reading = Reading::No;
                self.complete(token, slot as i32);
            }
            Err(errno) => {
                self.table.remove(slot);
                self.complete(token, -errno);
            }
        }
    }

    /// Ends the dial with this token, if it is under way.
    pub(super) fn cancel_dial(&mut self, target: Token) -> bool {
        let index = target.slot();
        match self.dials.under_way.get(index as usize) {
            Some(Some(dialling)) if dialling.token == target => {
                self.end_dial(index, Err(libc::ECANCELED));
                true
            }
            _ => false,
        }
    }

    #[cold]
    fn retry_later(&mut self, index: u32) {
        if self.dials.retries.is_empty() {
            self.dials.next_retry = self.now() + RETRY_EVERY;
        }
        self.dials.retries.push_back(index);
    }

    /// Tries again what found a full backlog, if it is time.
    pub(super) fn retry_dials(&mut self) {
        let now = self.now();
        if self.dials.next_retry().is_none_or(|due| due > now) {
            return;
        }
        self.dials.next_retry = now + RETRY_EVERY;
        for _ in 0..self.dials.retries.len().min(RETRIES) {
            if let Some(index) = self.dials.retries.pop_front() {
                self.connect(index);
            }
        }
    }
}

/// A stream socket for this address, with the options asked for. One that is refused fails the dial: nobody would notice
/// otherwise.
fn socket(dial: &Dial, addr: &SockAddr) -> std::io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::from(i32::from(addr.family())), kind, None)?;
    dial.options.apply_buffers(&socket)?;
    if let Addr::Tcp(_) = dial.route.to {
        dial.options.apply_tcp(&socket)?;
    }
    if let Some(local) = dial.route.source {
        // A port of a closed connection may be taken again at once; port 0 is chosen at the connect, which knows the peer.
        socket.set_reuse_address(true)?;
        if local.port() == 0 {
            bind_address_alone(&socket)?;
        }
        socket.bind(&local.into())?;
    }
    Ok(socket.into())
}
