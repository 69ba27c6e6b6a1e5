//! The world of one simulation: shards, service threads and peers, stepped one by one as the seed has it.
//!
//! Time jumps only when nobody has anything to do; a tick takes a moment. Invariant: whoever might have something to do
//! is stepped before time jumps; whoever keeps being busy without a rest is caught spinning.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::driver::{SharedNet, SimDatagram, SimDriver, SimListener};
use super::faults::Faults;
use super::net::{Acceptor, Net};
use super::oracle::{self, Watched};
use super::peer::PeerState;
use super::rng::Rng;
use super::script::Script;
use crate::builder::{Builder, EndpointSeat, Place, ShardParts, ThreadHost};
use crate::control::Socket;
use crate::driver::Driver;
use crate::engine::StartError;
use crate::handle::{Handle, Order};
use crate::net::Addr;
use crate::shard::Shard;
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
    steps_at_once: u32,
    ports: u16,
}

/// A service with a thread of its own, stepped instead.
struct SimThread {
    host: ThreadHost,
    look: bool,
    deadline: Option<Time>,
}

/// Who is to be stepped.
#[derive(Debug, Clone, Copy)]
enum Actor {
    Shard(usize),
    Thread(usize),
    Peer(usize),
}

impl Sim {
    /// Puts the engine together, with everything bound, and nothing stepped yet.
    ///
    /// # Errors
    ///
    /// What [`Builder::start`] would refuse.
    pub fn new(seed: u64, faults: Faults, builder: Builder) -> Result<Sim, StartError> {
        let handle = builder.handle().clone();
        let slots = builder.config.connections_per_shard.min(SLOTS);
        let net = Rc::new(RefCell::new(Net::new(seed, faults)));
        let mut port = 50_000;
        let addrs = handle.clone();
        let (parts, threads) = builder.into_parts(seed, |seat, shards| Ok(bind(seat, shards, &addrs, &mut port)))?;
        let threads = threads.into_iter().map(|host| SimThread { host, look: true, deadline: None }).collect();
        let mut sim = Sim { seed, net, handle, shards: Vec::new(), threads, steps_at_once: 0, ports: 1024 };
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
        self.look_at_all();
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
        let over = self.run_until(|sim| sim.peers_over() && sim.connections() == 0, limit);
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
        self.handle.order_services(Order::Stop);
        let ended = |sim: &Sim| sim.threads.iter().all(|thread| thread.host.host.is_stopped());
        let ended = self.run_until(ended, Duration::from_secs(10));
        assert!(ended, "a service did not stop");
    }

    /// Steps somebody who may have something to do, if anybody has.
    fn step(&mut self) -> bool {
        let Some(actor) = self.choose() else {
            return false;
        };
        self.steps_at_once += 1;
        assert!(self.steps_at_once < STEPS_AT_ONCE, "somebody spins at {:?}: {actor:?}", self.now());
        match actor {
            Actor::Shard(shard) => self.step_shard(shard),
            Actor::Thread(thread) => self.step_thread(thread),
            Actor::Peer(peer) => self.net.borrow_mut().step_peer(peer),
        }
        true
    }

    fn choose(&mut self) -> Option<Actor> {
        let net = &mut *self.net.borrow_mut();
        let shards = (0..self.shards.len()).filter(|&shard| self.shards[shard].is_some() && net.kernels[shard].look);
        let threads = (0..self.threads.len()).filter(|&thread| self.threads[thread].look);
        let peers = (0..net.peers.look.len()).map(Actor::Peer);
        let actors: Vec<Actor> = shards.map(Actor::Shard).chain(threads.map(Actor::Thread)).chain(peers).collect();
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
        drop(net);
        if !goes_on {
            oracle::assert_at_rest(shard, &self.net.borrow());
            let stopped = self.shards[number].take();
            if let Some(last) = stopped.filter(|_| self.is_stopped()) {
                oracle::assert_counts_at_rest(&last);
            }
        }
        if did_something {
            self.look_at_all();
        }
    }

    fn step_thread(&mut self, number: usize) {
        let now = self.now();
        let thread = &mut self.threads[number];
        let SimThread { host: ThreadHost { host, inbox, .. }, look, deadline } = thread;
        let due = host.next_deadline().is_some_and(|deadline| deadline <= now);
        if host.is_stopped() || !due && inbox.try_sleep(|| host.is_idle()).is_some() {
            *look = false;
            *deadline = host.next_deadline();
            return;
        }
        for lane in inbox.drain() {
            host.rung(lane);
        }
        host.step(now);
        self.look_at_all();
    }

    /// Something was done that others may have to act on.
    fn look_at_all(&mut self) {
        for kernel in &mut self.net.borrow_mut().kernels {
            kernel.look = true;
        }
        for thread in &mut self.threads {
            thread.look = true;
        }
    }

    /// When the next thing happens by itself.
    fn next_time(&self) -> Option<Time> {
        let net = self.net.borrow();
        let live = |number: &usize| self.shards[*number].is_some();
        let shards = (0..self.shards.len()).filter(live).filter_map(|number| net.kernels[number].deadline);
        let threads = self.threads.iter().filter_map(|thread| thread.deadline);
        shards.chain(threads).chain(net.next_event()).min()
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

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let faults = self.net.try_borrow().map(|net| net.faults.to_string()).unwrap_or_default();
            eprintln!("simulation failed: MEGAMUX_SIM_SEED={} at {:?}\n{faults}", self.seed, self.time_of_failure());
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
        Place::Listen(addr, _) => {
            let addr = bound(addr);
            sockets(&|| Socket::Listener(Box::new(SimListener(addr.clone())), addr.clone()))
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
