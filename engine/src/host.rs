//! A service's host: the lanes to its shards, its timers, its restarts. Stepped by a thread ([`run`]),
//! by the shard it is placed on, or by the simulator; it never sleeps or asks a clock itself.
//!
//! Invariants: a service's answers are never dropped. Where a shard's lane is full they spill here, and while anything
//! is spilled no input is taken, so the spill holds at most what one callback sent. Mail (events
//! published by others) is bounded by its mailbox. A service that panics too often is not made again: its host goes on
//! without it, so that the lanes keep moving while the engine drains.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crossbeam_utils::sync::Parker;

use crate::buffer::{ReturnLane, flush_returns};
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::handoff::inbox::{Doorbell, Inbox};
use crate::handoff::lane::{Consumer, Producer};
use crate::handoff::mailbox;
use crate::id::{ConnId, ShardId, TimerKey};
use crate::limits;
use crate::listing::ServiceFacts;
use crate::port::{FromService, Inbound, ToService};
use crate::service::{Input, Published, Service, ServiceCx, ServiceTimers, Subscriptions};
use crate::storage::Storage;
use crate::time::Time;

/// What reaches a service besides its lanes.
pub(crate) enum HostMail<S: Service> {
    /// A shard made its lanes.
    Attach(ShardId, Box<ShardLane<S>>),
    Event(Published),
    Drain,
    Stop,
}

/// The service's ends of the lanes to one shard.
pub(crate) struct ShardLane<S: Service> {
    pub(crate) inputs: Consumer<Inbound<S>>,
    pub(crate) replies: Producer<FromService<S::Out>>,
    pub(crate) bell: Doorbell,
    /// The number under which this service rings that shard.
    pub(crate) number: usize,
    /// The way back for received frames that the service drops.
    pub(crate) returns: ReturnLane,
}

/// A service's answers on their way out.
pub(crate) struct Outbox<O> {
    shards: Vec<OutLane<O>>,
    /// Answers in all spills.
    spilled: usize,
    /// Events for shards that never sent anything: nobody is there.
    gone: VecDeque<(ConnId, O)>,
    /// The service says by itself when it has said its good-byes.
    drains_later: bool,
    drained: bool,
}

struct OutLane<O> {
    link: Option<(Producer<FromService<O>>, Doorbell, usize)>,
    spill: VecDeque<FromService<O>>,
    /// Of each slot the generation that the service has heard to be open, or [`NOBODY`].
    open: Vec<u32>,
}

/// A generation that no connection has.
const NOBODY: u32 = u32::MAX;

impl<O: Send> Outbox<O> {
    fn new(shards: usize) -> Outbox<O> {
        let lane = || OutLane { link: None, spill: VecDeque::new(), open: Vec::new() };
        Outbox {
            shards: (0..shards).map(|_| lane()).collect(),
            spilled: 0,
            gone: VecDeque::new(),
            drains_later: false,
            drained: false,
        }
    }

    #[inline]
    pub(crate) fn send(&mut self, conn: ConnId, event: O) {
        self.push(conn.shard(), FromService::Event(conn, event));
    }

    pub(crate) fn close(&mut self, conn: ConnId, why: CloseReason) {
        self.push(conn.shard(), FromService::Close(conn, why));
    }

    /// Whether the service has heard that a connection is open, and not that it closed.
    pub(crate) fn knows(&self, conn: ConnId) -> bool {
        let lane = self.shards.get(usize::from(conn.shard().0));
        lane.and_then(|lane| lane.open.get(conn.slot() as usize)) == Some(&conn.generation())
    }

    /// Takes note of what the service hears.
    fn hear<E>(&mut self, shard: usize, conn: ConnId, input: &Input<E>) {
        let open = &mut self.shards[shard].open;
        let slot = conn.slot() as usize;
        match input {
            Input::Open(_) => {
                if open.len() <= slot {
                    open.resize(slot + 1, NOBODY);
                }
                open[slot] = conn.generation();
            }
            Input::Close(_) => {
                if let Some(open) = open.get_mut(slot).filter(|open| **open == conn.generation()) {
                    *open = NOBODY;
                }
            }
            Input::Frame(_) => {}
        }
    }

    /// Has the shards wait for [`Outbox::drained`]: the good-byes are not said when `on_drain` returns.
    #[cfg(feature = "tokio-uring")]
    pub(crate) fn drain_later(&mut self) {
        self.drains_later = true;
    }

    /// All good-byes are said.
    pub(crate) fn drained(&mut self) {
        if !std::mem::replace(&mut self.drained, true) {
            for shard in 0..self.shards.len() {
                if self.shards[shard].link.is_some() {
                    self.push(ShardId(shard as u16), FromService::Drained);
                }
            }
        }
    }

    /// Whether some shard's lane is full.
    #[cfg(feature = "tokio-uring")]
    pub(crate) fn is_spilling(&self) -> bool {
        self.spilled > 0
    }

    #[inline]
    fn push(&mut self, shard: ShardId, answer: FromService<O>) {
        let lane = self.shards.get_mut(usize::from(shard.0));
        let Some(OutLane { link: Some((replies, ..)), spill, .. }) = lane else {
            if let FromService::Event(conn, event) = answer {
                self.gone.push_back((conn, event));
            }
            return;
        };
        let refused = if spill.is_empty() { replies.push(answer).err() } else { Some(answer) };
        #[cfg(feature = "planted")]
        let refused = refused.filter(|_| !crate::planted::is(crate::planted::Bug::HandoffDrop));
        if let Some(answer) = refused {
            spill.push_back(answer);
            self.spilled += 1;
        }
    }

    /// Moves what is spilled into its lane, as far as there is room.
    fn flush_spill(&mut self) {
        for OutLane { link, spill, .. } in &mut self.shards {
            let Some((replies, ..)) = link else { continue };
            if replies.is_abandoned() {
                // That shard has stopped; the others go on.
                self.spilled -= spill.len();
                spill.clear();
            }
            while let Some(answer) = spill.pop_front() {
                if let Err(answer) = replies.push(answer) {
                    spill.push_front(answer);
                    break;
                }
                self.spilled -= 1;
            }
        }
    }

    /// Shows the answers to their shards.
    fn publish(&mut self) {
        for OutLane { link, .. } in &mut self.shards {
            let Some((replies, bell, number)) = link else { continue };
            if replies.publish() {
                let _ = bell.ring(*number);
            }
        }
    }
}

/// A service without its types, for whoever steps it.
pub(crate) trait HostRun: Send {
    /// Says that the lane of this shard rang.
    fn rung(&mut self, shard: usize);
    /// Does what is to be done at `now`; `true` if there is more to do at once.
    fn step(&mut self, now: Time) -> bool;
    /// When to step again even if nothing rings.
    fn next_deadline(&self) -> Option<Time>;
    /// The last look before sleeping, after the sleep was announced: nothing waits.
    fn is_idle(&mut self) -> bool;
    /// Has the next step end a batch even if nothing came in: the service may have something to send.
    #[cfg(feature = "tokio-uring")]
    fn poke(&mut self);
    /// Takes no inputs from now on, or takes them again.
    #[cfg(feature = "tokio-uring")]
    fn hold(&mut self, hold: bool);
    /// The service failed outside of a step.
    #[cfg(feature = "tokio-uring")]
    fn failed(&mut self, now: Time);
    /// No more operations on files are taken; whether all that were have completed.
    fn end_storage(&mut self) -> bool;
    /// The service was told to stop, and has.
    fn is_stopped(&self) -> bool;
}

/// One service and everything it needs to be stepped.
pub(crate) struct Host<S: Service> {
    facts: Arc<ServiceFacts>,
    service: S,
    factory: Box<dyn FnMut() -> S + Send>,
    subscriptions: Subscriptions<S>,
    mail: mailbox::Receiver<HostMail<S>>,
    inputs: Vec<Option<InLane<S>>>,
    /// Shards whose lanes are to be looked at.
    rung: Vec<usize>,
    outbox: Outbox<S::Out>,
    timers: ServiceTimers,
    storage: Storage,
    due: Vec<TimerKey>,
    engine: Handle,
    /// Times of the latest restarts.
    restarts: VecDeque<Time>,
    started: bool,
    poked: bool,
    held: bool,
    draining: bool,
    /// It panicked too often: it is not called any more.
    given_up: bool,
    /// It was told to stop, and will when it has taken what its lanes hold.
    stopping: bool,
    stopped: bool,
}

struct InLane<S: Service> {
    inputs: Consumer<Inbound<S>>,
    bell: Doorbell,
    number: usize,
    rung: bool,
    /// Inputs that a service of before a restart was meant to get are dropped.
    forgetting: bool,
}

impl<S: Service> Host<S> {
    pub(crate) fn new(
        facts: Arc<ServiceFacts>,
        mut factory: Box<dyn FnMut() -> S + Send>,
        subscriptions: Subscriptions<S>,
        mail: mailbox::Receiver<HostMail<S>>,
        shards: usize,
        storage: Storage,
        engine: Handle,
    ) -> Host<S> {
        Host {
            facts,
            service: factory(),
            factory,
            subscriptions,
            mail,
            inputs: (0..shards).map(|_| None).collect(),
            rung: Vec::new(),
            outbox: Outbox::new(shards),
            timers: ServiceTimers::default(),
            storage,
            due: Vec::new(),
            engine,
            restarts: VecDeque::new(),
            started: false,
            poked: false,
            held: false,
            draining: false,
            given_up: false,
            stopping: false,
            stopped: false,
        }
    }

    fn cx<'a>(
        now: Time,
        outbox: &'a mut Outbox<S::Out>,
        timers: &'a mut ServiceTimers,
        storage: &'a mut Storage,
        engine: &'a Handle,
    ) -> ServiceCx<'a, S> {
        ServiceCx { now, outbox, timers, storage, engine }
    }

    /// Everything that may call the service, in the order of a step.
    fn work(&mut self, now: Time) -> bool {
        let mut called = std::mem::take(&mut self.poked);
        if !self.started && !self.given_up {
            self.started = true;
            called = true;
            let Host { service, outbox, timers, storage, engine, .. } = self;
            service.on_start(&mut Self::cx(now, outbox, timers, storage, engine));
            if self.draining {
                // Made anew during a drain.
                service.on_drain(&mut Self::cx(now, outbox, timers, storage, engine));
            }
        }
        called |= self.read_mail(now);
        self.outbox.flush_spill();
        called |= self.take_stored(now);
        let (took, more) = self.take_inputs(now);
        called |= took;
        called |= self.fire_timers(now);
        self.give_back(now);
        if called && !self.given_up {
            let Host { service, outbox, timers, storage, engine, .. } = self;
            service.on_batch_end(&mut Self::cx(now, outbox, timers, storage, engine));
        }
        more || !self.outbox.gone.is_empty() || self.storage_calls()
    }

    /// Gives back what was sent to shards where nobody is. What the service sends meanwhile comes back in the next step.
    fn give_back(&mut self, now: Time) {
        for _ in 0..self.outbox.gone.len() {
            let Some((conn, event)) = self.outbox.gone.pop_front() else { return };
            let Host { service, outbox, timers, storage, engine, given_up, .. } = self;
            if !*given_up {
                service.on_gone(&mut Self::cx(now, outbox, timers, storage, engine), conn, event);
            }
        }
    }

    fn read_mail(&mut self, now: Time) -> bool {
        let mut called = false;
        for _ in 0..limits::CONTROLS_PER_TICK {
            let Some(mail) = self.mail.receive() else { break };
            let Host { service, outbox, timers, storage, engine, .. } = self;
            let mut cx = Self::cx(now, outbox, timers, storage, engine);
            match mail {
                HostMail::Attach(shard, lane) => self.attach(usize::from(shard.0), *lane),
                HostMail::Event(event) => {
                    if !self.given_up
                        && let Some(deliver) = self.subscriptions.find(&*event)
                    {
                        deliver(service, &mut cx, &*event);
                        called = true;
                    }
                }
                HostMail::Drain => {
                    self.draining = true;
                    if !self.given_up {
                        service.on_drain(&mut cx);
                    }
                    if !self.outbox.drains_later {
                        self.outbox.drained();
                    }
                    called = true;
                }
                HostMail::Stop => {
                    // The shards are gone. What they sent before is still heard.
                    self.stopping = true;
                    (0..self.inputs.len()).for_each(|shard| self.rung(shard));
                }
            }
        }
        called
    }

    /// It goes on at once, whatever is spilled: nobody is left to read that. Only its files it waits for.
    fn is_stopping(&self) -> bool {
        let waits_for_files = self.rung.is_empty() && self.storage.in_flight() > 0;
        self.stopping && !self.stopped && !waits_for_files
    }

    /// Completions wait, and may be taken: what the service answers to them has room.
    fn storage_calls(&self) -> bool {
        !self.storage.is_quiet() && self.outbox.spilled == 0
    }

    /// Tells the service what became of its files.
    fn take_stored(&mut self, now: Time) -> bool {
        let mut took = false;
        for _ in 0..limits::STORED_PER_STEP {
            if self.outbox.spilled > 0 {
                break;
            }
            let Some((key, result)) = self.storage.take() else { break };
            let Host { service, outbox, timers, storage, engine, given_up, .. } = self;
            if !*given_up {
                service.on_stored(&mut Self::cx(now, outbox, timers, storage, engine), key, result);
                took = true;
            }
        }
        took
    }

    fn attach(&mut self, shard: usize, lane: ShardLane<S>) {
        let ShardLane { inputs, replies, bell, number, returns } = lane;
        returns.register();
        self.outbox.shards[shard].link = Some((replies, bell.clone(), number));
        self.inputs[shard] = Some(InLane { inputs, bell, number, rung: false, forgetting: false });
        if self.outbox.drained {
            self.outbox.push(ShardId(shard as u16), FromService::Drained);
        }
        // Its bell may have rung before it was here.
        self.rung(shard);
    }

    /// Takes inputs, fairly over the shards; says whether there were any and whether there are more.
    fn take_inputs(&mut self, now: Time) -> (bool, bool) {
        let mut took = false;
        for _ in 0..self.rung.len() {
            if self.outbox.spilled > 0 || self.held {
                break;
            }
            let shard = self.rung.remove(0);
            let Host { service, outbox, timers, storage, engine, inputs, given_up, .. } = self;
            let Some(lane) = &mut inputs[shard] else { continue };
            lane.rung = false;
            let mut taken = 0;
            while taken < limits::INPUTS_PER_LANE && outbox.spilled == 0 {
                let Some(message) = lane.inputs.pop() else { break };
                taken += 1;
                match message {
                    ToService::Restarted => lane.forgetting = false,
                    ToService::Input(..) if lane.forgetting || *given_up => {}
                    ToService::Gone(_) if lane.forgetting || *given_up => {}
                    ToService::Gone(back) => {
                        let (conn, event) = *back;
                        service.on_gone(&mut Self::cx(now, outbox, timers, storage, engine), conn, event);
                    }
                    ToService::Input(conn, input) => {
                        outbox.hear(shard, conn, &input);
                        service.on_input(&mut Self::cx(now, outbox, timers, storage, engine), conn, input);
                    }
                }
            }
            took |= taken > 0;
            if lane.inputs.available() > 0 {
                lane.rung = true;
                self.rung.push(shard);
            }
        }
        (took, !self.rung.is_empty() && self.outbox.spilled == 0 && !self.held)
    }

    fn fire_timers(&mut self, now: Time) -> bool {
        let mut fired = false;
        for _ in 0..limits::TIMERS_PER_TICK {
            // One by one: a timer may take back another that is due as well.
            let more = self.timers.expire(now, 1, &mut self.due);
            if let Some(key) = self.due.pop() {
                let Host { service, outbox, timers, storage, engine, .. } = self;
                service.on_timer(&mut Self::cx(now, outbox, timers, storage, engine), key);
                fired = true;
            }
            if !more {
                break;
            }
        }
        fired
    }

    /// After a panic: a new service, unless this happens too often, and everybody is told to forget the old one.
    fn restart(&mut self, now: Time) {
        self.restarts.retain(|&then| now.since(then) < limits::RESTART_WINDOW);
        self.restarts.push_back(now);
        self.given_up = self.restarts.len() > limits::RESTARTS;
        self.engine.service_panicked();
        self.facts.panics.fetch_add(1, Relaxed);
        self.timers = ServiceTimers::default();
        self.outbox.gone.clear();
        self.outbox.shards.iter_mut().for_each(|lane| lane.open = Vec::new());
        self.storage.forget();
        self.started = false;
        for (shard, lane) in self.inputs.iter_mut().enumerate() {
            // While a restart is unanswered the lane's connections are unknown here, so there is nothing to forget anew.
            if let Some(lane) = lane
                && !std::mem::replace(&mut lane.forgetting, true)
            {
                self.outbox.push(ShardId(shard as u16), FromService::Restarted);
            }
        }
        if self.draining {
            // Nobody is left whom it could say good-bye to.
            self.outbox.drained();
        }
        self.facts.given_up.store(self.given_up, Relaxed);
        if self.given_up {
            tracing::error!(service = %self.facts.name, "a service failed too often: the engine drains");
            self.outbox.drains_later = false;
            self.engine.drain(self.engine.default_drain());
        } else {
            tracing::error!(service = %self.facts.name, restarts = self.restarts.len(), "a service failed and is made anew");
            // The factory may panic, and so may the old service as it goes. Either counts as one more failure.
            match catch_unwind(AssertUnwindSafe(|| self.service = (self.factory)())) {
                Ok(()) => _ = self.facts.restarts.fetch_add(1, Relaxed),
                Err(_) => self.restart(now),
            }
        }
    }
}

impl<S: Service> HostRun for Host<S> {
    fn rung(&mut self, shard: usize) {
        if let Some(lane) = &mut self.inputs[shard]
            && !lane.rung
        {
            lane.rung = true;
            self.rung.push(shard);
        }
    }

    fn step(&mut self, now: Time) -> bool {
        let more = catch_unwind(AssertUnwindSafe(|| self.work(now))).unwrap_or_else(|_| {
            self.restart(now);
            true
        });
        self.outbox.publish();
        for lane in self.inputs.iter_mut().flatten() {
            if lane.inputs.release() {
                let _ = lane.bell.ring(lane.number);
            }
        }
        flush_returns();
        let heard_all = self.stopping && (self.rung.is_empty() || self.held);
        if heard_all {
            self.storage.stop();
        }
        self.stopped = heard_all && self.storage.in_flight() == 0;
        more || self.is_stopping()
    }

    fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    fn is_idle(&mut self) -> bool {
        let spill_waits = |lane: &mut OutLane<S::Out>| {
            let Some((replies, ..)) = &mut lane.link else { return true };
            lane.spill.is_empty() || !replies.ask_for_room()
        };
        self.mail.is_empty()
            && !self.is_stopping()
            && self.outbox.gone.is_empty()
            && !self.storage_calls()
            && self.outbox.shards.iter_mut().all(spill_waits)
            && (self.rung.is_empty() || self.outbox.spilled > 0 || self.held)
    }

    #[cfg(feature = "tokio-uring")]
    fn poke(&mut self) {
        self.poked = true;
    }

    #[cfg(feature = "tokio-uring")]
    fn hold(&mut self, hold: bool) {
        self.held = hold;
    }

    #[cfg(feature = "tokio-uring")]
    fn failed(&mut self, now: Time) {
        self.restart(now);
        self.outbox.publish();
    }

    fn end_storage(&mut self) -> bool {
        self.storage.stop();
        self.storage.in_flight() == 0
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }
}

/// Runs a service on the calling thread until it is stopped.
pub(crate) fn run(mut host: Box<dyn HostRun>, mut inbox: Inbox, parker: &Parker, epoch: Instant) {
    let now = || Time::from_nanos(epoch.elapsed().as_nanos() as u64);
    while !host.is_stopped() {
        for shard in inbox.drain() {
            host.rung(shard);
        }
        let more = host.step(now());
        if more || host.is_stopped() {
            continue;
        }
        let deadline = host.next_deadline();
        if let Some(_nap) = inbox.try_sleep(|| host.is_idle()) {
            match deadline {
                Some(deadline) => parker.park_timeout(deadline.since(now())),
                None => parker.park(),
            }
        }
    }
}
