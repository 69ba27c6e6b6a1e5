//! What the server says of itself at start: where it listens, what it runs on, what it found.
//!
//! It owns the words and their colours, and writes them once, when everything is bound. Programs read two things of it:
//! the word behind a listener's name, which is its address as bound, and the last line.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::LazyLock;

use crate::config::{self, Listener, Settings};
use crate::engine::net::Addr;
use crate::engine::{Caps, DriverChoice, Pin};
use crate::limits::Descriptors;

/// The last line: everything is bound.
const READY: &str = "megamux is ready";

/// What there is to say.
pub(crate) struct Banner<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) shards: usize,
    /// The listeners that are on, with their addresses as bound.
    pub(crate) bound: &'a [(&'a str, Listener, Addr)],
    pub(crate) caps: Option<&'a Caps>,
    pub(crate) descriptors: Descriptors,
    pub(crate) connections_per_shard: u32,
}

impl Banner<'_> {
    /// The whole of it, coloured if stdout is for people.
    pub(crate) fn text(&self) -> String {
        let paint = Paint { colours: colours(io::stdout().is_terminal()) };
        let mut out = String::new();
        let mut row = |label: &str, what: &str| {
            // A String takes every write.
            let _ = writeln!(out, "  {} {what}", paint.dim(&format!("{label:<8}")));
        };
        for listener in Listener::ALL.into_iter().filter(|listener| listener.is_built()) {
            if !self.bound.iter().any(|(_, bound, _)| *bound == listener) {
                row(listener.name(), "off");
            }
            for (name, _, addr) in self.bound.iter().filter(|(_, bound, _)| *bound == listener) {
                row(name, &self.listener(name, addr));
            }
        }
        row("shards", &self.shards());
        row("driver", &self.driver());
        for caps in self.caps.iter().flat_map(|caps| capabilities(caps)) {
            row("", &caps);
        }
        row("limits", &self.limits());
        let title = paint.bold(&format!("megamux {}", env!("CARGO_PKG_VERSION")));
        format!("{title} {}\n{out}{}\n", built_with(), paint.bold(READY))
    }

    fn listener(&self, name: &str, addr: &Addr) -> String {
        let on = self.settings.listeners.iter().find(|on| on.name == name);
        let proxied = on.is_some_and(|on| on.proxy_protocol);
        format!("{addr}{}", if proxied { " behind the PROXY protocol" } else { "" })
    }

    fn shards(&self) -> String {
        let pins = match &self.settings.pin {
            Pin::Cores => "one per physical core, around again if there are more".to_owned(),
            Pin::None => "not pinned".to_owned(),
            Pin::List(cpus) => {
                let cpus: Vec<_> = cpus.iter().take(self.shards).map(usize::to_string).collect();
                format!("on CPU {} in turn", cpus.join(","))
            }
        };
        format!("{}, {pins}", self.shards)
    }

    fn driver(&self) -> String {
        let Some(caps) = self.caps else { return "none".to_owned() };
        let why = match (self.settings.driver, &caps.refused) {
            (_, Some(refused)) => refused,
            (DriverChoice::Auto, None) => "the best there is; all that it needs was tried and works",
            _ => "as asked for",
        };
        format!("{}, {why}", caps.driver)
    }

    fn limits(&self) -> String {
        let Descriptors { limit, raised_from } = self.descriptors;
        let limit = if limit == u64::MAX { "any number of".to_owned() } else { limit.to_string() };
        let raised = raised_from.map(|from| format!(", raised from {from}")).unwrap_or_default();
        let each = self.descriptors.connections_per_shard(self.connections_per_shard);
        let shards = self.shards;
        let all = match self.caps.is_some_and(|caps| caps.driver == "epoll") {
            // All shards share the process's table.
            true => (each * shards as u64).min(self.descriptors.left(shards, self.settings.listeners.len())),
            false => each * shards as u64,
        };
        format!("{limit} descriptors (RLIMIT_NOFILE{raised}): up to {each} connections per shard, {all} in all")
    }
}

/// Writes it to stdout. A reader that is gone does not stop the server.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// What of the optional capabilities is used, masked, and missing, a line each.
fn capabilities(caps: &Caps) -> impl Iterator<Item = String> {
    let is_masked = |name: &str| caps.is_masked(name);
    let all: Vec<(&str, bool)> = caps.iter().collect();
    let those = |wanted: &dyn Fn(&str, bool) -> bool| -> Vec<&str> {
        all.iter().filter(|(name, works)| wanted(name, *works)).map(|(name, _)| *name).collect()
    };
    let lines = [
        ("uses", those(&|_, works| works)),
        ("masked", those(&|name, works| !works && is_masked(name))),
        ("not here", those(&|name, works| !works && !is_masked(name))),
    ];
    // What epoll lacks is a ring's own.
    let lacks = if caps.driver == "epoll" { 2 } else { 3 };
    lines
        .into_iter()
        .take(lacks)
        .filter(|(_, names)| !names.is_empty())
        .map(|(how, names)| format!("{how}: {}", names.join(" ")))
}

/// The version, and what this build has.
pub(crate) fn long_version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{}\n{}", env!("CARGO_PKG_VERSION"), built_with()));
    &TEXT
}

fn built_with() -> String {
    match config::features().as_slice() {
        [] => "with the engine alone".to_owned(),
        features => format!("with {}", features.join(" ")),
    }
}

/// Whether to write colours to a stream: to a terminal, unless NO_COLOR says otherwise.
pub(crate) fn colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Paint {
    colours: bool,
}

impl Paint {
    fn bold(&self, text: &str) -> String {
        self.paint(text, "1")
    }

    fn dim(&self, text: &str) -> String {
        self.paint(text, "2")
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
