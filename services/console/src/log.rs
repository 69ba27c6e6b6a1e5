//! The last of the process's log, kept for operators, and the way to change what is logged.
//!
//! Owns a ring of lines that a `tracing` layer fills. Whoever owns the process installs the layer ([`LogRing::layer`]) and says
//! how the level is changed ([`LogLevel`]): nothing global happens here.
//!
//! Invariants: at most [`MAX_LOG_LINES`] lines of at most [`MAX_LOG_LINE`] bytes; a thread that logs never waits, a line that finds
//! the ring busy is counted instead.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::text;

/// The most lines of the log that are kept.
pub const MAX_LOG_LINES: usize = 1024;

/// The most bytes of one; the rest of it is cut.
pub const MAX_LOG_LINE: usize = 512;

/// The last of the log. A clone is the same ring.
#[derive(Debug, Clone, Default)]
pub struct LogRing(Arc<Ring>);

#[derive(Debug, Default)]
struct Ring {
    lines: Mutex<Lines>,
    missed: AtomicU64,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Box<str>>,
    /// The number of the first line that is kept.
    first: u64,
}

/// Shows and changes what is logged; given by whoever installed the process's subscriber.
pub trait LogLevel: Send + Sync {
    /// The directives in force.
    fn current(&self) -> String;

    /// Puts others in force.
    ///
    /// # Errors
    ///
    /// What is wrong with them, for people.
    fn set(&self, directives: &str) -> Result<(), String>;
}

impl LogRing {
    /// An empty ring.
    #[must_use]
    pub fn new() -> LogRing {
        LogRing::default()
    }

    /// A layer that puts every event it is shown into this ring.
    #[must_use]
    pub fn layer<S: Subscriber>(&self) -> impl Layer<S> + Send + Sync + use<S> {
        LogLayer(self.clone())
    }

    /// How many lines were not kept because the ring was being read.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// The number that the next line will have.
    pub(crate) fn next(&self) -> u64 {
        let lines = self.lines();
        lines.first + lines.kept.len() as u64
    }

    /// Up to `most` lines from number `from` on that contain `filter`; moves `from` behind what was looked at.
    pub(crate) fn read(&self, from: &mut u64, filter: &str, most: usize) -> Vec<String> {
        let lines = self.lines();
        let mut found = Vec::new();
        // Lines that are gone are gone.
        *from = (*from).max(lines.first);
        let start = usize::try_from(*from - lines.first).unwrap_or(usize::MAX);
        for line in lines.kept.iter().skip(start) {
            if found.len() == most {
                break;
            }
            *from += 1;
            if line.contains(filter) {
                found.push(line.to_string());
            }
        }
        found
    }

    fn push(&self, line: String) {
        let mut lines = match self.0.lines.try_lock() {
            Ok(lines) => lines,
            Err(TryLockError::Poisoned(lines)) => lines.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.0.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        lines.kept.push_back(line.into_boxed_str());
        if lines.kept.len() > MAX_LOG_LINES {
            lines.kept.pop_front();
            lines.first += 1;
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LogLayer(LogRing);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Bounded(String::with_capacity(128));
        // Writing into what is full does nothing.
        let _ = write!(line, "{} {:>5} {}:", clock(SystemTime::now()), metadata.level(), metadata.target());
        event.record(&mut line);
        self.0.push(line.0);
    }
}

/// A line being written, up to its bound.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let mut piece = piece.to_owned();
        text::cut(&mut piece, MAX_LOG_LINE.saturating_sub(self.0.len()));
        self.0.push_str(&piece);
        Ok(())
    }
}

impl Visit for Bounded {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self, " {value:?}"),
            name => write!(self, " {name}={value:?}"),
        };
    }
}

/// The time of day in UTC: a log that is looked at now needs no date.
fn clock(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn logged(act: impl FnOnce()) -> LogRing {
        let ring = LogRing::new();
        let subscriber = tracing_subscriber::registry().with(ring.layer());
        tracing::subscriber::with_default(subscriber, act);
        ring
    }

    #[test]
    fn the_last_lines_are_kept() {
        let ring = logged(|| {
            for number in 0..MAX_LOG_LINES + 10 {
                tracing::info!(number, peer = %"192.0.2.1", "came");
            }
        });
        let mut from = 0;
        let first = ring.read(&mut from, "", 1).remove(0);
        assert!(first.ends_with("INFO megamux_console::log::tests: came number=10 peer=192.0.2.1"), "{first}");
        assert_eq!(from, 11);
        assert_eq!(ring.read(&mut from, "number=1033", 10).len(), 1);
        assert_eq!(from, ring.next());
        assert_eq!(ring.read(&mut from, "", 10), [""; 0]);
        assert_eq!(ring.missed(), 0);
    }

    #[test]
    fn a_line_is_bounded() {
        let ring = logged(|| tracing::warn!("{}", "ü".repeat(10_000)));
        let line = ring.read(&mut 0, "", 1).remove(0);
        assert!((MAX_LOG_LINE - 1..=MAX_LOG_LINE).contains(&line.len()), "{}", line.len());
    }

    #[test]
    fn who_logs_never_waits_for_who_reads() {
        let ring = logged(|| {});
        let reading = ring.lines();
        ring.push("lost".to_owned());
        drop(reading);
        assert_eq!((ring.missed(), ring.next()), (1, 0));
    }

    #[test]
    fn the_clock_tells_the_time_of_day() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(86_400_000 * 3 + 3_723_004);
        assert_eq!(clock(at), "01:02:03.004");
    }
}
