//! The table of settings: name, what it may be, what it is unless it is set, what it does.
//!
//! It owns all of that once: the reader of files, the default file, `config show` and a reload read it here. Paths are
//! those of the file, with a point between table and key.

use super::Listener;
use super::value::{Kind, Value};

/// A setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Where it stands in the file: `table.key`.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// What it is unless it is set, as text.
    default: &'static str,
    /// Whether a reload can change it.
    pub(crate) is_live: bool,
    /// One or more lines about it.
    pub(crate) help: &'static str,
}

const fn fixed(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, is_live: false, help }
}

const fn live(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, is_live: true, help }
}

const ANY: u64 = u32::MAX as u64;

/// Settings of the server as a whole, in the order they are shown.
pub(crate) const KEYS: &[Key] = &[
    fixed(
        "shards",
        Kind::Count(0, 255),
        "0",
        "Shards, each with a thread and a ring of its own; 0: one per physical core.",
    ),
    fixed(
        "pin",
        Kind::Pins,
        "cores",
        "CPUs the shards run on in turn: a list such as \"0-3,8\", \"cores\", or \"none\".",
    ),
    fixed("driver", Kind::Driver, "auto", "What does the I/O: \"auto\" is io_uring where it works, else epoll."),
    fixed(
        "caps",
        Kind::CapsMask,
        "",
        "Optional kernel features to leave unused although they were found: \"-inc,-recv_budget\".",
    ),
    live(
        "drain_delay",
        Kind::Span,
        "0s",
        "After the first SIGTERM: how long to serve on while /healthz says 503, so that balancers\nlook elsewhere before connections end.",
    ),
    live("drain_timeout", Kind::Span, "10s", "How long connections may take to end in a drain."),
    fixed(
        "data_dir",
        Kind::DataDir,
        "default",
        "Where services keep their files: a path, or \"none\". \"default\" is $STATE_DIRECTORY (systemd), else\n$XDG_STATE_HOME/megamux, else ~/.local/state/megamux.",
    ),
    live(
        "log.filter",
        Kind::Filter,
        "info",
        "What is logged to stderr: a level, or a list such as \"info,megamux_engine=trace\".",
    ),
    live("log.format", Kind::Format, "human", "\"human\", or \"json\" for one object per line."),
    live(
        "console.operators",
        Kind::Name,
        "",
        "File that says who may log in to the telnet console, and which commands are for whom; docs/console.md\nshows its lines. Without it everybody who reaches the console may do everything. A reload\nreads the file again; from none to one, or back, takes a restart.",
    ),
    fixed("limits.connections", Kind::Count(1, ANY), "10000000", "Connections of the whole server."),
    fixed(
        "limits.connections_per_shard",
        Kind::Count(1, 1 << 20),
        "1048576",
        "Connections of one shard; RLIMIT_NOFILE bounds them too.",
    ),
    fixed(
        "limits.connections_per_source",
        Kind::Count(0, ANY),
        "0",
        "Connections per source address (IPv4) or /64 (IPv6); 0: no such cap.",
    ),
    fixed(
        "limits.shard_budget",
        Kind::Size,
        "512MiB",
        "Bytes that send queues and unread remainders of one shard may hold together.",
    ),
    fixed("limits.server_budget", Kind::Size, "2GiB", "The same for the whole server."),
    fixed(
        "limits.buffers",
        Kind::PowerOfTwo(0, 1 << 15),
        "0",
        "Receive buffers per shard; 0: 64 if each shard has a core of its own, else 16.",
    ),
    fixed("limits.buffer_size", Kind::PowerOfTwo(4096, 1 << 20), "65536", "Bytes of a receive buffer."),
    fixed("limits.linger", Kind::Span, "0s", "How long a busy shard may wait for a fuller batch; 0s measures best."),
    fixed(
        "limits.lane_capacity",
        Kind::PowerOfTwo(4, 1 << 20),
        "1024",
        "Events that fit between a shard and a service, each way.",
    ),
];

/// Settings that every listener has; their defaults may depend on the protocol.
const OPTIONS: &[Key] = &[
    live(
        "proxy_protocol",
        Kind::Flag,
        "false",
        "Connections begin with a PROXY header, version 1 or 2. Only trusted proxies may reach such a\nlistener: they say who the peer is.",
    ),
    live(
        "max_connections",
        Kind::Count(0, ANY),
        "0",
        "Connections of this listener, over all shards; 0: no cap of its own.",
    ),
    live("idle_timeout", Kind::SpanOrOff, "off", "Close after this long without a received byte."),
    live("handshake_timeout", Kind::Span, "5s", "Close if the PROXY header has not come by then."),
    live(
        "write_stall_timeout",
        Kind::Span,
        "30s",
        "Close if bytes are queued and the peer took none of them for this long.",
    ),
    live(
        "backlog",
        Kind::Count(1, ANY),
        "4096",
        "Connections that may wait to be accepted; net.core.somaxconn bounds it too.",
    ),
    live("keepalive", Kind::SpanOrOff, "off", "Probe TCP connections that were silent this long."),
];

/// Settings of listeners that do not size their send queues by themselves.
const QUEUE: &[Key] = &[
    live("send_low", Kind::Size, "64KiB", "Below this many queued bytes reading resumes."),
    live("send_high", Kind::Size, "256KiB", "Above this many queued bytes reading pauses."),
    live("send_cap", Kind::Size, "4MiB", "Above this many queued bytes the connection closes as a slow consumer."),
];

const INSECURE: Key = live(
    "insecure",
    Kind::Flag,
    "false",
    "Listen beyond loopback although it carries an operator's power, for whoever reaches it.",
);

/// What only a `[[listen]]` entry has.
const ENTRY: &[Key] = &[
    live("protocol", Kind::Protocol, "", "What is spoken there."),
    live("name", Kind::Name, "", "What it is called in the log and at start; by default the protocol with a number."),
];

const ADDRESS: Key = live(
    "listen",
    Kind::Place,
    "off",
    "Where: \"127.0.0.1:7000\", \"[::1]:7000\", \"unix:/path\", or \"off\"; port 0 picks a free one.",
);

impl Key {
    /// The last part of its path.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// What it is unless it is set. A listener's settings depend on what it speaks.
    pub(crate) fn default(&self, of: Option<Listener>) -> Value {
        let text = match (of, self.path) {
            (Some(listener), "listen") => listener.default_place(),
            (Some(Listener::Telnet), "max_connections") => "64",
            (Some(Listener::Http), "idle_timeout") => "30s",
            _ => self.default,
        };
        // Every default is read in a test.
        self.kind.parse(text).unwrap_or_else(|error| panic!("{}: {error}", self.path))
    }
}

/// The settings of a protocol's table.
pub(crate) fn of_listener(listener: Listener) -> impl Iterator<Item = &'static Key> {
    std::iter::once(&ADDRESS).chain(options(listener))
}

/// What may stand in a `[[listen]]` entry for a protocol.
pub(crate) fn of_entry(listener: Listener) -> impl Iterator<Item = &'static Key> {
    ENTRY.iter().chain(of_listener(listener))
}

fn options(listener: Listener) -> impl Iterator<Item = &'static Key> {
    let insecure = (listener == Listener::Telnet).then_some(&INSECURE);
    // The HTTP endpoint sizes its queue by the answers it gives.
    let queue = if listener == Listener::Http { &[] } else { QUEUE };
    insecure.into_iter().chain(OPTIONS).chain(queue)
}

/// Every setting outside `[[listen]]` with its whole path and the protocol it belongs to.
pub(crate) fn all() -> impl Iterator<Item = (String, Option<Listener>, &'static Key)> {
    let of = |listener: Listener| {
        of_listener(listener).map(move |key| (format!("{}.{}", listener.name(), key.path), Some(listener), key))
    };
    let plain = KEYS.iter().map(|key| (key.path.to_owned(), None, key));
    plain.chain(Listener::ALL.into_iter().flat_map(of))
}
