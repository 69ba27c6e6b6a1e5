//! What an engine holds and when it acts while something pushes: a peer that is not read, a victim that will not go, a
//! buffer that comes late, a timer that is moved.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use megamux_engine::sim::{Faults, Pace, Script, Sim};
use megamux_engine::{
    CloseReason, ConnInfo, Cx, Filter, FilterStatus, Frame, Handler, Listen, NO_SERVICE, NoService, RecvBuf, Time,
    TimerKey,
};
use megamux_sim_tests::{ADDR, Echo, Pusher, SECOND, builder, config, for_seeds, simulate};

type Outcome = Result<(), CloseReason>;
type NoCx<'a> = Cx<'a, NoService>;

/// Pauses reading once, with the first byte, for ten seconds.
struct Pauser;

impl Handler for Pauser {
    type Service = NoService;
    type Conn = bool;

    fn on_open(&mut self, _: &mut NoCx<'_>, _: &ConnInfo) -> Result<bool, CloseReason> {
        Ok(false)
    }

    fn on_data(&mut self, cx: &mut NoCx<'_>, paused: &mut bool, data: &mut RecvBuf<'_>) -> Outcome {
        data.consume(data.len());
        if !std::mem::replace(paused, true) {
            cx.pause_read();
            cx.set_timer(TimerKey(0), 10 * SECOND);
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut NoCx<'_>, _: &mut bool, _: TimerKey) -> Outcome {
        cx.resume_read();
        Ok(())
    }
}

/// The most bytes that a connection has left unread now.
fn most_unread(sim: &mut Sim) -> usize {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    sim.handle().connections(100, move |listing| {
        let unread = listing.rows.iter().map(|row| row.unread_bytes).max();
        seen.fetch_max(unread.unwrap_or(0), Ordering::Relaxed);
    });
    sim.run_for(Duration::from_millis(1));
    most.load(Ordering::Relaxed)
}

#[test]
fn a_pause_stops_a_receive_that_has_no_credit() {
    for_seeds(10, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Pauser).unwrap();
        let mut faults = Faults::none();
        faults.recv_budget = false;
        faults.window = 16 * 1024;
        let mut sim = simulate(seed, faults, builder);
        let mut script = Script::new();
        for _ in 0..200 {
            script = script.send(vec![7; 2000]).wait(Duration::from_millis(2));
        }
        sim.connect(ADDR, script.finish());
        sim.run_for(2 * SECOND);
        let unread = most_unread(&mut sim);
        assert!(unread <= 64 * 1024, "{unread} bytes were read in a pause");
        sim.quiesce(300 * SECOND);
        sim.finish(SECOND);
    });
}

/// Sends so much at once, and closes if asked to.
struct Flood {
    bytes: usize,
    close: bool,
}

impl Handler for Flood {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, cx: &mut NoCx<'_>, _: &ConnInfo) -> Outcome {
        for _ in 0..self.bytes / 1000 {
            cx.send(&[1; 1000]);
        }
        MOST_QUEUED.fetch_max(cx.queued_bytes(), Ordering::Relaxed);
        if self.close {
            cx.close(CloseReason::Requested);
        }
        Ok(())
    }

    fn on_data(&mut self, _: &mut NoCx<'_>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        data.consume(data.len());
        Ok(())
    }
}

static MOST_QUEUED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn the_budget_takes_those_who_have_said_good_bye_too() {
    for_seeds(20, |seed| {
        let mut config = config(1);
        config.shard_budget = 100_000;
        let mut builder = builder(config);
        let flood = |_| Flood { bytes: 60_000, close: true };
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, flood).unwrap();
        let mut faults = Faults::gentle(seed);
        faults.window = 512;
        let mut sim = simulate(seed, faults, builder);
        for _ in 0..6 {
            sim.connect(ADDR, Script::new().read(Pace::Stopped).wait(60 * SECOND).reset());
        }
        sim.run_for(4 * SECOND);
        let held = sim.stats().total().send_queue_bytes;
        assert!(held <= 100_000, "{held} bytes held");
        sim.quiesce(100 * SECOND);
        sim.finish(SECOND);
    });
}

/// Sends so many frames of one byte each.
struct Crumbs(usize);

impl Handler for Crumbs {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, cx: &mut NoCx<'_>, _: &ConnInfo) -> Outcome {
        (0..self.0).for_each(|_| cx.send_frame(Frame::from(vec![1])));
        Ok(())
    }

    fn on_data(&mut self, _: &mut NoCx<'_>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        data.consume(data.len());
        Ok(())
    }
}

#[test]
fn the_budget_counts_what_is_held_and_not_only_what_is_said() {
    for_seeds(20, |seed| {
        let mut config = config(1);
        config.shard_budget = 100_000;
        let mut builder = builder(config);
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Crumbs(2000)).unwrap();
        let mut faults = Faults::gentle(seed);
        faults.window = 512;
        let mut sim = simulate(seed, faults, builder);
        for _ in 0..6 {
            sim.connect(ADDR, Script::new().read(Pace::Stopped).wait(20 * SECOND).reset());
        }
        sim.run_for(4 * SECOND);
        let stats = sim.stats().total();
        assert!(stats.send_queue_bytes <= 100_000, "{} bytes held", stats.send_queue_bytes);
        assert!(stats.closes.of(CloseReason::BudgetVictim) >= 1);
        sim.quiesce(100 * SECOND);
        sim.finish(SECOND);
    });
}

#[test]
fn nothing_is_queued_above_the_cap() {
    for_seeds(5, |seed| {
        let mut builder = builder(config(1));
        let flood = |_| Flood { bytes: 10_000_000, close: false };
        let listen = Listen::tcp(ADDR).send_queue(1000, 10_000, 100_000);
        builder.listen(listen, &NO_SERVICE, flood).unwrap();
        let mut sim = simulate(seed, Faults::none(), builder);
        sim.connect(ADDR, Script::new().await_end());
        sim.quiesce(100 * SECOND);
        let closes = sim.stats().total().closes.of(CloseReason::SlowConsumer);
        assert_eq!(closes, 1);
        let most = MOST_QUEUED.load(Ordering::Relaxed);
        assert!(most <= 101_000, "{most} bytes were queued");
        sim.finish(SECOND);
    });
}

#[test]
fn a_peer_that_takes_a_long_chain_slowly_gets_all_of_it() {
    for_seeds(20, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).write_stall_timeout(3 * SECOND);
        let pusher = |_| Pusher { bytes: 60_000, high: usize::MAX };
        builder.listen(listen, &NO_SERVICE, pusher).unwrap();
        let mut faults = Faults::gentle(seed);
        faults.window = 4096;
        let mut sim = simulate(seed, faults, builder);
        let pace = Pace::Bytes { bytes: 2000, every: SECOND };
        let script = Script::new().read(pace).expect(Pusher::pattern(60_000)).await_end();
        sim.connect(ADDR, script.finish());
        sim.quiesce(100 * SECOND);
        let closes = sim.stats().total().closes.of(CloseReason::WriteStall);
        assert_eq!(closes, 0);
        sim.finish(SECOND);
    });
}

/// Two timers, due together: the first sets itself anew and puts the second off.
struct PutOff(Arc<Mutex<Vec<(TimerKey, Time)>>>);

const FIRST: TimerKey = TimerKey(1);
const SECOND_KEY: TimerKey = TimerKey(2);

impl Handler for PutOff {
    type Service = NoService;
    type Conn = bool;

    fn on_open(&mut self, cx: &mut NoCx<'_>, _: &ConnInfo) -> Result<bool, CloseReason> {
        cx.set_timer(FIRST, Duration::from_millis(10));
        cx.set_timer(SECOND_KEY, Duration::from_millis(10));
        Ok(false)
    }

    fn on_data(&mut self, _: &mut NoCx<'_>, _: &mut bool, data: &mut RecvBuf<'_>) -> Outcome {
        data.consume(data.len());
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut NoCx<'_>, again: &mut bool, key: TimerKey) -> Outcome {
        let mut fired = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fired.push((key, cx.now()));
        if key == FIRST && !std::mem::replace(again, true) {
            cx.set_timer(FIRST, SECOND);
            cx.set_timer(SECOND_KEY, 2 * SECOND);
        }
        Ok(())
    }
}

#[test]
fn a_timer_that_is_put_off_by_another_of_its_tick_fires_at_its_new_time_alone() {
    for_seeds(5, |seed| {
        let fired = Arc::new(Mutex::new(Vec::new()));
        let mut builder = builder(config(1));
        let seen = Arc::clone(&fired);
        let put_off = move |_| PutOff(Arc::clone(&seen));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, put_off).unwrap();
        let mut sim = simulate(seed, Faults::none(), builder);
        sim.connect(ADDR, Script::new().wait(5 * SECOND).finish());
        sim.quiesce(20 * SECOND);
        sim.finish(SECOND);
        let fired = fired.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = fired.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [FIRST, FIRST, SECOND_KEY], "{fired:?}");
        assert!(fired[2].1.since(fired[0].1) >= 2 * SECOND, "{fired:?}");
    });
}

/// Keeps what it gets where others can reach it.
struct Hoarder(Arc<Mutex<Vec<Frame>>>);

impl Handler for Hoarder {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut NoCx<'_>, _: &ConnInfo) -> Outcome {
        Ok(())
    }

    fn on_data(&mut self, _: &mut NoCx<'_>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(data.take_all());
        Ok(())
    }
}

#[test]
fn a_buffer_that_somebody_else_gives_back_is_not_slept_over() {
    for_seeds(10, |seed| {
        let mut config = config(1);
        config.buffers = 2;
        let mut builder = builder(config);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&kept);
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, move |_| Hoarder(Arc::clone(&keeps))).unwrap();
        builder.listen(Listen::tcp("10.0.0.1:8"), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut faults = Faults::none();
        faults.incremental_buffers = false;
        let mut sim = simulate(seed, faults, builder);
        for _ in 0..2 {
            let script = Script::new().send(vec![1; 4096]).wait(2 * SECOND).finish();
            sim.connect(ADDR, script);
        }
        sim.run_for(Duration::from_millis(50));
        let late = sim.connect("10.0.0.1:8", Script::new().send("hello").wait(2 * SECOND).finish());
        sim.run_for(Duration::from_millis(20));
        assert_eq!(sim.received(late), b"", "all buffers are kept");
        kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
        sim.run_for(Duration::from_millis(60));
        assert_eq!(sim.received(late), b"hello");
        sim.quiesce(20 * SECOND);
        sim.finish(SECOND);
    });
}

/// Cannot bear an `x`.
struct Delicate;

impl Filter for Delicate {
    fn receive(&mut self, _: Time, wire: &[u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> Result<usize, CloseReason> {
        assert!(!wire.contains(&b'x'), "what this filter cannot bear");
        plain.extend_from_slice(wire);
        Ok(wire.len())
    }

    fn status(&self) -> FilterStatus {
        FilterStatus::Open
    }
}

#[test]
fn a_filter_that_panics_closes_its_connection_alone() {
    for_seeds(5, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).filter(|| Box::new(Delicate));
        builder.listen(listen, &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        sim.connect(ADDR, Script::new().send("xyz").await_end());
        let other = Script::new().send("abc").wait(SECOND).send("def").finish();
        sim.connect(ADDR, other.expect_echo());
        sim.quiesce(60 * SECOND);
        assert_eq!(sim.stats().total().closes.of(CloseReason::HandlerPanic), 1);
        sim.finish(SECOND);
    });
}
