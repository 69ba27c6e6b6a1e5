//! One shard's connections: opens them, sends when told (or when an answer has come), and measures.
//!
//! Invariants: as many dials are under way as the window allows and no more; every message sent has its time in the
//! connection's queue until its answer is whole, so that a late answer is measured as late.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use megamux_engine::net::Addr;
use megamux_engine::{CloseReason, ConnInfo, Cx, EndpointCx, Handler, Origin, RecvBuf, Time};

use crate::cli::Scenario;
use crate::gauges::{Cells, Gauges, Phase};
use crate::pacer::{Order, Pacer};
use crate::plan::Plan;
use crate::source::route;
use crate::wire::Wire;

/// Times that a shard dials again after failures in a row, before it waits for the run to end.
const STUBBORN: u32 = 1_000;

/// The endpoint's part on one shard.
pub struct Client {
    plan: Arc<Plan>,
    gauges: Arc<Gauges>,
    shard: usize,
    /// Connections begun so far, by this shard's own count.
    begun: u64,
    failures: u32,
    reply: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    wire: Wire,
    /// When the unanswered messages were due, the oldest first.
    due: Due,
    /// The target has spoken first, if that is its way.
    greeted: bool,
    /// We are the ones that end it.
    ending: bool,
    /// It sends without end, and reads nothing.
    flooding: bool,
}

/// Times of unanswered messages. One is the rule, and needs no memory of its own.
#[derive(Debug, Default)]
struct Due {
    first: Option<Time>,
    #[expect(clippy::box_collection, reason = "most connections have none, and pay for a pointer only")]
    rest: Option<Box<VecDeque<Time>>>,
}

impl Due {
    fn push(&mut self, time: Time) {
        match self.first {
            None => self.first = Some(time),
            Some(_) => self.rest.get_or_insert_default().push_back(time),
        }
    }

    fn pop(&mut self) -> Option<Time> {
        let first = self.first.take();
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
        first
    }

    fn count(&self) -> u32 {
        u32::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len() as u32)
    }
}

impl Client {
    pub fn new(plan: Arc<Plan>, gauges: Arc<Gauges>, shard: usize) -> Client {
        let begun = plan.window(shard);
        Client { plan, gauges, shard, begun, failures: 0, reply: Vec::new() }
    }

    fn cells(&self) -> &Cells {
        self.gauges.shard(self.shard)
    }

    /// Opens one more connection, if there is one more to open.
    fn dial(&mut self, cx: &mut EndpointCx<'_, Pacer>) {
        let wanted = self.is_endless() || self.begun < self.plan.share(self.shard);
        if !wanted || self.gauges.is_halted() || self.gauges.is(Phase::Over) {
            return;
        }
        let number = self.begun;
        self.begun += 1;
        cx.dial(route(&self.plan.target, self.plan.number(self.shard, number)), number);
    }

    /// Sends one message that was due at `due`.
    fn send(&self, cx: &mut Cx<'_, Pacer>, conn: &mut Conn, due: Time) {
        cx.send(conn.wire.message(&self.plan.speech));
        conn.due.push(due);
        Cells::add(&self.cells().sent, 1);
    }

    /// A connection may send now: what does the scenario have it do?
    fn ready(&self, cx: &mut Cx<'_, Pacer>, conn: &mut Conn) {
        let now = cx.now();
        Cells::add(&self.cells().opened, 1);
        match self.plan.scenario {
            Scenario::Churn => self.send(cx, conn, now),
            Scenario::Storm if self.gauges.is(Phase::Run) => self.send(cx, conn, now),
            _ => {}
        }
    }

    fn answered(&mut self, cx: &mut Cx<'_, Pacer>, conn: &mut Conn, answers: u32) {
        let now = cx.now();
        for _ in 0..answers {
            let Some(due) = conn.due.pop() else { break };
            self.cells().record(now.since(due));
            Cells::add(&self.cells().done, 1);
            match self.plan.scenario {
                Scenario::Churn => {
                    conn.ending = true;
                    cx.close(CloseReason::Stopped);
                }
                _ if self.plan.is_closed_loop() && self.gauges.is(Phase::Run) => self.send(cx, conn, now),
                _ => {}
            }
        }
    }

    /// Lines that everybody gets.
    fn hear(&self, cx: &Cx<'_, Pacer>, conn: &mut Conn, data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        let (now, cells) = (cx.now(), self.cells());
        let heard = conn.wire.hear(&self.plan.speech, data, |number| {
            let Some(heard) = self.gauges.rounds.heard(number, now) else { return };
            cells.record(heard.latency);
            Cells::add(&cells.delivered, 1);
            Cells::add(&cells.done, u64::from(heard.last));
        });
        let len = data.len();
        data.consume(len);
        heard.map_err(|error| {
            self.gauges.wrong_answer(error);
            CloseReason::ProtocolError
        })
    }

    /// Each connection that closes is followed by another.
    fn is_endless(&self) -> bool {
        matches!(self.plan.scenario, Scenario::Churn | Scenario::Storm)
    }

    fn count_open(&self, change: u64) {
        Cells::add(&self.cells().open, change);
    }
}

impl Handler for Client {
    type Service = Pacer;
    type Conn = Conn;

    fn on_open(&mut self, cx: &mut Cx<'_, Pacer>, info: &ConnInfo) -> Result<Conn, CloseReason> {
        let Origin::Dialed(number) = info.origin else { return Err(CloseReason::Refused) };
        self.failures = 0;
        self.count_open(1);
        let greeted = !self.plan.speech.greets();
        let wire = match self.plan.scenario {
            Scenario::Frames | Scenario::Fanout => Wire::default(),
            _ => Wire::new(self.plan.number(self.shard, number)),
        };
        let mut conn = Conn { wire, due: Due::default(), greeted, ending: false, flooding: false };
        if greeted {
            self.ready(cx, &mut conn);
        }
        if self.begun < self.plan.share(self.shard) {
            self.dial(cx);
        }
        Ok(conn)
    }

    fn on_data(&mut self, cx: &mut Cx<'_, Pacer>, conn: &mut Conn, data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        if self.plan.scenario == Scenario::Fanout {
            return self.hear(cx, conn, data);
        }
        let pending = conn.due.count();
        let mut reply = std::mem::take(&mut self.reply);
        let answers = conn.wire.receive(&self.plan.speech, data, pending, &mut reply);
        let len = data.len();
        data.consume(len);
        if !reply.is_empty() {
            cx.send(&reply);
            reply.clear();
        }
        self.reply = reply;
        let mut answers = answers.map_err(|error| {
            self.gauges.wrong_answer(error);
            CloseReason::ProtocolError
        })?;
        if !conn.greeted && answers > 0 {
            conn.greeted = true;
            answers -= 1;
            self.ready(cx, conn);
        }
        self.answered(cx, conn, answers);
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Pacer>, conn: &mut Conn, order: Order) -> Result<(), CloseReason> {
        match order {
            Order::Send(due) if conn.greeted => self.send(cx, conn, due),
            Order::Send(_) => self.gauges.error("not greeted in time to send"),
            Order::Begin if conn.greeted => {
                let now = cx.now();
                (0..self.plan.depth).for_each(|_| self.send(cx, conn, now));
            }
            Order::Begin => self.gauges.error("not greeted in time to send"),
            Order::Say => {
                cx.send(conn.wire.message(&self.plan.speech));
                Cells::add(&self.cells().sent, 1);
            }
            Order::Flood => {
                // The target may well end it.
                (conn.ending, conn.flooding) = (true, true);
                Cells::add(&self.cells().flooding, 1);
                cx.pause_read();
                // Much more than any socket buffers hold, whatever the size of a message.
                for _ in 0..(8 << 20) / self.plan.size.max(64) {
                    cx.send(conn.wire.message(&self.plan.speech));
                }
            }
            Order::Reset => {
                conn.ending = true;
                cx.close(CloseReason::Stopped);
            }
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut EndpointCx<'_, Pacer>, conn: Conn, why: CloseReason) {
        Cells::add(&self.cells().flooding, u64::from(conn.flooding).wrapping_neg());
        self.count_open(u64::MAX);
        if !conn.ending && !self.gauges.is(Phase::Over) {
            Cells::add(&self.cells().lost, 1);
            Cells::add(&self.cells().turned_away, u64::from(!conn.greeted));
            self.gauges.error(format_args!("connection lost: {why}"));
        }
        if self.is_endless() {
            self.dial(cx);
        }
    }

    fn on_connect_failed(&mut self, cx: &mut EndpointCx<'_, Pacer>, _: u64, _: &Addr, error: io::Error) {
        if self.gauges.is(Phase::Over) {
            return;
        }
        Cells::add(&self.cells().failed_dials, 1);
        self.gauges.error(format_args!("connect: {error}"));
        self.failures += 1;
        if self.failures < STUBBORN {
            // That number is spent; its share is not.
            self.begun = self.begun.saturating_sub(u64::from(!self.is_endless()));
            self.dial(cx);
        }
    }
}
