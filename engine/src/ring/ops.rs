//! Submission entries, one function per operation, and the fields that the io-uring crate does not know.
//!
//! Connections are direct descriptors, listeners and datagram sockets are plain ones. These functions only fill in
//! entries; that what an entry points at outlives it is promised where it is pushed.

use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fd, Fixed, Timespec};
use io_uring::{opcode, types};

use crate::driver::First;
use crate::token::Token;

/// The one group of provided buffers.
pub(super) const BUFFER_GROUP: u16 = 0;

/// The 32-bit word of an entry that holds `cmd_op`.
const COMMAND_WORD: usize = 2;
/// The 32-bit word of an entry that holds `file_index` or `optlen`. A multishot receive takes its byte limit from it.
const OPTLEN_WORD: usize = 11;

/// The 16-bit half word of an entry that holds `ioprio`, where a receive and an accept have their flags.
const IOPRIO_HALF: usize = 1;

/// `IORING_RECVSEND_POLL_FIRST`.
const POLL_FIRST: u16 = 1;

/// `IORING_ACCEPT_DONTWAIT`.
const DONTWAIT: u16 = 2;

/// `SOCKET_URING_OP_GETSOCKOPT`.
const COMMAND_GETSOCKOPT: u32 = 2;
/// Accept connections without end: every completion is a new direct descriptor.
pub(super) fn accept(listener: RawFd, token: Token) -> Entry {
    opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(true).build().user_data(token.bits())
}

/// Accepts one connection, now or later.
pub(super) fn accept_next(listener: RawFd, token: Token) -> Entry {
    opcode::Accept::new(Fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
        .file_index(Some(DestinationSlot::auto_target()))
        .build()
        .user_data(token.bits())
}

/// Accepts one connection that waits already, or completes with EAGAIN.
pub(super) fn accept_waiting(listener: RawFd, token: Token) -> Entry {
    with_flag(accept_next(listener, token), DONTWAIT)
}

/// Completes once with the ready events.
pub(super) fn poll_readable(slot: u32, token: Token) -> Entry {
    opcode::PollAdd::new(Fixed(slot), libc::POLLIN as u32).build().user_data(token.bits())
}

/// Completes once when the other side has finished, or the connection is broken: the kernel always looks for these.
pub(super) fn poll_hangup(slot: u32, token: Token) -> Entry {
    opcode::PollAdd::new(Fixed(slot), libc::POLLRDHUP as u32).build().user_data(token.bits())
}

/// Completes on every write to an eventfd.
pub(super) fn poll_wakes(eventfd: RawFd, token: Token) -> Entry {
    opcode::PollAdd::new(Fd(eventfd), libc::POLLIN as u32).multi(true).build().user_data(token.bits())
}

/// One receive into a provided buffer, as much as fits.
pub(super) fn recv_once(slot: u32, token: Token, first: First) -> Entry {
    let entry = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), 0)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(Flags::BUFFER_SELECT)
        .user_data(token.bits());
    with_first(entry, first)
}

/// Receives until told otherwise, or until `credit` bytes if that is not 0.
///
/// The kernel looks at the total after each single receive, and bounds that only by its buffer and by the length set
/// here. So what comes in the end is less than `credit` plus the smaller of the two.
pub(super) fn recv_multishot(slot: u32, token: Token, credit: u32, first: First) -> Entry {
    let entry = opcode::RecvMulti::new(Fixed(slot), BUFFER_GROUP).len(credit).build().user_data(token.bits());
    with_first(with_word(entry, OPTLEN_WORD, credit), first)
}

/// Says what a receive begins with.
fn with_first(entry: Entry, first: First) -> Entry {
    match first {
        First::Receive => entry,
        First::Poll => with_flag(entry, POLL_FIRST),
    }
}

/// Sends one range. `MSG_WAITALL` makes the kernel retry short sends itself.
pub(super) fn send(slot: u32, token: Token, range: &libc::iovec) -> Entry {
    opcode::Send::new(Fixed(slot), range.iov_base.cast(), range.iov_len as u32)
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build()
        .user_data(token.bits())
}

/// Sends the ranges of a message header.
pub(super) fn send_vectored(slot: u32, token: Token, header: *const libc::msghdr) -> Entry {
    opcode::SendMsg::new(Fixed(slot), header)
        .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
        .build()
        .user_data(token.bits())
}

pub(super) fn shutdown_write(slot: u32, token: Token) -> Entry {
    opcode::Shutdown::new(Fixed(slot), libc::SHUT_WR).build().user_data(token.bits())
}

pub(super) fn close(slot: u32, token: Token) -> Entry {
    opcode::Close::new(Fixed(slot)).build().user_data(token.bits())
}

/// The same; only a failure completes. The kernel closes a direct descriptor as it takes the entry.
pub(super) fn close_silently(slot: u32, token: Token) -> Entry {
    close(slot, token).flags(Flags::SKIP_SUCCESS)
}

pub(super) fn cancel(target: Token, token: Token) -> Entry {
    opcode::AsyncCancel::new(target.bits()).build().user_data(token.bits())
}

/// Makes a stream socket of `domain` in a free slot.
pub(super) fn socket(domain: i32, token: Token) -> Entry {
    opcode::Socket::new(domain, libc::SOCK_STREAM, 0)
        .file_index(Some(DestinationSlot::auto_target()))
        .build()
        .user_data(token.bits())
}

/// Gives a socket its local address; only a failure completes.
pub(super) fn bind(slot: u32, token: Token, addr: *const libc::sockaddr, len: u32) -> Entry {
    opcode::Bind::new(Fixed(slot), addr, len).build().flags(Flags::SKIP_SUCCESS).user_data(token.bits())
}

pub(super) fn connect(slot: u32, token: Token, addr: *const libc::sockaddr, len: u32) -> Entry {
    opcode::Connect::new(Fixed(slot), addr, len).build().user_data(token.bits())
}

/// Sets a socket option; only a failure completes.
pub(super) fn set_option(slot: u32, token: Token, option: &SocketOption) -> Entry {
    set_option_loudly(slot, token, option).flags(Flags::SKIP_SUCCESS)
}

/// Sets a socket option; completes either way.
pub(super) fn set_option_loudly(slot: u32, token: Token, option: &SocketOption) -> Entry {
    let value = std::ptr::from_ref(&option.value).cast();
    opcode::SetSockOpt::new(Fixed(slot), option.level, option.name, value, option.len).build().user_data(token.bits())
}

/// Reads a connection's peer address into `addr`; the result is its length.
pub(super) fn peer_name(slot: u32, token: Token, addr: *mut libc::c_void, len: u32) -> Entry {
    // The crate builds only the command that sets an option; the one that reads differs in its number alone.
    let entry =
        opcode::SetSockOpt::new(Fixed(slot), libc::SOL_SOCKET as u32, libc::SO_PEERNAME as u32, addr.cast_const(), len)
            .build()
            .user_data(token.bits());
    with_word(entry, COMMAND_WORD, COMMAND_GETSOCKOPT)
}

/// Makes a plain descriptor of a direct one; the result is its number.
pub(super) fn install(slot: u32, token: Token) -> Entry {
    opcode::FixedFdInstall::new(Fixed(slot), 0).build().user_data(token.bits())
}

pub(super) fn datagram_recv(socket: RawFd, token: Token, header: *mut libc::msghdr) -> Entry {
    opcode::RecvMsg::new(Fd(socket), header).build().user_data(token.bits())
}

pub(super) fn datagram_send(socket: RawFd, token: Token, header: *const libc::msghdr) -> Entry {
    opcode::SendMsg::new(Fd(socket), header).flags(libc::MSG_NOSIGNAL as u32).build().user_data(token.bits())
}

/// Completes with ETIME when `after` is over.
pub(super) fn timeout(token: Token, after: &'static Timespec) -> Entry {
    opcode::Timeout::new(after).build().user_data(token.bits())
}

pub(super) fn nop(token: Token) -> Entry {
    opcode::Nop::new().build().user_data(token.bits())
}

/// A completion for another ring, to be sent by a thread that has none.
pub(super) fn message(ring: RawFd, token: Token) -> Entry {
    opcode::MsgRingData::new(types::Fd(ring), 0, token.bits(), None).build()
}

/// Gives the connection in `slot` to another ring too, in any free slot of its table; that ring completes `there` with it.
pub(super) fn pass(slot: u32, to: RawFd, there: Token, token: Token) -> Entry {
    opcode::MsgRingSendFd::new(Fd(to), Fixed(slot), DestinationSlot::auto_target(), there.bits())
        .build()
        .user_data(token.bits())
}

/// A socket option and its value, laid out as the kernel reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketOption {
    level: u32,
    name: u32,
    value: [libc::c_int; 2],
    len: u32,
}

impl SocketOption {
    pub(super) const fn int(level: libc::c_int, name: libc::c_int, value: libc::c_int) -> SocketOption {
        SocketOption { level: level as u32, name: name as u32, value: [value, 0], len: 4 }
    }

    /// `struct linger { on, seconds }`: close sends RST and drops what is unsent.
    pub(super) const RESET_ON_CLOSE: SocketOption =
        SocketOption { level: libc::SOL_SOCKET as u32, name: libc::SO_LINGER as u32, value: [1, 0], len: 8 };
}

const _: () = assert!(size_of::<Entry>() == 64);

/// Sets a flag of a receive or an accept.
fn with_flag(mut entry: Entry, flag: u16) -> Entry {
    // SAFETY: as in `with_word`.
    unsafe { *(&raw mut entry).cast::<u16>().add(IOPRIO_HALF) |= flag };
    entry
}

/// Sets one 32-bit word of an entry.
fn with_word(mut entry: Entry, word: usize, value: u32) -> Entry {
    debug_assert!(word < size_of::<Entry>() / 4);
    // SAFETY: an entry is 64 bytes of plain integers (`repr(C)` over `io_uring_sqe`), aligned for u64.
    unsafe { (&raw mut entry).cast::<u32>().add(word).write(value) };
    entry
}
