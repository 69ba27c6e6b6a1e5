//! Whether this server wants more work: what `/healthz` answers, and what a drain changes first.
//!
//! It owns one bit, which is set once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The health of a server, shared by whoever asks and whoever ends it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// From now on the server is on its way out.
    pub fn drain(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
