//! Deadlines: this file owns how long a test waits for anything.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long anything may take that should take no time: long enough for a machine that has much else to do.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A point in time that nothing may pass.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So far from now.
    pub fn after(span: Duration) -> Deadline {
        Deadline(Instant::now() + span)
    }

    /// What is left, perhaps nothing.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// What is left.
    ///
    /// # Panics
    ///
    /// When nothing is: `what` did not happen.
    #[track_caller]
    pub fn left(self, what: &str) -> Duration {
        let left = self.remaining();
        assert!(!left.is_zero(), "not in time: {what}");
        left
    }
}

/// Asks until it is so. `is_so` has to wait for an answer of the server, so that asking does not spin.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Deadline::after(DEADLINE);
    while !is_so() {
        deadline.left(what);
    }
}

/// Waits for what `flags` name, or for an error or the end, on a descriptor; `None` if nothing came within `most`.
pub(crate) fn wait_for(fd: impl AsFd, flags: PollFlags, most: Duration) -> Option<PollFlags> {
    let deadline = Deadline::after(most);
    let mut fds = [PollFd::new(&fd, flags)];
    loop {
        let timeout = Timespec::try_from(deadline.remaining()).expect("a short time");
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return None,
            Ok(_) => return Some(fds[0].revents()),
            Err(Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Waits for a process's end; `None` if it lives on.
pub(crate) fn wait_for_end(child: &mut Child, most: Duration) -> Option<ExitStatus> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
    wait_for(process.expect("a child has one"), PollFlags::IN, most)?;
    Some(child.wait().expect("it is a child"))
}
