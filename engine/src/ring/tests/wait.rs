//! Waits and wakes.

use std::sync::Arc;
use std::thread;

use super::*;
use crate::handoff::wake::Wake;
use crate::ring::queues::LONGEST_LINGER;

const LONG: Duration = Duration::from_secs(5);
const ALL_MASKED: &str = "-inc,-recv_budget,-min_wait,-registered_ring,-peer_cmd,-msg_ring";

fn timed(bench: &mut Bench, wait: Wait) -> Duration {
    let before = Instant::now();
    bench.driver.enter(wait).unwrap();
    before.elapsed()
}

/// Wakes when this much time has passed, and says when that was.
fn wake_after(delay: Duration, waker: &dyn Wake) -> Instant {
    let start = Instant::now();
    while start.elapsed() < delay {
        thread::yield_now();
    }
    let at = Instant::now();
    waker.wake();
    at
}

#[test]
fn a_wait_ends_after_its_time() {
    for mask in ["", ALL_MASKED] {
        let mut bench = Bench::masked(mask);
        assert!(timed(&mut bench, Wait::For(QUIET)) >= QUIET);
        let batch = Wait::Batch { want: 10, min_wait: QUIET / 3, most: QUIET };
        assert!(timed(&mut bench, batch) >= QUIET, "{mask}");
        assert!(timed(&mut bench, Wait::For(Duration::ZERO)) < LONG);
        assert!(timed(&mut bench, Wait::No) < LONG);
        bench.expect_quiet();
    }
}

#[test]
fn a_very_long_wait_is_no_short_one() {
    let mut bench = Bench::new();
    let waker = bench.driver.waker();
    let waking = thread::spawn(move || wake_after(QUIET, &*waker));
    assert!(timed(&mut bench, Wait::For(Duration::MAX)) >= QUIET / 2);
    waking.join().unwrap();
}

#[test]
fn a_batch_lingers_for_more_and_settles_for_less() {
    let mut bench = Bench::new();
    if !have(bench.driver.caps().min_wait, "lingering waits") {
        return;
    }
    let (slot, client) = bench.connection();
    let poll = bench.token(Kind::Poll, slot);
    bench.driver.poll_readable(slot, poll);
    bench.turn(Wait::No);
    write(&client, b"!");
    let waited = timed(&mut bench, Wait::Batch { want: 2, min_wait: QUIET, most: LONG });
    assert!(waited >= LONGEST_LINGER && waited < LONG / 10, "{waited:?}");
    bench.wait(poll);
}

#[test]
fn a_wake_from_another_thread_ends_any_wait() {
    for mask in ["", ALL_MASKED] {
        let mut bench = Bench::masked(mask);
        let min_wait = Duration::from_micros(500);
        for round in 0..40 {
            // Earlier than the wait, while it begins, while it lingers, and while it sleeps.
            let delay = Duration::from_micros(50) * round;
            for wait in [Wait::For(LONG), Wait::Batch { want: 64, min_wait, most: LONG }] {
                let waker = bench.driver.waker();
                let waking = thread::spawn(move || wake_after(delay, &*waker));
                bench.driver.enter(wait).unwrap();
                let woken = Instant::now();
                // A generous bound for a busy machine, and far below the wait.
                let latency = woken.saturating_duration_since(waking.join().unwrap());
                assert!(latency < LONG / 10, "{latency:?}");
                bench.turn(Wait::No);
                assert!(bench.seen.is_empty(), "wakes stay inside: {:?}", bench.seen);
            }
        }
    }
}

#[test]
fn a_wake_in_a_lingering_wait_is_seen_when_lingering_ends() {
    let mut bench = Bench::new();
    bench.turn(Wait::No);
    bench.driver.waker().wake();
    let waited = timed(&mut bench, Wait::Batch { want: 64, min_wait: QUIET, most: LONG });
    assert!(waited < LONG / 10, "{waited:?}");
}

#[test]
fn a_wake_before_the_wait_ends_it_at_once_and_only_it() {
    let mut bench = Bench::new();
    let waker = bench.driver.waker();
    for _ in 0..3 {
        for _ in 0..10 {
            waker.wake();
        }
        assert!(timed(&mut bench, Wait::For(LONG)) < LONG / 10);
        bench.turn(Wait::No);
        assert!(timed(&mut bench, Wait::For(QUIET)) >= QUIET);
    }
}

#[test]
fn a_waker_outlives_its_driver() {
    let bench = Bench::new();
    let waker: Arc<dyn Wake> = bench.driver.waker();
    drop(bench);
    waker.wake();
}

#[test]
fn wakes_survive_an_overflow_of_the_completion_queue() {
    let mut bench = Bench::make("", 64, |config| (config.sq, config.cq) = (32, 64));
    let (slot, client) = bench.connection();
    write(&client, b"!");
    for _ in 0..200 {
        let poll = bench.token(Kind::Poll, slot);
        bench.driver.poll_readable(slot, poll);
    }
    let waker = bench.driver.waker();
    for _ in 0..20 {
        waker.wake();
        bench.driver.enter(Wait::No).unwrap();
    }
    bench.wait_until("polls", |bench| (bench.seen.len() == 200).then_some(()));
    bench.turn(Wait::No);
    assert!(timed(&mut bench, Wait::For(QUIET)) >= QUIET);
    waker.wake();
    assert!(timed(&mut bench, Wait::For(LONG)) < LONG / 10);
}
