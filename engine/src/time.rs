//! The engine's clock value: nanoseconds since the engine started, read once per tick and passed
//! down as an argument. Nothing below the driver ever asks a clock.

use std::time::Duration;

/// A point in time: nanoseconds since the engine (or the simulation) started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The engine's start.
    pub const ZERO: Time = Time(0);
    /// Later than every other point; a deadline that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// The point `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`]: a timeout of 600 years is a timeout that never comes.
    fn add(self, after: Duration) -> Time {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}
