//! When to send: one pacer per shard, a service that knows the shard's connections and keeps the schedule.
//!
//! Invariant: a message's due time follows from the rate and the start alone. A pacer that wakes late sends all that
//! is due, each with the time it was due at: the target's delays, and ours, show in the latencies instead of thinning the load.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use megamux_engine::{ConnId, Input, Scope, Service, ServiceCx, Subscribe, Time, TimerKey};

use crate::cli::Scenario;
use crate::gauges::{Gauges, Phase};
use crate::plan::Plan;

/// How fine the schedule is carried out; due times are exact.
const GRAIN: Duration = Duration::from_millis(1);
/// Messages given out at once; what is due beyond goes with the next grain.
const BATCH: u64 = 4_096;

const SPREAD: TimerKey = TimerKey(0);
const ACTIVE: TimerKey = TimerKey(1);
const FANOUT: TimerKey = TimerKey(2);
const RESET: TimerKey = TimerKey(3);

/// A line that has not reached everybody by then was said before all had joined; until one does, none counts.
const JOINING: Duration = Duration::from_secs(1);
/// Resets under way at once, over all shards: each is a segment, and a million of them at once are a gigabyte.
const RESETS: usize = 4_096;

/// What a connection is told.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Send one message that was due then.
    Send(Time),
    /// Fill the pipeline, and keep it full.
    Begin,
    /// Say a line to everybody.
    Say,
    /// Send without end, and read nothing.
    Flood,
    /// End with RST.
    Reset,
}

/// Published when measuring begins.
#[derive(Debug, Clone, Copy)]
pub struct Begin;

/// Published when the run is over.
#[derive(Debug, Clone, Copy)]
pub struct End;

/// See the module's page.
pub struct Pacer {
    plan: Arc<Plan>,
    gauges: Arc<Gauges>,
    /// The connections that are told when to send, those that were told to flood, and where each of the former stands.
    conns: Vec<ConnId>,
    flooding: Vec<ConnId>,
    places: HashMap<ConnId, usize>,
    /// Over all connections in turn, and over the active ones.
    spread: Schedule,
    active: Schedule,
    said: Said,
}

/// Lines said to everybody.
#[derive(Debug, Default)]
struct Said {
    count: u64,
    /// When the last one was.
    at: Time,
    /// One has reached everybody, so that the next ones count.
    joined: bool,
}

/// Messages at a steady rate, to connections in turn.
#[derive(Debug, Default)]
struct Schedule {
    begun: Time,
    /// Between two messages; zero for none at all.
    gap: Duration,
    sent: u64,
}

impl Schedule {
    /// When message `number` is due.
    fn due(&self, number: u64) -> Time {
        self.begun + Duration::from_nanos((self.gap.as_nanos() as u64).saturating_mul(number))
    }
}

impl Pacer {
    pub fn new(plan: Arc<Plan>, gauges: Arc<Gauges>) -> Pacer {
        Pacer {
            plan,
            gauges,
            conns: Vec::new(),
            flooding: Vec::new(),
            places: HashMap::new(),
            spread: Schedule::default(),
            active: Schedule::default(),
            said: Said::default(),
        }
    }

    fn begin(&mut self, cx: &mut ServiceCx<'_, Self>) {
        let count = self.conns.len();
        if count == 0 {
            return;
        }
        match (self.plan.scenario, self.plan.rate) {
            (Scenario::Hold, None) => {
                let active = self.active_count();
                self.start(cx, SPREAD, self.plan.every / count as u32);
                if active > 0 {
                    self.start(cx, ACTIVE, Duration::from_secs(1) / active as u32);
                }
            }
            (Scenario::Storm, _) => self.conns.iter().for_each(|conn| cx.send(*conn, Order::Reset)),
            (Scenario::Churn, _) => {}
            (Scenario::Fanout, _) => {
                if self.gauges.rounds.claim() {
                    cx.set_timer(FANOUT, GRAIN);
                }
            }
            (Scenario::Slow, rate) => {
                // From the end, so that the others keep their places.
                self.flooding = self.conns.split_off(count - count.div_ceil(100));
                self.flooding.iter().for_each(|conn| cx.send(*conn, Order::Flood));
                match rate {
                    Some(rate) => self.start(cx, SPREAD, self.plan.gap(rate, self.conns.len().max(1))),
                    None => self.conns.iter().for_each(|conn| cx.send(*conn, Order::Begin)),
                }
            }
            (_, Some(rate)) => self.start(cx, SPREAD, self.plan.gap(rate, count)),
            (_, None) => self.conns.iter().for_each(|conn| cx.send(*conn, Order::Begin)),
        }
    }

    fn active_count(&self) -> usize {
        (self.conns.len() as f64 * self.plan.active / 100.0).round() as usize
    }

    fn start(&mut self, cx: &mut ServiceCx<'_, Self>, key: TimerKey, gap: Duration) {
        let schedule = if key == SPREAD { &mut self.spread } else { &mut self.active };
        *schedule = Schedule { begun: cx.now(), gap: gap.max(Duration::from_nanos(1)), sent: 0 };
        cx.set_timer(key, gap.max(GRAIN));
    }

    /// The first connection says what is due: the next line when everybody has the last one, or by the rate.
    fn speak(&mut self, cx: &mut ServiceCx<'_, Self>) {
        let (now, rounds) = (cx.now(), &self.gauges.rounds);
        let Some(speaker) = self.conns.first().copied().filter(|_| self.gauges.is(Phase::Run)) else { return };
        let last = self.said.count.wrapping_sub(1);
        let is_over = self.said.count == 0 || rounds.is_over(last);
        if !self.said.joined && self.said.count > 0 && is_over {
            self.said.joined = true;
            let gap = self.plan.rate.map_or(Duration::ZERO, |rate| Duration::from_nanos(1_000_000_000 / rate));
            self.spread = Schedule { begun: now, gap, sent: 0 };
        }
        let everybody = self.gauges.sum(|cells| &cells.open);
        let mut say = |said: &mut Said, due| {
            rounds.begin(said.count, due, everybody, said.joined);
            cx.send(speaker, Order::Say);
            *said = Said { count: said.count + 1, at: now, ..*said };
        };
        match (self.said.joined, self.plan.rate) {
            (false, _) if self.said.count == 0 || now.since(self.said.at) >= JOINING => {
                rounds.give_up(last);
                say(&mut self.said, now);
            }
            (true, None) if is_over => say(&mut self.said, now),
            (false, _) | (true, None) => {}
            (true, Some(_)) => {
                while self.spread.due(self.spread.sent) <= now && rounds.is_over(self.said.count) {
                    say(&mut self.said, self.spread.due(self.spread.sent));
                    self.spread.sent += 1;
                }
            }
        }
        cx.set_timer(FANOUT, GRAIN);
    }

    /// Resets connections in steps, the next when the last ones are gone.
    fn reset(&mut self, cx: &mut ServiceCx<'_, Self>) {
        let step = (RESETS / usize::from(self.plan.shards)).max(16);
        let under_way = self.places.len().saturating_sub(self.conns.len());
        for conn in self.conns.drain(self.conns.len().saturating_sub(step.saturating_sub(under_way))..) {
            cx.send(conn, Order::Reset);
        }
        if !self.conns.is_empty() {
            cx.set_timer(RESET, GRAIN);
        }
    }

    /// Sends what is due of one schedule.
    fn catch_up(&mut self, cx: &mut ServiceCx<'_, Self>, key: TimerKey) {
        let active = self.active_count();
        let (schedule, count) = match key == SPREAD {
            true => (&mut self.spread, self.conns.len()),
            false => (&mut self.active, active),
        };
        if count == 0 || !self.gauges.is(Phase::Run) {
            return;
        }
        let mut given = 0;
        while schedule.due(schedule.sent) <= cx.now() && given < BATCH {
            let conn = self.conns[(schedule.sent % count as u64) as usize];
            cx.send(conn, Order::Send(schedule.due(schedule.sent)));
            schedule.sent += 1;
            given += 1;
        }
        let next = schedule.due(schedule.sent);
        let now = cx.now();
        cx.set_timer(key, next.since(now).max(GRAIN));
    }
}

impl Service for Pacer {
    type In = ();
    type Out = Order;
    /// What it keeps of a connection is that there is one.
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<()>) {
        match input {
            // Its dial was under way when the run ended.
            Input::Open(_) if self.gauges.is(Phase::Over) => cx.send(conn, Order::Reset),
            Input::Open(_) => {
                self.gauges.known.fetch_add(1, Ordering::Relaxed);
                self.places.insert(conn, self.conns.len());
                self.conns.push(conn);
            }
            Input::Close(_) => {
                let Some(place) = self.places.remove(&conn) else { return };
                self.gauges.known.fetch_sub(1, Ordering::Relaxed);
                // Those that flood, or were told to end, left the list before.
                if self.conns.get(place) == Some(&conn) {
                    self.conns.swap_remove(place);
                    if let Some(moved) = self.conns.get(place) {
                        self.places.insert(*moved, place);
                    }
                }
            }
            Input::Frame(()) => {}
        }
    }

    fn on_timer(&mut self, cx: &mut ServiceCx<'_, Self>, key: TimerKey) {
        match key {
            FANOUT => self.speak(cx),
            RESET => self.reset(cx),
            _ => self.catch_up(cx, key),
        }
    }
}

impl Subscribe<Begin> for Pacer {
    fn on_published(&mut self, cx: &mut ServiceCx<'_, Self>, _: &Begin) {
        self.begin(cx);
    }
}

impl Subscribe<End> for Pacer {
    fn on_published(&mut self, cx: &mut ServiceCx<'_, Self>, _: &End) {
        self.conns.append(&mut self.flooding);
        self.reset(cx);
    }
}
