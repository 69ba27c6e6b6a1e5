//! Conformance: other people's implementations judge megamux's protocols.
//!
//! It owns the two ends of a match: ours ([`End`]), an engine in this process on its public interface, and theirs ([`Judge`]), a
//! Python program in `judges/` on an implementation that shares no code with us. Invariants: a judge that is dropped is
//! ended; every wait is for an event and has a deadline; nothing leaves loopback.
//!
//! Must not: decide what is right. A test says what both ends have to hold to be so.

mod end;
mod judge;

use std::time::Duration;

pub use end::{End, Heard, Script, Session};
pub use judge::{Judge, Verdict};
pub use megamux_skip_tests::skip;

/// How long anything may take that should take no time: long enough for a machine that has much else to do.
pub const DEADLINE: Duration = Duration::from_secs(20);
