//! SIGTERM and SIGINT: the first drains the engine, the second ends the process at once.
//!
//! It owns the process's handlers of both signals, and the thread that waits for them. Before it is started both
//! end the process, as they do by default: there is nothing to drain yet.

use std::io;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};

use crate::engine::Handle;

/// Starts to wait.
pub(crate) fn watch(engine: Handle, drain_timeout: Duration) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        let mut arrived = signals.forever();
        if let Some(first) = arrived.next() {
            let signal = signal_name(first).unwrap_or("a signal");
            tracing::info!(?drain_timeout, "{signal}: draining; a second signal ends it at once");
            engine.drain(drain_timeout);
        }
        if let Some(second) = arrived.next() {
            // The parent sees that a signal ended the process, and which.
            let _ = emulate_default_handler(second);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}
