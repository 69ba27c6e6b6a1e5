//! Datagram sockets: plain descriptors, one receive at a time each, and sends from a bounded stock of copies.
//!
//! The kernel reads and writes message headers, addresses and bytes while an operation runs, so all of them
//! are the driver's: one inbound place per socket, valid from its completion to the next receive, and at most
//! [`SENDS`] outbound ones.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::squeue::Entry;
use socket2::{SockAddr, SockAddrStorage};

use super::ops;
use super::stable::{Stable, take_storage};
use crate::token::Token;

/// Datagrams under way per shard. A UDP send completes at once unless the socket's send buffer is full, so these are
/// only needed for what is pushed in one tick, and for the time until the buffer drains.
pub(super) const SENDS: usize = 256;
/// The largest UDP datagram, and a byte to spare.
const LARGEST: usize = 65_536;
/// A copy's memory above this is given back after the send.
const KEPT: usize = 2048;

/// All datagram sockets of one driver.
#[derive(Default)]
pub(super) struct Datagrams {
    sockets: Vec<Option<Socket>>,
    sends: Vec<Outbound>,
    free: Vec<u32>,
}

struct Socket {
    fd: OwnedFd,
    inbound: Stable<Inbound>,
    /// The last datagram: sender, length, cut to fit.
    last: (SocketAddr, usize, bool),
}

struct Inbound {
    header: libc::msghdr,
    range: libc::iovec,
    from: SockAddrStorage,
    bytes: Box<[u8]>,
}

struct Outbound {
    token: Token,
    memory: Stable<Message>,
}

struct Message {
    header: libc::msghdr,
    range: libc::iovec,
    to: SockAddr,
    bytes: Vec<u8>,
}

impl Datagrams {
    pub(super) fn adopt(&mut self, fd: OwnedFd) -> io::Result<u32> {
        super::set_blocking(&fd)?;
        let inbound = Stable::new(Inbound {
            header: empty_header(),
            range: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            from: SockAddrStorage::zeroed(),
            // Zeroed memory of this size is mapped only where a datagram reaches.
            bytes: vec![0; LARGEST].into_boxed_slice(),
        });
        let socket = Socket { fd, inbound, last: ((Ipv4Addr::UNSPECIFIED, 0).into(), 0, false) };
        Ok(super::put(&mut self.sockets, socket))
    }

    /// The entry that receives the next datagram. None may be under way on that socket.
    pub(super) fn recv(&mut self, socket: u32, token: Token) -> Entry {
        let socket = self.socket(socket);
        // SAFETY: the shard keeps one receive per socket under way, and asks for the next after its completion.
        let inbound = unsafe { socket.inbound.get_mut() };
        inbound.range.iov_base = inbound.bytes.as_mut_ptr().cast();
        inbound.range.iov_len = inbound.bytes.len();
        inbound.header.msg_name = (&raw mut inbound.from).cast();
        inbound.header.msg_namelen = size_of::<SockAddrStorage>() as u32;
        inbound.header.msg_iov = &raw mut inbound.range;
        inbound.header.msg_iovlen = 1;
        inbound.header.msg_flags = 0;
        let header = &raw mut inbound.header;
        ops::datagram_recv(socket.fd.as_raw_fd(), token, header)
    }

    /// Reads what a receive left; `false` if it is no datagram with a sender.
    pub(super) fn received(&mut self, socket: u32, result: i32) -> bool {
        let Ok(length) = usize::try_from(result) else {
            return false;
        };
        let socket = self.socket(socket);
        // SAFETY: the receive has completed.
        let inbound = unsafe { socket.inbound.get_mut() };
        let name_length = inbound.header.msg_namelen.min(size_of::<SockAddrStorage>() as u32);
        // SAFETY: the kernel wrote an address of this length.
        let from = unsafe { SockAddr::new(take_storage(&mut inbound.from), name_length) };
        let Some(from) = from.as_socket() else {
            return false;
        };
        let cut = inbound.header.msg_flags & libc::MSG_TRUNC != 0;
        socket.last = (from, length.min(inbound.bytes.len()), cut);
        true
    }

    /// The datagram received last.
    pub(super) fn last(&self, socket: u32) -> (SocketAddr, &[u8], bool) {
        let socket = self.sockets[socket as usize].as_ref().expect("an adopted datagram socket");
        let (from, length, cut) = socket.last;
        // SAFETY: the driver's contract: read before the next receive on that socket is pushed.
        let inbound = unsafe { socket.inbound.get() };
        (from, &inbound.bytes[..length], cut)
    }

    /// Copies a datagram and makes the entry that sends it; `None` if too many are under way. `own` turns a place
    /// into the entry's token.
    pub(super) fn send(
        &mut self,
        socket: u32,
        token: Token,
        to: SocketAddr,
        bytes: &[u8],
        own: impl Fn(u32) -> Token,
    ) -> Option<Entry> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.sends.len() < SENDS => {
                self.sends.push(Outbound { token, memory: Stable::new(Message::empty()) });
                (self.sends.len() - 1) as u32
            }
            None => return None,
        };
        let fd = self.socket(socket).fd.as_raw_fd();
        let outbound = &mut self.sends[place as usize];
        outbound.token = token;
        // SAFETY: the place was free, so no send reads it.
        let header = unsafe { outbound.memory.get_mut() }.fill(to, bytes);
        Some(ops::datagram_send(fd, own(place), header))
    }

    /// Frees the place of a finished send; the token is the shard's.
    pub(super) fn sent(&mut self, place: u32) -> Token {
        let outbound = &mut self.sends[place as usize];
        // SAFETY: the send has completed.
        let message = unsafe { outbound.memory.get_mut() };
        message.bytes.clear();
        message.bytes.shrink_to(KEPT);
        self.free.push(place);
        outbound.token
    }

    fn socket(&mut self, socket: u32) -> &mut Socket {
        self.sockets[socket as usize].as_mut().expect("an adopted datagram socket")
    }
}

impl Message {
    fn empty() -> Message {
        Message {
            header: empty_header(),
            range: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            to: SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            bytes: Vec::new(),
        }
    }

    fn fill(&mut self, to: SocketAddr, bytes: &[u8]) -> *const libc::msghdr {
        self.to = to.into();
        // Longer ones the kernel refuses anyway (EMSGSIZE).
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(LARGEST)]);
        self.range.iov_base = self.bytes.as_mut_ptr().cast();
        self.range.iov_len = self.bytes.len();
        self.header.msg_name = self.to.as_ptr().cast_mut().cast();
        self.header.msg_namelen = self.to.len();
        self.header.msg_iov = &raw mut self.range;
        self.header.msg_iovlen = 1;
        &raw const self.header
    }
}

fn empty_header() -> libc::msghdr {
    // SAFETY: null pointers and zero lengths are an empty header.
    unsafe { std::mem::zeroed() }
}
