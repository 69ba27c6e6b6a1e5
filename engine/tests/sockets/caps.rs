//! Caps on connections: who is refused is counted by cause, and what closes makes room.

use std::sync::mpsc;

use megamux_engine::stats::RefusalCause;
use megamux_engine::{Config, DriverChoice, Engine, Listen, NO_SERVICE};

use crate::harness::{Client, addr, config, drain, echo, eventually, next, open_connections, telling_echo};

/// Opens connections up to a cap of two, then one more.
#[track_caller]
fn check(set: impl FnOnce(&mut Config), listen: Listen, cause: RefusalCause) {
    let mut config = config(2);
    set(&mut config);
    let mut builder = Engine::builder(config).unwrap();
    builder.listen(listen, &NO_SERVICE, |_| echo()).unwrap();
    let engine = builder.start().unwrap();
    let connect = || {
        let mut client = Client::connect(addr(&engine));
        client.send("in\n");
        assert_eq!(client.line(), "in");
        client
    };
    let (first, _second) = (connect(), connect());
    Client::connect(addr(&engine)).expect_end();
    let refusals = engine.stats().total().refusals;
    assert_eq!((refusals.of(cause), refusals.total()), (1, 1));
    drop(first);
    eventually("the first is closed", || open_connections(engine.handle()) == 1);
    connect();
    drain(engine);
}

fn listen() -> Listen {
    Listen::tcp("127.0.0.1:0")
}

#[test]
fn a_source_has_its_cap() {
    for listen in [listen(), listen().without_peer_address()] {
        check(|config| config.max_per_source = 2, listen, RefusalCause::SourceCap);
    }
}

#[test]
fn the_engine_has_its_cap() {
    for listen in [listen(), listen().without_peer_address()] {
        check(|config| config.max_connections = 2, listen, RefusalCause::TotalCap);
    }
}

#[test]
fn a_listener_has_its_cap() {
    check(|_| {}, listen().max_connections(2), RefusalCause::ListenerCap);
}

#[test]
fn addresses_that_nobody_wants_stay_unknown() {
    for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
        let mut config = config(2);
        config.driver = driver;
        let mut builder = Engine::builder(config).unwrap();
        let (opened, opens) = mpsc::channel();
        builder.listen(listen().without_peer_address(), &NO_SERVICE, move |_| telling_echo(&opened)).unwrap();
        let engine = builder.start().unwrap();
        let clients: Vec<_> = (0..20).map(|_| Client::connect(addr(&engine))).collect();
        for mut client in clients {
            assert_eq!(next(&opens).peer, None);
            client.send("in\n");
            assert_eq!(client.line(), "in");
        }
        drain(engine);
    }
}
