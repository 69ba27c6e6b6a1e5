//! Services behind handlers: the same answers under every placement, whatever the lanes' size.

use megamux_engine::sim::{Faults, Script};
use megamux_engine::{Config, Listen, Placement, ShardId};
use megamux_sim_tests::{
    ADDR, Heard, Relay, RelayBytes, Repeat, SECOND, Shout, builder, config, echo_peers, for_seeds, simulate,
};

const PLACEMENTS: [Placement; 3] = [Placement::Thread, Placement::Shard(ShardId(1)), Placement::PerShard];

/// Two shards, and lanes that are full at once.
fn tiny_lanes() -> Config {
    let mut config = config(2);
    config.lane_capacity = 8;
    config
}

fn relay(seed: u64, faults: Faults, placement: Placement) {
    let heard = Heard::default();
    let mut builder = builder(tiny_lanes());
    let tells = heard.clone();
    let service = builder.service("repeat", placement, move || Repeat::new(&tells)).unwrap();
    builder.listen(Listen::tcp(ADDR), &service, |_| Relay::default()).unwrap();
    let mut sim = simulate(seed, faults, builder);
    echo_peers(&mut sim, 10, 20_000);
    sim.quiesce(200 * SECOND);
    heard.assert_all_closed();
    sim.finish(5 * SECOND);
}

#[test]
fn every_placement_gives_the_same_answers() {
    for placement in PLACEMENTS {
        for_seeds(60, |seed| relay(seed, Faults::gentle(seed), placement));
    }
}

#[test]
fn rough_faults_leave_no_connection_with_a_service() {
    for placement in PLACEMENTS {
        for_seeds(60, |seed| relay(seed, Faults::rough(seed), placement));
    }
}

/// Each byte has more answers than a lane holds, and every connection floods: both directions are full all the time.
fn shout(seed: u64, placement: Placement) {
    const TIMES: usize = 20;
    let heard = Heard::default();
    let mut builder = builder(tiny_lanes());
    let tells = heard.clone();
    let service = builder.service("shout", placement, move || Shout::new(&tells, TIMES)).unwrap();
    builder.listen(Listen::tcp(ADDR), &service, |_| RelayBytes::default()).unwrap();
    let mut sim = simulate(seed, Faults::gentle(seed), builder);
    let bytes: Vec<u8> = (0..200).map(|at| (at % 200) as u8).collect();
    let answer: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; TIMES]).collect();
    for _ in 0..6 {
        let script = Script::new().send(&bytes).await_bytes(answer.len()).finish();
        sim.connect(ADDR, script.expect(&answer));
    }
    sim.quiesce(200 * SECOND);
    heard.assert_all_closed();
    sim.finish(5 * SECOND);
}

#[test]
fn full_lanes_both_ways_do_not_deadlock() {
    for placement in PLACEMENTS {
        for_seeds(20, |seed| shout(seed, placement));
    }
}

#[test]
fn a_service_that_panics_is_made_anew_and_its_connections_are_closed() {
    for placement in PLACEMENTS {
        for_seeds(40, |seed| {
            let heard = Heard::default();
            let mut builder = builder(tiny_lanes());
            let tells = heard.clone();
            let service = builder.service("shout", placement, move || Shout::new(&tells, 1)).unwrap();
            builder.listen(Listen::tcp(ADDR), &service, |_| RelayBytes::default()).unwrap();
            let mut sim = simulate(seed, Faults::gentle(seed), builder);
            // Some before, one that brings it down, some after.
            for at in 0..9 {
                let mut script = Script::new().send([1, 2, 3]).await_bytes(3);
                if at == 4 {
                    script = script.send([0xff]);
                }
                let script = script.await_end().expect_begun([1, 2, 3]);
                sim.connect_after(at * SECOND / 10, ADDR, script);
            }
            sim.run_for(30 * SECOND);
            assert_eq!(sim.stats().service_panics, 1);
            let late = Script::new().send([7]).await_bytes(1).finish().expect([7]);
            sim.connect(ADDR, late);
            sim.run_for(30 * SECOND);
            sim.finish(5 * SECOND);
            heard.assert_all_closed();
        });
    }
}

#[test]
fn a_service_closes_a_connection_after_what_it_sent() {
    for placement in PLACEMENTS {
        for_seeds(30, |seed| {
            let heard = Heard::default();
            let mut builder = builder(tiny_lanes());
            let tells = heard.clone();
            let service = builder.service("shout", placement, move || Shout::new(&tells, 3)).unwrap();
            builder.listen(Listen::tcp(ADDR), &service, |_| RelayBytes::default()).unwrap();
            let mut sim = simulate(seed, Faults::gentle(seed), builder);
            for _ in 0..5 {
                let script = Script::new().send([5, 6, 0xfe]).await_end().finish();
                sim.connect(ADDR, script.expect([5, 5, 5, 6, 6, 6]));
            }
            sim.quiesce(60 * SECOND);
            heard.assert_all_closed();
            sim.finish(5 * SECOND);
        });
    }
}
