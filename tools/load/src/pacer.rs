//! When to send: one pacer per shard, a service that knows the shard's connections and keeps the schedule.
//!
//! Invariant: a message's due time follows from the rate and the start alone. A pacer that wakes late sends all that
//! is due, each with the time it was due at: the target's delays, and ours, show in the latencies instead of thinning the load.

use std::collections::HashMap;
use std::sync::Arc;
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

/// What a connection is told.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Send one message that was due then.
    Send(Time),
    /// Fill the pipeline, and keep it full.
    Begin,
    /// Send without end, and read nothing.
    Flood,
    /// End with RST.
    Reset,
}

/// Published when measuring begins.
#[derive(Debug, Clone, Copy)]
pub struct Begin;

/// See the module's page.
pub struct Pacer {
    plan: Arc<Plan>,
    gauges: Arc<Gauges>,
    conns: Vec<ConnId>,
    places: HashMap<ConnId, usize>,
    /// Over all connections in turn, and over the active ones.
    spread: Schedule,
    active: Schedule,
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
            places: HashMap::new(),
            spread: Schedule::default(),
            active: Schedule::default(),
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
            (Scenario::Slow, rate) => {
                let flooding = count.div_ceil(100);
                for (place, conn) in self.conns.iter().enumerate() {
                    match place < flooding {
                        true => cx.send(*conn, Order::Flood),
                        false if rate.is_none() => cx.send(*conn, Order::Begin),
                        false => {}
                    }
                }
                if let Some(rate) = rate {
                    // The flooding ones are not to be paced as well.
                    self.conns.drain(..flooding);
                    self.start(cx, SPREAD, self.plan.gap(rate, count));
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

    fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<()>) {
        match input {
            Input::Open(_) => {
                self.places.insert(conn, self.conns.len());
                self.conns.push(conn);
            }
            Input::Close(_) => {
                let Some(place) = self.places.remove(&conn) else { return };
                // The flooding ones left the list before.
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
        self.catch_up(cx, key);
    }
}

impl Subscribe<Begin> for Pacer {
    fn on_published(&mut self, cx: &mut ServiceCx<'_, Self>, _: &Begin) {
        self.begin(cx);
    }
}
