//! How far a run has come: one line redrawn on a terminal, a plain line every tenth elsewhere.
//!
//! Invariant: writes to standard error only, so tables stay clean on standard output.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(100);

pub struct Progress {
    label: String,
    total: usize,
    terminal: bool,
    start: Instant,
    drawn: Option<Instant>,
    tenth: usize,
}

impl Progress {
    pub fn new(label: impl Into<String>, total: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { label: label.into(), total, terminal, start: Instant::now(), drawn: None, tenth: 0 }
    }

    pub fn at(&mut self, done: usize) {
        if self.terminal {
            self.redraw(done);
        } else {
            self.plain_line(done);
        }
    }

    fn redraw(&mut self, done: usize) {
        if done < self.total && self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let left = self.start.elapsed().mul_f64((self.total - done) as f64 / done.max(1) as f64);
        // Carriage return, then erase to the end of the line. A terminal that went away is no reason to stop.
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "\r\x1b[K{}: {done} of {}, {} s left", self.label, self.total, left.as_secs());
        let _ = stderr.flush();
    }

    fn plain_line(&mut self, done: usize) {
        let tenth = done * 10 / self.total;
        if tenth > self.tenth {
            self.tenth = tenth;
            eprintln!("{}: {}%", self.label, tenth * 10);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
