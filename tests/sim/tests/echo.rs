//! Bytes come back whole, in order and once, whatever goes wrong around them.

use megamux_engine::sim::Faults;
use megamux_engine::{Listen, NO_SERVICE};
use megamux_sim_tests::{ADDR, Echo, SECOND, builder, config, echo_peers, for_seeds, simulate};

fn echo(seed: u64, faults: Faults, shards: usize) {
    let mut builder = builder(config(shards));
    builder
        .listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default())
        .unwrap();
    let mut sim = simulate(seed, faults, builder);
    echo_peers(&mut sim, 12, 40_000);
    sim.quiesce(120 * SECOND);
    sim.finish(5 * SECOND);
}

#[test]
fn a_perfect_world_echoes() {
    for_seeds(20, |seed| echo(seed, Faults::none(), 1));
}

#[test]
fn gentle_faults_lose_nothing() {
    for_seeds(200, |seed| {
        echo(seed, Faults::gentle(seed), 1 + (seed % 3) as usize)
    });
}

#[test]
fn rough_faults_leave_nothing_behind() {
    for_seeds(200, |seed| {
        echo(seed, Faults::rough(seed), 1 + (seed % 3) as usize)
    });
}
