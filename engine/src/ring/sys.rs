//! The three system calls that the io-uring crate cannot make for us, as functions that hide the pointers.
//!
//! The crate forgets the index of a registered ring between calls, hides whether an `enter` runs deferred work,
//! and has no call for `SEND_MSG_RING`. Nothing here keeps state.

use std::io;
use std::mem::size_of;
use std::os::fd::{BorrowedFd, RawFd};

use io_uring::squeue;
use io_uring::types::SubmitArgs;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const REGISTER_SEND_MSG_RING: u32 = 31;

/// How a ring is named in `io_uring_enter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RingName {
    /// Its file descriptor: looked up in the process's table on every call.
    Fd(RawFd),
    /// Its place in this thread's table of registered rings: an array index.
    Registered(u32),
}

/// Submits without waiting, and without running deferred completions. Returns how many entries were taken.
pub(super) fn submit(ring: RingName, count: u32) -> io::Result<u32> {
    enter(ring, count, 0, 0, None)
}

/// Submits, runs deferred completions, and waits for `want` of them within the limits in `args`.
pub(super) fn submit_and_wait(
    ring: RingName,
    count: u32,
    want: u32,
    args: Option<&SubmitArgs<'_, '_>>,
) -> io::Result<u32> {
    enter(ring, count, want, ENTER_GETEVENTS, args)
}

fn enter(ring: RingName, count: u32, want: u32, mut flags: u32, args: Option<&SubmitArgs<'_, '_>>) -> io::Result<u32> {
    let fd = match ring {
        RingName::Fd(fd) => fd as libc::c_long,
        RingName::Registered(index) => {
            flags |= ENTER_REGISTERED_RING;
            libc::c_long::from(index)
        }
    };
    let (arg, size) = match args {
        Some(args) => {
            flags |= ENTER_EXT_ARG;
            (std::ptr::from_ref(args).cast::<libc::c_void>(), size_of::<SubmitArgs<'_, '_>>())
        }
        None => (std::ptr::null(), 0),
    };
    // SAFETY: `arg` is null or a live `io_uring_getevents_arg` (`SubmitArgs` is transparent over one) whose borrowed
    // timespec lives as long. What the submitted entries point at is the business of whoever pushed them.
    let taken = unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, count, want, flags, arg, size) };
    if taken < 0 { Err(io::Error::last_os_error()) } else { Ok(taken as u32) }
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// Puts a ring into this thread's table of registered rings.
pub(super) fn register_ring(ring: BorrowedFd<'_>) -> io::Result<RingName> {
    use std::os::fd::AsRawFd;
    let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data: ring.as_raw_fd() as u64 };
    // SAFETY: the kernel reads and writes one `io_uring_rsrc_update`, which lives across the call.
    unsafe { register(ring.as_raw_fd(), REGISTER_RING_FDS, (&raw mut update).cast(), 1)? };
    Ok(RingName::Registered(update.offset))
}

/// Takes a ring out of it again: until then the table alone would keep the ring alive.
pub(super) fn unregister_ring(ring: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let mut update = RingUpdate { offset: index, reserved: 0, data: 0 };
    // SAFETY: as in `register_ring`.
    unsafe { register(ring.as_raw_fd(), UNREGISTER_RING_FDS, (&raw mut update).cast(), 1) }
}

/// Posts a completion to another ring from a thread that has none (`IORING_REGISTER_SEND_MSG_RING`).
pub(super) fn send_msg_ring(entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: the kernel reads one 64-byte entry, which lives across the call.
    unsafe { register(-1, REGISTER_SEND_MSG_RING, std::ptr::from_ref(entry).cast_mut().cast(), 1) }
}

/// # Safety
///
/// `arg` must point to `count` of what `opcode` works on.
unsafe fn register(fd: RawFd, opcode: u32, arg: *mut libc::c_void, count: u32) -> io::Result<()> {
    // SAFETY: the caller's.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, opcode, arg, count) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_argument_has_the_kernels_size() {
        // u64 sigmask, u32 sigmask size, u32 min_wait_usec, u64 timespec.
        assert_eq!(size_of::<SubmitArgs<'_, '_>>(), 24);
    }
}
