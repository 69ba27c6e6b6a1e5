//! TUN devices: this file owns the one call that makes them.

use std::ffi::c_int;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `TUNSETIFF`: makes the device that an open `/dev/net/tun` stands for. Its argument is declared as an `int`.
const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
/// Packets of IP.
const IFF_TUN: u16 = 0x0001;
/// Without a header of the device's own.
const IFF_NO_PI: u16 = 0x1000;

/// `struct ifreq`, 40 bytes: a name, and of its union the flags.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Makes a device in the network namespace of this thread. It goes when the descriptor does; reads do not wait.
pub(crate) fn device(name: &str) -> OwnedFd {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open("/dev/net/tun", flags, Mode::empty()).expect("the scenario looked before");
    let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `Request` is by layout and size; the kernel keeps no
    // pointer to it.
    unsafe { ioctl(&file, Updater::<TUNSETIFF, Request>::new(&mut request)) }.expect("root makes devices");
    file
}
