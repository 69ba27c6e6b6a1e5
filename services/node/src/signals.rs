//! SIGHUP has the settings read again; of SIGTERM and SIGINT the first drains the engine, the second ends the process at
//! once.
//!
//! It owns the process's handlers of these signals, and the thread that waits for them. Before it is started they end the
//! process, as they do by default: there is nothing to drain or to reload yet.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};

use crate::running::Running;

/// Starts to wait.
pub(crate) fn watch(mut running: Running) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
    let wait = move || {
        let mut is_ending = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP if is_ending => tracing::info!("SIGHUP: draining, nothing is read again"),
                SIGHUP => running.reload(),
                // The parent sees that a signal ended the process, and which.
                _ if is_ending => drop(emulate_default_handler(signal)),
                _ => {
                    is_ending = true;
                    running.drain(signal_name(signal).unwrap_or("a signal"));
                }
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}
