//! The engine's handle: what anyone, on any thread, may ask of a running engine.
//!
//! Cloned freely. It holds no shard's memory: everything goes through mailboxes and counted cells.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::builder::{ServiceRef, endpoint_spec};
use crate::close_reason::CloseReason;
use crate::config::Listen;
use crate::control::{Connections, Control};
use crate::core::DialRequest;
use crate::driver::Caps;
use crate::engine::{self, StartError};
use crate::handler::Handler;
use crate::handoff::mailbox::{self, SendError};
use crate::id::{ConnId, EndpointId, ShardId};
use crate::limits;
use crate::net::Addr;
use crate::service::{PublishError, Published};
use crate::stats::{EngineStats, ShardStats};
use crate::time::Time;

/// How long a drain lasts that the engine starts by itself.
const DEFAULT_DRAIN: Duration = Duration::from_secs(10);

/// A running engine, seen from anywhere.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    epoch: Instant,
    mail: Vec<mailbox::Sender<Control>>,
    /// Shards that have connections or may get some.
    unfinished: AtomicUsize,
    stats: Vec<Arc<ShardStats>>,
    registry: RwLock<Registry>,
    caps: OnceLock<Caps>,
    /// How many endpoints there are: the next one's number. Whoever adds one holds it meanwhile.
    endpoints: Mutex<usize>,
    next_dial: AtomicUsize,
    service_panics: AtomicU64,
}

/// What was registered with the builder.
#[derive(Default)]
pub(crate) struct Registry {
    subscribers: HashMap<TypeId, Vec<Subscriber>>,
    services: Vec<Box<dyn Fn(Order) + Send + Sync>>,
    addrs: Vec<(EndpointId, Addr)>,
}

/// Puts an event into one service's mailbox; `false` if that is full.
pub(crate) type Subscriber = Box<dyn Fn(Published) -> bool + Send + Sync>;

/// An order for a service's host.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Drain,
    Stop,
}

/// The shard's mailbox is full, or the shard has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shard {0} takes no orders now: it has stopped, or its mailbox is full")]
pub struct NotTaken(pub ShardId);

impl Handle {
    pub(crate) fn new(mail: Vec<mailbox::Sender<Control>>, stats: Vec<Arc<ShardStats>>, epoch: Instant) -> Handle {
        Handle(Arc::new(Shared {
            epoch,
            unfinished: AtomicUsize::new(mail.len()),
            mail,
            stats,
            registry: RwLock::default(),
            caps: OnceLock::new(),
            endpoints: Mutex::new(0),
            next_dial: AtomicUsize::new(0),
            service_panics: AtomicU64::new(0),
        }))
    }

    /// How many shards the engine has.
    pub fn shards(&self) -> usize {
        self.0.mail.len()
    }

    /// The driver and what it can do here; `None` before the engine has started.
    pub fn driver(&self) -> Option<&Caps> {
        self.0.caps.get()
    }

    /// The addresses that are listened on, as bound.
    pub fn local_addrs(&self) -> Vec<(EndpointId, Addr)> {
        self.read().addrs.clone()
    }

    /// Every shard's figures. Reading them disturbs no shard.
    pub fn stats(&self) -> EngineStats {
        let at = self.now();
        let mut stats = EngineStats::default();
        stats.at = at;
        stats.shards = self.0.stats.iter().map(|shard| shard.snapshot(at)).collect();
        stats.service_panics = self.0.service_panics.load(Ordering::Relaxed);
        stats
    }

    /// Time since the engine started.
    pub fn now(&self) -> Time {
        Time::from_nanos(self.0.epoch.elapsed().as_nanos() as u64)
    }

    /// Gives an event to every service that subscribed to its type.
    pub fn publish<E: Send + Sync + 'static>(&self, event: E) -> Result<(), PublishError> {
        let registry = self.read();
        let Some(subscribers) = registry.subscribers.get(&TypeId::of::<E>()) else { return Ok(()) };
        let event: Published = Arc::new(event);
        let full = subscribers.iter().filter(|subscriber| !subscriber(Arc::clone(&event))).count();
        match full {
            0 => Ok(()),
            full => Err(PublishError { full, subscribers: subscribers.len() }),
        }
    }

    /// Asks every shard for its connections, at most `most` rows each. `reply` is called on each shard's thread and
    /// must return at once. Returns how many shards will answer.
    pub fn connections(&self, most: usize, reply: impl Fn(Connections) + Send + Sync + 'static) -> usize {
        let reply: Arc<dyn Fn(Connections) + Send + Sync> = Arc::new(reply);
        let ask = |shard: &mailbox::Sender<Control>| {
            has_room(shard) && shard.send(Control::Connections { most, reply: Arc::clone(&reply) }).is_ok()
        };
        self.0.mail.iter().filter(|shard| ask(shard)).count()
    }

    /// Closes a connection, after what it has queued.
    pub fn close(&self, conn: ConnId, why: CloseReason) -> Result<(), NotTaken> {
        self.order(conn.shard(), Control::Close(conn, why))
    }

    /// Connects out as a connection of `endpoint`, from the shards in turn. How it went is told to the
    /// endpoint's handler, with `tag`.
    pub fn dial(&self, endpoint: EndpointId, addr: Addr, tag: u64) -> Result<(), NotTaken> {
        let shard = self.0.next_dial.fetch_add(1, Ordering::Relaxed) % self.shards();
        self.order(ShardId(shard as u16), Control::Dial(DialRequest { endpoint, addr, tag }))
    }

    /// Adds a listener to the running engine: bound when this returns, accepting a moment later.
    ///
    /// # Errors
    ///
    /// An address that cannot be read or bound, or an engine that has not started or is about to end.
    pub fn listen<H: Handler>(
        &self,
        listen: Listen,
        service: &ServiceRef<H::Service>,
        factory: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<EndpointId, StartError> {
        let addr = listen.addr.map_err(StartError::Address)?;
        if self.driver().is_none() {
            return Err(StartError::Config("the engine has not started".into()));
        }
        // Held throughout: every shard must hear of new endpoints in the same order. No shard ever takes it.
        let mut endpoints = self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let id = EndpointId(*endpoints as u16);
        let spec = Arc::new(endpoint_spec(id, listen.options, listen.socket, service, factory));
        let (local, sockets) = engine::bind_listener(&spec, &addr, listen.balance, self.shards())?;
        *endpoints += 1;
        self.add_addr(id, local);
        for (mail, socket) in self.0.mail.iter().zip(sockets) {
            let mut order = Control::Add(Arc::clone(&spec), socket);
            // A full mailbox is emptied within ticks, and a shard that is gone needs no endpoint.
            while let Err(SendError::Full(back)) = mail.send(order) {
                order = back;
                std::thread::yield_now();
            }
        }
        Ok(id)
    }

    /// Stops accepting on an endpoint; its connections live on.
    pub fn unlisten(&self, endpoint: EndpointId) {
        for shard in &self.0.mail {
            let _ = shard.send(Control::Unlisten(endpoint));
        }
    }

    /// Stops accepting, lets services and connections say good-bye, and stops when the last connection is
    /// gone, or has been reset at the deadline. Returns at once.
    pub fn drain(&self, deadline: Duration) {
        // Services first: their good-byes must be on the way before connections close.
        self.order_services(Order::Drain);
        for shard in &self.0.mail {
            let _ = shard.send(Control::Drain(deadline));
        }
    }

    /// Resets every connection and stops. Returns at once.
    pub fn stop(&self) {
        for shard in &self.0.mail {
            let _ = shard.send(Control::Stop);
        }
    }

    pub(crate) fn order(&self, shard: ShardId, order: Control) -> Result<(), NotTaken> {
        let mail = self.0.mail.get(usize::from(shard.0)).filter(|mail| has_room(mail)).ok_or(NotTaken(shard))?;
        mail.send(order).map(|_| ()).map_err(|_| NotTaken(shard))
    }

    /// A shard has no connections left and takes no more; the last one wakes those that wait for it.
    pub(crate) fn shard_finished(&self) {
        // Release, and acquire below: what the shard told services before is seen by whoever sees the count.
        if self.0.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            for shard in &self.0.mail {
                let _ = shard.send(Control::AllFinished);
            }
        }
    }

    /// Whether no shard has connections any more.
    pub(crate) fn all_finished(&self) -> bool {
        self.0.unfinished.load(Ordering::Acquire) == 0
    }

    pub(crate) fn order_services(&self, order: Order) {
        for service in &self.read().services {
            service(order);
        }
    }

    pub(crate) fn default_drain(&self) -> Duration {
        DEFAULT_DRAIN
    }

    pub(crate) fn service_panicked(&self) {
        self.0.service_panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_caps(&self, caps: Caps) {
        let _ = self.0.caps.set(caps);
    }

    pub(crate) fn epoch(&self) -> Instant {
        self.0.epoch
    }

    pub(crate) fn add_subscriber(&self, event: TypeId, subscriber: Subscriber) {
        self.write(|registry| registry.subscribers.entry(event).or_default().push(subscriber));
    }

    pub(crate) fn add_service(&self, orders: Box<dyn Fn(Order) + Send + Sync>) {
        self.write(|registry| registry.services.push(orders));
    }

    pub(crate) fn set_endpoints(&self, count: usize) {
        *self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = count;
    }

    pub(crate) fn add_addr(&self, endpoint: EndpointId, addr: Addr) {
        self.write(|registry| registry.addrs.push((endpoint, addr)));
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.0.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, change: impl FnOnce(&mut Registry)) {
        change(&mut self.0.registry.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether an order that anyone may give fits: the last places are for those that must arrive, such as drain and stop.
fn has_room(shard: &mailbox::Sender<Control>) -> bool {
    shard.room() > limits::CONTROL_ROOM
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("shards", &self.shards()).finish_non_exhaustive()
    }
}
