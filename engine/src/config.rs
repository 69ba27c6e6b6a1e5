//! What a user may set: engine-wide [`Config`], and per endpoint [`Listen`], [`Dialer`], [`Datagram`].

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::handler::Filter;
use crate::net::{self, Addr, Balance, SocketOptions};

/// Which cores the shards run on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pin {
    /// One shard per physical core, then around again.
    #[default]
    Cores,
    /// These CPUs in turn.
    List(Vec<usize>),
    /// Wherever the scheduler puts them.
    None,
}

/// Which driver does the I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DriverChoice {
    /// io_uring where it works, else epoll; [`crate::Caps`] says which, and why.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// Engine-wide settings. `Config::default()` suits a server that has the machine to itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Shards; 0 means one per physical core. More shards than cores is legal.
    pub shards: usize,
    /// Which cores they run on.
    pub pin: Pin,
    /// Which driver does the I/O.
    pub driver: DriverChoice,
    /// Optional kernel features to leave unused, as `-inc,-recv_budget` (see [`crate::Caps`]).
    pub caps_mask: String,
    /// Connections per shard, bounded by RLIMIT_NOFILE too.
    pub connections_per_shard: u32,
    /// Connections of the whole engine.
    pub max_connections: u32,
    /// Connections per source address (IPv4) or /64 (IPv6); 0 means no such cap.
    pub max_per_source: u32,
    /// Dials that one shard may have waiting or under way.
    pub dials_per_shard: usize,
    /// Receive buffers per shard, a power of two; 0 means 64 if each shard has a core of its own, else 16.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_size: u32,
    /// Bytes that send queues and unread remainders of one shard may hold together.
    pub shard_budget: usize,
    /// The same for the whole engine.
    pub engine_budget: usize,
    /// How long a busy shard may wait for a fuller batch of completions (`min_wait_usec`, Linux 6.12). Zero, the default,
    /// measures best: larger batches fall out of the cache. A wake from another thread may be late by as much.
    pub linger: Duration,
    /// Events that fit between a shard and a service, each way; a power of two.
    pub lane_capacity: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            shards: 0,
            pin: Pin::default(),
            driver: DriverChoice::default(),
            caps_mask: String::new(),
            connections_per_shard: 1 << 20,
            max_connections: 10_000_000,
            max_per_source: 0,
            dials_per_shard: 65_536,
            buffers: 0,
            buffer_size: 64 * 1024,
            shard_budget: 512 << 20,
            engine_budget: 2 << 30,
            linger: Duration::ZERO,
            lane_capacity: 1024,
        }
    }
}

/// Makes a filter for each connection of an endpoint.
pub type FilterFactory = Arc<dyn Fn() -> Box<dyn Filter> + Send + Sync>;

/// What an endpoint promises its connections.
#[derive(Clone)]
#[non_exhaustive]
pub struct EndpointOptions {
    /// What listings and figures call the endpoint; `None`: its number.
    pub name: Option<Arc<str>>,
    /// Close after this long without a received byte; `None` never does.
    pub idle_timeout: Option<Duration>,
    /// Close if the connection has not opened by then (filter, dial).
    pub handshake_timeout: Duration,
    /// Close if bytes are queued and the peer took none of them for this long.
    pub write_stall_timeout: Duration,
    /// Bytes a handler may leave unread while it waits for the rest of a frame.
    pub max_frame: usize,
    /// Below this many queued bytes reading resumes and `on_writable` is called.
    pub send_low: usize,
    /// Above this many queued bytes reading pauses (unless `keep_reading` is set).
    pub send_high: usize,
    /// Reading goes on above `send_high`.
    pub keep_reading: bool,
    /// Above this many queued bytes the connection closes as a slow consumer.
    pub send_cap: usize,
    /// Connections of this endpoint, over all shards.
    pub max_connections: u32,
    /// Handlers and listings learn the peer's address.
    pub peer_address: bool,
    /// What stands in front of the handler.
    pub filter: Option<FilterFactory>,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        EndpointOptions {
            name: None,
            idle_timeout: None,
            handshake_timeout: Duration::from_secs(10),
            write_stall_timeout: Duration::from_secs(30),
            max_frame: 64 * 1024,
            send_low: 64 * 1024,
            send_high: 256 * 1024,
            keep_reading: false,
            send_cap: 4 << 20,
            max_connections: u32::MAX,
            peer_address: true,
            filter: None,
        }
    }
}

impl fmt::Debug for EndpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointOptions")
            .field("name", &self.name)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_frame", &self.max_frame)
            .field("send_cap", &self.send_cap)
            .field("filter", &self.filter.is_some())
            .finish_non_exhaustive()
    }
}

macro_rules! endpoint_setters {
    () => {
        /// Names the endpoint for listings and figures. Those of one name share their metrics.
        pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
            self.options.name = Some(name.into());
            self
        }

        /// Closes connections after this long without a received byte.
        pub fn idle_timeout(mut self, after: Duration) -> Self {
            self.options.idle_timeout = Some(after);
            self
        }

        /// Closes connections that have not opened by then.
        pub fn handshake_timeout(mut self, after: Duration) -> Self {
            self.options.handshake_timeout = after;
            self
        }

        /// Closes connections whose peer takes nothing of what is queued for this long.
        pub fn write_stall_timeout(mut self, after: Duration) -> Self {
            self.options.write_stall_timeout = after;
            self
        }

        /// Bounds what a handler may leave unread, in bytes.
        pub fn max_frame(mut self, bytes: usize) -> Self {
            self.options.max_frame = bytes;
            self
        }

        /// Sets the send queue's low and high watermarks and its hard cap, in bytes; each at least the one before.
        pub fn send_queue(mut self, low: usize, high: usize, cap: usize) -> Self {
            let high = high.max(low);
            (self.options.send_low, self.options.send_high, self.options.send_cap) = (low, high, cap.max(high));
            self
        }

        /// Goes on reading above the send queue's high watermark. For relays: what a connection receives is not what
        /// fills its send queue, so pausing it here could stall both directions for good; they pause its source instead.
        pub fn keep_reading(mut self) -> Self {
            self.options.keep_reading = true;
            self
        }

        /// Bounds this endpoint's connections, over all shards.
        pub fn max_connections(mut self, connections: u32) -> Self {
            self.options.max_connections = connections;
            self
        }

        /// Leaves the peer's address unknown, which saves an operation and a turn for each new connection: for handlers that have
        /// no use for it. With [`Config::max_per_source`] it is known all the same.
        pub fn without_peer_address(mut self) -> Self {
            self.options.peer_address = false;
            self
        }

        /// Puts a filter in front of the handler.
        pub fn filter(mut self, factory: impl Fn() -> Box<dyn Filter> + Send + Sync + 'static) -> Self {
            self.options.filter = Some(Arc::new(factory));
            self
        }

        /// Sets the socket's options.
        pub fn socket(mut self, options: SocketOptions) -> Self {
            self.socket = options;
            self
        }
    };
}

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct Listen {
    pub(crate) addr: Result<Addr, String>,
    pub(crate) options: EndpointOptions,
    pub(crate) socket: SocketOptions,
    pub(crate) balance: Balance,
    /// A socket that listens on the address already.
    pub(crate) inherited: Option<Arc<OwnedFd>>,
}

impl Listen {
    /// A TCP listener on `ADDRESS:PORT`, IPv4 or `[IPv6]`. Port 0 picks a free one.
    pub fn tcp(addr: impl AsRef<str>) -> Listen {
        Listen::on(addr.as_ref().parse::<Addr>().map_err(|error| error.to_string()))
    }

    /// A Unix stream listener on a path.
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Listen {
        Listen::on(Ok(Addr::Unix(path.into())))
    }

    /// A listener on an address that was parsed before.
    pub fn addr(addr: Addr) -> Listen {
        Listen::on(Ok(addr))
    }

    /// A listener on a socket that listens already, such as one of [`net::activated`].
    ///
    /// There is one socket instead of one for each shard, so [`Listen::balance`] and the socket options do not apply: one
    /// shard accepts, and connections are passed to all shards in turn, as those to a Unix socket always are.
    ///
    /// # Errors
    ///
    /// A descriptor that is no listening stream socket, TCP or Unix.
    pub fn inherited(socket: OwnedFd) -> io::Result<Listen> {
        let mut listen = Listen::addr(net::listening_addr(&socket)?);
        listen.inherited = Some(Arc::new(socket));
        Ok(listen)
    }

    fn on(addr: Result<Addr, String>) -> Listen {
        let (options, socket) = (EndpointOptions::default(), SocketOptions::default());
        Listen { addr, options, socket, balance: Balance::default(), inherited: None }
    }

    /// How the kernel spreads connections over the shards.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    endpoint_setters!();
}

/// How to connect out: the endpoint of [`crate::Handle::dial`].
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    pub(crate) options: EndpointOptions,
    pub(crate) socket: SocketOptions,
}

impl Dialer {
    /// A dialler with default options.
    pub fn new() -> Dialer {
        Dialer::default()
    }

    endpoint_setters!();
}

/// Where to receive datagrams.
#[derive(Debug, Clone)]
pub struct Datagram {
    pub(crate) addr: Result<Addr, String>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) socket: SocketOptions,
}

impl Datagram {
    /// A UDP socket on `ADDRESS:PORT`, IPv4 or `[IPv6]`; one per shard, with reuse-port. Port 0 picks a free one.
    pub fn udp(addr: impl AsRef<str>) -> Datagram {
        let addr = addr.as_ref().parse::<Addr>().map_err(|error| error.to_string());
        Datagram { addr, name: None, socket: SocketOptions::default() }
    }

    /// Names the endpoint for listings.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the socket's options.
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }
}
