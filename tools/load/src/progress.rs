//! What is happening, as it happens: one line that is written over on a terminal, a line now and then otherwise.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line is written over, and how often one is added where that cannot be.
const ON_TERMINAL: Duration = Duration::from_millis(250);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Where progress goes: standard error, so that results can be piped.
pub struct Progress {
    quiet: bool,
    terminal: bool,
    last: Option<Instant>,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        // Elsewhere nothing is said before there is something to say.
        Progress { quiet, terminal, last: (!terminal).then(Instant::now) }
    }

    /// Says it if it is time to.
    pub fn say(&mut self, line: fmt::Arguments<'_>) {
        let pause = if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        if self.quiet || self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        let mut out = std::io::stderr().lock();
        // Nobody to tell: nothing to do about it.
        let _ = match self.terminal {
            // The terminal cuts what is wider than it is (DECAWM off): a second line could not be written over.
            true => write!(out, "\r\x1b[K\x1b[?7l{line}\x1b[?7h"),
            false => writeln!(out, "{line}"),
        };
        let _ = out.flush();
    }

    /// Takes back what was said and is to be written over.
    pub fn clear(&mut self) {
        if self.terminal && self.last.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }

    /// Says it in any case, on a line of its own.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        if !self.quiet {
            self.clear();
            eprintln!("{line}");
            self.last = (!self.terminal).then(Instant::now);
        }
    }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A span of time with three digits.
pub fn span(nanos: u64) -> String {
    let time = Duration::from_nanos(nanos);
    match nanos {
        0..10_000 => format!("{:.2} us", nanos as f64 / 1e3),
        10_000..10_000_000 => format!("{} us", time.as_micros()),
        10_000_000..10_000_000_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, expect) in [(0, "0"), (999, "999"), (1000, "1,000"), (2_940_000, "2,940,000")] {
            assert_eq!(grouped(number), expect);
        }
        for (nanos, expect) in
            [(1_500, "1.50 us"), (45_000, "45 us"), (12_000_000, "12 ms"), (61_000_000_000, "61.0 s")]
        {
            assert_eq!(span(nanos), expect);
        }
    }
}
