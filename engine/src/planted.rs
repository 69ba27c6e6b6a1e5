//! Bugs planted on purpose, to see that the simulation's oracles find them. Compiled with the feature `planted` alone,
//! and none is there until one is chosen.

use std::cell::Cell;

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $bug:ident,)*) => {
        /// A bug that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Bug { $($(#[doc = $doc])* $bug,)* }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$bug),*];
        }
    };
}

bugs! {
    /// Whoever sleeps is not woken when its bell rings.
    LostWake,
    /// After a short send one byte too many counts as sent.
    LostByte,
    /// A frame is queued in front of what waits already.
    ReorderedSend,
    /// Received bytes that were copied aside give their reference back twice.
    ReleasedTwice,
    /// A multishot receive that ended is taken for one that goes on.
    MissedEnd,
    /// Connections that found no buffer are never tried again.
    StarvedForever,
    /// Below the low watermark reading does not go on.
    ChokedForever,
    /// A descriptor is closed without waiting for the operations in flight on it.
    EarlyClose,
    /// A slot is free for the next connection before its close has completed.
    EarlyReuse,
    /// A handler's timers outlive its connection.
    LateTimer,
    /// A service is not told that a connection was reset.
    UntoldClose,
    /// An answer of a service that finds the lane to its shard full is dropped.
    HandoffDrop,
    /// A listener whose accept found no descriptor never accepts again.
    AcceptForgotten,
    /// The deadline of a drain is not kept.
    EndlessDrain,
    /// A sync of a file is reported and not done.
    EarlyDurable,
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
