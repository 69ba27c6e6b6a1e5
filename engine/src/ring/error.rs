//! Why there is no ring: each refusal of the kernel, told apart, with what to do about it.

use std::io;

/// Why the `uring` driver cannot run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The administrator switched io_uring off: `kernel.io_uring_disabled` is 1 (only for members of
    /// `kernel.io_uring_group`) or 2 (for all).
    #[error("io_uring is switched off here (kernel.io_uring_disabled = {0})")]
    SwitchedOff(u8),
    /// A seccomp filter or security module refuses the call (container runtimes do by default).
    #[error("io_uring_setup is refused (EPERM), most likely by a seccomp profile")]
    Refused,
    /// The kernel was built without io_uring, or a seccomp filter pretends so.
    #[error("there is no io_uring here (ENOSYS)")]
    Absent,
    /// Not even the smallest ring fits into the locked memory this user may have.
    #[error("no memory for a ring of {sq} submissions and {cq} completions; RLIMIT_MEMLOCK may be too low")]
    LockedMemory {
        /// Submission entries of the smallest ring tried.
        sq: u32,
        /// Completion entries of the smallest ring tried.
        cq: u32,
    },
    /// The process has no file descriptor left.
    #[error("no file descriptor left for a ring")]
    Descriptors,
    /// Something the driver cannot do without does not work here.
    #[error("io_uring here cannot do what is needed: {feature}: {source}")]
    Missing {
        /// What was tried.
        feature: Feature,
        /// How it failed.
        source: io::Error,
    },
    /// Anything else that io_uring_setup may say.
    #[error("io_uring_setup failed: {0}")]
    Setup(io::Error),
}

/// What the driver cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Feature {
    /// Setup flags `SINGLE_ISSUER`, `DEFER_TASKRUN` (Linux 6.1), `NO_SQARRAY` (6.6).
    #[error("deferred completions without a submission array")]
    SetupFlags,
    /// Completions are never dropped (5.5), waits take a timeout (5.11).
    #[error("waits with a timeout, completions that are never dropped")]
    Waits,
    /// A sparse table of direct descriptors (5.19), of the size asked for.
    #[error("a table of direct descriptors")]
    DirectDescriptors,
    /// A registered ring of receive buffers (5.19).
    #[error("a ring of provided buffers")]
    ProvidedBuffers,
    /// The eventfd that carries wakes, and the ring's poll of it.
    #[error("an eventfd to be woken by")]
    Wakes,
    /// Multishot accept into direct descriptors (5.19).
    #[error("multishot accept into direct descriptors")]
    Accept,
    /// Poll of a direct descriptor.
    #[error("poll of a direct descriptor")]
    Poll,
    /// Multishot receive into provided buffers (6.0).
    #[error("multishot receive into provided buffers")]
    Receive,
    /// Send on a direct descriptor.
    #[error("send on a direct descriptor")]
    Send,
    /// Cancel by user data.
    #[error("cancel of an armed receive")]
    Cancel,
    /// Socket options set through the ring (6.7).
    #[error("socket options through the ring")]
    SocketOptions,
    /// A socket made as a direct descriptor (5.19), and connected.
    #[error("sockets made and connected through the ring")]
    Dial,
    /// Close of a direct descriptor (5.15).
    #[error("close of a direct descriptor")]
    Close,
    /// Cancel of everything at once (6.0).
    #[error("synchronous cancel of all operations")]
    SyncCancel,
}

impl RingError {
    /// Sorts what `io_uring_setup` said about a ring of this size.
    pub(super) fn from_setup(error: io::Error, sq: u32, cq: u32) -> RingError {
        match error.raw_os_error() {
            Some(libc::EPERM) => match switched_off() {
                Some(level) => RingError::SwitchedOff(level),
                None => RingError::Refused,
            },
            Some(libc::ENOSYS) => RingError::Absent,
            Some(libc::ENOMEM) => RingError::LockedMemory { sq, cq },
            Some(libc::EMFILE | libc::ENFILE) => RingError::Descriptors,
            Some(libc::EINVAL) => Feature::SetupFlags.missing(error),
            _ => RingError::Setup(error),
        }
    }
}

impl Feature {
    /// The error that says so.
    pub(super) fn missing(self, source: io::Error) -> RingError {
        RingError::Missing { feature: self, source }
    }
}

/// The sysctl's value, if it is not 0 (and if there is one: Linux 6.6).
fn switched_off() -> Option<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok().filter(|&level| level != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: i32, expect: &str) {
        let error = RingError::from_setup(io::Error::from_raw_os_error(errno), 64, 128);
        assert!(error.to_string().contains(expect), "{error}");
    }

    #[test]
    fn every_refusal_has_its_own_words() {
        check(libc::ENOSYS, "no io_uring here");
        check(libc::ENOMEM, "64 submissions and 128 completions");
        check(libc::EMFILE, "no file descriptor");
        check(libc::EINVAL, "deferred completions");
        check(libc::EIO, "io_uring_setup failed");
    }
}
