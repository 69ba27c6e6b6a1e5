//! What is happening, as it happens: one line on standard error that is written over, on a terminal alone.

use std::fmt;
use std::io::{IsTerminal, Write};

pub struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), shown: false }
    }

    /// Shows where it is.
    pub fn say(&mut self, line: fmt::Arguments<'_>) {
        if self.terminal {
            self.shown = true;
            let mut out = std::io::stderr().lock();
            // Nobody to tell: nothing to do about it.
            // The terminal cuts what is wider than it is (DECAWM off): a second line could not be written over.
            let _ = write!(out, "\r\x1b[K\x1b[?7l{line}\x1b[?7h").and_then(|()| out.flush());
        }
    }

    /// Says it on a line of its own, that stays.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        self.clear();
        eprintln!("{line}");
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}

/// What is said after it, an error maybe, begins on a line of its own.
impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
