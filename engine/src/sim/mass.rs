//! Ten million connections on one thread: the real shards, tables, timers, handlers and admission over a kernel that
//! keeps four bytes per connection.
//!
//! Nothing goes wrong here and nothing is random but who talks; what is shown is that size alone breaks nothing. Each
//! message is told from every other, so an answer that is lost, doubled or at the wrong connection is found.
//! Invariant: what is measured around it is the engine's: the driver's own table has its size before the first connection.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::rng::Rng;
use crate::buffer::{LentChain, Pool, SendChain};
use crate::builder::Builder;
use crate::conn::State;
use crate::control::Socket;
use crate::driver::{Accept, Caps, Completion, Driver, DriverCounts, First, Payload, Wait};
use crate::engine::StartError;
use crate::handle::Handle;
use crate::handoff::wake::Wake;
use crate::id::ShardId;
use crate::net::Dial;
use crate::shard::Shard;
use crate::spread::Sharing;
use crate::stats::EngineStats;
use crate::time::Time;
use crate::token::{Kind, Token};

/// Bytes of a message: its connection, and which of its messages it is.
const MESSAGE: usize = 64;
/// What a tick takes of virtual time.
const TICK_TAKES: Duration = Duration::from_micros(100);
/// Ticks of one shard in which nothing comes to an end before that counts as a hang.
const TICKS: u32 = 2_000_000;

/// Very many connections. See the module's page.
pub struct Mass {
    shards: Vec<Option<Shard<MassDriver>>>,
    handle: Handle,
    rng: Rng,
}

impl Mass {
    /// Puts the engine together, with `slots` for connections on each shard. It may have one endpoint, a listener whose
    /// handler sends back what it gets.
    ///
    /// # Errors
    ///
    /// What [`Builder::start`] would refuse.
    pub fn new(seed: u64, builder: Builder, slots: u32) -> Result<Mass, StartError> {
        let handle = builder.handle().clone();
        let listener = |_| Socket::Listener(Box::new(()), Sharing::Own);
        let parts = builder.into_parts(seed, |_, shards| Ok((0..shards).map(listener).collect()))?;
        let shards = parts.shards.into_iter().map(|part| {
            let driver = MassDriver::new(part.shard, slots);
            Shard::new(part, driver).map(Some).map_err(StartError::Thread)
        });
        Ok(Mass { shards: shards.collect::<Result<_, _>>()?, handle, rng: Rng::new(seed) })
    }

    /// Every shard's figures.
    pub fn stats(&self) -> EngineStats {
        self.handle.stats()
    }

    /// Opens `count` more connections: each shard is filled before the next gets any.
    ///
    /// # Panics
    ///
    /// When they do not fit, or do not open.
    pub fn connect(&mut self, mut count: u64) {
        for shard in self.shards.iter_mut().flatten() {
            let driver = &mut shard.driver;
            let here = count.min(driver.free() as u64);
            driver.connecting += here as u32;
            count -= here;
            let target = shard.core.live as u64 + here;
            run(shard, |shard| shard.driver.connecting == 0 && shard.core.live as u64 == target && all_open(shard));
        }
        assert_eq!(count, 0, "so many connections do not fit");
    }

    /// Has so many connections, of any shard, send a message each, and waits until each has its answer.
    ///
    /// # Panics
    ///
    /// When an answer is lost, doubled or wrong.
    pub fn talk(&mut self, count: u64) {
        let Mass { shards, rng, .. } = self;
        let all: u64 = shards.iter().flatten().map(|shard| shard.core.live as u64).sum();
        for shard in shards.iter_mut().flatten() {
            let here = shard.core.live as u64 * count / all.max(1);
            for _ in 0..here {
                let slot = rng.index(shard.core.conns.len()) as u32;
                shard.driver.talk(slot);
            }
            run(shard, |shard| shard.driver.awaited.is_empty());
        }
    }

    /// Has so many connections of each shard end, and waits until they are gone.
    pub fn hang_up(&mut self, count: u64) {
        for shard in self.shards.iter_mut().flatten() {
            let live = shard.core.live as u64;
            let left = live - count.min(live);
            let mut ending = live - left;
            for slot in 0..shard.core.conns.len() as u32 {
                if ending > 0 && shard.driver.hang_up(slot) {
                    ending -= 1;
                }
            }
            run(shard, |shard| shard.core.live as u64 == left && shard.driver.free_is(left));
        }
    }

    /// Lets time pass with nobody doing anything.
    pub fn idle(&mut self, time: Duration) {
        for shard in self.shards.iter_mut().flatten() {
            let until = shard.driver.now + time;
            run(shard, |shard| shard.driver.now >= until);
        }
    }

    /// Answers that were checked.
    pub fn answered(&self) -> u64 {
        self.shards.iter().flatten().map(|shard| shard.driver.answered).sum()
    }

    /// Hangs up everybody and stops the engine; nothing may be left.
    ///
    /// # Panics
    ///
    /// When something is.
    pub fn finish(mut self) {
        self.hang_up(u64::MAX);
        for shard in self.shards.iter().flatten() {
            assert_at_rest(shard);
        }
        self.handle.drain(Duration::from_secs(1));
        for place in &mut self.shards {
            let Some(shard) = place else { continue };
            let mut ticks = 0;
            while shard.tick().expect("the simulated kernel never fails") {
                ticks += 1;
                assert!(ticks < TICKS, "a shard does not stop");
            }
            *place = None;
        }
    }
}

/// Ticks one shard until `done`. The others sleep meanwhile: they share nothing with it but counts.
fn run(shard: &mut Shard<MassDriver>, done: impl Fn(&Shard<MassDriver>) -> bool) {
    let (mut ticks, mut before) = (0, 0);
    while !done(shard) {
        let goes_on = shard.tick().expect("the simulated kernel never fails");
        assert!(goes_on, "a shard stopped");
        let progress = shard.driver.completed;
        ticks = if progress == before { ticks + 1 } else { 0 };
        before = progress;
        assert!(ticks < TICKS, "a shard gets nowhere: {} connections", shard.core.live);
    }
}

/// None is still on its way in.
fn all_open(shard: &Shard<MassDriver>) -> bool {
    let connections = shard.core.stats.snapshot(shard.core.now).connections;
    connections.of(crate::stats::ConnState::Opening) == 0
}

fn assert_at_rest(shard: &Shard<MassDriver>) {
    let core = &shard.core;
    assert!(core.conns.iter().all(|conn| conn.state == State::Vacant && !conn.in_flight()), "slots in use");
    assert_eq!((core.live, core.budget.held(), core.timers.len()), (0, 0, 0), "connections, budget, timers");
    assert_eq!(shard.pool.held_frames(), 0, "frames not given back");
    assert!(core.endpoints.iter().all(|facts| facts.count.open() == 0), "connections counted and not given back");
    assert_eq!(shard.driver.closes, shard.driver.accepts, "every connection is closed once");
}

/// What a connection of the kernel waits for.
const NOTHING: u32 = 0;
const POLL: u32 = 1;
const ONCE: u32 = 2;
const MULTISHOT: u32 = 3;
const WATCH: u32 = 4;
/// No connection has this slot.
const FREE: u32 = u32::MAX;

/// A generation has 28 bits, so what is waited for has four.
fn packed(generation: u32, waits: u32) -> u32 {
    waits << 28 | generation
}

/// What a peer has sent and the engine has not read.
#[derive(Debug, Clone, Copy)]
enum Sent {
    Message(u64),
    Fin,
}

/// The kernel of one shard.
pub(crate) struct MassDriver {
    caps: Caps,
    shard: ShardId,
    now: Time,
    /// Per slot: what it waits for, and the generation of that token.
    table: Vec<u32>,
    vacant: Vec<u32>,
    accepting: Option<Token>,
    /// Connections that wait to be accepted.
    connecting: u32,
    unread: BTreeMap<u32, VecDeque<Sent>>,
    /// Messages whose answers are not there yet, by slot.
    awaited: BTreeMap<u32, VecDeque<u64>>,
    /// Receives that may deliver, if there are buffers.
    due: VecDeque<u32>,
    ready: VecDeque<Completion>,
    buffers: VecDeque<(u16, u32)>,
    messages: u64,
    answered: u64,
    accepts: u64,
    closes: u64,
    completed: u64,
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

impl MassDriver {
    fn new(shard: ShardId, slots: u32) -> MassDriver {
        let caps = Caps {
            driver: "sim",
            incremental_buffers: true,
            recv_budget: true,
            min_wait: false,
            registered_ring: false,
            peer_cmd: true,
            accept_dontwait: false,
            msg_ring: false,
            pass: false,
            restrictions: false,
            refused: None,
            masked: Vec::new(),
        };
        MassDriver {
            caps,
            shard,
            now: Time::ZERO,
            table: vec![FREE; slots as usize],
            vacant: (0..slots).rev().collect(),
            accepting: None,
            connecting: 0,
            unread: BTreeMap::new(),
            awaited: BTreeMap::new(),
            due: VecDeque::new(),
            ready: VecDeque::new(),
            buffers: VecDeque::new(),
            messages: 0,
            answered: 0,
            accepts: 0,
            closes: 0,
            completed: 0,
        }
    }

    fn free(&self) -> usize {
        self.vacant.len() - self.connecting as usize
    }

    fn free_is(&self, live: u64) -> bool {
        self.vacant.len() as u64 + live == self.table.len() as u64
    }

    /// A peer sends a message.
    fn talk(&mut self, slot: u32) {
        if self.table[slot as usize] != FREE {
            self.messages += 1;
            self.awaited.entry(slot).or_default().push_back(self.messages);
            self.send_here(slot, Sent::Message(self.messages));
        }
    }

    /// A peer sends FIN; `false` if there is none.
    fn hang_up(&mut self, slot: u32) -> bool {
        let there = self.table[slot as usize] != FREE;
        if there {
            self.send_here(slot, Sent::Fin);
        }
        there
    }

    fn send_here(&mut self, slot: u32, sent: Sent) {
        self.unread.entry(slot).or_default().push_back(sent);
        self.look(slot);
    }

    /// Something may be readable for what waits on a slot.
    fn look(&mut self, slot: u32) {
        let (waits, generation) = (self.table[slot as usize] >> 28, self.table[slot as usize] & ((1 << 28) - 1));
        if !self.unread.contains_key(&slot) {
            return;
        }
        match waits {
            POLL => {
                self.table[slot as usize] = packed(generation, NOTHING);
                self.done(Token::new(Kind::Poll, generation, slot), 1);
            }
            ONCE | MULTISHOT => self.due.push_back(slot),
            WATCH if self.has_finished(slot) => {
                self.table[slot as usize] = packed(generation, NOTHING);
                self.done(Token::new(Kind::Watch, generation, slot), 0);
            }
            _ => {}
        }
    }

    fn has_finished(&self, slot: u32) -> bool {
        self.unread.get(&slot).is_some_and(|unread| matches!(unread.back(), Some(Sent::Fin)))
    }

    fn wait_for(&mut self, slot: u32, token: Token, waits: u32) {
        self.table[slot as usize] = packed(token.generation(), waits);
        self.look(slot);
    }

    fn done(&mut self, token: Token, result: i32) {
        self.ready.push_back(Completion { token, result, more: false, payload: Payload::None });
    }

    fn message(&self, slot: u32, number: u64) -> [u8; MESSAGE] {
        let mut message = [number as u8; MESSAGE];
        message[..2].copy_from_slice(&self.shard.0.to_le_bytes());
        message[2..6].copy_from_slice(&slot.to_le_bytes());
        message[6..14].copy_from_slice(&number.to_le_bytes());
        message
    }

    /// One receive delivers what there is first; `false` without a buffer.
    fn deliver(&mut self, slot: u32, pool: &mut Pool) -> bool {
        let (waits, generation) = (self.table[slot as usize] >> 28, self.table[slot as usize] & ((1 << 28) - 1));
        let (ONCE | MULTISHOT, Some(unread)) = (waits, self.unread.get_mut(&slot)) else { return true };
        let token = Token::new(Kind::Recv, generation, slot);
        let Some(sent) = unread.front().copied() else { return true };
        let completion = match sent {
            Sent::Fin => Completion { token, result: 0, more: false, payload: Payload::None },
            Sent::Message(number) => {
                let Some((buffer, left)) = self.buffers.front_mut() else { return false };
                *left -= MESSAGE as u32;
                let (buffer, keeps_rest) = (*buffer, *left >= MESSAGE as u32);
                if !keeps_rest {
                    self.buffers.pop_front();
                }
                pool.fill(buffer, &self.message(slot, number));
                let payload = Payload::Data(pool.received(buffer, MESSAGE as u32, keeps_rest));
                Completion { token, result: MESSAGE as i32, more: waits == MULTISHOT, payload }
            }
        };
        if let Some(unread) = self.unread.get_mut(&slot) {
            unread.pop_front();
            if unread.is_empty() {
                self.unread.remove(&slot);
            } else {
                self.due.push_back(slot);
            }
        }
        if !completion.more {
            self.table[slot as usize] = packed(generation, NOTHING);
        }
        self.ready.push_back(completion);
        true
    }
}

impl Driver for MassDriver {
    type Listener = ();
    type Datagram = ();

    fn now(&self) -> Time {
        self.now
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn slots(&self) -> u32 {
        self.table.len() as u32
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NoWake)
    }

    fn adopt_listener(&mut self, (): ()) -> io::Result<u32> {
        Ok(0)
    }

    fn close_listener(&mut self, _: u32) {
        assert!(self.accepting.is_none(), "a listener was closed with an accept in flight");
    }

    fn accept(&mut self, _: u32, token: Token, _: Accept) {
        self.accepting = Some(token);
    }

    fn peer(&mut self, slot: u32, token: Token) {
        self.ready.push_back(Completion { token, result: 16, more: false, payload: Payload::Peer(slot) });
    }

    fn take_peer(&mut self, slot: u32) -> Option<SocketAddr> {
        // Every connection has an address of its own.
        let [high, middle, low, lowest] = (u32::from(self.shard.0) << 20 | slot).to_be_bytes();
        Some(SocketAddr::from(([11 + high, middle, low, lowest], 1024)))
    }

    fn pass(&mut self, _: u32, _: ShardId, _: Token, token: Token) {
        self.done(token, -libc::ENFILE);
    }

    fn dial(&mut self, _: &Dial, token: Token) {
        self.done(token, -libc::ECONNREFUSED);
    }

    fn poll_readable(&mut self, slot: u32, token: Token) {
        self.wait_for(slot, token, POLL);
    }

    fn poll_hangup(&mut self, slot: u32, token: Token) {
        self.wait_for(slot, token, WATCH);
    }

    fn recv_once(&mut self, slot: u32, token: Token, _: First) {
        self.wait_for(slot, token, ONCE);
    }

    fn recv_multishot(&mut self, slot: u32, token: Token, _: u32, _: First) {
        self.wait_for(slot, token, MULTISHOT);
    }

    fn send(&mut self, slot: u32, token: Token, chain: &SendChain) {
        let chain = LentChain::new(chain);
        let bytes = chain.read(0, chain.total());
        let mut awaited = self.awaited.remove(&slot).unwrap_or_default();
        for answer in bytes.chunks(MESSAGE) {
            let number = awaited.pop_front().expect("an answer that nobody waits for");
            assert!(answer == self.message(slot, number), "a wrong answer on slot {slot} of shard {}", self.shard);
            self.answered += 1;
        }
        if !awaited.is_empty() {
            self.awaited.insert(slot, awaited);
        }
        self.done(token, bytes.len() as i32);
    }

    fn shutdown_write(&mut self, _: u32, token: Token) {
        self.done(token, 0);
    }

    fn reset_on_close(&mut self, _: u32) {}

    fn close(&mut self, slot: u32, token: Token) {
        let waits = self.table[slot as usize] >> 28;
        assert_eq!(waits, NOTHING, "slot {slot} was closed with a receive in flight");
        assert!(!self.awaited.contains_key(&slot), "slot {slot} was closed with an answer missing");
        self.unread.remove(&slot);
        self.table[slot as usize] = FREE;
        self.vacant.push(slot);
        self.closes += 1;
        self.done(token, 0);
    }

    fn cancel(&mut self, target: Token, token: Token) {
        let slot = target.slot();
        let accept = target.kind() == Kind::Accept && self.accepting.take_if(|accept| *accept == target).is_some();
        let waits = match target.kind() {
            Kind::Poll => [POLL, POLL],
            Kind::Watch => [WATCH, WATCH],
            Kind::Recv => [ONCE, MULTISHOT],
            _ => [NOTHING; 2],
        };
        let in_table =
            |entry: u32| waits.iter().any(|waits| *waits > 0 && entry == packed(target.generation(), *waits));
        let found = self.table.get(slot as usize).is_some_and(|entry| in_table(*entry));
        if found {
            self.table[slot as usize] = packed(target.generation(), NOTHING);
        }
        if accept || found {
            self.done(target, -libc::ECANCELED);
        }
        self.done(token, if accept || found { 0 } else { -libc::ENOENT });
    }

    fn adopt_datagram(&mut self, (): ()) -> io::Result<u32> {
        Ok(0)
    }

    fn datagram_recv(&mut self, _: u32, _: Token) {}

    fn datagram(&self, _: u32) -> (SocketAddr, &[u8], bool) {
        (SocketAddr::from(([127, 0, 0, 1], 9)), &[], false)
    }

    fn datagram_send(&mut self, _: u32, _: Token, _: SocketAddr, _: &[u8]) -> bool {
        false
    }

    fn provide_buffers(&mut self, pool: &mut Pool) {
        while let Some(buffer) = pool.take_free() {
            self.buffers.push_back((buffer.bid, buffer.len));
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let quiet = self.ready.is_empty() && self.due.is_empty() && self.connecting == 0;
        self.now = self.now
            + match wait {
                Wait::For(most) | Wait::Batch { most, .. } if quiet => most.max(TICK_TAKES),
                _ => TICK_TAKES,
            };
        Ok(())
    }

    fn reap(&mut self, pool: &mut Pool, out: &mut Vec<Completion>, most: usize) {
        while let Some(slot) = self.due.pop_front() {
            if !self.deliver(slot, pool) {
                self.due.push_front(slot);
                break;
            }
            if self.ready.len() >= most {
                break;
            }
        }
        let count = self.ready.len().min(most);
        out.extend(self.ready.drain(..count));
        while let Some(token) = self.accepting
            && self.connecting > 0
            && out.len() < most
        {
            let slot = self.vacant.pop().expect("connections that fit");
            self.connecting -= 1;
            self.accepts += 1;
            self.table[slot as usize] = packed(0, NOTHING);
            out.push(Completion { token, result: slot as i32, more: true, payload: Payload::None });
        }
        self.completed += out.len() as u64;
    }

    fn counts(&self) -> DriverCounts {
        DriverCounts::default()
    }
}
