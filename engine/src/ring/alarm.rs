//! The alarm: one standing timeout that ends the waits of a busy ring, so that they need none of their own.
//!
//! A wait's own timeout is a timer that the kernel sets and cancels in every call, although something else ends nearly all
//! of them. Invariant: an alarm that was submitted rings within [`AFTER`]; so while it stands, a wait that may last
//! that long needs no timeout. It is set after several waits only, and not again by itself: a ring that falls silent is
//! woken once more, and then sleeps as long as it likes.

use std::time::Duration;

use io_uring::types::Timespec;

/// When it rings. Longer than a tick of the kernel's, so that it is rarely the next timer.
pub(super) const AFTER: Duration = Duration::from_millis(10);
/// The same, for the kernel, which copies it as it takes the entry.
pub(super) static AFTER_SPEC: Timespec = Timespec::new().nsec(AFTER.subsec_nanos());
/// Waits with timeouts of their own before it is set: few enough while busy, many beside one ring for nothing.
const WAITS: u32 = 16;

/// Whether it stands.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    stands: bool,
    /// The kernel will not have it.
    refused: bool,
    /// Waits since it rang that it could have ended.
    waits: u32,
}

impl Alarm {
    /// Notes a wait to come, of at most `most`. Whether the alarm is to be set for it, which then counts as done.
    #[inline]
    pub(super) fn is_due(&mut self, most: Duration) -> bool {
        if self.stands || self.refused || most < AFTER {
            return false;
        }
        self.waits += 1;
        self.stands = self.waits > WAITS;
        self.stands
    }

    /// Whether it ends a wait of at most `most`.
    #[inline]
    pub(super) fn ends(&self, most: Duration) -> bool {
        self.stands && most >= AFTER
    }

    /// It rang, or could not be set.
    pub(super) fn rang(&mut self, result: i32) {
        let refused = self.refused || !matches!(-result, libc::ETIME | libc::ECANCELED);
        *self = Alarm { refused, ..Alarm::default() };
    }
}
