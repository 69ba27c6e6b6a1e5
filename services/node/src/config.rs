//! Settings: what a configuration file and a command line may say, and what the two amount to.
//!
//! It owns the form of the file, the defaults, and every rule between settings. Both sources become a `Layer`; the
//! command line's lies over the file's, and `Settings::new` judges the result. Invariant: [`Settings`] name only
//! listeners that this build has, on addresses that they may be bound to.
//! It must not open anything but the configuration file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::engine::net::Addr;
use crate::engine::{DriverChoice, Pin};

/// How long a drain may last unless it is set.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The highest CPU number that is plausible: the kernel's own bound on x86-64 (NR_CPUS). It bounds a list's ranges.
const LAST_CPU: usize = 8191;

/// Something the server can listen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The operator's console.
    Telnet,
    /// Health checks and metrics.
    Http,
    /// RFC 862.
    Echo,
}

impl Listener {
    /// All of them, in the order they are shown.
    pub const ALL: [Listener; 3] = [Listener::Telnet, Listener::Http, Listener::Echo];

    /// Its name: in the file, on the command line, as a cargo feature.
    pub const fn name(self) -> &'static str {
        match self {
            Listener::Telnet => "telnet",
            Listener::Http => "http",
            Listener::Echo => "echo",
        }
    }

    /// Whether this build has it.
    pub const fn is_built(self) -> bool {
        match self {
            Listener::Telnet => cfg!(feature = "telnet"),
            Listener::Http => cfg!(feature = "http"),
            Listener::Echo => cfg!(feature = "echo"),
        }
    }

    fn default_place(self) -> Place {
        let local = |port: u16| Place::At(Addr::Tcp(([127, 0, 0, 1], port).into()));
        match self {
            Listener::Telnet if self.is_built() => local(2323),
            Listener::Http if self.is_built() => local(8080),
            _ => Place::Off,
        }
    }
}

impl FromStr for Listener {
    type Err = String;

    fn from_str(text: &str) -> Result<Listener, String> {
        let found = Listener::ALL.into_iter().find(|listener| listener.name() == text);
        found.ok_or_else(|| format!("{text:?} is no listener: give telnet, http or echo"))
    }
}

/// What this build has: the cargo features it was made with.
pub fn features() -> Vec<&'static str> {
    let listeners = Listener::ALL.into_iter().filter(|listener| listener.is_built());
    listeners.map(Listener::name).chain(cfg!(feature = "proxy").then_some("proxy")).collect()
}

/// What the server is made of: checked, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Shards; 0 means one per physical core.
    pub shards: usize,
    /// Which cores they run on.
    pub pin: Pin,
    /// Which driver does the I/O.
    pub driver: DriverChoice,
    /// Optional kernel features to leave unused.
    pub caps_mask: String,
    /// How long a drain may last.
    pub drain_timeout: Duration,
    /// Where services keep their files.
    pub data_dir: Option<PathBuf>,
    /// The listeners that are on, in the order of [`Listener::ALL`].
    pub listeners: Vec<ListenerSettings>,
}

/// A listener that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerSettings {
    /// Which one.
    pub listener: Listener,
    /// Where it listens.
    pub addr: Addr,
    /// Whether its connections begin with a PROXY header.
    pub proxy_protocol: bool,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file says something that cannot be.
    #[error("{}:{line}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The console would be open to the network.
    #[error(
        "the telnet console is not bound to {0}: it gives an operator's power without asking who is there. \
         Use a loopback address, or say --insecure (insecure = true) if the network is yours alone"
    )]
    InsecureTelnet(Addr),
    /// A setting for something this build lacks.
    #[error("this build has no {0}: it was made without the cargo feature {0:?}")]
    NotBuilt(&'static str),
}

/// What one source says; `None` leaves it to the source below, and in the end to the default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Layer {
    pub(crate) shards: Option<usize>,
    pub(crate) pin: Option<Pins>,
    pub(crate) driver: Option<Driver>,
    pub(crate) caps: Option<String>,
    pub(crate) drain_timeout: Option<Span>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) telnet: TelnetLayer,
    pub(crate) http: ListenerLayer,
    pub(crate) echo: ListenerLayer,
}

/// What one source says about a listener.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListenerLayer {
    pub(crate) listen: Option<Place>,
    pub(crate) proxy_protocol: Option<bool>,
}

/// What one source says about the console.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TelnetLayer {
    pub(crate) listen: Option<Place>,
    pub(crate) proxy_protocol: Option<bool>,
    pub(crate) insecure: Option<bool>,
}

impl Layer {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Layer, ConfigError> {
        let path_buf = || path.to_path_buf();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path_buf(), source })?;
        toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
            let reason = error.message().lines().collect::<Vec<_>>().join(", ");
            ConfigError::File { path: path_buf(), line, reason }
        })
    }

    /// What this says, and what `below` says of the rest.
    pub(crate) fn over(self, below: Layer) -> Layer {
        Layer {
            shards: self.shards.or(below.shards),
            pin: self.pin.or(below.pin),
            driver: self.driver.or(below.driver),
            caps: self.caps.or(below.caps),
            drain_timeout: self.drain_timeout.or(below.drain_timeout),
            data_dir: self.data_dir.or(below.data_dir),
            telnet: TelnetLayer {
                listen: self.telnet.listen.or(below.telnet.listen),
                proxy_protocol: self.telnet.proxy_protocol.or(below.telnet.proxy_protocol),
                insecure: self.telnet.insecure.or(below.telnet.insecure),
            },
            http: self.http.over(below.http),
            echo: self.echo.over(below.echo),
        }
    }
}

impl ListenerLayer {
    fn over(self, below: ListenerLayer) -> ListenerLayer {
        ListenerLayer {
            listen: self.listen.or(below.listen),
            proxy_protocol: self.proxy_protocol.or(below.proxy_protocol),
        }
    }
}

impl Settings {
    /// Fills up with defaults and judges.
    pub(crate) fn new(layer: Layer) -> Result<Settings, ConfigError> {
        let TelnetLayer { listen, proxy_protocol, insecure } = layer.telnet;
        let telnet = ListenerLayer { listen, proxy_protocol };
        let mut listeners = Vec::new();
        for (listener, layer) in Listener::ALL.into_iter().zip([telnet, layer.http, layer.echo]) {
            listeners.extend(ListenerSettings::new(listener, layer)?);
        }
        let console = listeners.iter().find(|on| on.listener == Listener::Telnet);
        if let Some(console) = console
            && !is_local(&console.addr)
            && !insecure.unwrap_or(false)
        {
            return Err(ConfigError::InsecureTelnet(console.addr.clone()));
        }
        Ok(Settings {
            shards: layer.shards.unwrap_or(0),
            pin: layer.pin.unwrap_or_default().0,
            driver: layer.driver.unwrap_or_default().0,
            caps_mask: layer.caps.unwrap_or_default(),
            drain_timeout: layer.drain_timeout.map_or(DEFAULT_DRAIN_TIMEOUT, |span| span.0),
            data_dir: layer.data_dir,
            listeners,
        })
    }
}

impl ListenerSettings {
    /// `None` for a listener that is off.
    fn new(listener: Listener, layer: ListenerLayer) -> Result<Option<Self>, ConfigError> {
        let place = layer.listen.unwrap_or_else(|| listener.default_place());
        let Place::At(addr) = place else {
            return Ok(None);
        };
        let proxy_protocol = layer.proxy_protocol.unwrap_or(false);
        if !listener.is_built() {
            return Err(ConfigError::NotBuilt(listener.name()));
        }
        if proxy_protocol && !cfg!(feature = "proxy") {
            return Err(ConfigError::NotBuilt("proxy"));
        }
        Ok(Some(ListenerSettings { listener, addr, proxy_protocol }))
    }
}

/// Whether only this machine reaches it. For a Unix socket the file's permissions decide.
fn is_local(addr: &Addr) -> bool {
    match addr {
        Addr::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
        Addr::Unix(_) => true,
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

/// Which driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Driver(pub(crate) DriverChoice);

impl FromStr for Driver {
    type Err = String;

    fn from_str(text: &str) -> Result<Driver, String> {
        match text {
            "auto" => Ok(Driver(DriverChoice::Auto)),
            "uring" => Ok(Driver(DriverChoice::Uring)),
            _ => Err(format!("{text:?} is no driver: give auto or uring")),
        }
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
            "ms" => Some(Duration::from_millis(count.into())),
            "s" => Some(Duration::from_secs(count.into())),
            "m" => Some(Duration::from_secs(u64::from(count) * 60)),
            _ => None,
        });
        span.map(Span).ok_or_else(|| format!("{text:?} is no span of time: give 500ms, 10s or 2m"))
    }
}

/// Lets a value stand in the file as the text it is on the command line, so that its error knows the line.
macro_rules! texts {
    ($($type:ty = $expecting:literal,)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                source.deserialize_str(Text)
            }
        }
    )*};
}

texts! {
    Place = "an address in quotes, or \"off\"",
    Pins = "\"cores\", \"none\", or a list such as \"0-3,8\"",
    Driver = "\"auto\" or \"uring\"",
    Span = "a span of time such as \"10s\"",
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
