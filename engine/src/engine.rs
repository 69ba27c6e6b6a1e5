//! The engine: threads around shards and services, from start to join.
//!
//! Invariant: [`Builder::start`] returns with everything bound and every shard ticking, or with an error and nothing
//! left behind. The library installs no signal handler, logger or panic hook.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::builder::{Builder, EndpointSeat, Place, ShardParts, ThreadHost};
use crate::config::Config;
use crate::control::{EndpointSpec, Socket};
use crate::driver::{Caps, Driver};
use crate::handle::{Handle, Order};
use crate::id::{EndpointId, ShardId};
use crate::limits;
use crate::net::{self, Addr, Balance, SocketOptions};
use crate::ring::{Mask, RingError, UringConfig, UringDriver, probe};
use crate::shard::Shard;
use crate::stats::EngineStats;
use crate::topology;

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address that cannot be read.
    #[error("{0}")]
    Address(String),
    /// An address that cannot be bound.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address as it was given.
        addr: Addr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No driver works here.
    #[error("io_uring does not work here: {0}")]
    Driver(#[from] RingError),
    /// Settings that do not fit together.
    #[error("{0}")]
    Config(String),
    /// A service that cannot run as asked.
    #[error("service {name}: {reason}")]
    Service {
        /// The service's name.
        name: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// An async service's runtime does not work here.
    #[cfg(feature = "tokio-uring")]
    #[error("no {runtime} runtime for service {service}: {source}")]
    Runtime {
        /// The service's name.
        service: String,
        /// The runtime that was tried last.
        runtime: crate::async_service::RuntimeKind,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread, or what it needs, could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Why a running engine ended other than by drain or stop.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} failed: {source}")]
pub struct EngineError {
    /// The shard that failed.
    pub shard: ShardId,
    /// What the kernel said.
    pub source: io::Error,
}

/// A running engine. Dropping it stops it.
pub struct Engine {
    handle: Handle,
    shards: Vec<JoinHandle<Result<(), EngineError>>>,
    services: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Begins to put an engine together.
    ///
    /// # Errors
    ///
    /// Settings that do not fit together.
    pub fn builder(config: Config) -> Result<Builder, StartError> {
        Builder::new(config)
    }

    /// What anyone may ask of the engine, from any thread.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The addresses that are listened on, as bound.
    pub fn local_addrs(&self) -> Vec<(EndpointId, Addr)> {
        self.handle.local_addrs()
    }

    /// The driver and what it can do here.
    pub fn driver(&self) -> Option<&Caps> {
        self.handle.driver()
    }

    /// Every shard's figures.
    pub fn stats(&self) -> EngineStats {
        self.handle.stats()
    }

    /// See [`Handle::drain`].
    pub fn drain(&self, deadline: Duration) {
        self.handle.drain(deadline);
    }

    /// Waits until the engine has ended: after [`Engine::drain`], [`Handle::stop`], or a failure.
    ///
    /// # Errors
    ///
    /// The first shard that failed. The others are stopped then.
    pub fn join(mut self) -> Result<(), EngineError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), EngineError> {
        let mut outcome = Ok(());
        for shard in self.shards.drain(..) {
            // A panic of a shard aborts, so there is always a result.
            outcome = outcome.and(shard.join().unwrap_or(Ok(())));
        }
        self.handle.order_services(Order::Stop);
        for service in self.services.drain(..) {
            let _ = service.join();
        }
        outcome
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.stop();
        let _ = self.end();
    }
}

impl Builder {
    /// Binds everything, starts every thread, and returns when all shards and services run.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, a driver that does not work here, a thread that cannot be made.
    pub fn start(self) -> Result<Engine, StartError> {
        let config = self.config.clone();
        let handle = self.handle.clone();
        let mask = config.caps_mask.parse::<Mask>().map_err(|error| StartError::Config(error.to_string()))?;
        // On a thread of its own: what a ring leaves behind when it goes would interrupt the caller's next system call.
        let probed = thread::Builder::new().name("probe".into()).spawn(move || probe(&mask));
        let probed = probed.map_err(StartError::Thread)?.join();
        let caps = probed.map_err(|_| StartError::Config("the probe of io_uring panicked".into()))??;
        let seed = random();
        let addrs = handle.clone();
        let (parts, threads) = self.into_parts(seed, |seat, shards| bind(seat, shards, &addrs))?;
        handle.set_caps(caps.clone());
        let mut engine = Engine { handle, shards: Vec::new(), services: Vec::new() };
        let (ready, started) = mpsc::channel();
        let count = threads.len() + parts.len();
        for thread in threads {
            let thread = start_service(thread, engine.handle.epoch(), ready.clone()).map_err(StartError::Thread)?;
            engine.services.push(thread);
        }
        let cpus = topology::cpus(&config.pin, parts.len());
        for (part, cpu) in parts.into_iter().zip(cpus) {
            let ring = UringConfig {
                sq: limits::SUBMISSIONS,
                cq: limits::COMPLETIONS,
                slots: config.connections_per_shard,
                buffers: config.buffers,
                caps: caps.clone(),
                started: engine.handle.epoch(),
            };
            let thread = start_shard(part, cpu, ring, ready.clone()).map_err(StartError::Thread)?;
            engine.shards.push(thread);
        }
        drop(ready);
        for _ in 0..count {
            // A thread that cannot say how it went has aborted the process.
            if let Ok(Err(error)) = started.recv() {
                return Err(error);
            }
        }
        Ok(engine)
    }
}

/// Binds an endpoint's sockets, one per shard. While the address is taken it waits a moment for its owner to be no more.
fn bind(seat: &EndpointSeat, shards: usize, handle: &Handle) -> Result<Vec<Socket>, StartError> {
    let deadline = Instant::now() + limits::ADDRESS_RELEASE;
    loop {
        match bind_now(seat, shards, handle) {
            Err(StartError::Bind { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                thread::sleep(limits::ADDRESS_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

fn bind_now(seat: &EndpointSeat, shards: usize, handle: &Handle) -> Result<Vec<Socket>, StartError> {
    let (local, sockets) = match &seat.place {
        Place::Inside => return Ok((0..shards).map(|_| Socket::None).collect()),
        Place::Listen(addr, balance) => bind_listener(&seat.spec, addr, *balance, shards)?,
        Place::Datagram(addr) => {
            let bound = bind_datagrams(addr, &seat.spec.socket, shards);
            let (sockets, local) = bound.map_err(|source| StartError::Bind { addr: addr.clone(), source })?;
            (local, sockets.into_iter().map(|socket| Socket::Datagram(Box::new(socket))).collect())
        }
    };
    handle.add_addr(seat.spec.id, local);
    Ok(sockets)
}

/// Binds a listener's sockets, one per shard.
pub(crate) fn bind_listener(
    spec: &EndpointSpec,
    addr: &Addr,
    balance: Balance,
    shards: usize,
) -> Result<(Addr, Vec<Socket>), StartError> {
    let bound = net::bind_listeners(addr, &spec.socket, shards, balance);
    let (sockets, local) = bound.map_err(|source| StartError::Bind { addr: addr.clone(), source })?;
    let wrap = |socket: OwnedFd| Socket::Listener(Box::new(socket), local.clone());
    let sockets = sockets.into_iter().map(wrap).collect();
    Ok((local, sockets))
}

fn bind_datagrams(addr: &Addr, options: &SocketOptions, shards: usize) -> io::Result<(Vec<OwnedFd>, Addr)> {
    let Addr::Tcp(addr) = addr else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "datagrams need an IP address"));
    };
    let (sockets, local) = net::bind_datagrams(*addr, options, shards, Balance::default())?;
    Ok((sockets, Addr::Tcp(local)))
}

fn start_service(thread: ThreadHost, epoch: std::time::Instant, ready: Ready) -> io::Result<JoinHandle<()>> {
    let ThreadHost { name, host, inbox, run } = thread;
    thread::Builder::new().name(name).spawn(move || {
        let guard = AbortOnPanic;
        run(host, inbox, epoch, ready);
        std::mem::forget(guard);
    })
}

/// Where a thread says, once, how its start went.
pub(crate) type Ready = mpsc::Sender<Result<(), StartError>>;

fn start_shard(
    parts: ShardParts,
    cpu: Option<usize>,
    ring: UringConfig,
    ready: Ready,
) -> io::Result<JoinHandle<Result<(), EngineError>>> {
    let (id, handle) = (parts.shard, parts.handle.clone());
    thread::Builder::new().name(format!("shard-{id}")).spawn(move || {
        let guard = AbortOnPanic;
        if let Some(cpu) = cpu
            && !topology::pin(cpu)
        {
            tracing::warn!(shard = %id, cpu, "the shard could not be pinned");
        }
        let made = UringDriver::new(&ring).map_err(StartError::Driver);
        if let Ok(driver) = &made
            && let (submissions, completions, true) = driver.ring_size()
        {
            tracing::warn!(shard = %id, submissions, completions, "the ring is smaller: RLIMIT_MEMLOCK");
        }
        let made = made.and_then(|driver| Shard::new(parts, driver).map_err(StartError::Thread));
        let outcome = match made {
            Ok(shard) => {
                let _ = ready.send(Ok(()));
                // Whoever joins waits for the shards in turn, so it is up to this one to stop the others.
                run_shard(shard).map_err(|source| EngineError { shard: id, source }).inspect_err(|_| handle.stop())
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                Ok(())
            }
        };
        std::mem::forget(guard);
        outcome
    })
}

fn run_shard<D: Driver>(mut shard: Shard<D>) -> io::Result<()> {
    while shard.tick()? {}
    Ok(())
}

/// A panic of the engine itself leaves nothing that could be trusted.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        tracing::error!("the engine panicked");
        std::process::abort();
    }
}

/// 64 bits from the standard library's own source of hash seeds.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Arc::as_ptr(&Arc::new(0u8)) as usize)
}
