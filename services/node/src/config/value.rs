//! Values of settings: what kinds there are, how each is written, and what it may be.
//!
//! It owns the forms of values, in the file and on the command line alike. Invariant: a value that [`Kind::read`] gave is
//! one that its setting allows, and prints as TOML that reads back to the same value.
//! It must not know any setting by name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use super::Listener;
use crate::engine::net::Addr;
use crate::engine::{Caps, DriverChoice, Pin};

/// The highest CPU number that is plausible: the kernel's own bound on x86-64 (NR_CPUS). It bounds a list's ranges.
const LAST_CPU: usize = 8191;

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number within bounds.
    Count(u64, u64),
    /// A power of two within bounds.
    PowerOfTwo(u64, u64),
    /// Bytes: a number, or one with KiB, MiB or GiB.
    Size,
    /// A span of time.
    Span,
    /// A span of time, or off.
    SpanOrOff,
    Flag,
    /// Any text.
    Name,
    /// What is logged.
    Filter,
    Format,
    Place,
    Pins,
    Driver,
    CapsMask,
    DataDir,
    Protocol,
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Count(u64),
    Size(u64),
    Span(Option<Duration>),
    Flag(bool),
    Text(String),
    Format(Format),
    Place(Place),
    Pins(Pins),
    Driver(Driver),
    DataDir(DataDirChoice),
    Protocol(Listener),
}

impl Kind {
    /// Reads a value from a file.
    pub(crate) fn read(self, value: &DeValue<'_>) -> Result<Value, String> {
        match (self, value) {
            (Kind::Count(..) | Kind::PowerOfTwo(..), DeValue::Integer(number)) => self.count(&number.to_string()),
            (Kind::Size, DeValue::Integer(number)) => self.parse(&number.to_string()),
            (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Kind::Count(..) | Kind::PowerOfTwo(..) | Kind::Flag, other) => Err(self.unlike(other)),
            (_, DeValue::String(text)) => self.parse(text),
            (_, other) => Err(self.unlike(other)),
        }
    }

    /// Reads a value from its text: what stands between quotes in a file, in a variable, on the command line.
    pub(crate) fn parse(self, text: &str) -> Result<Value, String> {
        let span = |text: &str| text.parse::<Span>().map(|span| Value::Span(Some(span.0)));
        match self {
            Kind::Count(..) | Kind::PowerOfTwo(..) => self.count(text),
            Kind::Size => size(text).map(Value::Size),
            Kind::SpanOrOff if text == "off" => Ok(Value::Span(None)),
            Kind::SpanOrOff => span(text).map_err(|error| format!("{error}, or off")),
            Kind::Span => span(text),
            Kind::Flag => text.parse().map(Value::Flag).map_err(|_| format!("{text:?} is neither true nor false")),
            Kind::Name => Ok(Value::Text(text.to_owned())),
            Kind::Filter => filter(text).map(Value::Text),
            Kind::Format => text.parse().map(Value::Format),
            Kind::Place => text.parse().map(Value::Place),
            Kind::Pins => text.parse().map(Value::Pins),
            Kind::Driver => text.parse().map(Value::Driver),
            Kind::CapsMask => text.parse().map(|CapsMask(mask)| Value::Text(mask)),
            Kind::DataDir => text.parse().map(Value::DataDir),
            Kind::Protocol => text.parse().map(Value::Protocol),
        }
    }

    /// What is allowed, for whoever wrote something else.
    pub(crate) fn allowed(self) -> String {
        match self {
            Kind::Count(least, u64::MAX) => format!("a number from {least}"),
            Kind::Count(least, most) => format!("a number from {least} to {most}"),
            Kind::PowerOfTwo(0, most) => format!("0, or a power of two up to {most}"),
            Kind::PowerOfTwo(least, most) => format!("a power of two from {least} to {most}"),
            Kind::Size => "bytes, as a number or as text such as \"64KiB\", \"16MiB\", \"2GiB\"".into(),
            Kind::Span => "a span of time such as \"500ms\", \"10s\", \"2m\"".into(),
            Kind::SpanOrOff => "a span of time such as \"500ms\", \"10s\", \"2m\", or \"off\"".into(),
            Kind::Flag => "true or false".into(),
            Kind::Name => "a text".into(),
            Kind::Filter => {
                "a level (off, error, warn, info, debug, trace) or a list such as \"info,megamux_engine=trace\"".into()
            }
            Kind::Format => "\"human\" or \"json\"".into(),
            Kind::Place => "an address such as \"127.0.0.1:7000\", \"[::1]:7000\", \"unix:/path\", or \"off\"".into(),
            Kind::Pins => "\"cores\", \"none\", or a list such as \"0-3,8\"".into(),
            Kind::Driver => format!("{}", Words(&Driver::ALL.map(|(word, _)| word))),
            Kind::CapsMask => "optional kernel features to leave unused, such as \"-inc,-recv_budget\"".into(),
            Kind::DataDir => "a path, \"default\", or \"none\"".into(),
            Kind::Protocol => format!("{}", Words(&Listener::ALL.map(Listener::name))),
        }
    }

    fn count(self, text: &str) -> Result<Value, String> {
        let number = text.parse::<u64>().ok().filter(|&number| match self {
            Kind::Count(least, most) => (least..=most).contains(&number),
            Kind::PowerOfTwo(0, most) => number == 0 || number.is_power_of_two() && number <= most,
            Kind::PowerOfTwo(least, most) => number.is_power_of_two() && (least..=most).contains(&number),
            _ => false,
        });
        number.map(Value::Count).ok_or_else(|| format!("{text} will not do: give {}", self.allowed()))
    }

    fn unlike(self, value: &DeValue<'_>) -> String {
        format!("this is a {}, where {} is needed", value.type_str(), self.allowed())
    }
}

/// As it stands in a file.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Count(count) => write!(f, "{count}"),
            Value::Size(bytes) => match units(*bytes) {
                (count, "") => write!(f, "{count}"),
                (count, unit) => write!(f, "\"{count}{unit}\""),
            },
            Value::Span(None) => f.write_str("\"off\""),
            Value::Span(Some(span)) => write!(f, "\"{}\"", Span(*span)),
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Text(text) => quoted(f, text),
            Value::Format(format) => quoted(f, format.word()),
            Value::Place(Place::Off) => f.write_str("\"off\""),
            Value::Place(Place::At(addr)) => quoted(f, &addr.to_string()),
            Value::Pins(pins) => write!(f, "\"{pins}\""),
            Value::Driver(driver) => quoted(f, driver.word()),
            Value::DataDir(DataDirChoice::Default) => f.write_str("\"default\""),
            Value::DataDir(DataDirChoice::None) => f.write_str("\"none\""),
            Value::DataDir(DataDirChoice::At(path)) => quoted(f, &path.to_string_lossy()),
            Value::Protocol(listener) => quoted(f, listener.name()),
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "{}", toml::Value::String(text.to_owned()))
}

/// Words in quotes with commas and an "or".
struct Words<'a>(&'a [&'a str]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, word) in self.0.iter().enumerate() {
            let before = if place == 0 {
                ""
            } else if place + 1 == self.0.len() {
                " or "
            } else {
                ", "
            };
            write!(f, "{before}\"{word}\"")?;
        }
        Ok(())
    }
}

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

fn size(text: &str) -> Result<u64, String> {
    let (count, unit) =
        UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes))).unwrap_or((text, 1));
    let bytes = count.trim().parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
    bytes.ok_or_else(|| format!("{text:?} is no size: give {}", Kind::Size.allowed()))
}

fn units(bytes: u64) -> (u64, &'static str) {
    let unit = UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or((bytes, ""), |(name, unit)| (bytes / unit, name))
}

fn filter(text: &str) -> Result<String, String> {
    let parsed = tracing_subscriber::EnvFilter::builder().parse(text);
    parsed.map(|_| text.to_owned()).map_err(|error| format!("{text:?} selects nothing to log: {error}"))
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Format::Human => "human",
            Format::Json => "json",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let found = [Format::Human, Format::Json].into_iter().find(|format| format.word() == text);
        found.ok_or_else(|| format!("{text:?} is no log format: give human or json"))
    }
}

/// Where a listener listens: `off` or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Off,
    At(Addr),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        match text {
            "off" => Ok(Place::Off),
            _ => text.parse().map(Place::At).map_err(|error| format!("{error}, or off")),
        }
    }
}

/// Where services keep their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataDirChoice {
    /// Where the system has it.
    Default,
    None,
    At(PathBuf),
}

impl FromStr for DataDirChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DataDirChoice, String> {
        match text {
            "" => Err("the path is empty: give one, default, or none".into()),
            "default" => Ok(DataDirChoice::Default),
            "none" => Ok(DataDirChoice::None),
            path => Ok(DataDirChoice::At(path.into())),
        }
    }
}

/// Optional kernel features to leave unused, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CapsMask(pub(crate) String);

impl FromStr for CapsMask {
    type Err = String;

    fn from_str(text: &str) -> Result<CapsMask, String> {
        let checked = Caps::check_mask(text).map(|()| CapsMask(text.to_owned()));
        checked.map_err(|error| format!("{error} (--caps, caps in the file, or the variable MEGAMUX_CAPS)"))
    }
}

/// Which cores: `cores`, `none`, or a list as the kernel writes it (`0-3,8`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pins(pub(crate) Pin);

impl FromStr for Pins {
    type Err = String;

    fn from_str(text: &str) -> Result<Pins, String> {
        match text {
            "cores" => return Ok(Pins(Pin::Cores)),
            "none" => return Ok(Pins(Pin::None)),
            _ => {}
        }
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let cpu = |text: &str| text.trim().parse::<usize>().ok().filter(|&cpu| cpu <= LAST_CPU);
            match (cpu(first), cpu(last)) {
                (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
                _ => {
                    return Err(format!("{part:?} is no CPU: give cores, none, or a list such as 0-3,8"));
                }
            }
        }
        Ok(Pins(Pin::List(cpus)))
    }
}

impl fmt::Display for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pin::Cores => f.write_str("cores"),
            Pin::None => f.write_str("none"),
            Pin::List(cpus) => {
                let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
                f.write_str(&cpus.join(","))
            }
        }
    }
}

/// Which driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Driver(pub(crate) DriverChoice);

impl Driver {
    const ALL: [(&'static str, DriverChoice); 3] =
        [("auto", DriverChoice::Auto), ("uring", DriverChoice::Uring), ("epoll", DriverChoice::Epoll)];

    fn word(self) -> &'static str {
        Driver::ALL.iter().find(|(_, choice)| *choice == self.0).map_or("auto", |(word, _)| word)
    }
}

impl FromStr for Driver {
    type Err = String;

    fn from_str(text: &str) -> Result<Driver, String> {
        let found = Driver::ALL.into_iter().find(|(word, _)| *word == text);
        let words = Words(&Driver::ALL.map(|(word, _)| word)).to_string();
        found.map(|(_, choice)| Driver(choice)).ok_or_else(|| format!("{text:?} is no driver: give {words}"))
    }
}

/// A span of time with its unit: `500ms`, `10s`, `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let span = count.parse::<u32>().ok().and_then(|count| match unit {
            "us" => Some(Duration::from_micros(count.into())),
            "ms" => Some(Duration::from_millis(count.into())),
            "s" => Some(Duration::from_secs(count.into())),
            "m" => Some(Duration::from_secs(u64::from(count) * 60)),
            _ => None,
        });
        span.map(Span).ok_or_else(|| format!("{text:?} is no span of time: give 500ms, 10s or 2m"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0 => f.write_str("0s"),
            _ if micros.is_multiple_of(60_000_000) => write!(f, "{}m", micros / 60_000_000),
            _ if micros.is_multiple_of(1_000_000) => write!(f, "{}s", micros / 1_000_000),
            _ if micros.is_multiple_of(1000) => write!(f, "{}ms", micros / 1000),
            _ => write!(f, "{micros}us"),
        }
    }
}
