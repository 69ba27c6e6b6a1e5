//! A shard: one thread's share of the connections, and the tick that drives them.
//!
//! [`Shard::tick`] is the whole loop; threads and the simulator call nothing else. Its parts have files of their
//! own: `accept` (new connections), `receive`, `send`, `deadlines`, `spread`, `teardown`, `dial`, `datagram`, `control`.
//! Invariant: callbacks into handlers run only between reaping and flushing, never while completions are
//! being taken from the ring, and only the flush pushes operations for connections.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use slab::Slab;

use crate::accept::{Arrival, Listener};
use crate::budget::Budget;
use crate::buffer::{Chunks, Pool};
use crate::builder::{ShardParts, ShardSeat};
use crate::close_reason::CloseReason;
use crate::conn::{Conn, Receive, State, flag};
use crate::control::{Control, Finished};
use crate::core::{Core, DatagramsOut};
use crate::dial::Dialing;
use crate::driver::{Completion, Driver, Wait};
use crate::endpoint::Endpoint;
use crate::handoff::inbox::{Doorbell, Inbox};
use crate::handoff::mailbox;
use crate::host::HostRun;
use crate::id::EndpointId;
use crate::limits;
use crate::port::PortRun;
use crate::receive::Armed;
use crate::stats::ConnState;
use crate::time::Time;
use crate::timer::Wheel;
use crate::timer_word::TimerWord;
use crate::token::{Kind, Token};
use crate::trace::{Phase, Recorder};

/// One shard on one driver. The driver is declared, and so dropped, before the pool its kernel writes into.
pub(crate) struct Shard<D: Driver> {
    pub(crate) driver: D,
    pub(crate) pool: Pool,
    pub(crate) core: Core,
    pub(crate) endpoints: Vec<Box<dyn Endpoint>>,
    /// Doors to services, by the service's number.
    pub(crate) ports: Vec<Option<Box<dyn PortRun>>>,
    /// Services that run here, and their number.
    pub(crate) hosts: Vec<(usize, Box<dyn HostRun>)>,
    pub(crate) inbox: Inbox,
    pub(crate) bell: Doorbell,
    pub(crate) mail: mailbox::Receiver<Control>,
    pub(crate) lane_capacity: usize,
    /// Receive buffers that may be with the driver at once.
    pub(crate) most_lent: u16,
    /// How long a busy shard waits for a fuller batch.
    linger: Duration,
    pub(crate) listeners: Slab<Listener>,
    /// What was accepted and waits for its turn. Each has its slot, so there are no more than of those.
    pub(crate) arrivals: VecDeque<Arrival>,
    /// Which shard got the last connection that was accepted for all.
    pub(crate) next_shard: usize,
    /// Datagram sockets: the driver's number is the index, the value their endpoint.
    pub(crate) sockets: Vec<EndpointId>,
    pub(crate) dialing: Slab<Dialing>,
    pub(crate) armed: Armed,
    pub(crate) batch: Vec<Completion>,
    /// Answers that were rung for: numbers of ports.
    pub(crate) rung: Vec<usize>,
    /// The timer that is being fired.
    pub(crate) due: Vec<TimerWord>,
    /// Something is left to do at once: the next tick must not sleep.
    pub(crate) more: bool,
    /// Completions of the last tick.
    reaped: usize,
    /// When the last tick ended.
    ended: Time,
    recorder: Recorder,
    pub(crate) drain: Drain,
    /// The drain's deadline has passed: nobody is waited for.
    pub(crate) overdue: bool,
    pub(crate) finished: Finished,
    /// The services here have been stepped since all shards were finished.
    pub(crate) heard_all: bool,
    pub(crate) stopped: bool,
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// None was asked for.
    No,
    /// No more accepts; services say good-bye.
    Services,
    /// Connections say good-bye.
    Conns,
}

/// Lanes of a shard's inbox: first the answers of each service, then the inputs of the services that run here.
pub(crate) fn host_lane(service: usize, shards: usize, shard: usize) -> usize {
    limits::SERVICES + service * shards + shard
}

impl<D: Driver> Shard<D> {
    /// Puts a shard together on the thread that will run it.
    pub(crate) fn new(parts: ShardParts, mut driver: D) -> io::Result<Shard<D>> {
        let ShardParts { shard, seat, endpoints, hosts, pool, handle, .. } = parts;
        let ShardSeat { inbox, bell, mail, wake, stats, timeline } = seat;
        wake.set(driver.waker());
        let mut pool = Pool::new(pool)?;
        pool.lend_at_most(limits::FIRST_LENT);
        driver.provide_buffers(&mut pool);
        // Where each receive takes a whole buffer, bytes say nothing of how many that are.
        let most_lent = match driver.caps().incremental_buffers {
            true => u16::try_from(limits::LENT_BYTES / pool.buffer_size()).unwrap_or(u16::MAX).max(limits::FIRST_LENT),
            false => pool.buffers(),
        };
        let finished = Finished::new(handle.clone());
        let core = Core {
            shard,
            now: Time::ZERO,
            now_ms: 0,
            conns: Vec::new(),
            endpoints: Vec::new(),
            timers: Wheel::new(),
            dirty: Vec::new(),
            resume: VecDeque::new(),
            dials: VecDeque::new(),
            dialing: 0,
            most_dials: parts.most_dials,
            draining: false,
            datagrams: DatagramsOut::default(),
            chunks: Chunks::new(limits::SPARE_CHUNKS),
            spare_queues: Vec::new(),
            budget: Budget::new(parts.shard_budget, parts.engine_budget),
            admission: parts.admission,
            stats,
            live: 0,
            dial_generation: 0,
            handle,
        };
        let mut shard = Shard {
            driver,
            pool,
            core,
            endpoints: Vec::new(),
            ports: Vec::new(),
            hosts,
            inbox,
            bell,
            mail,
            lane_capacity: parts.lane_capacity,
            most_lent,
            linger: parts.linger,
            listeners: Slab::new(),
            arrivals: VecDeque::new(),
            next_shard: usize::from(shard.0),
            sockets: Vec::new(),
            dialing: Slab::new(),
            armed: Armed::default(),
            batch: Vec::with_capacity(limits::BATCH),
            rung: Vec::new(),
            due: Vec::with_capacity(1),
            more: true,
            reaped: 0,
            ended: Time::ZERO,
            recorder: Recorder::new(timeline),
            drain: Drain::No,
            overdue: false,
            finished,
            heard_all: false,
            stopped: false,
        };
        for (spec, socket) in endpoints {
            shard.add_endpoint(&spec, socket);
        }
        Ok(shard)
    }

    /// One turn: wait, take what came, answer, show it. `false` when the shard has stopped.
    pub(crate) fn tick(&mut self) -> io::Result<bool> {
        self.wait()?;
        let began = self.begin();
        self.reap();
        self.end_of(Phase::Reap);
        self.dispatch();
        self.take_arrivals();
        self.end_of(Phase::Dispatch);
        self.take_answers();
        self.end_of(Phase::Service);
        self.fire_timers();
        self.resume();
        self.end_of(Phase::Resume);
        self.flush();
        self.publish(began);
        Ok(!self.stopped)
    }

    /// Submits what the last flush pushed and waits for the next thing to do.
    fn wait(&mut self) -> io::Result<()> {
        if self.more {
            return self.driver.enter(Wait::No);
        }
        let wait = self.how_long();
        let Shard { inbox, mail, ports, hosts, driver, .. } = self;
        match inbox.try_sleep(|| is_idle(mail, ports, hosts)) {
            Some(_nap) => driver.enter(wait),
            None => driver.enter(Wait::No),
        }
    }

    /// Sleeps until somebody wakes it, the simulator's way; `false` when there is work after all.
    #[cfg(feature = "sim")]
    pub(crate) fn doze(&mut self) -> bool {
        let Shard { inbox, mail, ports, hosts, .. } = self;
        inbox.doze(|| is_idle(mail, ports, hosts))
    }

    /// A busy shard may linger for a fuller batch.
    fn how_long(&self) -> Wait {
        let most = self.longest_sleep();
        match self.reaped >= limits::BUSY_BATCH && !self.linger.is_zero() && most > self.linger {
            true => Wait::Batch { want: self.reaped as u32, min_wait: self.linger, most },
            false => Wait::For(most),
        }
    }

    fn longest_sleep(&self) -> Duration {
        let mut next = self.armed.next_look(self.ended);
        next = next.min(self.core.timers.next_deadline().unwrap_or(Time::NEVER));
        for (_, host) in &self.hosts {
            next = next.min(host.next_deadline().unwrap_or(Time::NEVER));
        }
        next.since(self.ended).min(limits::LONGEST_SLEEP)
    }

    fn begin(&mut self) -> Time {
        self.core.set_now(self.driver.now());
        self.core.stats.begin_tick(self.core.now);
        self.recorder.begin(self.ended, self.core.now);
        self.pool.set_current();
        self.more = false;
        self.core.now
    }

    /// Notes in the timeline that a phase is over, while somebody looks at it.
    #[inline]
    fn end_of(&mut self, phase: Phase) {
        if self.recorder.has_phases() {
            self.recorder.mark(phase, self.driver.now());
        }
    }

    /// Collects completions first; callbacks run after.
    fn reap(&mut self) {
        self.driver.reap(&mut self.pool, &mut self.batch, limits::BATCH);
        self.reaped = self.batch.len();
        self.more |= self.reaped >= limits::BATCH;
        self.core.stats.completions.add(self.batch.len() as u64);
    }

    fn dispatch(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        for completion in &batch {
            let slot = completion.token.slot();
            match completion.token.kind() {
                Kind::Recv => {
                    self.check_owner(completion.token);
                    self.received(slot, completion);
                }
                Kind::Send => {
                    self.check_owner(completion.token);
                    self.sent(slot, completion.result);
                }
                kind => self.dispatch_rare(kind, slot, *completion),
            }
        }
        batch.clear();
        self.batch = batch;
    }

    /// Teardown frees no slot with operations in flight, so a late completion is a bug of the engine.
    #[inline]
    fn check_owner(&self, token: Token) {
        let current = self.core.conns[token.slot() as usize].generation;
        assert!(current == token.generation(), "a completion outlived its connection");
    }

    /// What comes seldom, apart, so that it takes no registers from what comes with every message.
    #[inline(never)]
    fn dispatch_rare(&mut self, kind: Kind, slot: u32, completion: Completion) {
        match kind {
            Kind::Accept => self.accepted(slot, &completion),
            Kind::Dial => self.dialled(slot, completion),
            Kind::DatagramRecv => self.datagram_received(slot, completion),
            Kind::DatagramSend | Kind::Driver => {}
            Kind::Passed => self.take_passed(EndpointId(slot as u16), completion.result as u32),
            kind => {
                self.check_owner(completion.token);
                self.dispatch_conn(kind, slot, completion);
            }
        }
    }

    /// The other completions that belong to one connection.
    fn dispatch_conn(&mut self, kind: Kind, slot: u32, completion: Completion) {
        match kind {
            Kind::Poll => self.readable(slot, completion.result),
            Kind::Watch => self.hung_up(slot, completion.result),
            Kind::Peer => self.peer_fetched(slot, completion),
            Kind::Shutdown => {
                self.core.conn(slot).clear(flag::CONTROL);
                self.core.mark(slot);
            }
            Kind::Pass => self.passed(slot, completion.token.aux(), completion.result),
            Kind::Cancel => self.cancelled(slot, completion.token.aux()),
            Kind::Close => self.close_completed(slot),
            _ => unreachable!("dispatch names the others"),
        }
    }

    /// Runs the services that live here, and takes the answers of all.
    fn take_answers(&mut self) {
        if !self.hosts.is_empty() {
            // What this tick's handlers sent is for this tick's services.
            self.publish_ports();
        }
        self.read_inbox();
        self.read_mail();
        for (_, host) in &mut self.hosts {
            self.more |= host.step(self.core.now);
        }
        if !self.hosts.is_empty() {
            self.read_inbox();
        }
        let mut rung = std::mem::take(&mut self.rung);
        for number in rung.drain(..) {
            if let Some(port) = &self.ports[number]
                && port.pump(&mut self.core, &mut self.endpoints)
            {
                self.rung.push(number);
                self.more = true;
            }
        }
        rung.append(&mut self.rung);
        self.rung = rung;
        self.drain_step();
    }

    /// Notes which lanes were rung for.
    fn read_inbox(&mut self) {
        let shards = self.core.handle.shards();
        for lane in self.inbox.drain() {
            match lane.checked_sub(limits::SERVICES) {
                None if !self.rung.contains(&lane) => self.rung.push(lane),
                None => {}
                Some(hosted) => {
                    let host = self.hosts.iter_mut().find(|(number, _)| *number == hosted / shards);
                    if let Some((_, host)) = host {
                        host.rung(hosted % shards);
                    }
                }
            }
        }
    }

    fn publish_ports(&mut self) {
        let Shard { ports, core, pool, .. } = self;
        for port in ports.iter().flatten() {
            port.publish(core, pool);
        }
    }

    /// Offers unread bytes again to connections that may read again.
    fn resume(&mut self) {
        for _ in 0..limits::RESUMES_PER_TICK {
            let Some(slot) = self.core.resume.pop_front() else { return };
            self.core.conn(slot).clear(flag::RESUME);
            self.offer_again(slot);
        }
        self.more |= !self.core.resume.is_empty();
    }

    /// Turns the marks that callbacks left into operations.
    fn flush(&mut self) {
        self.pay_budget();
        self.start_dials();
        self.flush_datagrams();
        self.park_quiet();
        self.watch_held();
        // Settling may mark others (an upgrade's new handler sends elsewhere), so this is no iterator. What a large
        // fan-out marks beyond the bound waits for the next tick: more operations would overflow their completions.
        let mut at = 0;
        while let Some(&slot) = self.core.dirty.get(at)
            && at < limits::SETTLES_PER_TICK
        {
            self.settle(slot);
            at += 1;
        }
        self.core.dirty.drain(..at);
    }

    /// Brings one connection's operations in line with what it wants.
    fn settle(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        conn.clear(flag::DIRTY);
        match conn.state {
            State::Vacant => {}
            State::Opening | State::Open if conn.why.is_some() => self.begin_teardown(slot),
            State::Opening | State::Open => {
                if conn.extra.is_some() {
                    self.upgrade(slot);
                }
                self.pump_send(slot);
                self.arm_receive(slot);
                self.end_finished(slot);
            }
            _ => self.advance_teardown(slot),
        }
    }

    /// Both sides have sent FIN: nothing can happen on the connection any more.
    fn end_finished(&mut self, slot: u32) {
        let conn = self.core.conn(slot);
        let finished = conn.has(flag::READ_CLOSED_TOLD) && conn.has(flag::SHUT_SENT);
        if finished && !conn.has(flag::SENDING | flag::CONTROL) {
            self.core.close(slot, CloseReason::PeerClosed);
        }
    }

    /// Publishes lanes, buffers and stats, once per tick.
    fn publish(&mut self, began: Time) {
        self.publish_ports();
        self.relieve_pool();
        self.pool.clear_current();
        self.pool.collect_returns();
        self.pool.lend_more_if_short(self.most_lent);
        self.feed_starved();
        self.driver.provide_buffers(&mut self.pool);
        // Settling (an upgrade, say) may have left work that belongs before the flush.
        let Core { dirty, resume, dials, .. } = &self.core;
        self.more |= !(dirty.is_empty() && resume.is_empty() && dials.is_empty());
        self.publish_stats();
        self.ended = self.driver.now();
        self.core.stats.end_tick(began, self.ended);
        self.recorder.end(self.ended, self.driver.counts(), self.reaped);
    }

    fn publish_stats(&mut self) {
        let Shard { driver, pool, core, ports, arrivals, .. } = self;
        let stats = &core.stats;
        let counts = driver.counts();
        stats.slots.set(u64::from(driver.slots()));
        stats.arrivals.set(arrivals.len() as u64);
        stats.enters.set(counts.enters);
        stats.submissions.set(counts.submissions);
        stats.completion_overflows.set(counts.overflows);
        stats.submissions_crowded.set(counts.crowded);
        let held = pool.held_bytes() / u64::from(pool.buffer_size());
        stats.buffers_free.set(u64::from(pool.buffers()) - held);
        stats.held_frame_bytes.set(pool.held_bytes());
        let mut total = crate::port::PortFacts::default();
        for port in ports.iter().flatten() {
            total.add(port.facts());
        }
        stats.handoff_occupancy.set(total.occupancy as u64);
        stats.lifecycle_waiting.set(total.lifecycle_waiting as u64);
        stats.permits_refused.set(total.permits_refused);
        stats.frames_in.set(total.frames);
        stats.wakes_sent.set(total.wakes.sent);
        stats.wakes_suppressed.set(total.wakes.suppressed);
    }

    /// Makes sure that the table has this slot.
    pub(crate) fn grow(&mut self, slot: u32) {
        let needed = slot as usize + 1;
        if self.core.conns.len() < needed {
            self.core.conns.resize_with(needed, Conn::vacant);
        }
    }

    /// Calls into the handler of a connection; an `Err` closes it.
    pub(crate) fn call(
        &mut self,
        slot: u32,
        act: impl FnOnce(&mut dyn Endpoint, &mut Core) -> Result<(), CloseReason>,
    ) {
        let EndpointId(endpoint) = self.core.conn(slot).endpoint;
        if let Err(why) = act(&mut *self.endpoints[usize::from(endpoint)], &mut self.core) {
            self.core.close(slot, why);
        }
    }
}

/// The last look before sleeping: nothing waits.
fn is_idle(
    mail: &mailbox::Receiver<Control>,
    ports: &[Option<Box<dyn PortRun>>],
    hosts: &mut [(usize, Box<dyn HostRun>)],
) -> bool {
    mail.is_empty()
        && ports.iter().flatten().all(|port| port.is_idle())
        && hosts.iter_mut().all(|(_, host)| host.is_idle())
}

impl Core {
    /// The kernel is gone, with the chains it was sending.
    #[cfg(feature = "sim")]
    pub(crate) fn forget_sends(&mut self) {
        let queues = self.conns.iter_mut().filter_map(|conn| conn.send.as_mut());
        for queue in queues.filter(|queue| queue.in_flight()) {
            queue.complete(0, &mut self.chunks);
        }
    }

    /// Changes what a connection is doing, and counts it among its likes.
    pub(crate) fn turn(&mut self, slot: u32, change: impl FnOnce(&mut Conn)) {
        let conn = &mut self.conns[slot as usize];
        let before = class(conn);
        change(conn);
        let after = class(conn);
        if before != after {
            if let Some(before) = before {
                self.stats.connections.of(before).sub(1);
            }
            if let Some(after) = after {
                self.stats.connections.of(after).add(1);
            }
        }
    }
}

/// A connection's state as the stats show it.
pub(crate) fn class(conn: &Conn) -> Option<ConnState> {
    match (conn.state, conn.receive) {
        (State::Vacant, _) => None,
        (State::Opening, _) => Some(ConnState::Opening),
        (State::Open, Receive::Parked) => Some(ConnState::Parked),
        (State::Open, Receive::Armed) => Some(ConnState::Armed),
        (State::Open, _) => Some(ConnState::Open),
        _ => Some(ConnState::Closing),
    }
}
