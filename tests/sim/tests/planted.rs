//! The checker works: each planted bug is found, within a few seeds, and none is found where none was planted.

use megamux_engine::planted::{Bug, plant};
use megamux_engine::sim::Faults;
use megamux_engine::{Listen, NO_SERVICE, Placement};
use megamux_sim_tests::{
    ADDR, Echo, Heard, Relay, Repeat, SECOND, builder, config, echo_peers, first_failure, simulate,
};

/// Seeds in which a bug has to show.
const SEEDS: u64 = 40;

/// Echoes and a relay, under rough faults and with few buffers.
fn everything(seed: u64) {
    let heard = Heard::default();
    let mut config = config(1);
    (config.buffers, config.buffer_size) = (2, 1024);
    config.lane_capacity = 8;
    let mut builder = builder(config);
    let tells = heard.clone();
    let repeat = builder.service("repeat", Placement::Thread, move || Repeat::new(&tells)).unwrap();
    // Half of the seeds look at the handler alone, the others at the service too.
    match seed % 2 {
        0 => builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap(),
        _ => builder.listen(Listen::tcp(ADDR), &repeat, |_| Relay::default()).unwrap(),
    };
    let mut sim = simulate(seed, Faults::rough(seed), builder);
    echo_peers(&mut sim, 12, 20_000);
    sim.quiesce(200 * SECOND);
    heard.assert_all_closed();
    sim.finish(5 * SECOND);
}

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
    for bug in Bug::ALL {
        let seed = caught(Some(bug));
        println!("{bug:?}: {seed:?}");
        assert!(seed.is_some(), "{bug:?} went unnoticed for {SEEDS} seeds");
    }
}
