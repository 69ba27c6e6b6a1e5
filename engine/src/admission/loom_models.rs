//! Every interleaving of attempts at one source's cap, as loom sees it. `cargo xtask loom` runs these.
//!
//! Loom takes `SeqCst` accesses for acquire and release, which is less than the code asks for, so a model that passes
//! passes for the real thing. The model that must fail proves that loom can see what the other rules out.

use loom::sync::Arc;
use loom::thread;

use super::*;

#[derive(Default)]
struct Cells {
    cells: [AtomicU32; 2],
    admitted: AtomicU32,
}

/// Three attempts at a cap of one, by two threads: `attempt` says who is admitted, and each stays so for a moment.
fn race(attempt: fn([&AtomicU32; 2]) -> bool) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let shared = Arc::new(Cells::default());
        let come_and_go = |times: usize| {
            let shared = Arc::clone(&shared);
            move || {
                for _ in 0..times {
                    if attempt(shared.cells.each_ref()) {
                        assert_eq!(shared.admitted.fetch_add(1, Relaxed), 0, "the cap was passed");
                        shared.admitted.fetch_sub(1, Relaxed);
                        shared.cells.iter().for_each(uncount);
                    }
                }
            }
        };
        let other = thread::spawn(come_and_go(1));
        come_and_go(2)();
        other.join().unwrap();
        assert!(shared.cells.iter().all(|cell| cell.load(Relaxed) == 0), "something is left");
    });
}

#[test]
fn loom_a_sources_cap_is_not_passed() {
    race(|cells| try_count_both(cells, 1));
}

#[test]
#[should_panic(expected = "the cap was passed")]
fn loom_finds_attempts_that_trust_what_they_counted() {
    race(|cells| {
        let before = cells.map(|cell| cell.fetch_add(1, SeqCst));
        let admitted = before.iter().any(|&count| count < 1);
        if !admitted {
            cells.into_iter().for_each(uncount);
        }
        admitted
    });
}
