//! Caps, budgets, tables and panics: what one connection meets, the others do not notice.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use megamux_engine::sim::{Faults, Pace, PeerState, Script, Sim};
use megamux_engine::stats::RefusalCause;
use megamux_engine::{CloseReason, Dialer, EndpointState, Listen, NO_SERVICE};
use megamux_sim_tests::{ADDR, Door, Echo, Lines, Pusher, SECOND, builder, config, echo_peers, for_seeds, simulate};

fn refusals(sim: &Sim, cause: RefusalCause) -> u64 {
    sim.stats().total().refusals.of(cause)
}

/// Stays until the test is over.
fn guest() -> Script {
    Script::new().send("hello").wait(20 * SECOND).finish().expect_echo_begun()
}

#[test]
fn a_listeners_cap_refuses_the_rest() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(2));
        let mut listen = Listen::tcp(ADDR).max_connections(3);
        if seed % 2 == 1 {
            listen = listen.without_peer_address();
        }
        builder.listen(listen, &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let peers: Vec<_> = (0..7).map(|_| sim.connect(ADDR, guest())).collect();
        sim.run_for(10 * SECOND);
        let open = peers.iter().filter(|peer| sim.received(**peer) == b"hello").count();
        assert_eq!((open, sim.connections()), (3, 3));
        assert_eq!(refusals(&sim, RefusalCause::ListenerCap), 4);
        sim.quiesce(60 * SECOND);
        sim.finish(SECOND);
    });
}

#[test]
fn a_source_has_its_share_and_others_have_theirs() {
    for_seeds(40, |seed| {
        let mut config = config(2);
        config.max_per_source = 2;
        let mut builder = builder(config);
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        for port in 1..=5 {
            let greedy = SocketAddr::from(([198, 51, 100, 1], port));
            sim.connect_from(greedy, Duration::ZERO, ADDR, guest());
        }
        let modest = SocketAddr::from(([198, 51, 100, 2], 1));
        let modest = sim.connect_from(modest, Duration::ZERO, ADDR, guest());
        sim.run_for(10 * SECOND);
        assert_eq!(sim.received(modest), b"hello");
        assert_eq!(sim.connections(), 3);
        assert_eq!(refusals(&sim, RefusalCause::SourceCap), 3);
        sim.quiesce(60 * SECOND);
        sim.finish(SECOND);
    });
}

#[test]
fn a_full_table_serves_those_who_come_when_there_is_room() {
    for_seeds(60, |seed| {
        let mut config = config(1);
        config.connections_per_shard = 4;
        let mut builder = builder(config);
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let crowd: Vec<_> = (0..12).map(|_| sim.connect(ADDR, guest())).collect();
        sim.run_for(10 * SECOND);
        assert_eq!(sim.connections(), 4);
        sim.run_for(20 * SECOND);
        let served = crowd.iter().filter(|peer| sim.received(**peer) == b"hello").count();
        assert_eq!(served, 4);
        let late = sim.connect(ADDR, Script::new().send("late").finish().expect_echo());
        sim.quiesce(60 * SECOND);
        assert_eq!(sim.state(late), PeerState::Ended);
        sim.finish(SECOND);
    });
}

#[test]
fn a_paused_listener_keeps_who_connects_until_it_goes_on() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(2));
        let id = builder.listen(Listen::tcp(ADDR).name("door"), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let row = |sim: &Sim| sim.handle().endpoints().swap_remove(0);
        let before = sim.connect(ADDR, guest());
        sim.run_for(2 * SECOND);
        assert_eq!((row(&sim).state, row(&sim).accepted), (EndpointState::Open, 1));
        sim.handle().pause(id).unwrap();
        sim.run_for(SECOND);
        let waiting: Vec<_> = (0..5).map(|_| sim.connect(ADDR, guest())).collect();
        sim.run_for(5 * SECOND);
        let served = |sim: &Sim| waiting.iter().filter(|peer| sim.received(**peer) == b"hello").count();
        assert_eq!((served(&sim), row(&sim).state, row(&sim).live), (0, EndpointState::Paused, 1));
        assert_eq!(sim.received(before), b"hello");
        // Twice on the way: what was asked for last holds.
        sim.handle().resume(id).unwrap();
        sim.handle().pause(id).unwrap();
        sim.handle().resume(id).unwrap();
        sim.run_for(5 * SECOND);
        assert_eq!((served(&sim), row(&sim).accepted), (5, 6));
        sim.quiesce(60 * SECOND);
        sim.finish(SECOND);
    });
}

#[test]
fn the_budget_takes_those_who_hold_the_most() {
    for_seeds(60, |seed| {
        let mut config = config(1);
        config.shard_budget = 100_000;
        let mut builder = builder(config);
        let pusher = |_| Pusher { bytes: 60_000, high: usize::MAX };
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, pusher).unwrap();
        builder.listen(Listen::tcp("10.0.0.1:8"), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut faults = Faults::gentle(seed);
        faults.window = 4096;
        let mut sim = simulate(seed, faults, builder);
        let modest = sim.connect("10.0.0.1:8", Script::new().send("hello").wait(5 * SECOND).finish().expect_echo());
        for _ in 0..4 {
            sim.connect(ADDR, Script::new().read(Pace::Stopped).await_end());
        }
        sim.run_for(4 * SECOND);
        let stats = sim.stats().total();
        assert!(stats.send_queue_bytes <= 100_000, "{} bytes held", stats.send_queue_bytes);
        assert!((1..=3).contains(&stats.closes.of(CloseReason::BudgetVictim)));
        sim.quiesce(100 * SECOND);
        assert_eq!(sim.state(modest), PeerState::Ended);
        sim.finish(SECOND);
    });
}

#[test]
fn an_endless_frame_closes_its_connection() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).max_frame(1000);
        builder.listen(listen, &NO_SERVICE, |_| Lines).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        sim.connect(ADDR, Script::new().send("fine\n").send([b'x'; 60_000]).await_end().expect_begun("fine\n"));
        let lines = "one\ntwo\n\nthree\n".repeat(200);
        sim.connect(ADDR, Script::new().send(lines).finish().expect_echo());
        sim.quiesce(60 * SECOND);
        assert_eq!(sim.stats().total().closes.of(CloseReason::FrameTooLarge), 1);
        sim.finish(SECOND);
    });
}

#[test]
fn an_upgrade_keeps_every_byte_and_a_handlers_panic_closes_one_connection() {
    for_seeds(60, |seed| {
        let mut builder = builder(config(2));
        let echo = builder.dialer(Dialer::new(), &NO_SERVICE, |_| Echo::default());
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, move |_| Door(echo)).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        for at in 0..8 {
            let mut rng = sim.rng();
            let script = match at {
                3 => Script::new().send("panic\n").await_end().expect(""),
                _ => Script::new().send("hello\n").send(rng.bytes(5000)).finish().expect_echo(),
            };
            sim.connect(ADDR, script);
        }
        sim.quiesce(60 * SECOND);
        let stats = sim.stats().total();
        assert_eq!((stats.panics, stats.closes.of(CloseReason::HandlerPanic)), (1, 1));
        sim.finish(SECOND);
    });
}

#[test]
fn few_buffers_starve_nobody() {
    for_seeds(100, |seed| {
        let mut config = config(1);
        (config.buffers, config.buffer_size) = (2, 1024);
        let mut builder = builder(config);
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        echo_peers(&mut sim, 20, 20_000);
        sim.quiesce(200 * SECOND);
        sim.finish(SECOND);
    });
}

#[test]
fn who_found_no_buffer_is_served_though_the_others_use_theirs_only_in_part() {
    let starved = Cell::new(0);
    for_seeds(40, |seed| {
        let mut config = config(1);
        (config.buffers, config.buffer_size) = (2, 1024);
        let mut builder = builder(config);
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut faults = Faults::none();
        faults.late = 100;
        let mut sim = simulate(seed, faults, builder);
        for at in 0..12 {
            let len = if at % 2 == 0 { 900 } else { 10 };
            let script = Script::new().send("x").await_bytes(1).wait(SECOND / 10).send(vec![b'y'; len]);
            sim.connect(ADDR, script.await_bytes(1 + len).wait(5 * SECOND).finish().expect_echo());
        }
        sim.quiesce(60 * SECOND);
        starved.update(|starved| starved + sim.stats().total().no_buffers);
        sim.finish(SECOND);
    });
    assert!(starved.get() > 0, "nobody ever starved");
}
