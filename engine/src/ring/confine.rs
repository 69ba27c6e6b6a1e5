//! What a ring may do: the operations of `ops` and no other, for as long as it lives.
//!
//! A ring is made disabled, everything is registered with it, then the kernel is told what remains allowed and the ring
//! is enabled. From then on a memory error of the process cannot make the ring open a file, or register anything else: the
//! kernel answers EACCES. This owns the list; an operation added to `ops` has to be added here, and the probe runs
//! every one of them on a confined ring, so that one forgotten fails at start and not in use.

use io_uring::opcode::{
    AcceptMulti, AsyncCancel, Bind, Close, Connect, FixedFdInstall, MsgRingData, PollAdd, Recv, RecvMsg, Send, SendMsg,
    SetSockOpt, Shutdown, Socket, Timeout,
};
use io_uring::register::Restriction;
use io_uring::squeue::Flags;

/// Multishot and single operations share their codes; options are set and read by one command of the socket's own.
const OPERATIONS: [u8; 16] = [
    AcceptMulti::CODE,
    AsyncCancel::CODE,
    Bind::CODE,
    Close::CODE,
    Connect::CODE,
    FixedFdInstall::CODE,
    MsgRingData::CODE,
    PollAdd::CODE,
    Recv::CODE,
    RecvMsg::CODE,
    Send::CODE,
    SendMsg::CODE,
    SetSockOpt::CODE,
    Shutdown::CODE,
    Socket::CODE,
    Timeout::CODE,
];

/// Direct descriptors, provided buffers, silent success. No links, no drains, no forced worker threads.
const FLAGS: Flags = Flags::FIXED_FILE.union(Flags::BUFFER_SELECT).union(Flags::SKIP_SUCCESS);

/// `IORING_UNREGISTER_FILES`, `IORING_UNREGISTER_RING_FDS`, `IORING_REGISTER_SYNC_CANCEL`: what it takes to end.
const REGISTRATIONS: [u8; 3] = [3, 21, 24];

/// What is left to a ring when all is registered.
pub(super) fn restrictions() -> Vec<Restriction> {
    let operations = OPERATIONS.into_iter().map(Restriction::sqe_op);
    let registrations = REGISTRATIONS.into_iter().map(Restriction::register_op);
    let flags = Restriction::sqe_flags_allowed(FLAGS.bits());
    operations.chain(registrations).chain([flags]).collect()
}
