//! Putting an engine together: services, endpoints, and what each shard gets of them.

use std::any::TypeId;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::sync::Parker;

use crate::admission::{Admission, AdmissionConfig, ListenerCount};
#[cfg(feature = "tokio-uring")]
use crate::async_service::{self, Async, AsyncParts, AsyncRuntime, AsyncService, TaskWake};
use crate::budget::EngineBudget;
use crate::buffer::PoolConfig;
use crate::config::{Config, Datagram, Dialer, EndpointOptions, Listen};
use crate::control::{Control, EndpointSpec, Socket};
use crate::endpoint::{Endpoint, Typed};
use crate::engine::{Ready, StartError};
use crate::handle::{Handle, Order};
use crate::handler::Handler;
use crate::handoff::inbox::{Doorbell, Inbox, inbox};
use crate::handoff::mailbox::{self, mailbox};
use crate::handoff::wake::{ThreadWake, Wake};
use crate::host::{self, Host, HostMail, HostRun};
use crate::id::{EndpointId, MAX_SHARDS, ShardId};
use crate::limits;
use crate::listing::{EndpointKind, ServiceFacts};
use crate::net::{Addr, Balance, SocketOptions};
use crate::port::{Doors, ServiceLink};
use crate::service::{NoService, Placement, Scope, Service, Subscribe, Subscriptions};
use crate::shard::host_lane;
use crate::stats::ShardStats;
use crate::storage::{Storage, StorageSeat};
use crate::topology;
use crate::trace::Timeline;

/// Collects services and endpoints; [`Builder::start`] makes the engine.
pub struct Builder {
    pub(crate) config: Config,
    pub(crate) handle: Handle,
    pub(crate) shards: Vec<ShardSeat>,
    services: Vec<Box<dyn ServiceSeat>>,
    pub(crate) endpoints: Vec<EndpointSeat>,
}

/// What a shard has before its thread exists.
pub(crate) struct ShardSeat {
    pub(crate) inbox: Inbox,
    pub(crate) bell: Doorbell,
    pub(crate) mail: mailbox::Receiver<Control>,
    pub(crate) wake: LateWake,
    pub(crate) stats: Arc<ShardStats>,
    pub(crate) timeline: Arc<Timeline>,
}

/// An endpoint and where it listens.
pub(crate) struct EndpointSeat {
    pub(crate) spec: Arc<EndpointSpec>,
    pub(crate) place: Place,
}

/// Where an endpoint's connections come from.
pub(crate) enum Place {
    Listen(Addr, Balance, Option<Arc<OwnedFd>>),
    Datagram(Addr),
    /// Dials and upgrades.
    Inside,
}

impl Place {
    fn kind(&self) -> EndpointKind {
        match self {
            Place::Listen(..) => EndpointKind::Listener,
            Place::Datagram(_) => EndpointKind::Datagram,
            Place::Inside => EndpointKind::Dialer,
        }
    }
}

/// Everything one shard is made of, on its way to its thread.
pub(crate) struct ShardParts {
    pub(crate) shard: ShardId,
    pub(crate) seat: ShardSeat,
    pub(crate) endpoints: Vec<(Arc<EndpointSpec>, Socket)>,
    pub(crate) hosts: Vec<(usize, Box<dyn HostRun>)>,
    pub(crate) pool: PoolConfig,
    pub(crate) shard_budget: usize,
    pub(crate) engine_budget: Arc<EngineBudget>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) lane_capacity: usize,
    pub(crate) linger: Duration,
    pub(crate) most_dials: usize,
    pub(crate) handle: Handle,
}

/// Everything an engine is made of, on its way to its threads.
pub(crate) struct EngineParts {
    pub(crate) shards: Vec<ShardParts>,
    pub(crate) threads: Vec<ThreadHost>,
    pub(crate) storages: Vec<StorageSeat>,
}

/// A service with a thread of its own, on its way there.
pub(crate) struct ThreadHost {
    pub(crate) name: String,
    pub(crate) host: Box<dyn HostRun>,
    pub(crate) inbox: Inbox,
    pub(crate) run: Runner,
}

/// Says how the start went, then runs a host on its thread until it is stopped.
pub(crate) type Runner = Box<dyn FnOnce(Box<dyn HostRun>, Inbox, Instant, Ready) + Send>;

/// A service that was registered with a builder; handlers reach it through endpoints made with this.
pub struct ServiceRef<S: Service>(Option<Arc<Registered<S>>>);

struct Registered<S: Service> {
    number: usize,
    name: String,
    /// One per shard for [`Placement::PerShard`], else one.
    links: Vec<ServiceLink<S>>,
    subscriptions: Mutex<Subscriptions<S>>,
    storage: Mutex<Option<PathBuf>>,
}

impl<S: Service> Clone for ServiceRef<S> {
    fn clone(&self) -> Self {
        ServiceRef(self.0.clone())
    }
}

/// For endpoints whose handlers answer by themselves.
pub const NO_SERVICE: ServiceRef<NoService> = ServiceRef(None);

impl<S: Service> ServiceRef<S> {
    pub(crate) fn link(&self, shard: ShardId) -> Option<(usize, ServiceLink<S>)> {
        let registered = self.0.as_ref()?;
        let link = registered.links.get(usize::from(shard.0)).or(registered.links.first())?;
        Some((registered.number, link.clone()))
    }
}

impl Builder {
    pub(crate) fn new(mut config: Config) -> Result<Builder, StartError> {
        if config.shards == 0 {
            config.shards = topology::default_shards();
        }
        if config.buffers == 0 {
            let crowded = config.shards > topology::default_shards();
            config.buffers = if crowded { 16 } else { 64 };
        }
        check(&config)?;
        let epoch = Instant::now();
        let (shards, mail): (Vec<_>, Vec<_>) = (0..config.shards).map(|_| shard_seat(config.shards)).unzip();
        let stats = shards.iter().map(|seat| Arc::clone(&seat.stats)).collect();
        let timelines = shards.iter().map(|seat| Arc::clone(&seat.timeline)).collect();
        let handle = Handle::new(mail, stats, timelines, epoch);
        Ok(Builder { config, handle, shards, services: Vec::new(), endpoints: Vec::new() })
    }

    /// The engine-to-be: orders given before [`Builder::start`] are carried out after it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How many shards there will be.
    pub fn shards(&self) -> usize {
        self.config.shards
    }

    /// Registers a service. `factory` makes it, and makes it anew should it panic.
    ///
    /// # Errors
    ///
    /// A placement that its [`Scope`] does not allow, a shard that does not exist, too many services.
    pub fn service<S: Service>(
        &mut self,
        name: &str,
        placement: Placement,
        factory: impl Fn() -> S + Send + Sync + 'static,
    ) -> Result<ServiceRef<S>, StartError> {
        let number = self.services.len();
        let shards = self.config.shards;
        let refused = |reason| StartError::Service { name: name.to_owned(), reason };
        self.check_service(name)?;
        let seats: Vec<usize> = match placement {
            Placement::PerShard if S::SCOPE == Scope::Node && shards > 1 => {
                return Err(refused("it keeps state across connections, so it cannot be placed per shard"));
            }
            Placement::PerShard => (0..shards).collect(),
            Placement::Shard(ShardId(shard)) if usize::from(shard) < shards => vec![usize::from(shard)],
            Placement::Shard(_) => return Err(refused("it is placed on a shard that does not exist")),
            Placement::Thread => Vec::new(),
        };
        let factory: Arc<dyn Fn() -> S + Send + Sync> = Arc::new(factory);
        let facts = ServiceFacts::new(name, placement, shards);
        let mut instances = Vec::new();
        let mut links = Vec::new();
        if seats.is_empty() {
            let parker = Parker::new();
            let (inbox, bell) = inbox(shards, Box::new(ThreadWake::new(&parker)));
            let (mail, receiver) = mailbox(limits::SERVICE_MAIL, bell.clone());
            links.push(ServiceLink { mail, bell, first_lane: 0, facts: Arc::clone(&facts) });
            let run: Runner = Box::new(move |host, inbox, epoch, ready| {
                let _ = ready.send(Ok(()));
                host::run(host, inbox, &parker, epoch);
            });
            instances.push((Seat::Thread(inbox, run), receiver));
        }
        for seat in seats {
            let bell = self.shards[seat].bell.clone();
            let (mail, receiver) = mailbox(limits::SERVICE_MAIL, bell.clone());
            let first_lane = host_lane(number, shards, 0);
            links.push(ServiceLink { mail, bell, first_lane, facts: Arc::clone(&facts) });
            instances.push((Seat::Shard(seat), receiver));
        }
        Ok(self.register(name, facts, factory, instances, links))
    }

    /// Registers a service that is written as a future; it runs on a thread of its own.
    ///
    /// # Errors
    ///
    /// Too many services. A runtime that was asked for by name and does not work here fails [`Builder::start`].
    #[cfg(feature = "tokio-uring")]
    pub fn async_service<A: AsyncService>(
        &mut self,
        name: &str,
        runtime: AsyncRuntime,
        factory: impl Fn() -> A + Send + Sync + 'static,
    ) -> Result<ServiceRef<Async<A>>, StartError> {
        self.check_service(name)?;
        let wake = TaskWake::default();
        let (inbox, bell) = inbox(self.config.shards, Box::new(wake.clone()));
        let (mail, receiver) = mailbox(limits::SERVICE_MAIL, bell.clone());
        let facts = ServiceFacts::new(name, Placement::Thread, self.config.shards);
        let links = vec![ServiceLink { mail, bell, first_lane: 0, facts: Arc::clone(&facts) }];
        let AsyncParts { make, run } = async_service::parts(name, runtime, factory, wake, self.handle.clone());
        Ok(self.register(name, facts, make, vec![(Seat::Thread(inbox, run), receiver)], links))
    }

    fn check_service(&self, name: &str) -> Result<(), StartError> {
        match self.services.len() < limits::SERVICES {
            true => Ok(()),
            false => Err(StartError::Service { name: name.to_owned(), reason: "an engine has at most 16 services" }),
        }
    }

    fn register<S: Service>(
        &mut self,
        name: &str,
        facts: Arc<ServiceFacts>,
        factory: Arc<dyn Fn() -> S + Send + Sync>,
        instances: Vec<(Seat, mailbox::Receiver<HostMail<S>>)>,
        links: Vec<ServiceLink<S>>,
    ) -> ServiceRef<S> {
        let number = self.services.len();
        let registered = Registered {
            number,
            name: name.to_owned(),
            links,
            subscriptions: Mutex::default(),
            storage: Mutex::default(),
        };
        let registered = Arc::new(registered);
        let orders = Arc::clone(&registered);
        self.handle.add_service(
            Arc::clone(&facts),
            Box::new(move |order| {
                for link in &orders.links {
                    let _ = link.mail.send(match order {
                        Order::Drain => HostMail::Drain,
                        Order::Stop => HostMail::Stop,
                    });
                }
            }),
        );
        let name = name.to_owned();
        let seat = TypedSeat { name, facts, instances, factory, registered: Arc::clone(&registered) };
        self.services.push(Box::new(seat));
        ServiceRef(Some(registered))
    }

    /// Has a service receive events of type `E` that are published in this engine.
    pub fn subscribe<E: Send + Sync + 'static, S: Subscribe<E>>(&mut self, service: &ServiceRef<S>) {
        let Some(registered) = &service.0 else { return };
        registered.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).add::<E>();
        for link in &registered.links {
            let mail = link.mail.clone();
            self.handle.add_subscriber(
                TypeId::of::<E>(),
                Box::new(move |event| mail.room() > limits::ORDER_MAIL && mail.send(HostMail::Event(event)).is_ok()),
            );
        }
    }

    /// Gives a service a directory for its files ([`crate::ServiceCx::storage`]), made if need be and locked while the
    /// engine runs. docs/storage.md has the contract.
    ///
    /// # Errors
    ///
    /// A service with more than one instance: a directory has one owner. The directory is opened by [`Builder::start`].
    pub fn storage<S: Service>(&mut self, service: &ServiceRef<S>, dir: impl Into<PathBuf>) -> Result<(), StartError> {
        let Some(registered) = &service.0 else { return Ok(()) };
        if registered.links.len() > 1 {
            let reason = "it has an instance per shard, and a directory has one owner";
            return Err(StartError::Service { name: registered.name.clone(), reason });
        }
        *registered.storage.lock().unwrap_or_else(PoisonError::into_inner) = Some(dir.into());
        Ok(())
    }

    /// Registers a listener. `factory` makes its handler on each shard.
    ///
    /// # Errors
    ///
    /// An address that cannot be read. Binding comes with [`Builder::start`].
    pub fn listen<H: Handler>(
        &mut self,
        listen: Listen,
        service: &ServiceRef<H::Service>,
        factory: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<EndpointId, StartError> {
        let addr = listen.addr.map_err(StartError::Address)?;
        let place = Place::Listen(addr, listen.balance, listen.inherited);
        Ok(self.endpoint(place, listen.options, listen.socket, service, factory))
    }

    /// Registers a datagram socket.
    ///
    /// # Errors
    ///
    /// An address that cannot be read. Binding comes with [`Builder::start`].
    pub fn datagram<H: Handler>(
        &mut self,
        datagram: Datagram,
        service: &ServiceRef<H::Service>,
        factory: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<EndpointId, StartError> {
        let addr = datagram.addr.map_err(StartError::Address)?;
        let options = EndpointOptions { name: datagram.name, ..EndpointOptions::default() };
        Ok(self.endpoint(Place::Datagram(addr), options, datagram.socket, service, factory))
    }

    /// Registers an endpoint without a socket of its own: for [`Handle::dial`] and as the target of `upgrade`.
    pub fn dialer<H: Handler>(
        &mut self,
        dialer: Dialer,
        service: &ServiceRef<H::Service>,
        factory: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> EndpointId {
        self.endpoint(Place::Inside, dialer.options, dialer.socket, service, factory)
    }

    fn endpoint<H: Handler>(
        &mut self,
        place: Place,
        options: EndpointOptions,
        socket: SocketOptions,
        service: &ServiceRef<H::Service>,
        factory: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> EndpointId {
        // More than there are numbers for fail the start.
        let id = EndpointId(self.endpoints.len() as u16);
        let spec = Arc::new(endpoint_spec(id, options, socket, service, factory));
        self.handle.add_endpoint(spec.entry(place.kind()));
        self.endpoints.push(EndpointSeat { spec, place });
        id
    }

    /// Divides everything among the shards. `sockets` gives each endpoint's socket for each shard.
    pub(crate) fn into_parts(
        self,
        seed: u64,
        mut sockets: impl FnMut(&EndpointSeat, usize) -> Result<Vec<Socket>, StartError>,
    ) -> Result<EngineParts, StartError> {
        let Builder { config, handle, shards, services, endpoints } = self;
        if endpoints.len() > limits::ENDPOINTS {
            return Err(StartError::Endpoints);
        }
        let count = shards.len();
        handle.set_endpoints(endpoints.len());
        let admission = AdmissionConfig::new(config.max_connections, config.max_per_source);
        let admission = Arc::new(Admission::new(admission, seed));
        let engine_budget = EngineBudget::new(config.engine_budget);
        let part = |(number, seat)| ShardParts {
            shard: ShardId(number as u16),
            seat,
            endpoints: Vec::new(),
            hosts: Vec::new(),
            pool: PoolConfig { buffers: config.buffers, buffer_size: config.buffer_size },
            shard_budget: config.shard_budget,
            engine_budget: Arc::clone(&engine_budget),
            admission: Arc::clone(&admission),
            lane_capacity: config.lane_capacity,
            linger: config.linger,
            most_dials: config.dials_per_shard,
            handle: handle.clone(),
        };
        let mut parts: Vec<ShardParts> = shards.into_iter().enumerate().map(part).collect();
        for endpoint in endpoints {
            for (part, socket) in parts.iter_mut().zip(sockets(&endpoint, count)?) {
                part.endpoints.push((Arc::clone(&endpoint.spec), socket));
            }
        }
        let mut parts = EngineParts { shards: parts, threads: Vec::new(), storages: Vec::new() };
        for service in services {
            service.seat(&handle, &mut parts);
        }
        Ok(parts)
    }
}

/// What makes an endpoint's part on each shard.
pub(crate) fn endpoint_spec<H: Handler>(
    id: EndpointId,
    options: EndpointOptions,
    socket: SocketOptions,
    service: &ServiceRef<H::Service>,
    factory: impl Fn(ShardId) -> H + Send + Sync + 'static,
) -> EndpointSpec {
    let service = service.clone();
    let build = move |id: EndpointId, doors: &mut Doors<'_>| -> Box<dyn Endpoint> {
        Box::new(Typed::new(id, factory(doors.shard), doors.open(&service)))
    };
    let count = Arc::new(ListenerCount::new(options.max_connections));
    EndpointSpec { id, options, socket, count, counts: Arc::default(), build: Box::new(build) }
}

fn check(config: &Config) -> Result<(), StartError> {
    let most = MAX_SHARDS.min((crate::handoff::ready::MAX_LANES - limits::SERVICES) / limits::SERVICES);
    if config.shards > most {
        return Err(StartError::Config(format!("{} shards: at most {most} are possible", config.shards)));
    }
    if !config.buffers.is_power_of_two() || config.buffers > 1 << 15 {
        return Err(StartError::Config(format!("{} buffers: a power of two up to 32768 is needed", config.buffers)));
    }
    if !config.lane_capacity.is_power_of_two() || config.lane_capacity < 4 {
        return Err(StartError::Config(format!(
            "lane_capacity {}: a power of two from 4 is needed",
            config.lane_capacity
        )));
    }
    Ok(())
}

fn shard_seat(shards: usize) -> (ShardSeat, mailbox::Sender<Control>) {
    let wake = LateWake::default();
    let (inbox, bell) = inbox(host_lane(limits::SERVICES, shards, 0), Box::new(wake.clone()));
    let (sender, mail) = mailbox(limits::CONTROL_MAIL, bell.clone());
    (ShardSeat { inbox, bell, mail, wake, stats: Arc::default(), timeline: Arc::default() }, sender)
}

/// The wake of a shard whose driver does not exist yet: until then it cannot sleep either.
#[derive(Clone, Default)]
pub(crate) struct LateWake(Arc<OnceLock<Arc<dyn Wake>>>);

impl LateWake {
    pub(crate) fn set(&self, wake: Arc<dyn Wake>) {
        let _ = self.0.set(wake);
    }
}

impl Wake for LateWake {
    fn wake(&self) {
        if let Some(wake) = self.0.get() {
            wake.wake();
        }
    }
}

/// A registered service without its type.
trait ServiceSeat {
    /// Makes its hosts and puts them where they run.
    fn seat(self: Box<Self>, handle: &Handle, parts: &mut EngineParts);
}

enum Seat {
    Thread(Inbox, Runner),
    Shard(usize),
}

struct TypedSeat<S: Service> {
    name: String,
    facts: Arc<ServiceFacts>,
    instances: Vec<(Seat, mailbox::Receiver<HostMail<S>>)>,
    factory: Arc<dyn Fn() -> S + Send + Sync>,
    registered: Arc<Registered<S>>,
}

impl<S: Service> ServiceSeat for TypedSeat<S> {
    fn seat(self: Box<Self>, handle: &Handle, parts: &mut EngineParts) {
        let TypedSeat { name, facts, instances, factory, registered } = *self;
        let subscriptions = registered.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Only a service of one instance has a directory.
        let mut dir = registered.storage.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (seat, mail) in instances {
            let storage = match dir.take() {
                None => Storage::absent(),
                Some(dir) => {
                    let (storage, seat) = Storage::new(&name, dir, registered.links[0].bell.clone());
                    parts.storages.push(seat);
                    storage
                }
            };
            let factory = Arc::clone(&factory);
            let make = Box::new(move || factory());
            let host = Host::new(
                Arc::clone(&facts),
                make,
                subscriptions.clone(),
                mail,
                parts.shards.len(),
                storage,
                handle.clone(),
            );
            let host: Box<dyn HostRun> = Box::new(host);
            match seat {
                Seat::Thread(inbox, run) => parts.threads.push(ThreadHost { name: name.clone(), host, inbox, run }),
                Seat::Shard(shard) => parts.shards[shard].hosts.push((registered.number, host)),
            }
        }
    }
}
