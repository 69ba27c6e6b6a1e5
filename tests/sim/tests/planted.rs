//! The checker works: each planted bug is found, within a stated number of seeds, and none is found where none was planted.

use megamux_engine::planted::{Bug, plant};
use megamux_sim_tests::{everything, first_failure};

/// Seeds in which a bug has to show.
const SEEDS: u64 = 60;

fn caught(bug: Option<Bug>) -> Option<u64> {
    plant(bug);
    let seed = first_failure(SEEDS, everything);
    plant(None);
    seed
}

#[test]
fn without_a_bug_nothing_is_found() {
    assert_eq!(caught(None), None);
}

#[test]
fn every_planted_bug_is_found() {
    let found: Vec<_> = Bug::ALL.iter().map(|bug| (*bug, caught(Some(*bug)))).collect();
    for (bug, seed) in &found {
        println!("{bug:?}: {}", seed.map_or("not found".into(), |seed| format!("found after {} seeds", seed + 1)));
    }
    let missed: Vec<_> = found.iter().filter(|(_, seed)| seed.is_none()).map(|(bug, _)| bug).collect();
    assert!(missed.is_empty(), "{missed:?} went unnoticed for {SEEDS} seeds");
}
