//! Bugs planted on purpose, to see that the simulation's oracles find them. Compiled with the feature `planted` alone,
//! and none is there until one is chosen.

use std::cell::Cell;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// After a short send one byte too many counts as sent.
    LostByte,
    /// Received bytes that were copied aside give their reference back twice.
    ReleasedTwice,
    /// A descriptor is closed without waiting for the operations in flight on it.
    EarlyClose,
    /// A service is not told that a connection was reset.
    UntoldClose,
    /// Connections that found no buffer are never tried again.
    StarvedForever,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 5] =
        [Bug::LostByte, Bug::ReleasedTwice, Bug::EarlyClose, Bug::UntoldClose, Bug::StarvedForever];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in every engine simulated on this thread, instead of the last one.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted here.
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
