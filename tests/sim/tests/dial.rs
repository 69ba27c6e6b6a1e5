//! Connecting out: proxies pass bytes and ends both ways, and failures are events.

use megamux_engine::sim::{Faults, Script, Sim};
use megamux_engine::{Listen, NO_SERVICE};
use megamux_sim_tests::{ADDR, Proxy, SECOND, builder, config, echo_begun_peers, echo_peers, for_seeds, simulate};

const BEHIND: &str = "10.9.9.9:80";

fn proxy(seed: u64, faults: Faults, peers: fn(&mut Sim, usize, usize)) {
    let mut builder = builder(config(2));
    let listen = Listen::tcp(ADDR).handshake_timeout(5 * SECOND);
    builder.listen(listen, &NO_SERVICE, |_| Proxy::new(BEHIND)).unwrap();
    let mut sim = simulate(seed, faults, builder);
    sim.serve(BEHIND, Script::new().echo().finish());
    peers(&mut sim, 8, 20_000);
    sim.quiesce(300 * SECOND);
    sim.finish(5 * SECOND);
}

#[test]
fn a_proxy_passes_everything_both_ways() {
    for_seeds(100, |seed| proxy(seed, Faults::gentle(seed), echo_peers));
}

#[test]
fn a_proxy_survives_failing_dials_and_resets() {
    for_seeds(100, |seed| {
        // A connection whose partner broke ends in order, with bytes missing.
        proxy(seed, Faults::rough(seed), echo_begun_peers);
    });
}

#[test]
fn a_refused_dial_is_an_event() {
    for_seeds(30, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Proxy::new(BEHIND)).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        for _ in 0..5 {
            sim.connect(ADDR, Script::new().send("hello").await_end().expect(""));
        }
        sim.quiesce(60 * SECOND);
        assert_eq!(sim.stats().total().dials_failed, 5);
        sim.finish(SECOND);
    });
}
