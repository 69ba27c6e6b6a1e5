//! Peer addresses of accepted connections.
//!
//! A multishot accept cannot say who connected. `SO_PEERNAME` as a command through the ring works on a direct
//! descriptor and costs no system call; where it is masked or missing, the descriptor is installed as a plain one, asked
//! with `getpeername`, and closed. Owns one place per fetch under way, each with the memory the kernel writes to;
//! a place is free again once its address was taken.
//!
//! `SO_PEERNAME` refuses a length above the address's own and cuts at one below, so the length has to be known: each slot's
//! is noted when its socket is accepted or dialled, and travels in the token when it is passed to another shard.

use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::squeue::Entry;
use socket2::{SockAddr, SockAddrStorage, SockRef};

use super::ops;
use super::stable::{Stable, take_storage};
use crate::token::Token;

/// All fetches of one driver.
pub(super) struct Peers {
    by_command: bool,
    /// Bytes of a peer's address, per slot; 0 for families that have none worth knowing. With [`FETCHING`].
    lengths: Vec<u8>,
    fetches: Vec<Fetch>,
    free: Vec<u32>,
}

/// How a fetch begins.
pub(super) enum Start {
    /// With this entry.
    Fetch(Entry),
    /// Not at all: there is no address, and the place is as if a fetch had found that out.
    Nameless(u32),
}

/// Beside a length: the address is being fetched.
const FETCHING: u8 = 1 << 7;

struct Fetch {
    /// The token that the shard gave; the kernel gets one of ours, which names the place.
    token: Token,
    storage: Stable<SockAddrStorage>,
    address: Option<SocketAddr>,
}

impl Peers {
    pub(super) fn new(by_command: bool, slots: u32) -> Peers {
        let lengths = vec![0; slots as usize];
        Peers { by_command, lengths, fetches: Vec::new(), free: Vec::new() }
    }

    /// Notes the length of the peer's address of the socket that is now in a slot.
    #[inline]
    pub(super) fn note(&mut self, slot: u32, length: u8) {
        self.lengths[slot as usize] = length;
    }

    /// What was noted.
    pub(super) fn length(&self, slot: u32) -> u8 {
        self.lengths[slot as usize] & !FETCHING
    }

    /// Whether the address of the connection in a slot is still to come.
    #[inline]
    pub(super) fn is_fetching(&self, slot: u32) -> bool {
        self.lengths[slot as usize] & FETCHING != 0
    }

    /// Takes a place and makes the entry that fetches into it; `own` turns a place into the entry's token.
    pub(super) fn start(&mut self, slot: u32, token: Token, own: impl Fn(u32) -> Token) -> Start {
        let place = self.free.pop().unwrap_or_else(|| {
            let storage = Stable::new(SockAddrStorage::zeroed());
            self.fetches.push(Fetch { token, storage, address: None });
            (self.fetches.len() - 1) as u32
        });
        let fetch = &mut self.fetches[place as usize];
        fetch.token = token;
        let length = self.lengths.get(slot as usize).copied().unwrap_or(0);
        if length == 0 {
            return Start::Nameless(place);
        }
        self.lengths[slot as usize] |= FETCHING;
        if self.by_command {
            let address = fetch.storage.as_ptr().cast();
            Start::Fetch(ops::peer_name(slot, own(place), address, u32::from(length)))
        } else {
            Start::Fetch(ops::install(slot, own(place)))
        }
    }

    /// Reads what the kernel left; the result is for the shard.
    pub(super) fn complete(&mut self, place: u32, result: i32) -> (Token, i32) {
        let fetch = &mut self.fetches[place as usize];
        self.lengths[fetch.token.slot() as usize] &= !FETCHING;
        if result < 0 {
            fetch.address = None;
            return (fetch.token, result);
        }
        fetch.address = if self.by_command {
            let length = (result as u32).min(size_of::<SockAddrStorage>() as u32);
            // SAFETY: the fetch has completed, so nobody else touches it.
            let storage = unsafe { take_storage(fetch.storage.get_mut()) };
            // SAFETY: the kernel wrote `length` bytes of an address of the family they begin with.
            unsafe { SockAddr::new(storage, length) }.as_socket()
        } else {
            // SAFETY: the kernel has just made this descriptor for us alone.
            let installed = unsafe { OwnedFd::from_raw_fd(result) };
            SockRef::from(&installed).peer_addr().ok().and_then(|address| address.as_socket())
        };
        (fetch.token, 0)
    }

    /// Takes care of a fetch that nobody waits for any more: a descriptor must not leak.
    pub(super) fn abandon(&self, result: i32) {
        if !self.by_command && result >= 0 {
            // SAFETY: as above.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
    }

    /// The address in a place, which is free again.
    pub(super) fn take(&mut self, place: u32) -> Option<SocketAddr> {
        self.free.push(place);
        self.fetches[place as usize].address.take()
    }
}

/// Bytes of the addresses of a family, as [`Peers::note`] takes them.
pub(super) fn address_length(family: i32) -> u8 {
    let length = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => 0,
    };
    length as u8
}

// It fits where a token has room for it.
const _: () = assert!(size_of::<libc::sockaddr_in>() < 64 && size_of::<libc::sockaddr_in6>() < 64);
