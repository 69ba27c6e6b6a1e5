//! Settings: what a configuration file, the environment and a command line may say, and what they amount to.
//!
//! It owns every rule between settings. Each source becomes a layer; flags lie over variables, those over the file, that
//! over the defaults, and `Settings::new` judges the result. The table in `keys` has every setting with its default.
//! Invariant: [`Settings`] name only listeners that this build has, on addresses that they may be bound to, each by a
//! name of its own.
//! It must not open anything but the configuration file and the operators' file that it names.

mod file;
mod keys;
mod layer;
mod operators;
mod passed;
mod text;
mod value;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::engine::net::{Addr, Keepalive};
use crate::engine::{Config, DriverChoice, Listen, Pin};

pub use file::Mistake;
use keys::Key;
use layer::Entry;
pub(crate) use layer::{Layer, Origin};
pub(crate) use operators::Operators;
pub use text::default_file;
pub use value::Format;
pub(crate) use value::{CapsMask, DataDirChoice, Driver, Pins, Place, Span, Value};

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

    const fn default_place(self) -> &'static str {
        match self {
            Listener::Telnet if self.is_built() => "127.0.0.1:2323",
            Listener::Http if self.is_built() => "127.0.0.1:8080",
            _ => "off",
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
    /// How long to serve on after the first signal.
    pub drain_delay: Duration,
    /// How long a drain may last.
    pub drain_timeout: Duration,
    /// What is logged.
    pub log_filter: String,
    /// How log lines are written.
    pub log_format: Format,
    /// The listeners that are on: those of the protocols' tables in the order of [`Listener::ALL`], then the others.
    pub listeners: Vec<ListenerSettings>,
    pub(crate) data_dir: DataDirChoice,
    /// Who may use the console.
    pub(crate) operators: Operators,
    layer: Layer,
}

/// A listener that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerSettings {
    /// What it is called: the protocol's name, or that of its entry.
    pub name: String,
    /// What it speaks.
    pub listener: Listener,
    /// Where it listens.
    pub addr: Addr,
    /// Whether its connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Connections over all shards; `u32::MAX` is no cap.
    pub max_connections: u32,
    /// Close after this long without a received byte.
    pub idle_timeout: Option<Duration>,
    /// Close if the PROXY header has not come by then.
    pub handshake_timeout: Duration,
    /// Close if the peer takes nothing of what is queued for this long.
    pub write_stall_timeout: Duration,
    /// Low and high watermark and cap of the send queue, unless the protocol sizes it.
    pub send_queue: Option<(usize, usize, usize)>,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Silence before TCP connections are probed.
    pub keepalive: Option<Duration>,
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
    /// The file says things that cannot be: all of them, by line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    File(Vec<Mistake>),
    /// The environment says something that cannot be.
    #[error("{name}: {reason}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The console would be open to the network.
    #[error(
        "{at}the telnet console is not bound to {addr}: {why}. \
         Use a loopback address, or say --insecure (insecure = true) if the network is yours alone"
    )]
    InsecureTelnet {
        /// Where the address was given, if in a file.
        at: String,
        /// The address.
        addr: Addr,
        /// What would be open.
        why: String,
    },
    /// A setting for something this build lacks.
    #[error("{at}this build has no {feature}: it was made without the cargo feature {feature:?}")]
    NotBuilt {
        /// Where it was asked for, if in a file.
        at: String,
        /// The feature.
        feature: &'static str,
    },
    /// Settings that do not fit together.
    #[error("{at}{reason}")]
    Rule {
        /// Where one of them was given, if in a file.
        at: String,
        /// What does not fit.
        reason: String,
    },
}

/// Where settings come from, so that they can be read again.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file.
    pub(crate) file: Option<PathBuf>,
    /// What the command line says.
    pub(crate) flags: Layer,
}

impl Sources {
    /// A file alone, with the environment.
    pub fn file(path: impl Into<PathBuf>) -> Sources {
        Sources { file: Some(path.into()), flags: Layer::default() }
    }

    /// Reads and judges them all.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn read(&self) -> Result<Settings, ConfigError> {
        let environment = environment(|name| std::env::var(name).ok())?;
        let file = self.file.as_deref().map(file::read).transpose()?;
        Settings::new(self.flags.clone().over(environment).over(file.unwrap_or_default()))
    }
}

/// The variables that are settings.
const VARIABLES: [(&str, &str); 2] = [("MEGAMUX_CAPS", "caps"), ("MEGAMUX_LOG", "log.filter")];

/// What the environment says; an empty variable says nothing.
fn environment(variable: impl Fn(&str) -> Option<String>) -> Result<Layer, ConfigError> {
    let mut layer = Layer::default();
    for (name, path) in VARIABLES {
        let Some(text) = variable(name).filter(|text| !text.is_empty()) else { continue };
        let key = keys::KEYS.iter().find(|key| key.path == path);
        let Some(read) = key.map(|key| key.kind.parse(&text)) else { continue };
        let value = read.map_err(|reason| ConfigError::Environment { name, reason })?;
        layer.set(path.to_owned(), value, Origin::Environment(name));
    }
    Ok(layer)
}

impl Settings {
    /// Fills up with defaults and judges.
    pub(crate) fn new(layer: Layer) -> Result<Settings, ConfigError> {
        let top = View { layer: &layer, prefix: String::new(), of: None };
        let operators = operators::read(&top.text("console.operators"), &top.origin("console.operators"))?;
        let mut listeners: Vec<ListenerSettings> = Vec::new();
        for listener in Listener::ALL {
            let view = View::table(&layer, listener);
            listeners.extend(ListenerSettings::new(listener.name().to_owned(), &view, &operators)?);
        }
        for entry in layer.listeners() {
            let spoken = listeners.iter().filter(|other| other.listener == entry.listener).count();
            let unnamed = || format!("{}-{}", entry.listener.name(), spoken + 1);
            let name = match entry.settings.get("name") {
                Some((Value::Text(name), _)) => name.clone(),
                _ => unnamed(),
            };
            judge_name(&name, entry, &listeners)?;
            listeners.extend(ListenerSettings::new(name, &View::entry(entry), &operators)?);
        }
        Ok(Settings {
            shards: top.count("shards") as usize,
            pin: match top.value("pin") {
                Value::Pins(pins) => pins.0,
                other => mismatch("pin", &other),
            },
            driver: match top.value("driver") {
                Value::Driver(driver) => driver.0,
                other => mismatch("driver", &other),
            },
            caps_mask: top.text("caps"),
            drain_delay: top.span("drain_delay").unwrap_or_default(),
            drain_timeout: top.span("drain_timeout").unwrap_or_default(),
            log_filter: top.text("log.filter"),
            log_format: match top.value("log.format") {
                Value::Format(format) => format,
                other => mismatch("log.format", &other),
            },
            data_dir: match top.value("data_dir") {
                Value::DataDir(choice) => choice,
                other => mismatch("data_dir", &other),
            },
            listeners,
            operators,
            layer,
        })
    }

    /// The engine's part of them.
    pub fn engine(&self) -> Config {
        let top = View { layer: &self.layer, prefix: String::new(), of: None };
        let mut config = Config::default();
        config.shards = self.shards;
        config.pin = self.pin.clone();
        config.driver = self.driver;
        config.caps_mask = self.caps_mask.clone();
        config.connections_per_shard = top.count("limits.connections_per_shard") as u32;
        config.max_connections = top.count("limits.connections") as u32;
        config.max_per_source = top.count("limits.connections_per_source") as u32;
        config.buffers = top.count("limits.buffers") as u16;
        config.buffer_size = top.count("limits.buffer_size") as u32;
        config.shard_budget = top.size("limits.shard_budget");
        config.engine_budget = top.size("limits.server_budget");
        config.linger = top.span("limits.linger").unwrap_or_default();
        config.lane_capacity = top.count("limits.lane_capacity") as usize;
        config
    }

    /// Which settings differ in `newer`, listeners aside: those that can change while the server runs, or the others.
    pub(crate) fn changes(&self, newer: &Settings, is_live: bool) -> Vec<&'static str> {
        let differs = |key: &&Key| {
            let of = |layer: &Layer| layer.get(key.path).map_or_else(|| key.default(None), |(value, _)| value.clone());
            key.is_live == is_live && of(&self.layer) != of(&newer.layer)
        };
        keys::KEYS.iter().filter(differs).map(|key| key.path).collect()
    }
}

fn judge_name(name: &str, entry: &Entry, taken: &[ListenerSettings]) -> Result<(), ConfigError> {
    let rule = |reason: String| Err(ConfigError::Rule { at: at(&entry.origin), reason });
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_word) {
        return rule(format!("{name:?} names no listener: give up to 64 letters, digits, hyphens, points"));
    }
    if Listener::ALL.iter().any(|listener| listener.name() == name) || taken.iter().any(|other| other.name == name) {
        return rule(format!("{name:?} is another listener's name"));
    }
    Ok(())
}

/// `FILE:LINE: ` for what stands in a file.
fn at(origin: &Origin) -> String {
    match origin {
        Origin::File { .. } => format!("{origin}: "),
        _ => String::new(),
    }
}

impl ListenerSettings {
    /// `None` for a listener that is off.
    fn new(name: String, view: &View<'_>, operators: &Operators) -> Result<Option<Self>, ConfigError> {
        match view.value("listen") {
            Value::Place(Place::At(addr)) => ListenerSettings::at(name, view, operators, addr).map(Some),
            _ => Ok(None),
        }
    }

    /// A listener on an address, which may be another than its settings say.
    fn at(name: String, view: &View<'_>, operators: &Operators, addr: Addr) -> Result<Self, ConfigError> {
        let listener = view.of.unwrap_or(Listener::Echo);
        let proxy_protocol = view.flag("proxy_protocol");
        let built = |is_built: bool, feature, key| match is_built {
            true => Ok(()),
            false => Err(ConfigError::NotBuilt { at: at(&view.origin(key)), feature }),
        };
        built(listener.is_built(), listener.name(), "listen")?;
        built(!proxy_protocol || cfg!(feature = "proxy"), "proxy", "proxy_protocol")?;
        if listener == Listener::Telnet {
            operators::check_binding(&addr, operators, view)?;
        }
        let send_queue = match listener {
            Listener::Http => None,
            _ => Some((view.size("send_low"), view.size("send_high"), view.size("send_cap"))),
        };
        if let Some((low, high, cap)) = send_queue
            && !(low <= high && high <= cap)
        {
            let reason = format!("{name}: send_low, send_high, send_cap must rise: {low}, {high}, {cap} bytes do not");
            return Err(ConfigError::Rule { at: at(&view.origin("send_high")), reason });
        }
        Ok(ListenerSettings {
            name,
            listener,
            addr,
            proxy_protocol,
            max_connections: match view.count("max_connections") {
                0 => u32::MAX,
                most => most as u32,
            },
            idle_timeout: view.span("idle_timeout"),
            handshake_timeout: view.span("handshake_timeout").unwrap_or_default(),
            write_stall_timeout: view.span("write_stall_timeout").unwrap_or_default(),
            send_queue,
            backlog: view.count("backlog") as u32,
            keepalive: view.span("keepalive"),
        })
    }

    /// Sets a listener up as these settings have it; what the protocol needs is left to its handler.
    #[cfg_attr(not(any(feature = "telnet", feature = "http", feature = "echo")), allow(dead_code))]
    pub(crate) fn apply(&self, mut listen: Listen) -> Listen {
        let mut socket = crate::engine::net::SocketOptions::default();
        socket.backlog = self.backlog;
        socket.keepalive = self.keepalive.map(|idle| Keepalive { idle, interval: PROBE_EVERY, count: PROBES });
        listen = match self.idle_timeout {
            // What a protocol has set by itself can be replaced, not taken back.
            None if self.listener == Listener::Http => listen.idle_timeout(NEVER),
            None => listen,
            Some(after) => listen.idle_timeout(after),
        };
        if let Some((low, high, cap)) = self.send_queue {
            listen = listen.send_queue(low, high, cap);
        }
        listen = listen.handshake_timeout(self.handshake_timeout).write_stall_timeout(self.write_stall_timeout);
        listen.name(self.name.as_str()).max_connections(self.max_connections).socket(socket)
    }
}

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Between two probes of a silent connection, and how many may go unanswered.
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 6;

/// The settings of one table or entry, with the defaults below.
struct View<'a> {
    layer: &'a Layer,
    prefix: String,
    of: Option<Listener>,
}

impl<'a> View<'a> {
    fn table(layer: &'a Layer, listener: Listener) -> View<'a> {
        View { layer, prefix: format!("{}.", listener.name()), of: Some(listener) }
    }

    fn entry(entry: &'a Entry) -> View<'a> {
        View { layer: &entry.settings, prefix: String::new(), of: Some(entry.listener) }
    }

    fn value(&self, path: &str) -> Value {
        if let Some((value, _)) = self.layer.get(&format!("{}{path}", self.prefix)) {
            return value.clone();
        }
        let key = match self.of {
            Some(listener) => keys::of_listener(listener).find(|key| key.path == path),
            None => keys::KEYS.iter().find(|key| key.path == path),
        };
        key.unwrap_or_else(|| panic!("no setting {path}")).default(self.of)
    }

    fn origin(&self, path: &str) -> Origin {
        let said = self.layer.get(&format!("{}{path}", self.prefix));
        said.map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    fn count(&self, path: &str) -> u64 {
        match self.value(path) {
            Value::Count(count) => count,
            other => mismatch(path, &other),
        }
    }

    fn size(&self, path: &str) -> usize {
        match self.value(path) {
            Value::Size(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            other => mismatch(path, &other),
        }
    }

    fn span(&self, path: &str) -> Option<Duration> {
        match self.value(path) {
            Value::Span(span) => span,
            other => mismatch(path, &other),
        }
    }

    fn flag(&self, path: &str) -> bool {
        match self.value(path) {
            Value::Flag(flag) => flag,
            other => mismatch(path, &other),
        }
    }

    fn text(&self, path: &str) -> String {
        match self.value(path) {
            Value::Text(text) => text,
            other => mismatch(path, &other),
        }
    }
}

/// A setting is used as another kind than the table says.
fn mismatch(path: &str, value: &Value) -> ! {
    panic!("{path} is {value:?}")
}

/// Judges a file without starting anything.
///
/// # Errors
///
/// See [`ConfigError`].
pub fn check(path: Option<&Path>) -> Result<(), ConfigError> {
    let sources = path.map(Sources::file).unwrap_or_default();
    let settings = sources.read()?;
    let fits = crate::engine::Engine::builder(settings.engine());
    fits.map(drop).map_err(|error| ConfigError::Rule { at: String::new(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;
