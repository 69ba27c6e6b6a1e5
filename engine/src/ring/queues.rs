//! The ring itself: its two queues, the call that moves them, and how many operations it holds.
//!
//! Invariant: an entry that was pushed reaches the kernel exactly once and in order, whatever `io_uring_enter` answers;
//! entries that find the queue full and the kernel unwilling wait in `waiting` until it takes them.
//! `in_flight` counts pushed operations whose last completion was not yet taken, so that teardown
//! knows when the kernel holds no pointer of ours any more.
//!
//! Must run on one thread from making to dropping: the kernel accepts submissions from no other.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, Submitter, cqueue};

use super::alarm::{AFTER_SPEC, Alarm};
use super::confine::restrictions;
use super::error::{Feature, RingError};
use super::ops;
use super::own::{Own, counted, own};
use super::sys::{self, RingName};
use crate::driver::{DriverCounts, Wait};
use crate::token::Token;

/// The smallest ring worth having; below it the driver gives up.
const FEWEST_SUBMISSIONS: u32 = 32;
/// A wait no longer than this: the kernel adds it to its clock, and that sum must not overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The longest a wait may linger for a fuller batch. A wake is one completion like any other, and does not end
/// the lingering: this bounds how late it may be seen.
pub(super) const LONGEST_LINGER: Duration = Duration::from_millis(1);
/// How long to let the kernel breathe when it had no memory for a submission.
const PRESSURE_PAUSE: Duration = Duration::from_millis(1);
/// Threads the kernel may keep per shard for what cannot be polled for: half-closes, and Unix dials to a full backlog.
const WORKERS: u32 = 32;

/// What a ring may do once it is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freedom {
    /// Everything. It is enabled as it is made.
    Whole,
    /// What the driver does. Everything must be registered before [`Ring::enable`].
    Confined,
}

/// An io_uring with its bookkeeping.
pub(super) struct Ring {
    uring: IoUring,
    freedom: Freedom,
    name: RingName,
    /// Entries that came while the submission queue was full and could not be submitted.
    waiting: VecDeque<Entry>,
    /// Entries pushed so far.
    pushed: u64,
    /// Which of those the kernel may not have seen complete only if they fail.
    silent: VecDeque<u64>,
    in_flight: usize,
    min_wait: bool,
    alarm: Alarm,
    counts: DriverCounts,
}

impl Ring {
    /// Makes a ring of the size asked for, or smaller if locked memory is short.
    pub(super) fn new(sq: u32, cq: u32, freedom: Freedom) -> Result<Ring, RingError> {
        let uring = shrink_to_fit(sq, cq, |sq, cq| build(sq, cq, freedom))?;
        if !(uring.params().is_feature_nodrop() && uring.params().is_feature_ext_arg()) {
            return Err(Feature::Waits.missing(io::Error::from_raw_os_error(libc::ENOSYS)));
        }
        // A bound that the kernel may refuse only when it is out of memory; it has a (large) bound of its own.
        let _ = uring.submitter().register_iowq_max_workers(&mut [1, WORKERS]);
        let name = RingName::Fd(uring.as_raw_fd());
        Ok(Ring {
            uring,
            freedom,
            name,
            waiting: VecDeque::new(),
            pushed: 0,
            silent: VecDeque::new(),
            in_flight: 0,
            min_wait: false,
            alarm: Alarm::default(),
            counts: DriverCounts::default(),
        })
    }

    /// Lets it run, from this thread. A confined ring takes nothing before, and only what `confine` lists after.
    pub(super) fn enable(&mut self) -> io::Result<()> {
        match self.freedom {
            Freedom::Whole => Ok(()),
            Freedom::Confined => {
                let submitter = self.uring.submitter();
                submitter.register_restrictions(&mut restrictions())?;
                submitter.register_enable_rings()
            }
        }
    }

    /// Lets waits linger for fuller batches from now on.
    pub(super) fn use_min_wait(&mut self) {
        self.min_wait = true;
    }

    /// Enters the ring by its place in this thread's table from now on.
    pub(super) fn use_registered_name(&mut self) -> io::Result<()> {
        self.name = sys::register_ring(self.fd())?;
        Ok(())
    }

    /// Entries of the submission and completion queue.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.uring.params().sq_entries(), self.uring.params().cq_entries())
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.uring.submitter()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring's descriptor is open as long as the ring.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }

    pub(super) fn counts(&self) -> DriverCounts {
        self.counts
    }

    /// Queues an operation that will complete.
    ///
    /// # Safety
    ///
    /// What the entry points at must stay as the operation needs it until its last completion was taken.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: Entry) {
        self.in_flight += 1;
        // SAFETY: the caller's.
        unsafe { self.put(entry) }
    }

    /// Queues an operation that completes only if it fails; says as the how many-th entry. See [`Ring::taken`].
    ///
    /// # Safety
    ///
    /// What the entry points at must be static, or outlive a later operation on the same socket that does complete.
    #[inline]
    pub(super) unsafe fn push_uncounted(&mut self, entry: Entry) -> u64 {
        self.silent.push_back(self.pushed);
        // SAFETY: the caller's.
        unsafe { self.put(entry) };
        self.pushed - 1
    }

    /// How many entries the kernel has taken. What it does at once is done for those.
    pub(super) fn taken(&mut self) -> u64 {
        self.pushed - (self.uring.submission().len() + self.waiting.len()) as u64
    }

    /// # Safety
    ///
    /// See [`Ring::push`].
    #[inline]
    unsafe fn put(&mut self, entry: Entry) {
        self.pushed += 1;
        // SAFETY: the caller's.
        if !self.waiting.is_empty() || unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.push_full(entry);
        }
    }

    #[cold]
    fn push_full(&mut self, entry: Entry) {
        self.counts.crowded += 1;
        self.waiting.push_back(entry);
        self.refill();
    }

    /// Moves waiting entries into the submission queue, submitting on the spot as often as the kernel takes some.
    fn refill(&mut self) {
        loop {
            let mut queue = self.uring.submission();
            while let Some(entry) = self.waiting.front() {
                // SAFETY: whoever pushed the entry promised for it.
                if unsafe { queue.push(entry) }.is_err() {
                    break;
                }
                self.waiting.pop_front();
            }
            let count = queue.len() as u32;
            drop(queue);
            if self.waiting.is_empty() {
                return;
            }
            // An error leaves the entries where they are: the next `enter` tries again and reports what is fatal.
            match sys::submit(self.name, count) {
                Ok(taken) if taken > 0 => self.count_enter(taken),
                _ => return,
            }
        }
    }

    /// Submits what was pushed, runs what the kernel deferred, and waits as told.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if let Wait::For(most) = wait
            && self.alarm.is_due(most)
        {
            // SAFETY: the entry points at something static.
            unsafe { self.push(ops::timeout(own(Own::Alarm, 0), &AFTER_SPEC)) };
        }
        if !self.waiting.is_empty() {
            self.refill();
        }
        if !self.silent.is_empty() {
            self.forget_silent();
        }
        let queue = self.uring.submission();
        let count = queue.len() as u32;
        let overflown = queue.cq_overflow();
        let due = queue.taskrun() || overflown;
        drop(queue);
        self.counts.overflows += u64::from(overflown);

        // What lies in the completion queue is enough to go on with.
        let wait = if self.uring.completion().is_empty() { wait } else { Wait::No };
        let result = match wait {
            Wait::No if count == 0 && !due => return Ok(()),
            Wait::No => sys::submit_and_wait(self.name, count, 0, None),
            // What still waits for a place in the queue may be the alarm.
            Wait::For(most) if self.alarm.ends(most) && self.waiting.is_empty() => {
                sys::submit_and_wait(self.name, count, 1, None)
            }
            Wait::For(most) => self.wait(count, 1, Duration::ZERO, most),
            Wait::Batch { want, min_wait, most } if self.min_wait => self.wait(count, want.max(1), min_wait, most),
            Wait::Batch { most, .. } => self.wait(count, 1, Duration::ZERO, most),
        };
        match result {
            Ok(taken) => self.count_enter(taken),
            Err(error) => return self.bear(error),
        }
        Ok(())
    }

    /// Forgets what the kernel has taken of the entries that nobody waits for.
    fn forget_silent(&mut self) {
        let taken = self.taken();
        while self.silent.front().is_some_and(|&place| place < taken) {
            self.silent.pop_front();
        }
    }

    fn wait(&self, count: u32, want: u32, min_wait: Duration, most: Duration) -> io::Result<u32> {
        let most = Timespec::from(most.min(LONGEST_WAIT));
        let mut args = SubmitArgs::new();
        if want > 1 {
            // 0 would mean to wait for all of `want`.
            args = args.min_wait_usec((min_wait.min(LONGEST_LINGER).as_micros() as u32).max(1));
        }
        sys::submit_and_wait(self.name, count, want, Some(&args.timespec(&most)))
    }

    /// Sorts errors of `io_uring_enter`: ends of a wait, shortages that pass, and the fatal rest. None of them
    /// loses an entry: what was not taken stays queued, what was taken completes.
    #[cold]
    fn bear(&mut self, error: io::Error) -> io::Result<()> {
        self.counts.enters += 1;
        match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR) => Ok(()),
            // No memory for a request, or completions to be taken first. Flush those, or pause instead of spinning.
            Some(libc::EAGAIN | libc::EBUSY) => match self.wait(0, 1, Duration::ZERO, PRESSURE_PAUSE) {
                Err(error)
                    if !matches!(
                        error.raw_os_error(),
                        Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)
                    ) =>
                {
                    Err(error)
                }
                _ => Ok(()),
            },
            _ => Err(error),
        }
    }

    /// The alarm's operation has ended.
    pub(super) fn alarm_rang(&mut self, result: i32) {
        self.alarm.rang(result);
    }

    fn count_enter(&mut self, taken: u32) {
        self.counts.enters += 1;
        self.counts.submissions += u64::from(taken);
    }

    /// Copies completions out, as many as there are and fit.
    #[inline]
    pub(super) fn take<'a>(&mut self, into: &'a mut [std::mem::MaybeUninit<cqueue::Entry>]) -> &'a [cqueue::Entry] {
        self.uring.completion().fill(into)
    }

    /// Notes that an operation counted by `push` had its last completion.
    #[inline]
    pub(super) fn ended(&mut self) {
        debug_assert!(self.in_flight > 0, "more ends than operations");
        self.in_flight -= 1;
    }

    /// Ends every operation, so that the kernel holds no pointer of ours: pushed entries that it has not seen are dropped
    /// with the queue, the others are cancelled and their completions waited for.
    ///
    /// Everything this driver starts can be cancelled at once, so the loop ends after a few rounds; a kernel that
    /// does not let go for `patience` makes continuing unsafe, and panics. `last` sees what comes in the meantime.
    pub(super) fn teardown(&mut self, patience: Duration, mut last: impl FnMut(&cqueue::Entry)) {
        self.forget_silent();
        let unseen = self.uring.submission().len() + self.waiting.len();
        self.waiting.clear();
        self.in_flight -= unseen - self.silent.len();
        let deadline = std::time::Instant::now() + patience;
        while self.in_flight > 0 {
            let timeout = Timespec::from(Duration::from_millis(100));
            // It fails with ENOENT when nothing is left and ETIME when something lingers: the count below decides.
            let _ = self.submitter().register_sync_cancel(Some(timeout), CancelBuilder::any());
            let _ = self.wait(0, 1, Duration::ZERO, Duration::from_millis(10));
            for completion in self.uring.completion() {
                last(&completion);
                if !cqueue::more(completion.flags()) && Token::from_bits(completion.user_data()).is_none_or(counted) {
                    self.in_flight -= 1;
                }
            }
            assert!(std::time::Instant::now() < deadline, "{} operations outlive their cancellation", self.in_flight);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closes every connection now; the kernel would do it some time after the last reference to the ring is gone.
        let _ = self.uring.submitter().unregister_files();
        if let RingName::Registered(index) = self.name {
            // Fails only on another thread than the one that registered it, which the ring never leaves.
            let _ = sys::unregister_ring(self.fd(), index);
        }
    }
}

fn build(sq: u32, cq: u32, freedom: Freedom) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    if freedom == Freedom::Confined {
        builder.setup_r_disabled();
    }
    builder
        // Submissions come from this thread only, and completions are prepared only when it asks for them: no
        // interrupt of the running shard, no lock. (`COOP_TASKRUN` would add nothing to that.)
        .setup_single_issuer()
        .setup_defer_taskrun()
        // Says in shared memory whether there is deferred work, so that an idle `enter` needs no call.
        .setup_taskrun_flag()
        // One bad entry must not hold up those behind it.
        .setup_submit_all()
        // One indirection less per submission.
        .setup_no_sqarray()
        .setup_cqsize(cq)
        .setup_clamp()
        .dontfork()
        .build(sq)
}

/// Tries smaller and smaller rings while locked memory does not suffice: first the completion queue shrinks to twice
/// the submission queue, then both.
fn shrink_to_fit<R>(mut sq: u32, mut cq: u32, build: impl Fn(u32, u32) -> io::Result<R>) -> Result<R, RingError> {
    loop {
        match build(sq, cq) {
            Ok(ring) => return Ok(ring),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && sq > FEWEST_SUBMISSIONS => {
                if cq > 2 * sq {
                    cq /= 2;
                } else {
                    sq /= 2;
                    cq = 2 * sq;
                }
            }
            Err(error) => return Err(RingError::from_setup(error, sq, cq)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limit: u32, expect: Result<(u32, u32), &str>) {
        let shrunk = shrink_to_fit(1024, 4096, |sq, cq| {
            if 4 * sq + cq <= limit { Ok((sq, cq)) } else { Err(io::Error::from_raw_os_error(libc::ENOMEM)) }
        });
        match (shrunk, expect) {
            (Ok(size), Ok(expect)) => assert_eq!(size, expect),
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (shrunk, _) => panic!("{shrunk:?}"),
        }
    }

    #[test]
    fn a_ring_shrinks_until_it_fits() {
        check(8192, Ok((1024, 4096)));
        check(8191, Ok((1024, 2048)));
        check(6143, Ok((512, 1024)));
        check(200, Ok((32, 64)));
        check(191, Err("32 submissions and 64 completions"));
    }

    #[test]
    fn other_failures_are_not_retried() {
        let tried = std::cell::Cell::new(0);
        let refused: Result<(), _> = shrink_to_fit(64, 128, |_, _| {
            tried.set(tried.get() + 1);
            Err(io::Error::from_raw_os_error(libc::ENOSYS))
        });
        assert!(matches!(refused, Err(RingError::Absent)));
        assert_eq!(tried.get(), 1);
    }
}
