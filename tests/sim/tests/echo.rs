//! Bytes come back whole, in order and once, whatever goes wrong around them.

use megamux_engine::sim::{Faults, Script, Sim};
use megamux_engine::{Listen, NO_SERVICE, Placement, Time};
use megamux_sim_tests::{ADDR, Echo, Heard, Relay, Repeat, SECOND, builder, config, echo_peers, for_seeds, simulate};

fn echo(seed: u64, faults: Faults, shards: usize) {
    let mut builder = builder(config(shards));
    builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
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
    for_seeds(200, |seed| echo(seed, Faults::gentle(seed), 1 + (seed % 3) as usize));
}

#[test]
fn rough_faults_leave_nothing_behind() {
    for_seeds(200, |seed| echo(seed, Faults::rough(seed), 1 + (seed % 3) as usize));
}

/// More than are let in at once come at once, three times: what is left of a crowd is accepted in groups.
fn crowds(seed: u64, faults: Faults, room: u32) {
    const CROWD: usize = 150;
    let mut config = config(1);
    config.connections_per_shard = room;
    let mut builder = builder(config);
    builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
    let mut sim = simulate(seed, faults, builder);
    let mut rng = sim.rng();
    for _ in 0..3 {
        for _ in 0..CROWD {
            let word = rng.bytes(40);
            sim.connect(ADDR, Script::new().send(word).finish().expect_echo());
        }
        sim.run_for(SECOND / 1000 * rng.between(1, 50) as u32);
    }
    sim.quiesce(120 * SECOND);
    assert_eq!(sim.stats().total().arrivals, 0);
    sim.finish(5 * SECOND);
}

#[test]
fn a_crowd_is_served_whatever_goes_wrong() {
    for_seeds(40, |seed| crowds(seed, Faults::gentle(seed), 1000));
}

#[test]
fn a_crowd_that_finds_a_full_table_leaves_nothing_behind() {
    for_seeds(40, |seed| crowds(seed, Faults::rough(seed), 100));
}

/// A crowd of the same, once all of it is parked: the operations that each took.
fn operations(sim: &mut Sim, script: &Script) -> u64 {
    const CROWD: u64 = 20;
    let submissions = |sim: &Sim| sim.stats().total().submissions;
    let before = submissions(sim);
    for _ in 0..CROWD {
        sim.connect(ADDR, script.clone());
    }
    sim.run_for(2 * SECOND);
    let took = submissions(sim) - before;
    assert_eq!(took % CROWD, 0, "they are alike");
    took / CROWD
}

#[test]
fn who_says_one_thing_costs_no_cancel_where_many_do() {
    for_seeds(20, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::none(), builder);
        sim.run_for(SECOND);
        let word = Script::new().send(b"word").expect_echo().await_bytes(4);
        let terse = word.clone().wait(60 * SECOND).close();
        let at_first = operations(&mut sim, &terse);
        assert_eq!(operations(&mut sim, &terse), at_first - 1);
        // One that goes on: the next ones may, too.
        sim.connect(ADDR, word.wait(SECOND / 100).send(b"more").await_bytes(8).wait(60 * SECOND).close());
        sim.run_for(3 * SECOND);
        assert_eq!(operations(&mut sim, &terse), at_first);
        sim.quiesce(120 * SECOND);
        sim.finish(5 * SECOND);
    });
}

/// Everything that two runs of a seed could differ in: the time, and every figure of every shard.
fn trace(seed: u64) -> (Time, String) {
    let heard = Heard::default();
    let mut builder = builder(config(2));
    let tells = heard.clone();
    let repeat = builder.service("repeat", Placement::Thread, move || Repeat::new(&tells)).unwrap();
    builder.listen(Listen::tcp(ADDR), &repeat, |_| Relay::default()).unwrap();
    let mut sim = simulate(seed, Faults::rough(seed), builder);
    echo_peers(&mut sim, 12, 20_000);
    sim.quiesce(200 * SECOND);
    (sim.now(), format!("{:?}", sim.stats().shards))
}

#[test]
fn a_seed_is_a_run() {
    for_seeds(20, |seed| assert_eq!(trace(seed), trace(seed)));
}
