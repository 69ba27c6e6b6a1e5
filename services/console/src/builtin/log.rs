//! `log tail`, `log level`: the log as the process keeps it.

use crate::log::{LogLevel, LogRing};
use crate::text;

/// Lines that `log tail` begins with.
const FIRST_LINES: u64 = 20;
/// Lines that are shown at a time.
const MAX_LINES: usize = 200;
/// The longest line that is shown, in characters.
const MAX_SHOWN: usize = 600;

/// One session's view of the log.
#[derive(Debug)]
pub(crate) struct Tail {
    ring: LogRing,
    next: u64,
    filter: String,
}

impl Tail {
    pub(crate) fn new(ring: &LogRing, filter: &str) -> Tail {
        let next = ring.next().saturating_sub(FIRST_LINES);
        Tail { ring: ring.clone(), next, filter: filter.to_owned() }
    }

    /// What was logged since the last time.
    pub(crate) fn take(&mut self) -> Option<String> {
        let lines = self.ring.read(&mut self.next, &self.filter, MAX_LINES);
        let shown = lines.iter().map(|line| text::safe_word(line, MAX_SHOWN) + "\n");
        Some(shown.collect()).filter(|shown: &String| !shown.is_empty())
    }
}

/// The level, or another one.
pub(crate) fn level(level: &dyn LogLevel, directives: &str) -> String {
    if directives.is_empty() {
        return format!("{}\n", text::safe_word(&level.current(), MAX_SHOWN));
    }
    match level.set(directives) {
        Ok(()) => format!("logged from now on: {}\n", text::safe_word(directives, MAX_SHOWN)),
        Err(why) => format!("not changed: {}\n", text::safe_word(&why, MAX_SHOWN)),
    }
}
