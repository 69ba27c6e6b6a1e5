//! The engine's handle: what anyone, on any thread, may ask of a running engine.
//!
//! Cloned freely. It holds no shard's memory: everything goes through mailboxes and counted cells.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::builder::{ServiceRef, endpoint_spec};
use crate::close_reason::CloseReason;
use crate::config::Listen;
use crate::control::{ConnRow, Connections, Control, Socket};
use crate::core::DialRequest;
use crate::cpu::{self, CpuClock};
use crate::driver::Caps;
use crate::engine::{self, StartError};
use crate::handler::Handler;
use crate::handoff::mailbox::{self, SendError};
use crate::id::{ConnId, EndpointId, ShardId};
use crate::limits;
use crate::listing::{EndpointEntry, EndpointKind, EndpointRow, ServiceFacts, ServiceRow};
use crate::net::{Addr, Route};
use crate::service::{PublishError, Published};
use crate::stats::{EngineStats, ShardStats};
use crate::time::Time;
use crate::trace::{Timeline, Trace};

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
    timelines: Vec<Arc<Timeline>>,
    /// The shards' threads.
    cpu: Vec<CpuClock>,
    registry: RwLock<Registry>,
    caps: OnceLock<Caps>,
    /// How many endpoints there are: the next one's number. Whoever adds one holds it meanwhile.
    endpoints: Mutex<usize>,
    next_dial: AtomicUsize,
    service_panics: AtomicU64,
    /// A drain or a stop was asked for.
    draining: AtomicBool,
}

/// What was registered with the builder.
#[derive(Default)]
pub(crate) struct Registry {
    subscribers: HashMap<TypeId, Vec<Subscriber>>,
    services: Vec<(Arc<ServiceFacts>, Orders)>,
    /// By their numbers.
    endpoints: Vec<EndpointEntry>,
    addrs: Vec<(EndpointId, Addr)>,
}

/// Puts an event into one service's mailbox; `false` if that is full.
pub(crate) type Subscriber = Box<dyn Fn(Published) -> bool + Send + Sync>;

/// Gives an order to every host of one service.
pub(crate) type Orders = Box<dyn Fn(Order) + Send + Sync>;

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
    pub(crate) fn new(
        mail: Vec<mailbox::Sender<Control>>,
        stats: Vec<Arc<ShardStats>>,
        timelines: Vec<Arc<Timeline>>,
        epoch: Instant,
    ) -> Handle {
        Handle(Arc::new(Shared {
            epoch,
            unfinished: AtomicUsize::new(mail.len()),
            cpu: mail.iter().map(|_| CpuClock::default()).collect(),
            mail,
            stats,
            timelines,
            registry: RwLock::default(),
            caps: OnceLock::new(),
            endpoints: Mutex::new(0),
            next_dial: AtomicUsize::new(0),
            service_panics: AtomicU64::new(0),
            draining: AtomicBool::new(false),
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
        // The simulator has no threads, and asks often.
        let has_threads = self.0.cpu.iter().any(CpuClock::runs);
        let workers = if has_threads { cpu::workers() } else { Vec::new() };
        for (shard, cpu) in stats.shards.iter_mut().zip(&self.0.cpu) {
            shard.cpu_ns = cpu.nanos();
            shard.kernel_workers = workers.iter().filter(|worker| cpu.is_of(**worker)).count() as u64;
        }
        stats.endpoints = self.endpoints();
        stats.services = self.services();
        stats.service_panics = self.0.service_panics.load(Ordering::Relaxed);
        stats
    }

    /// What a shard's last ticks did and when: at most `most` ticks from number `from` on, of some thousands that are kept.
    /// [`Trace::next`] is where to go on; `u64::MAX` begins at what is to come. `None` for a shard that does not exist.
    ///
    /// For two seconds from now the shard tells the phases of its ticks apart, at the cost of four readings of the clock
    /// per tick; otherwise reading disturbs no shard.
    pub fn trace(&self, shard: ShardId, from: u64, most: usize) -> Option<Trace> {
        let timeline = self.0.timelines.get(usize::from(shard.0))?;
        Some(timeline.read(from, most, self.now()))
    }

    /// Every endpoint, by its number: whether it accepts, and how many connections it has and had.
    pub fn endpoints(&self) -> Vec<EndpointRow> {
        let registry = self.read();
        let addr = |id| registry.addrs.iter().find(|(of, _)| *of == id).map(|(_, addr)| addr.clone());
        let ids = (0..).map(EndpointId);
        ids.zip(&registry.endpoints).map(|(id, endpoint)| endpoint.row(id, addr(id))).collect()
    }

    /// What an endpoint was named, or else its number; `None` for the endpoint of another engine.
    pub fn endpoint_name(&self, endpoint: EndpointId) -> Option<Arc<str>> {
        self.read().endpoints.get(usize::from(endpoint.0)).map(|endpoint| Arc::clone(&endpoint.name))
    }

    /// Every service, in the order of registration.
    pub fn services(&self) -> Vec<ServiceRow> {
        self.read().services.iter().map(|(facts, _)| facts.row()).collect()
    }

    /// Time since the engine started.
    pub fn now(&self) -> Time {
        Time::from_nanos(self.0.epoch.elapsed().as_nanos() as u64)
    }

    /// Gives an event to every service that subscribed to its type, and says to how many: 0 means that nobody
    /// listens. A service that is placed per shard counts once for each shard.
    ///
    /// # Errors
    ///
    /// The mailboxes that were full; the other subscribers got the event.
    pub fn publish<E: Send + Sync + 'static>(&self, event: E) -> Result<usize, PublishError> {
        let registry = self.read();
        let Some(subscribers) = registry.subscribers.get(&TypeId::of::<E>()) else { return Ok(0) };
        let event: Published = Arc::new(event);
        let full = subscribers.iter().filter(|subscriber| !subscriber(Arc::clone(&event))).count();
        match full {
            0 => Ok(subscribers.len()),
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

    /// Asks for one connection, by name. `reply` is called on its shard's thread and must return at once: with `None` if
    /// it is gone, or was never there. It is dropped uncalled if the shard stops first.
    ///
    /// # Errors
    ///
    /// A shard that takes no orders now, or does not exist.
    pub fn connection(
        &self,
        conn: ConnId,
        reply: impl FnOnce(Option<ConnRow>) + Send + 'static,
    ) -> Result<(), NotTaken> {
        self.order(conn.shard(), Control::Connection(conn, Box::new(reply)))
    }

    /// Closes a connection, after what it has queued.
    pub fn close(&self, conn: ConnId, why: CloseReason) -> Result<(), NotTaken> {
        self.order(conn.shard(), Control::Close(conn, why))
    }

    /// Connects out as a connection of `endpoint`, from the shards in turn. How it went is told to the
    /// endpoint's handler, with `tag`.
    pub fn dial(&self, endpoint: EndpointId, route: impl Into<Route>, tag: u64) -> Result<(), NotTaken> {
        let shard = self.0.next_dial.fetch_add(1, Ordering::Relaxed) % self.shards();
        self.dial_on(ShardId(shard as u16), endpoint, route, tag)
    }

    /// The same, from a shard of the caller's choice.
    pub fn dial_on(
        &self,
        shard: ShardId,
        endpoint: EndpointId,
        route: impl Into<Route>,
        tag: u64,
    ) -> Result<(), NotTaken> {
        self.order(shard, Control::Dial(DialRequest { endpoint, route: route.into(), tag }))
    }

    /// Adds a listener to the running engine: bound when this returns, accepting a moment later.
    ///
    /// # Errors
    ///
    /// An address that cannot be read or bound, an engine that has not started or is about to end, or one that has used up its
    /// 65,536 numbers of endpoints: those of endpoints that are gone are not given out again.
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
        // A number is never given out again: connections outlive their listener, and the shards' tables, the registry, the figures
        // and other services know endpoints by it. Reusing one would need all of them to agree that it is free.
        if *endpoints >= limits::ENDPOINTS {
            return Err(StartError::Endpoints);
        }
        let id = EndpointId(*endpoints as u16);
        let spec = Arc::new(endpoint_spec(id, listen.options, listen.socket, service, factory));
        let (local, sockets) =
            engine::bind_listener(&spec, &addr, listen.balance, listen.inherited.as_deref(), self.shards())?;
        *endpoints += 1;
        self.add_endpoint(spec.entry(EndpointKind::Listener));
        self.add_addr(id, local);
        // Whoever accepts for all comes last: the others must know the endpoint before they are passed its connections.
        let mut orders: Vec<_> = self.0.mail.iter().zip(sockets).collect();
        orders.sort_by_key(|(_, socket)| !matches!(socket, Socket::None));
        for (mail, socket) in orders {
            let mut order = Control::Add(Arc::clone(&spec), socket);
            // A full mailbox is emptied within ticks, and a shard that is gone needs no endpoint.
            while let Err(SendError::Full(back)) = mail.send(order) {
                order = back;
                std::thread::yield_now();
            }
        }
        Ok(id)
    }

    /// Has an endpoint's listener accept nobody for now. Who connects waits in its backlog, which the kernel bounds;
    /// its connections live on. Takes hold a moment later. Does nothing for an endpoint that does not listen.
    ///
    /// # Errors
    ///
    /// The first shard that takes no orders now: try again. It would accept until then.
    pub fn pause(&self, endpoint: EndpointId) -> Result<(), NotTaken> {
        self.set_paused(endpoint, true)
    }

    /// Has it accept again, first who waits in its backlog.
    ///
    /// # Errors
    ///
    /// See [`Handle::pause`].
    pub fn resume(&self, endpoint: EndpointId) -> Result<(), NotTaken> {
        self.set_paused(endpoint, false)
    }

    fn set_paused(&self, endpoint: EndpointId, paused: bool) -> Result<(), NotTaken> {
        match self.read().endpoints.get(usize::from(endpoint.0)) {
            Some(entry) => entry.pause(paused),
            None => return Ok(()),
        }
        // Each shard looks at the mark when it gets the order: so they all end up with the last one.
        (0..self.shards()).try_for_each(|shard| self.order(ShardId(shard as u16), Control::Accepting(endpoint)))
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
        self.0.draining.store(true, Ordering::Relaxed);
        // Services first: their good-byes must be on the way before connections close.
        self.order_services(Order::Drain);
        for shard in &self.0.mail {
            let _ = shard.send(Control::Drain(deadline));
        }
    }

    /// Resets every connection and stops. Returns at once.
    pub fn stop(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        for shard in &self.0.mail {
            let _ = shard.send(Control::Stop);
        }
    }

    /// Whether the engine drains or stops, or has: it takes no new connections and will end.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
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
        for (_, service) in &self.read().services {
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

    pub(crate) fn add_service(&self, facts: Arc<ServiceFacts>, orders: Orders) {
        self.write(|registry| registry.services.push((facts, orders)));
    }

    /// Adds the next endpoint.
    pub(crate) fn add_endpoint(&self, endpoint: EndpointEntry) {
        self.write(|registry| registry.endpoints.push(endpoint));
    }

    /// The clock of a shard's thread, for that thread to start and stop.
    pub(crate) fn cpu(&self, shard: ShardId) -> &CpuClock {
        &self.0.cpu[usize::from(shard.0)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, ConnInfo, Cx, Dialer, Engine, NO_SERVICE, NoService, RecvBuf};

    struct Deaf;

    impl Handler for Deaf {
        type Service = NoService;
        type Conn = ();

        fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
            Ok(())
        }

        fn on_data(&mut self, _: &mut Cx<'_, NoService>, _: &mut (), _: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
            Ok(())
        }
    }

    fn config() -> Config {
        Config { shards: 1, ..Config::default() }
    }

    #[test]
    fn no_endpoint_gets_a_number_that_another_had() {
        let engine = Engine::builder(config()).unwrap().start().unwrap();
        let listen = || engine.handle().listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| Deaf);
        assert_eq!(listen().unwrap(), EndpointId(0));
        engine.handle().unlisten(EndpointId(0));
        assert_eq!(listen().unwrap(), EndpointId(1));
        engine.handle().set_endpoints(limits::ENDPOINTS);
        assert!(matches!(listen(), Err(StartError::Endpoints)));
        engine.handle().stop();
        engine.join().unwrap();
    }

    #[test]
    fn a_builder_with_more_endpoints_than_numbers_does_not_start() {
        let mut builder = Engine::builder(config()).unwrap();
        for _ in 0..=limits::ENDPOINTS {
            builder.dialer(Dialer::new(), &NO_SERVICE, |_| Deaf);
        }
        assert!(matches!(builder.start().err(), Some(StartError::Endpoints)));
    }
}
