//! What goes wrong in a simulation, and how often: every option is derived from the seed and can be printed.
//!
//! Two kinds. *Gentle* faults are what any kernel and network may do at any time: with them alone nothing may be lost.
//! *Rough* faults end connections or refuse them: with them, what arrived must still be a prefix of what was sent.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use super::rng::Rng;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $field:ident: $type:ty,)*) => {
        /// How often what goes wrong. Probabilities count in a thousand.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Faults { $($(#[doc = $doc])* pub $field: $type,)* }

        impl Faults {
            /// The name of each option.
            pub const NAMES: &[&str] = &[$(stringify!($field)),*];

            /// Sets the option of this name to what [`Faults::none`] has; `false` if there was nothing to set.
            fn quiet(&mut self, name: &str) -> bool {
                let none = Faults::none();
                match name {
                    $(stringify!($field) => std::mem::replace(&mut self.$field, none.$field) != none.$field,)*
                    _ => false,
                }
            }
        }

        impl fmt::Display for Faults {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let options = [$(format!(concat!(stringify!($field), "={:?}"), self.$field)),*];
                f.write_str(&options.join(" "))
            }
        }
    };
}

faults! {
    /// Longest time a segment or datagram is under way.
    latency: Duration,
    /// Bytes that one direction of a connection holds before its sender has to wait.
    window: usize,
    /// Gentle: a receive gets fewer bytes than there are.
    short_read: u32,
    /// Gentle: a send ends before all of its chain was taken.
    short_write: u32,
    /// Gentle: an operation runs later than it could, by up to [`Faults::delay`].
    late: u32,
    /// Longest of those delays.
    delay: Duration,
    /// Gentle: a poll fires, or a tick comes, though there is nothing.
    spurious: u32,
    /// Gentle: a multishot or one-shot operation ends with EINTR or EAGAIN.
    interrupted: u32,
    /// Gentle: a multishot delivers and ends, as it does when the completion queue is full.
    queue_full: u32,
    /// Gentle: a cancel finds its target already running.
    cancel_already: u32,
    /// Gentle: a new socket gets any free slot, not the lowest.
    roaming_slots: bool,
    /// Gentle: the driver can bound a multishot receive by bytes.
    recv_budget: bool,
    /// Gentle: provided buffers are used up bit by bit.
    incremental_buffers: bool,
    /// Gentle: the kernel takes some of what is submitted, and the rest the next time, as it does with EAGAIN and EBUSY.
    submit_again: u32,
    /// Gentle: the submission queue is full, so what was pushed is submitted on the spot.
    submit_full: u32,
    /// Rough: accepting finds no descriptor, and the connection is gone.
    table_full: u32,
    /// Rough: per segment, the connection breaks instead.
    reset: u32,
    /// Rough: a dial fails, or is never answered.
    dial_failure: u32,
    /// Rough: a datagram is lost.
    datagram_loss: u32,
    /// Longest time an operation on a file takes.
    disk_latency: Duration,
    /// Rough: a sync of a file or of a directory fails.
    sync_failure: u32,
    /// Rough: a write fails, with some of it done.
    write_failure: u32,
    /// Rough: bytes that fit on the disk.
    disk_size: usize,
}

thread_local! {
    static LEFT_OUT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Leaves the faults of these names out of every simulation on this thread: what of them a failure needs is found by trying.
pub fn leave_out(names: &[&str]) {
    LEFT_OUT.replace(names.iter().map(|&name| name.to_owned()).collect());
}

/// These faults without what is left out.
pub(super) fn left(mut faults: Faults) -> Faults {
    LEFT_OUT.with_borrow(|names| names.iter().for_each(|name| _ = faults.quiet(name)));
    faults
}

impl Faults {
    /// Nothing goes wrong, and everything takes no time.
    pub fn none() -> Faults {
        Faults {
            latency: Duration::ZERO,
            window: 256 * 1024,
            short_read: 0,
            short_write: 0,
            late: 0,
            delay: Duration::ZERO,
            spurious: 0,
            interrupted: 0,
            queue_full: 0,
            cancel_already: 0,
            roaming_slots: false,
            recv_budget: true,
            incremental_buffers: true,
            submit_again: 0,
            submit_full: 0,
            table_full: 0,
            reset: 0,
            dial_failure: 0,
            datagram_loss: 0,
            disk_latency: Duration::ZERO,
            sync_failure: 0,
            write_failure: 0,
            disk_size: usize::MAX,
        }
    }

    /// Gentle faults alone, as the seed has them: each is absent, rare or frequent.
    pub fn gentle(seed: u64) -> Faults {
        let mut rng = Rng::new(seed ^ 0x6765_6e74);
        let mut often = || [0, 0, 20, 200, 600][rng.index(5)];
        let mut faults = Faults {
            short_read: often(),
            short_write: often(),
            late: often(),
            spurious: often().min(200),
            interrupted: often().min(200),
            queue_full: often(),
            cancel_already: often(),
            ..Faults::none()
        };
        faults.latency = Duration::from_micros([0, 50, 1_000, 40_000][rng.index(4)]);
        faults.delay = Duration::from_micros([10, 1_000, 20_000][rng.index(3)]);
        faults.window = [512, 4096, 64 * 1024, 256 * 1024][rng.index(4)];
        faults.roaming_slots = rng.chance(500);
        faults.recv_budget = rng.chance(700);
        faults.incremental_buffers = rng.chance(700);
        faults.submit_again = [0, 0, 50, 300][rng.index(4)];
        faults.submit_full = [0, 0, 50, 300][rng.index(4)];
        faults.disk_latency = Duration::from_micros([0, 100, 10_000][rng.index(3)]);
        faults
    }

    /// Gentle and rough faults, as the seed has them.
    pub fn rough(seed: u64) -> Faults {
        let mut rng = Rng::new(seed ^ 0x726f_7567);
        Faults {
            table_full: [0, 50, 300][rng.index(3)],
            reset: [0, 5, 30][rng.index(3)],
            dial_failure: [0, 100, 400][rng.index(3)],
            datagram_loss: [0, 50, 400][rng.index(3)],
            sync_failure: [0, 0, 5, 50][rng.index(4)],
            write_failure: [0, 0, 20, 100][rng.index(4)],
            disk_size: [usize::MAX, usize::MAX, 20_000][rng.index(3)],
            ..Faults::gentle(seed)
        }
    }

    /// The same without the faults that end connections: what is begun under `rough` may end in peace.
    pub fn healed(&self) -> Faults {
        Faults {
            table_full: 0,
            reset: 0,
            dial_failure: 0,
            datagram_loss: 0,
            sync_failure: 0,
            write_failure: 0,
            disk_size: usize::MAX,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_seeds_and_all_are_printed() {
        assert_eq!(Faults::rough(5), Faults::rough(5));
        assert!((0..100).any(|seed| Faults::gentle(seed) != Faults::gentle(0)));
        let printed = Faults::none().to_string();
        assert!(printed.contains("reset=0") && printed.contains("window=262144"), "{printed}");
    }

    #[test]
    fn gentle_faults_end_no_connection() {
        for seed in 0..100 {
            let faults = Faults::gentle(seed);
            assert_eq!(faults, faults.healed());
        }
    }
}
