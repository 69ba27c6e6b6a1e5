//! Listeners of which there is one for all shards: one shard accepts, and nobody is lost on the way to another.

use std::net::SocketAddr;
use std::time::Duration;

use megamux_engine::sim::{Faults, PeerState, Script};
use megamux_engine::{Listen, NO_SERVICE};
use megamux_sim_tests::{Echo, SECOND, builder, config, for_seeds, simulate};

const PATH: &str = "unix:/run/echo";

#[test]
fn connections_go_to_the_shards_in_turn() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(4));
        builder.listen(Listen::unix("/run/echo"), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::none(), builder);
        let guest = || Script::new().send("hello").wait(10 * SECOND).finish().expect_echo();
        let peers: Vec<_> = (0..40).map(|_| sim.connect(PATH, guest())).collect();
        sim.run_for(5 * SECOND);
        let live: Vec<u64> = sim.stats().shards.iter().map(|shard| shard.connections.total()).collect();
        assert_eq!(live, [10; 4]);
        sim.quiesce(60 * SECOND);
        assert!(peers.iter().all(|peer| sim.state(*peer) == PeerState::Ended));
        sim.finish(SECOND);
    });
}

#[test]
fn whoever_is_full_passes_on_and_nobody_is_lost() {
    for_seeds(100, |seed| {
        let mut config = config(3);
        // Full tables are met now and then.
        config.connections_per_shard = 8;
        let mut builder = builder(config);
        builder.listen(Listen::unix("/run/echo"), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut faults = Faults::rough(seed);
        faults.dial_failure = 0;
        let mut sim = simulate(seed, faults, builder);
        for peer in 0..60 {
            let script = Script::new().send(vec![b'x'; 1 + 50 * peer]).finish().expect_echo_begun();
            sim.connect_after(SECOND / 20 * peer as u32, PATH, script);
        }
        // Some end here in the middle of it.
        if seed % 3 > 0 {
            sim.run_for(SECOND / 10 * (seed % 30) as u32);
            return sim.finish(5 * SECOND);
        }
        sim.heal();
        sim.quiesce(120 * SECOND);
        sim.finish(SECOND);
    });
}

#[test]
fn a_drain_meets_connections_on_their_way_and_ends() {
    for_seeds(200, |seed| {
        let mut builder = builder(config(3));
        builder.listen(Listen::unix("/run/echo"), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::rough(seed), builder);
        for _ in 0..20 {
            sim.connect(PATH, Script::new().send("late").finish().expect_echo_begun());
        }
        let on_its_way = |sim: &megamux_engine::sim::Sim| sim.stats().total().accepts > seed % 20;
        sim.run_until(on_its_way, SECOND);
        sim.finish(5 * SECOND);
    });
}

#[test]
fn an_inherited_socket_is_served_by_all_and_each_peer_is_known() {
    for_seeds(40, |seed| {
        let mut config = config(4);
        config.max_per_source = 1;
        let mut builder = builder(config);
        // Only its address counts here; nobody connects to it.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap().to_string();
        builder.listen(Listen::inherited(socket.into()).unwrap(), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::none(), builder);
        let guest = || Script::new().send("hello").wait(10 * SECOND).finish().expect_echo();
        let peers: Vec<_> = (0..40).map(|_| sim.connect(&addr, guest())).collect();
        sim.run_for(5 * SECOND);
        let live: Vec<u64> = sim.stats().shards.iter().map(|shard| shard.connections.total()).collect();
        assert_eq!(live, [10; 4]);
        // Whatever shard the others come to, their source has its share already.
        for port in 1..=4 {
            let greedy = SocketAddr::from(([198, 51, 100, 1], port));
            sim.connect_from(greedy, Duration::ZERO, &addr, Script::new().send("hello").wait(10 * SECOND).finish());
        }
        sim.run_for(SECOND);
        assert_eq!(sim.connections(), 41);
        sim.quiesce(60 * SECOND);
        assert!(peers.iter().all(|peer| sim.state(*peer) == PeerState::Ended));
        sim.finish(SECOND);
    });
}
