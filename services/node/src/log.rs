//! The log: events of this process on stderr, for people or as JSON, and how both change while the server runs.
//!
//! It owns the process's subscriber. Invariant: what is logged, and how, changes between two lines and never within one.

use std::io::IsTerminal;

use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::banner;
use crate::config::{Format, Settings};

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log of this process, to change it by.
pub(crate) struct Log {
    #[cfg(feature = "telnet")]
    ring: megamux_console::LogRing,
    filter: reload::Handle<EnvFilter, Registry>,
    lines: reload::Handle<Lines, Filtered>,
}

impl Log {
    /// Starts the log.
    pub(crate) fn start(settings: &Settings) -> Result<Log, TryInitError> {
        let (filter, filter_handle) = reload::Layer::new(filter(settings));
        let (lines, lines_handle) = reload::Layer::new(lines(settings.log_format));
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        #[cfg(feature = "telnet")]
        let ring = megamux_console::LogRing::new();
        #[cfg(feature = "telnet")]
        let subscriber = subscriber.with(ring.layer());
        subscriber.try_init()?;
        Ok(Log {
            #[cfg(feature = "telnet")]
            ring,
            filter: filter_handle,
            lines: lines_handle,
        })
    }

    /// The last of the log, for the console.
    #[cfg(feature = "telnet")]
    pub(crate) fn ring(&self) -> megamux_console::LogRing {
        self.ring.clone()
    }

    /// What is logged, for the console to change.
    #[cfg(feature = "telnet")]
    pub(crate) fn level(&self) -> LogFilter {
        LogFilter(self.filter.clone())
    }

    /// Goes on as other settings have it. What somebody else has put in force since then stays, unless the settings' own
    /// filter is another.
    pub(crate) fn change(&self, older: &Settings, newer: &Settings) {
        // Each fails only when the subscriber is gone, which is the process's last act.
        let current = self.filter.with_current(ToString::to_string).unwrap_or_default();
        let is_theirs = current != filter(older).to_string();
        if older.log_filter != newer.log_filter {
            let _ = self.filter.reload(filter(newer));
            if is_theirs {
                tracing::info!(
                    "reload: log.filter is {:?} now, and not {current:?} as it was set since",
                    newer.log_filter
                );
            }
        } else if is_theirs {
            tracing::info!("reload: log.filter is the same, and {current:?}, as it was set since, stays");
        }
        let _ = self.lines.reload(lines(newer.log_format));
    }
}

/// What is logged, as somebody other than the settings may change it.
#[cfg(feature = "telnet")]
pub(crate) struct LogFilter(reload::Handle<EnvFilter, Registry>);

#[cfg(feature = "telnet")]
impl megamux_console::LogLevel for LogFilter {
    fn current(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    fn set(&self, directives: &str) -> Result<(), String> {
        let filter = EnvFilter::builder().parse(directives).map_err(|error| error.to_string())?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

fn filter(settings: &Settings) -> EnvFilter {
    // Settings hold only filters that were read once.
    EnvFilter::builder().parse_lossy(&settings.log_filter)
}

fn lines(format: Format) -> Lines {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Human => layer.with_ansi(banner::colours(std::io::stderr().is_terminal())).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
}
