//! Timeouts, slow readers and drains, in virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use megamux_engine::sim::{Faults, Pace, PeerState, Script, Sim};
use megamux_engine::{CloseReason, Filter, FilterStatus, Listen, NO_SERVICE, Time};
use megamux_sim_tests::{ADDR, Echo, Pusher, SECOND, builder, config, for_seeds, simulate};

fn closes(sim: &Sim, why: CloseReason) -> u64 {
    sim.stats().total().closes.of(why)
}

fn elapsed(sim: &Sim) -> Duration {
    sim.now().since(Time::ZERO)
}

#[test]
fn a_silent_connection_is_closed_at_its_idle_timeout() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).idle_timeout(5 * SECOND);
        builder.listen(listen, &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let chatty = Script::new().send("a").wait(4 * SECOND).send("b").wait(4 * SECOND).send("c");
        sim.connect(ADDR, chatty.await_end().expect_echo_begun());
        assert!(sim.run_until(Sim::peers_over, 60 * SECOND));
        let silent_since = 8 * SECOND;
        assert!(elapsed(&sim) >= silent_since + 5 * SECOND, "too early: {:?}", elapsed(&sim));
        assert!(elapsed(&sim) <= silent_since + 8 * SECOND, "too late: {:?}", elapsed(&sim));
        sim.quiesce(10 * SECOND);
        assert_eq!(closes(&sim, CloseReason::IdleTimeout), 1);
        sim.finish(SECOND);
    });
}

/// A filter that never has enough.
struct Waiting;

impl Filter for Waiting {
    fn receive(&mut self, _: Time, _: &[u8], _: &mut Vec<u8>, _: &mut Vec<u8>) -> Result<usize, CloseReason> {
        Ok(0)
    }

    fn status(&self) -> FilterStatus {
        FilterStatus::Opening
    }
}

#[test]
fn a_connection_that_does_not_open_is_closed_at_its_handshake_timeout() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).handshake_timeout(2 * SECOND).filter(|| Box::new(Waiting));
        builder.listen(listen, &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        sim.connect(ADDR, Script::new().send("never enough").await_end().expect(""));
        sim.quiesce(10 * SECOND);
        assert_eq!(closes(&sim, CloseReason::HandshakeTimeout), 1);
        sim.finish(SECOND);
    });
}

#[test]
fn a_peer_that_takes_nothing_is_reset_at_the_write_stall_timeout() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).write_stall_timeout(3 * SECOND);
        let pusher = |_| Pusher { bytes: 400_000, high: usize::MAX };
        builder.listen(listen, &NO_SERVICE, pusher).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let peer = sim.connect(ADDR, Script::new().read(Pace::Stopped).await_end());
        assert!(sim.run_until(Sim::peers_over, 20 * SECOND));
        assert_eq!(sim.state(peer), PeerState::Reset);
        assert!(elapsed(&sim) >= 3 * SECOND && elapsed(&sim) <= 8 * SECOND, "{:?}", elapsed(&sim));
        sim.quiesce(10 * SECOND);
        assert_eq!(closes(&sim, CloseReason::WriteStall), 1);
        sim.finish(SECOND);
    });
}

#[test]
fn a_peer_that_reads_too_slowly_for_the_cap_is_a_slow_consumer() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).send_queue(1000, 4000, 64_000);
        let pusher = |_| Pusher { bytes: 400_000, high: usize::MAX };
        builder.listen(listen, &NO_SERVICE, pusher).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        sim.connect(ADDR, Script::new().await_end().expect_begun(Pusher::pattern(400_000)));
        sim.quiesce(60 * SECOND);
        assert_eq!(closes(&sim, CloseReason::SlowConsumer), 1);
        sim.finish(SECOND);
    });
}

#[test]
fn watermarks_let_a_slow_reader_have_everything_in_little_memory() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).send_queue(2000, 8000, 64_000);
        let pusher = |_| Pusher { bytes: 100_000, high: 8000 };
        builder.listen(listen, &NO_SERVICE, pusher).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        for _ in 0..3 {
            let pace = Pace::Bytes { bytes: 700, every: Duration::from_millis(20) };
            let script = Script::new().read(pace).await_bytes(100_000).finish();
            sim.connect(ADDR, script.expect(Pusher::pattern(100_000)));
        }
        let mut most = 0;
        let over = sim.run_until(
            |sim| {
                most = most.max(sim.stats().total().send_queue_bytes);
                sim.peers_over()
            },
            200 * SECOND,
        );
        assert!(over);
        // Bytes lie in chunks of 4 KiB, the first and the last of which are not full.
        assert!(most <= 3 * (10_000 + 2 * 4096), "{most} bytes were held");
        sim.quiesce(10 * SECOND);
        sim.finish(SECOND);
    });
}

#[test]
fn a_drain_ends_at_its_deadline_even_if_peers_do_not_read() {
    for_seeds(60, |seed| {
        let mut builder = builder(config(2));
        let pusher = |_| Pusher { bytes: 400_000, high: usize::MAX };
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, pusher).unwrap();
        let mut sim = simulate(seed, Faults::rough(seed), builder);
        for _ in 0..8 {
            sim.connect(ADDR, Script::new().read(Pace::Stopped).await_end());
        }
        sim.run_for(SECOND);
        let began = sim.now();
        sim.handle().drain(4 * SECOND);
        assert!(sim.run_until(Sim::is_stopped, 60 * SECOND));
        let took = sim.now().since(began);
        assert!(took <= 5 * SECOND, "the drain took {took:?}");
    });
}

#[test]
fn a_kick_closes_after_what_was_queued() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(2));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        for _ in 0..6 {
            sim.connect(ADDR, Script::new().send("hello").await_end().expect_echo());
        }
        sim.run_for(2 * SECOND);
        let listed = Arc::new(Mutex::new(Vec::new()));
        let rows = Arc::clone(&listed);
        let asked = sim.handle().connections(100, move |answer| {
            rows.lock().unwrap().extend(answer.rows.iter().map(|row| row.info.id));
        });
        assert_eq!(asked, 2);
        sim.run_for(SECOND);
        let listed = listed.lock().unwrap().clone();
        assert_eq!(listed.len(), 6);
        for conn in listed {
            sim.handle().close(conn, CloseReason::Kicked).unwrap();
        }
        sim.quiesce(10 * SECOND);
        assert_eq!(closes(&sim, CloseReason::Kicked), 6);
        sim.finish(SECOND);
    });
}
