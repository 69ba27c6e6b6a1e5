//! Waits and wakes.

use std::sync::Arc;
use std::thread;

use super::*;
use crate::handoff::wake::Wake;

pub(crate) fn timed<D: Driver>(bench: &mut Bench<D>, wait: Wait) -> Duration {
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

fn a_wait_ends_after_its_time<D: Real>() {
    for mask in ["", ALL_MASKED] {
        let mut bench = Bench::<D>::masked(mask);
        assert!(timed(&mut bench, Wait::For(QUIET)) >= QUIET);
        let batch = Wait::Batch { want: 10, min_wait: QUIET / 3, most: QUIET };
        assert!(timed(&mut bench, batch) >= QUIET, "{mask}");
        assert!(timed(&mut bench, Wait::For(Duration::ZERO)) < LONG);
        assert!(timed(&mut bench, Wait::No) < LONG);
        bench.expect_quiet();
    }
}

fn a_very_long_wait_is_no_short_one<D: Real>() {
    let mut bench = Bench::<D>::new();
    let waker = bench.driver.waker();
    let waking = thread::spawn(move || wake_after(QUIET, &*waker));
    assert!(timed(&mut bench, Wait::For(Duration::MAX)) >= QUIET / 2);
    waking.join().unwrap();
}

fn a_wake_from_another_thread_ends_any_wait<D: Real>() {
    for mask in ["", ALL_MASKED] {
        let mut bench = Bench::<D>::masked(mask);
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

fn a_wake_before_the_wait_ends_it_at_once_and_only_it<D: Real>() {
    let mut bench = Bench::<D>::new();
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

fn a_waker_outlives_its_driver<D: Real>() {
    let bench = Bench::<D>::new();
    let waker: Arc<dyn Wake> = bench.driver.waker();
    drop(bench);
    waker.wake();
}

on_both!(
    a_wait_ends_after_its_time,
    a_very_long_wait_is_no_short_one,
    a_wake_from_another_thread_ends_any_wait,
    a_wake_before_the_wait_ends_it_at_once_and_only_it,
    a_waker_outlives_its_driver,
);
