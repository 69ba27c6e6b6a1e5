//! A run, from the first dial to the last close: ramp, measure, tear down by reset.
//!
//! The main thread only watches counts and the clock; shards do the work. Whatever goes wrong (the target refuses, dies, or
//! memory runs short) ends the run early with what was measured by then, marked as partial.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use megamux_engine::{Config, Dialer, EndpointId, Engine, Pin, Placement, ShardId};

use crate::cli::Scenario;
use crate::client::Client;
use crate::gauges::{Gauges, Phase};
use crate::limits::{free, mib};
use crate::pacer::{Begin, End, Pacer};
use crate::plan::Plan;
use crate::progress::{Progress, grouped, span};
use crate::report::{Latency, Report};
use crate::source::route;

/// How often the main thread looks.
const LOOK: Duration = Duration::from_millis(20);
/// A ramp or storm in which nothing opens for so long is over.
const STUCK: Duration = Duration::from_secs(15);
/// Answers that were due within the time measured may still come for so long.
const GRACE: Duration = Duration::from_secs(5);
/// A storm may take so long, whatever the duration asked for.
const STORM: Duration = Duration::from_secs(300);

/// A churn or storm in which nothing is served for so long, and nothing is open, has no target any more.
const SILENT: Duration = Duration::from_secs(1);
/// A ramp of so many says what memory the rest will take when a tenth is open.
const MANY: u64 = 100_000;

/// Carries a plan out, until it is done or `interrupted`.
pub fn run(plan: &Arc<Plan>, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let gauges = Arc::new(Gauges::new(plan.shards.into()));
    let (engine, endpoint) = start(plan, &gauges)?;
    let mut run = Running {
        plan,
        gauges: &gauges,
        engine: &engine,
        endpoint,
        progress: Progress::new(plan.quiet),
        report: Report::new(plan),
        interrupted,
    };
    run.ramp();
    let is_open = run.gauges.sum(|cells| &cells.open) > 0;
    if run.report.complete || is_open && !run.is_interrupted() {
        run.measure();
    }
    let report = run.end();
    engine.handle().stop();
    engine.join().context("the generator's own engine failed")?;
    Ok(report)
}

fn start(plan: &Arc<Plan>, gauges: &Arc<Gauges>) -> anyhow::Result<(Engine, EndpointId)> {
    let mut config = Config::default();
    config.shards = plan.shards.into();
    config.pin = if plan.pin.is_empty() { Pin::None } else { Pin::List(plan.pin.clone()) };
    let mut builder = Engine::builder(config)?;
    let (for_pacer, for_client) = ((Arc::clone(plan), Arc::clone(gauges)), (Arc::clone(plan), Arc::clone(gauges)));
    let pacer = builder.service("pacer", Placement::PerShard, move || {
        let (plan, gauges) = for_pacer.clone();
        Pacer::new(plan, gauges)
    })?;
    builder.subscribe::<Begin, _>(&pacer);
    builder.subscribe::<End, _>(&pacer);
    // A connection that sends without reading is what one scenario is about: it is not to be closed for that here.
    let dialer = Dialer::new().write_stall_timeout(Duration::from_secs(3600)).send_queue(1 << 20, 16 << 20, 64 << 20);
    let endpoint = builder.dialer(dialer.handshake_timeout(STUCK), &pacer, move |shard: ShardId| {
        let (plan, gauges) = for_client.clone();
        Client::new(plan, gauges, shard.0.into())
    });
    Ok((builder.start().context("the generator's own engine")?, endpoint))
}

struct Running<'a> {
    plan: &'a Plan,
    gauges: &'a Gauges,
    engine: &'a Engine,
    endpoint: EndpointId,
    progress: Progress,
    report: Report,
    interrupted: &'a AtomicBool,
}

impl Running<'_> {
    /// Opens the connections. Shards go on by themselves, but where the ramp is limited each dial is started from here.
    fn ramp(&mut self) {
        let (plan, began) = (self.plan, Instant::now());
        let goal = u64::from(plan.connections);
        let window: u64 = (0..usize::from(plan.shards)).map(|shard| plan.window(shard)).sum();
        let (mut dialled, mut last_opened, mut last_change) = (0, 0, began);
        let mut memory = free().filter(|_| goal >= MANY);
        loop {
            let allowed = plan.ramp.map_or(window, |ramp| (began.elapsed().as_secs_f64() * f64::from(ramp)) as u64);
            while dialled < window.min(allowed) && self.dial(dialled) {
                dialled += 1;
            }
            let opened = self.gauges.sum(|cells| &cells.opened);
            if opened != last_opened {
                (last_opened, last_change) = (opened, Instant::now());
            }
            let failed = self.gauges.sum(|cells| &cells.failed_dials);
            self.say_ramp(opened, goal, failed, began);
            if opened >= goal / 10 {
                self.forecast(memory.take(), opened);
            }
            if opened >= goal {
                break;
            }
            if let Some(why) = self.trouble(opened, failed, last_change) {
                self.gauges.halt();
                self.report.cut_short(why);
                break;
            }
            thread::sleep(LOOK);
        }
        let ramp = &mut self.report.ramp;
        ramp.seconds = began.elapsed().as_secs_f64();
        ramp.opened = self.gauges.sum(|cells| &cells.opened);
        ramp.failed_dials = self.gauges.sum(|cells| &cells.failed_dials);
        let line = (grouped(ramp.opened), ramp.seconds);
        self.progress.note(format_args!("opened {} in {:.2} s", line.0, line.1));
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn dial(&self, number: u64) -> bool {
        let own = number / u64::from(self.plan.shards);
        let shard = self.plan.shard_of(number);
        self.engine.handle().dial_on(shard, self.endpoint, route(&self.plan.target, number), own).is_ok()
    }

    fn say_ramp(&mut self, opened: u64, goal: u64, failed: u64, began: Instant) {
        let rate = opened as f64 / began.elapsed().as_secs_f64().max(0.001);
        let left = (goal.saturating_sub(opened)) as f64 / rate;
        let left = if opened > 0 { format!(", {left:.0} s left") } else { String::new() };
        self.progress.say(format_args!(
            "ramp {}/{} ({}/s{left}), {} failed",
            grouped(opened),
            grouped(goal),
            grouped(rate as u64),
            grouped(failed)
        ));
    }

    /// What memory all will take, by what those that are open took of what was free.
    fn forecast(&mut self, before: Option<u64>, opened: u64) {
        let (Some(before), Some(free), 1..) = (before, free(), opened) else { return };
        let each = before.saturating_sub(free) / opened;
        self.progress.note(format_args!(
            "{each} B of this machine's memory per connection so far: all will take {} of {} MiB, and {} are to stay free",
            mib(each * u64::from(self.plan.connections)),
            mib(before),
            mib(self.plan.keep_free)
        ));
    }

    /// Why to stop ramping, if there is a reason.
    fn trouble(&self, opened: u64, failed: u64, last_change: Instant) -> Option<String> {
        let errors =
            || self.gauges.errors().into_iter().max_by_key(|(_, count)| *count).map_or_else(String::new, |(e, _)| e);
        if self.is_interrupted() {
            return Some("interrupted".into());
        }
        if opened == 0 && failed > 0 {
            return Some(format!("the target takes no connections: {}", errors()));
        }
        if failed > 0 && self.gauges.sum(|cells| &cells.open) == 0 {
            return Some(format!("the target closed every connection, and takes no more: {}", errors()));
        }
        let turned_away = self.gauges.sum(|cells| &cells.turned_away);
        if turned_away > 0 && opened + turned_away >= self.plan.connections.into() {
            return Some(format!("the target closed {} connections before it greeted", grouped(turned_away)));
        }
        if last_change.elapsed() > STUCK {
            return Some(format!("nothing opened for {} s; the most frequent error: {}", STUCK.as_secs(), errors()));
        }
        let free = free()?;
        (free < self.plan.keep_free).then(|| {
            let (left, keep) = (mib(free), mib(self.plan.keep_free));
            format!(
                "stopped at {} connections: {left} MiB of memory are left, and {keep} are to stay free",
                grouped(opened)
            )
        })
    }

    fn measure(&mut self) {
        self.wait_for_pacers();
        let (before, cpu) = (self.gauges.sum(|cells| &cells.done), own_cpu());
        let open = self.gauges.sum(|cells| &cells.open);
        self.gauges.forget_latencies();
        self.gauges.set(Phase::Run);
        let began = Instant::now();
        if self.engine.handle().publish(Begin).is_err() {
            self.report.cut_short("a shard did not hear the beginning");
        }
        match self.plan.scenario {
            Scenario::Storm => self.storm(before, open, began),
            _ => self.until(began + self.plan.duration, before, began),
        }
        let seconds = began.elapsed().as_secs_f64();
        self.gauges.set(Phase::Over);
        let done = self.gauges.sum(|cells| &cells.done) - before;
        let (sent, open) = (self.gauges.sum(|cells| &cells.sent), self.gauges.sum(|cells| &cells.open));
        self.report.own_cpu = (own_cpu() - cpu).as_secs_f64() / seconds;
        self.report.run.seconds = seconds;
        (self.report.run.done, self.report.run.sent, self.report.run.open_in_the_end) = (done, sent, open);
        self.report.run.done_per_second = done as f64 / seconds;
        self.wait_for_answers();
        self.report.latency_ns = Latency::of(&self.gauges.latencies());
        if self.plan.scenario == Scenario::Fanout {
            self.report.run.deliveries = Some(self.gauges.sum(|cells| &cells.delivered));
            self.report.last_delivery_ns = Some(Latency::of(&self.gauges.rounds.last()));
        }
        match (done, self.plan.scenario) {
            (0, Scenario::Fanout) => self.report.cut_short("no line reached every connection"),
            (0, _) => self.report.cut_short("the target answered nothing"),
            _ => {}
        }
    }

    /// A connection is open a moment before its pacer hears of it, and is told nothing until then.
    fn wait_for_pacers(&self) {
        let end = Instant::now() + GRACE;
        let gauges = self.gauges;
        let unknown = || gauges.known.load(Ordering::Relaxed) < gauges.sum(|cells| &cells.open);
        while self.plan.scenario != Scenario::Churn && unknown() && Instant::now() < end {
            thread::sleep(LOOK);
        }
    }

    /// Measures until `end`, or a little longer if nothing has been answered by then.
    fn until(&mut self, end: Instant, before: u64, began: Instant) {
        let gauges = self.gauges;
        let (mut last, mut last_change) = (before, Instant::now());
        let nothing = || gauges.sum(|cells| &cells.done) == before;
        while Instant::now() < end || nothing() && Instant::now() < end + GRACE {
            thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())).max(Duration::from_millis(1)));
            self.say_run(before, began);
            let done = gauges.sum(|cells| &cells.done);
            if done != last {
                (last, last_change) = (done, Instant::now());
            }
            if let Some(why) = self.cut_short(last_change) {
                self.report.cut_short(why);
                return;
            }
        }
    }

    /// Why to stop measuring, if there is a reason.
    fn cut_short(&self, last_change: Instant) -> Option<&'static str> {
        let none_open = self.gauges.sum(|cells| &cells.open) <= self.gauges.sum(|cells| &cells.flooding);
        match self.plan.scenario {
            _ if self.is_interrupted() => Some("interrupted"),
            // The ramp left as much as was asked for; what is under way may take some of that.
            _ if free().is_some_and(|free| free < self.plan.keep_free / 2) => Some("memory ran short"),
            Scenario::Churn if none_open && last_change.elapsed() > SILENT => {
                Some("the target takes no connections any more")
            }
            Scenario::Churn => None,
            _ if none_open && self.gauges.is_misunderstood() => Some("what came back was no answer, see the errors"),
            _ if none_open => Some("the target closed every connection"),
            Scenario::Fanout if self.gauges.sum(|cells| &cells.lost) > 0 => Some("the target closed a connection"),
            _ => None,
        }
    }

    /// Everybody comes back, and is served.
    fn storm(&mut self, before: u64, goal: u64, began: Instant) {
        let (mut last, mut last_change) = (0, began);
        let refused = self.gauges.sum(|cells| &cells.failed_dials);
        loop {
            let served = self.gauges.sum(|cells| &cells.done) - before;
            self.say_run(before, began);
            if served >= goal {
                return;
            }
            if served != last {
                (last, last_change) = (served, Instant::now());
            }
            let gone = self.gauges.sum(|cells| &cells.open) == 0
                && self.gauges.sum(|cells| &cells.failed_dials) > refused
                && last_change.elapsed() > SILENT;
            let interrupted = self.is_interrupted();
            if interrupted || gone || last_change.elapsed() > STUCK || began.elapsed() > STORM {
                let left = grouped(goal - served);
                let when = match interrupted {
                    true => "interrupted: ",
                    false if gone => "the target takes no connections any more: ",
                    false => "",
                };
                self.report.cut_short(format!("{when}{left} connections did not come back"));
                return;
            }
            thread::sleep(LOOK);
        }
    }

    fn say_run(&mut self, before: u64, began: Instant) {
        let latencies = self.gauges.latencies();
        let done = self.gauges.sum(|cells| &cells.done) - before;
        let seconds = began.elapsed().as_secs_f64().max(0.001);
        let whole = match self.plan.scenario {
            Scenario::Storm => String::new(),
            _ => format!("/{}", self.plan.duration.as_secs_f64()),
        };
        self.progress.say(format_args!(
            "run {seconds:.0}{whole} s, {} open, {}/s, p50 {}, p99 {}, {} lost",
            grouped(self.gauges.sum(|cells| &cells.open)),
            grouped((done as f64 / seconds) as u64),
            span(latencies.value_at_quantile(0.5)),
            span(latencies.value_at_quantile(0.99)),
            grouped(self.gauges.sum(|cells| &cells.lost))
        ));
    }

    /// In an open loop a late answer counts, too; one that never comes shows as sent and not answered.
    fn wait_for_answers(&self) {
        if self.plan.is_closed_loop() || matches!(self.plan.scenario, Scenario::Churn | Scenario::Storm) {
            return;
        }
        let end = Instant::now() + GRACE;
        let pending = || self.gauges.sum(|cells| &cells.sent) > self.gauges.sum(|cells| &cells.done);
        let is_open = || self.gauges.sum(|cells| &cells.open) > 0;
        while pending() && is_open() && !self.is_interrupted() && Instant::now() < end {
            thread::sleep(LOOK);
        }
    }

    fn end(mut self) -> Report {
        self.gauges.halt();
        self.gauges.set(Phase::Over);
        self.report.lost = self.gauges.sum(|cells| &cells.lost);
        self.report.errors = self.gauges.errors();
        if self.report.lost > 0 {
            self.report.cut_short(format!("{} connections were lost", grouped(self.report.lost)));
        }
        let text = self.report.incomplete.clone().unwrap_or_else(|| "done".into());
        self.progress.note(format_args!("{text}; closing"));
        self.close();
        self.report
    }

    /// Resets the connections in steps. Those that are left when nothing more happens end with the engine, all at once.
    fn close(&mut self) {
        if self.engine.handle().publish(End).is_err() {
            return;
        }
        let (mut last, mut last_change) = (u64::MAX, Instant::now());
        while last > 0 && last_change.elapsed() < GRACE {
            let open = self.gauges.sum(|cells| &cells.open);
            if open != last {
                (last, last_change) = (open, Instant::now());
            }
            self.progress.say(format_args!("closing, {} left", grouped(open)));
            thread::sleep(LOOK.min(Duration::from_millis(open)));
        }
        self.progress.clear();
    }
}

/// Processor time that this process has had.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
