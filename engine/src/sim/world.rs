//! The world of one simulation: shards, service threads and peers, stepped one by one as the seed has it.
//!
//! Time jumps only when nobody has anything to do; a tick takes a moment. Invariant: whoever might have something to do
//! is stepped before time jumps; whoever keeps being busy without a rest is caught spinning.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::disk::{Disks, SimStorage};
use super::driver::{SharedNet, SimDatagram, SimDriver, SimListener};
use super::faults::{self, Faults};
use super::kernel::Kernel;
use super::net::{Acceptor, Net};
use super::oracle::{self, Watched};
use super::peer::PeerState;
use super::rng::Rng;
use super::script::Script;
use super::trace::Happened;
use crate::builder::{Builder, EndpointSeat, EngineParts, Place, ShardParts, ThreadHost};
use crate::control::Socket;
use crate::driver::Driver;
use crate::engine::StartError;
use crate::handle::{Handle, Order};
use crate::net::Addr;
use crate::shard::Shard;
use crate::spread::Sharing;
use crate::stats::EngineStats;
use crate::time::Time;

/// Steps without a moment of rest before the engine counts as spinning.
const STEPS_AT_ONCE: u32 = 500_000;
/// What a tick takes of virtual time: a shard that retries sees time pass.
const TICK_TAKES: Duration = Duration::from_micros(1);
/// The most slots a simulated shard gets.
const SLOTS: u32 = 4096;

/// A simulated peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId(usize);

/// A simulated datagram socket outside the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId(usize, SocketAddr);

/// A simulation. See the module's page.
pub struct Sim {
    seed: u64,
    net: SharedNet,
    handle: Handle,
    shards: Vec<Option<Shard<SimDriver>>>,
    threads: Vec<SimThread>,
    storages: Vec<SimStorage>,
    /// Directories of services that are not of this life.
    disks: Disks,
    steps_at_once: u32,
    ports: u16,
}

/// A service with a thread of its own, stepped instead.
struct SimThread {
    host: ThreadHost,
    look: bool,
    /// It is stepped without asking: its last step left more, or there was none.
    more: bool,
    deadline: Option<Time>,
}

impl SimThread {
    fn is_awake(&self) -> bool {
        !self.host.host.is_stopped() && !self.host.inbox.is_dozing()
    }
}

/// Who is to be stepped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Actor {
    Shard(usize),
    Thread(usize),
    Peer(usize),
    Storage(usize),
}

impl Sim {
    /// Puts the engine together, with everything bound, and nothing stepped yet.
    ///
    /// # Errors
    ///
    /// What [`Builder::start`] would refuse.
    pub fn new(seed: u64, faults: Faults, builder: Builder) -> Result<Sim, StartError> {
        Sim::on_disks(seed, faults, builder, Disks::default())
    }

    /// The same, on what a life before this one left on its disks.
    ///
    /// # Errors
    ///
    /// What [`Builder::start`] would refuse.
    pub fn on_disks(seed: u64, faults: Faults, builder: Builder, mut disks: Disks) -> Result<Sim, StartError> {
        let handle = builder.handle().clone();
        let slots = builder.config.connections_per_shard.min(SLOTS);
        let net = Rc::new(RefCell::new(Net::new(seed, faults::left(faults))));
        let mut port = 50_000;
        let addrs = handle.clone();
        let EngineParts { shards: parts, threads, storages } =
            builder.into_parts(seed, |seat, shards| Ok(bind(seat, shards, &addrs, &mut port)))?;
        let storages = storages.into_iter().map(|seat| SimStorage::new(seat, &mut disks, &net)).collect();
        let threads =
            threads.into_iter().map(|host| SimThread { host, look: true, more: true, deadline: None }).collect();
        let mut sim =
            Sim { seed, net, handle, shards: Vec::new(), threads, storages, disks, steps_at_once: 0, ports: 1024 };
        for part in parts {
            let shard = sim.shard(part, slots).map_err(StartError::Thread)?;
            sim.shards.push(Some(shard));
        }
        Ok(sim)
    }

    fn shard(&self, part: ShardParts, slots: u32) -> std::io::Result<Shard<SimDriver>> {
        let driver = SimDriver::new(&self.net, slots);
        self.handle.set_caps(driver.caps().clone());
        let mut shard = Shard::new(part, driver)?;
        let endpoints = std::mem::take(&mut shard.endpoints);
        shard.endpoints = endpoints.into_iter().map(|endpoint| Watched::new(endpoint) as _).collect();
        Ok(shard)
    }

    /// The seed that everything here follows from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What goes wrong.
    pub fn faults(&self) -> Faults {
        self.net.borrow().faults.clone()
    }

    /// From here on nothing ends connections but the peers and the engine.
    pub fn heal(&mut self) {
        let healed = self.faults().healed();
        self.net.borrow_mut().faults = healed;
    }

    /// A generator for the test's own choices.
    pub fn rng(&mut self) -> Rng {
        self.net.borrow_mut().rng.fork()
    }

    /// The engine's handle. Orders are carried out as the simulation goes on.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.net.borrow().now
    }

    /// Every shard's figures.
    pub fn stats(&self) -> EngineStats {
        self.handle.stats()
    }

    /// A peer connects to `addr`, from an address of its own.
    ///
    /// # Panics
    ///
    /// When `addr` is no address.
    pub fn connect(&mut self, addr: &str, script: Script) -> PeerId {
        self.connect_after(Duration::ZERO, addr, script)
    }

    /// The same, `after` some time.
    pub fn connect_after(&mut self, after: Duration, addr: &str, script: Script) -> PeerId {
        self.ports = self.ports.checked_add(1).unwrap_or(1024);
        let host = (self.ports % 250) as u8 + 1;
        let from = SocketAddr::from(([192, 0, 2, host], self.ports));
        self.connect_from(from, after, addr, script)
    }

    /// The same, from an address of the test's choice.
    pub fn connect_from(&mut self, from: SocketAddr, after: Duration, addr: &str, script: Script) -> PeerId {
        PeerId(self.net.borrow_mut().add_peer(parse(addr), Some(from), after, script))
    }

    /// Listens outside the engine: every connection that it makes to `addr` meets a peer with this script.
    pub fn serve(&mut self, addr: &str, script: Script) {
        let mut net = self.net.borrow_mut();
        let number = net.peers.servers.len();
        net.peers.servers.push(script);
        net.listening.entry(parse(addr).to_string()).or_default().push(Acceptor::Script(number));
    }

    /// All peers, those of [`Sim::serve`] included, in the order of their making.
    pub fn peers(&self) -> Vec<PeerId> {
        (0..self.net.borrow().peers.list.len()).map(PeerId).collect()
    }

    /// Where a peer stands.
    pub fn state(&self, peer: PeerId) -> PeerState {
        self.net.borrow().peers.list[peer.0].state()
    }

    /// What a peer has received.
    pub fn received(&self, peer: PeerId) -> Vec<u8> {
        self.net.borrow().peers.list[peer.0].received.clone()
    }

    /// What a peer has sent.
    pub fn sent(&self, peer: PeerId) -> Vec<u8> {
        self.net.borrow().peers.list[peer.0].sent.clone()
    }

    /// Whether no peer has anything left to do.
    pub fn peers_over(&self) -> bool {
        self.net.borrow().peers.list.iter().all(|peer| peer.state().is_over())
    }

    /// Connections that the engine has, closing ones included.
    pub fn connections(&self) -> usize {
        self.net.borrow().kernels.iter().map(|kernel| kernel.open_slots()).sum()
    }

    /// Whether a dial waits for its answer, or for its timeout.
    fn dials(&self) -> bool {
        self.net.borrow().kernels.iter().any(Kernel::dials)
    }

    /// Binds a datagram socket outside the engine.
    pub fn datagram_socket(&mut self, addr: SocketAddr) -> SocketId {
        SocketId(self.net.borrow_mut().bind_outside(addr), addr)
    }

    /// Sends a datagram from there.
    pub fn send_datagram(&mut self, socket: SocketId, to: SocketAddr, bytes: &[u8]) {
        self.net.borrow_mut().send_datagram(socket.1, to, bytes.to_vec());
    }

    /// The datagrams that arrived there.
    pub fn datagrams(&self, socket: SocketId) -> Vec<(SocketAddr, Vec<u8>)> {
        let net = self.net.borrow();
        net.arrived_outside(socket.0).iter().map(|datagram| (datagram.from, datagram.bytes.clone())).collect()
    }

    /// Whether every shard has stopped.
    pub fn is_stopped(&self) -> bool {
        self.shards.iter().all(Option::is_none)
    }

    /// Runs until `condition` holds; `false` if it does not within `limit` of virtual time.
    pub fn run_until(&mut self, mut condition: impl FnMut(&Sim) -> bool, limit: Duration) -> bool {
        let end = self.now() + limit;
        loop {
            if condition(self) {
                return true;
            }
            if self.step() {
                continue;
            }
            match self.next_time() {
                Some(next) if next <= end => self.advance(next),
                _ => {
                    self.advance(end);
                    return condition(self);
                }
            }
        }
    }

    /// Runs for so much virtual time.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(|_| false, time);
    }

    /// Runs until every peer is done and the engine has closed all connections, then checks that nothing is left of
    /// them anywhere.
    ///
    /// # Panics
    ///
    /// When that does not happen within `limit` of virtual time, or something is left.
    pub fn quiesce(&mut self, limit: Duration) {
        let over = self.run_until(|sim| sim.peers_over() && sim.connections() == 0 && !sim.dials(), limit);
        let states: Vec<_> = self.peers().into_iter().map(|peer| self.state(peer)).collect();
        let left: String = self.shards.iter().flatten().map(oracle::describe).collect();
        assert!(over, "not quiet after {limit:?}: peers {states:?}, connections{left}");
        // Returned frames and closed slots are seen a few ticks later.
        self.run_for(Duration::from_secs(3));
        for shard in self.shards.iter().flatten() {
            oracle::assert_at_rest(shard, &self.net.borrow());
            oracle::assert_counts_at_rest(shard);
        }
    }

    /// Drains the engine to its end, then checks that nothing is left.
    ///
    /// # Panics
    ///
    /// When the drain takes longer than `deadline` (and what teardown may take after it), or something is left.
    pub fn finish(mut self, deadline: Duration) {
        self.handle.drain(deadline);
        let stopped = self.run_until(Sim::is_stopped, deadline + Duration::from_secs(10));
        assert!(stopped, "the drain did not end: {} connections", self.connections());
        assert_eq!(self.connections(), 0, "sockets outlive their shards");
        self.handle.order_services(Order::Stop);
        let ended = |sim: &Sim| sim.threads.iter().all(|thread| thread.host.host.is_stopped());
        let ended = self.run_until(ended, Duration::from_secs(10));
        assert!(ended, "a service did not stop");
    }

    /// The machine loses its power: what was not synced is kept, torn or lost as the seed has it, and what is left is
    /// for [`Sim::on_disks`]. Connections and memory are gone, and nothing is checked of them.
    pub fn crash(mut self) -> Disks {
        let mut disks = std::mem::take(&mut self.disks);
        for shard in self.shards.iter_mut().flatten() {
            shard.core.forget_sends();
        }
        for storage in self.storages.drain(..) {
            let (dir, image) = storage.crash();
            disks.insert(dir, image);
        }
        disks
    }

    /// Steps somebody who may have something to do, if anybody has.
    fn step(&mut self) -> bool {
        let Some(actor) = self.choose() else {
            return false;
        };
        self.steps_at_once += 1;
        {
            let net = &mut *self.net.borrow_mut();
            net.trace.add(net.now, Happened::Stepped(actor));
        }
        assert!(self.steps_at_once < STEPS_AT_ONCE, "somebody spins at {:?}: {actor:?}", self.now());
        match actor {
            Actor::Shard(shard) => self.step_shard(shard),
            Actor::Thread(thread) => self.step_thread(thread),
            Actor::Peer(peer) => self.net.borrow_mut().step_peer(peer),
            Actor::Storage(storage) => self.storages[storage].step(),
        }
        true
    }

    fn choose(&mut self) -> Option<Actor> {
        let busy: Vec<bool> = self.storages.iter_mut().map(SimStorage::is_due).collect();
        let net = &mut *self.net.borrow_mut();
        let looks = |&number: &usize| {
            let shard = self.shards[number].as_ref();
            shard.is_some_and(|shard| net.kernels[number].look || !shard.inbox.is_dozing())
        };
        let shards = (0..self.shards.len()).filter(looks);
        let awake = |&thread: &usize| self.threads[thread].look || self.threads[thread].is_awake();
        let threads = (0..self.threads.len()).filter(awake);
        let peers = (0..net.peers.look.len()).map(Actor::Peer);
        let storages = (0..busy.len()).filter(|&storage| busy[storage]).map(Actor::Storage);
        let actors = shards.map(Actor::Shard).chain(threads.map(Actor::Thread)).chain(peers).chain(storages);
        let actors: Vec<Actor> = actors.collect();
        if actors.is_empty() {
            return None;
        }
        Some(match actors[net.rng.index(actors.len())] {
            Actor::Peer(place) => Actor::Peer(net.peers.look.swap_remove(place)),
            other => other,
        })
    }

    fn step_shard(&mut self, number: usize) {
        let Some(shard) = &mut self.shards[number] else {
            return;
        };
        {
            let mut net = self.net.borrow_mut();
            let began = net.now + TICK_TAKES;
            net.advance(began);
            net.kernels[number].look = false;
        }
        let goes_on = shard.tick().expect("the simulated kernel never fails");
        let mut net = self.net.borrow_mut();
        let now = net.now;
        let kernel = &mut net.kernels[number];
        kernel.ticked = now;
        let did_something = !kernel.slept;
        kernel.look |= did_something || shard.more || !kernel.pushed.is_empty();
        // It sleeps on, if it may, until its kernel or its bell wakes it.
        kernel.look |= !kernel.look && !shard.doze();
        drop(net);
        if !goes_on {
            self.net.borrow_mut().stop(number);
            oracle::assert_at_rest(shard, &self.net.borrow());
            let stopped = self.shards[number].take();
            if let Some(last) = stopped.filter(|_| self.is_stopped()) {
                oracle::assert_counts_at_rest(&last);
            }
        }
    }

    fn step_thread(&mut self, number: usize) {
        let now = self.now();
        let thread = &mut self.threads[number];
        let SimThread { host: ThreadHost { host, inbox, .. }, look, more, deadline } = thread;
        let due = host.next_deadline().is_some_and(|deadline| deadline <= now);
        if host.is_stopped() || !due && !*more && inbox.doze(|| host.is_idle()) {
            *look = false;
            *deadline = host.next_deadline();
            return;
        }
        for lane in inbox.drain() {
            host.rung(lane);
        }
        *more = host.step(now);
        // It looks around once more before it sleeps.
        *look = true;
    }

    /// When the next thing happens by itself.
    fn next_time(&self) -> Option<Time> {
        let net = self.net.borrow();
        let live = |number: &usize| self.shards[*number].is_some();
        let shards = (0..self.shards.len()).filter(live).filter_map(|number| net.kernels[number].deadline);
        let threads = self.threads.iter().filter_map(|thread| thread.deadline);
        let storages = self.storages.iter().filter_map(SimStorage::next_time);
        shards.chain(threads).chain(storages).chain(net.next_event()).min()
    }

    fn advance(&mut self, to: Time) {
        self.steps_at_once = 0;
        let mut net = self.net.borrow_mut();
        net.advance(to);
        let now = net.now;
        for kernel in &mut net.kernels {
            kernel.look |= kernel.deadline.take_if(|deadline| *deadline <= now).is_some();
        }
        for thread in &mut self.threads {
            thread.look |= thread.deadline.take_if(|deadline| *deadline <= now).is_some();
        }
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Whether failures of simulations on this thread are kept to themselves: for tests that expect them.
pub fn quiet(quiet: bool) {
    QUIET.set(quiet);
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() && !QUIET.get() {
            let said = self.net.try_borrow().map(|net| (net.faults.to_string(), net.trace.to_string()));
            let (faults, trace) = said.unwrap_or_default();
            let (seed, at) = (self.seed, self.time_of_failure());
            eprintln!("simulation failed: seed {seed} at {at:?}\n{faults}\nwhat happened last:\n{trace}");
        }
    }
}

impl Sim {
    fn time_of_failure(&self) -> Option<Duration> {
        self.net.try_borrow().ok().map(|net| net.now.since(Time::ZERO))
    }
}

/// Gives each shard its simulated socket of an endpoint.
fn bind(seat: &EndpointSeat, shards: usize, handle: &Handle, port: &mut u16) -> Vec<Socket> {
    let mut bound = |addr: &Addr| {
        let mut addr = addr.clone();
        if let Addr::Tcp(tcp) = &mut addr
            && tcp.port() == 0
        {
            *port += 1;
            tcp.set_port(*port);
        }
        handle.add_addr(seat.spec.id, addr.clone());
        addr
    };
    let sockets = |make: &dyn Fn() -> Socket| (0..shards).map(|_| make()).collect();
    match &seat.place {
        Place::Inside => sockets(&|| Socket::None),
        Place::Listen(addr, _, inherited) => {
            let addr = bound(addr);
            let sharing = Sharing::of(&addr, inherited.is_some());
            let listener = || Socket::Listener(Box::new(SimListener(addr.clone())), sharing);
            let accepts = |&shard: &usize| sharing.accepts(seat.spec.id, shard, shards);
            (0..shards).map(|shard| Some(shard).filter(accepts).map_or(Socket::None, |_| listener())).collect()
        }
        Place::Datagram(addr) => match bound(addr) {
            Addr::Tcp(addr) => sockets(&|| Socket::Datagram(Box::new(SimDatagram(addr)))),
            Addr::Unix(_) => sockets(&|| Socket::None),
        },
    }
}

fn parse(addr: &str) -> Addr {
    addr.parse().unwrap_or_else(|error| panic!("{error}"))
}
