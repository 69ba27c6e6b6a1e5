//! The engine: threads around shards and services, from start to join.
//!
//! Invariant: [`Builder::start`] returns with everything bound and every shard ticking, or with an error and nothing
//! left behind. The library installs no signal handler, logger or panic hook.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::builder::{Builder, EndpointSeat, EngineParts, Place, ShardParts, ThreadHost};
use crate::config::Config;
use crate::control::{EndpointSpec, Socket};
use crate::driver::{Caps, Driver};
use crate::drivers::{Drivers, Made, Trial};
use crate::handle::{Handle, Order};
use crate::id::{EndpointId, ShardId};
use crate::limits;
use crate::net::{self, Addr, Balance, SocketOptions};
use crate::ring::RingError;
use crate::shard::Shard;
use crate::spread::Sharing;
use crate::stats::EngineStats;
use crate::storage::{self, Dir};
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
    /// io_uring was asked for, and does not work here.
    #[error("io_uring does not work here: {0}")]
    Driver(#[from] RingError),
    /// Not even epoll works here.
    #[error("epoll does not work here: {0}")]
    Epoll(#[source] io::Error),
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
    /// There is no number left for another endpoint.
    #[error("the engine has had {} endpoints and has no number for another: only a new engine has", limits::ENDPOINTS)]
    Endpoints,
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
    /// A service's directory cannot be opened, or is locked by another engine.
    #[error("service {service}: cannot open {}: {source}", dir.display())]
    Storage {
        /// The service's name.
        service: String,
        /// Its directory.
        dir: PathBuf,
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
    storages: Vec<JoinHandle<()>>,
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
        for storage in self.storages.drain(..) {
            let _ = storage.join();
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
        let drivers = Arc::new(Drivers::new(&config, self.shards.len(), handle.epoch())?);
        let plan = drivers.plan()?;
        let seed = random();
        let addrs = handle.clone();
        // Declared before its parts: should one fail, the others are gone when it waits for its threads.
        let mut engine = Engine { handle, shards: Vec::new(), services: Vec::new(), storages: Vec::new() };
        let EngineParts { shards: parts, threads, storages } =
            self.into_parts(seed, |seat, shards| bind(seat, shards, &addrs))?;
        for seat in storages {
            let dir = Dir::open(&seat.dir).map_err(|source| StartError::Storage {
                service: seat.service.clone(),
                dir: seat.dir.clone(),
                source,
            })?;
            engine.storages.push(storage::start(seat, dir).map_err(StartError::Thread)?);
        }
        let (ready, started) = mpsc::channel();
        let (tried, tries) = mpsc::channel();
        let count = threads.len() + parts.len();
        let cpus = topology::cpus(&config.pin, parts.len());
        let mut verdicts = Vec::with_capacity(parts.len());
        for (part, cpu) in parts.into_iter().zip(cpus) {
            let (verdict, judged) = mpsc::channel();
            let trial = Trial { drivers: Arc::clone(&drivers), plan: plan.clone(), tried: tried.clone(), judged };
            let thread = start_shard(part, cpu, trial, ready.clone()).map_err(StartError::Thread)?;
            engine.shards.push(thread);
            verdicts.push(verdict);
        }
        drop(tried);
        // No shard begins before all have a driver, and all have the same.
        let plan = drivers.settle(plan, tries.into_iter())?;
        engine.handle.set_caps(plan.caps().clone());
        for thread in threads {
            let thread = start_service(thread, engine.handle.epoch(), ready.clone()).map_err(StartError::Thread)?;
            engine.services.push(thread);
        }
        drop(ready);
        for verdict in verdicts {
            // A shard that does not listen has aborted the process.
            let _ = verdict.send(plan.clone());
        }
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
        Place::Listen(addr, balance, inherited) => {
            bind_listener(&seat.spec, addr, *balance, inherited.as_deref(), shards)?
        }
        Place::Datagram(addr) => {
            let bound = bind_datagrams(addr, &seat.spec.socket, shards);
            let (sockets, local) = bound.map_err(|source| StartError::Bind { addr: addr.clone(), source })?;
            (local, sockets.into_iter().map(|socket| Socket::Datagram(Box::new(socket))).collect())
        }
    };
    handle.add_addr(seat.spec.id, local);
    Ok(sockets)
}

/// Binds a listener's sockets, one per shard that accepts, or takes the one that listens already.
pub(crate) fn bind_listener(
    spec: &EndpointSpec,
    addr: &Addr,
    balance: Balance,
    inherited: Option<&OwnedFd>,
    shards: usize,
) -> Result<(Addr, Vec<Socket>), StartError> {
    let bound = match inherited {
        Some(socket) => socket.try_clone().map(|socket| (vec![socket], addr.clone())),
        None => net::bind_listeners(addr, &spec.socket, shards, balance),
    };
    let (sockets, local) = bound.map_err(|source| StartError::Bind { addr: addr.clone(), source })?;
    let sharing = Sharing::of(&local, inherited.is_some());
    let wrap = |socket: OwnedFd| Socket::Listener(Box::new(socket), sharing);
    let mut sockets = sockets.into_iter().map(wrap);
    let accepts = |&shard: &usize| sharing.accepts(spec.id, shard, shards);
    let of_shard = |shard| Some(shard).filter(accepts).and_then(|_| sockets.next()).unwrap_or(Socket::None);
    let sockets = (0..shards).map(of_shard).collect();
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
    trial: Trial,
    ready: Ready,
) -> io::Result<JoinHandle<Result<(), EngineError>>> {
    let (id, handle) = (parts.shard, parts.handle.clone());
    thread::Builder::new().name(format!("shard-{id}")).spawn(move || {
        let guard = AbortOnPanic;
        handle.cpu(id).start();
        if let Some(cpu) = cpu
            && !topology::pin(cpu)
        {
            tracing::warn!(shard = %id, cpu, "the shard could not be pinned");
        }
        let outcome = match trial.driver(id) {
            None => Ok(()),
            Some(Ok(Made::Uring(driver))) => {
                let (submissions, completions, shrunk) = driver.ring_size();
                parts.seat.stats.submission_entries.set(submissions.into());
                parts.seat.stats.completion_entries.set(completions.into());
                if shrunk {
                    tracing::warn!(shard = %id, submissions, completions, "the ring is smaller: RLIMIT_MEMLOCK");
                }
                run_shard(parts, *driver, &ready)
            }
            Some(Ok(Made::Epoll(driver))) => run_shard(parts, *driver, &ready),
            Some(Err(error)) => {
                let _ = ready.send(Err(error));
                Ok(())
            }
        };
        handle.cpu(id).stop();
        std::mem::forget(guard);
        outcome
    })
}

/// Says how the start went, and runs until the shard has stopped.
fn run_shard<D: Driver>(parts: ShardParts, driver: D, ready: &Ready) -> Result<(), EngineError> {
    let (id, handle) = (parts.shard, parts.handle.clone());
    let mut shard = match Shard::new(parts, driver) {
        Ok(shard) => shard,
        Err(error) => {
            let _ = ready.send(Err(StartError::Thread(error)));
            return Ok(());
        }
    };
    let _ = ready.send(Ok(()));
    loop {
        match shard.tick() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(source) => {
                // Whoever joins waits for the shards in turn, so it is up to this one to stop the others.
                handle.stop();
                return Err(EngineError { shard: id, source });
            }
        }
    }
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
