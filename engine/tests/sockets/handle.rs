//! What an operator does to a running engine: lists, kicks, adds and removes listeners.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use megamux_engine::net::Addr;
use megamux_engine::stats::Value;
use megamux_engine::{
    CloseReason, ConnId, Dialer, EndpointKind, EndpointState, Engine, Input, Listen, NO_SERVICE, NotTaken, Placement,
    Scope, Service, ServiceCx, Subscribe,
};

use crate::harness::{Client, addr, builder, drain, echo, eventually, next, script_until};

fn greet(client: &mut Client) {
    client.send("hello\n");
    assert_eq!(client.line(), "hello");
}

/// All rows of all shards.
fn list(engine: &Engine) -> Vec<megamux_engine::ConnRow> {
    let (answered, answers) = mpsc::channel();
    let shards = engine.handle().connections(usize::MAX, move |answer| answered.send(answer).unwrap());
    (0..shards).flat_map(|_| next(&answers).rows).collect()
}

#[test]
fn a_listing_has_every_connection_with_its_figures() {
    let mut builder = builder(2);
    builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| echo()).unwrap();
    let engine = builder.start().unwrap();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(addr(&engine))).collect();
    clients.iter_mut().for_each(greet);
    let rows = list(&engine);
    let peers: BTreeSet<_> = rows.iter().filter_map(|row| row.info.peer).collect();
    assert_eq!(peers, clients.iter().map(Client::local).collect());
    assert_eq!(rows.len(), 10);
    for row in rows {
        assert_eq!((row.bytes_in, row.queued_bytes, row.unread_bytes), (6, 0, 0));
        assert!(row.idle <= row.age);
    }
    let (answered, answers) = mpsc::channel();
    engine.handle().connections(1, move |answer| answered.send((answer.rows.len(), answer.total)).unwrap());
    let (first, second) = (next(&answers), next(&answers));
    assert!(first.0 <= 1 && second.0 <= 1, "no more rows than were asked for");
    assert_eq!(first.1 + second.1, 10);
    drain(engine);
}

#[test]
fn a_kicked_connection_closes_and_no_other() {
    let (closed, closes) = mpsc::channel();
    let mut builder = builder(2);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            let closed = closed.clone();
            script_until(|cx, on| on.echo(cx), move |why| closed.send(why).unwrap())
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(addr(&engine))).collect();
    clients.iter_mut().for_each(greet);
    let mut victim = clients.remove(2);
    let rows = list(&engine);
    let row = rows.iter().find(|row| row.info.peer == Some(victim.local())).unwrap();
    engine.handle().close(row.info.id, CloseReason::Kicked).unwrap();
    victim.expect_end();
    assert_eq!(next(&closes), CloseReason::Kicked);
    eventually("it is off the list", || list(&engine).len() == 3);
    // Its name means nobody now: not the next connection in its slot, either.
    let mut next_one = Client::connect(addr(&engine));
    greet(&mut next_one);
    engine.handle().close(row.info.id, CloseReason::Kicked).unwrap();
    greet(&mut next_one);
    clients.iter_mut().for_each(greet);
    drain(engine);
}

#[test]
fn a_listener_comes_and_goes_while_the_engine_runs() {
    let mut builder = builder(2);
    builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| echo()).unwrap();
    let engine = builder.start().unwrap();
    let handle = engine.handle();
    let late = handle.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| echo()).unwrap();
    let (_, bound) = handle.local_addrs().into_iter().find(|(id, _)| *id == late).unwrap();
    let Addr::Tcp(bound) = bound else { panic!("{bound}") };
    let mut stays = Client::connect(bound);
    greet(&mut stays);
    let taken = handle.listen(Listen::addr(Addr::Tcp(addr(&engine))), &NO_SERVICE, |_| echo());
    assert!(taken.is_err(), "that address is taken");
    let state = || handle.endpoints().into_iter().find(|row| row.id == late).map(|row| row.state);
    assert_eq!(state(), Some(EndpointState::Open));
    handle.unlisten(late);
    eventually("nobody listens there", || refused(bound) && state() == Some(EndpointState::Closed));
    greet(&mut stays);
    greet(&mut Client::connect(addr(&engine)));
    drain(engine);
}

fn refused(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).is_err()
}

#[test]
fn one_connection_can_be_asked_for_by_its_name() {
    let mut builder = builder(2);
    builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| echo()).unwrap();
    let engine = builder.start().unwrap();
    let mut client = Client::connect(addr(&engine));
    greet(&mut client);
    let id = list(&engine)[0].info.id;
    let ask = |id: ConnId| {
        let (answered, answers) = mpsc::channel();
        engine.handle().connection(id, move |row| answered.send(row).unwrap()).unwrap();
        next(&answers)
    };
    let row = ask(id).expect("it is there");
    assert_eq!((row.info.id, row.info.peer, row.bytes_in), (id, Some(client.local()), 6));
    drop(client);
    eventually("its name means nobody", || ask(id).is_none());
    let nowhere = ConnId::from_bits(u64::MAX);
    let refused = engine.handle().connection(nowhere, |_| unreachable!("that shard does not exist"));
    assert_eq!(refused, Err(NotTaken(nowhere.shard())));
    drain(engine);
}

#[test]
fn a_handle_tells_whether_its_engine_drains() {
    let engine = builder(1).start().unwrap();
    let handle = engine.handle().clone();
    assert!(!handle.is_draining());
    drain(engine);
    assert!(handle.is_draining());
}

#[test]
fn publishing_tells_how_many_heard_of_it() {
    struct Listener;

    impl Service for Listener {
        type In = ();
        type Out = ();
        const SCOPE: Scope = Scope::Connection;

        fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, _: ConnId, _: Input<()>) {}
    }

    impl Subscribe<u32> for Listener {
        fn on_published(&mut self, _: &mut ServiceCx<'_, Self>, _: &u32) {}
    }

    let mut builder = builder(2);
    let one = builder.service("one", Placement::Thread, || Listener).unwrap();
    let each = builder.service("each", Placement::PerShard, || Listener).unwrap();
    builder.subscribe::<u32, _>(&one);
    builder.subscribe::<u32, _>(&each);
    let engine = builder.start().unwrap();
    assert_eq!(engine.handle().publish(7u32), Ok(3));
    assert_eq!(engine.handle().publish("nobody hears of words"), Ok(0));
    drain(engine);
}

#[test]
fn endpoints_and_services_are_listed_by_name() {
    struct Quiet;

    impl Service for Quiet {
        type In = ();
        type Out = ();
        const SCOPE: Scope = Scope::Node;

        fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, _: ConnId, _: Input<()>) {}
    }

    let mut builder = builder(2);
    builder.service("quiet", Placement::Thread, || Quiet).unwrap();
    let door = builder.listen(Listen::tcp("127.0.0.1:0").name("door"), &NO_SERVICE, |_| echo()).unwrap();
    let dialer = builder.dialer(Dialer::new(), &NO_SERVICE, |_| echo());
    let engine = builder.start().unwrap();
    let mut client = Client::connect(addr(&engine));
    greet(&mut client);

    let stats = engine.stats();
    let [listener, outward] = &stats.endpoints[..] else { panic!("{:?}", stats.endpoints) };
    assert_eq!((&*listener.name, listener.kind, listener.state), ("door", EndpointKind::Listener, EndpointState::Open));
    assert_eq!((listener.live, listener.accepted, listener.refused), (1, 1, 0));
    assert_eq!(listener.addr, Some(Addr::Tcp(addr(&engine))));
    assert_eq!((&*outward.name, outward.kind, &outward.addr), ("1", EndpointKind::Dialer, &None));
    assert_eq!(engine.handle().endpoint_name(door).as_deref(), Some("door"));
    assert_eq!(engine.handle().endpoint_name(dialer).as_deref(), Some("1"));
    let [quiet] = &stats.services[..] else { panic!("{:?}", stats.services) };
    assert_eq!((&*quiet.name, quiet.placement, quiet.panics, quiet.given_up), ("quiet", Placement::Thread, 0, false));
    let named = |name, word| {
        let metric = stats.metrics().find(|metric| metric.name == name && metric.labels.own == Some(word));
        metric.map(|metric| metric.value)
    };
    assert_eq!(named("megamux_endpoint_connections", ("endpoint", "door")), Some(Value::Count(1)));
    assert_eq!(named("megamux_endpoint_paused", ("endpoint", "door")), Some(Value::Count(0)));
    assert_eq!(named("megamux_service_restarts_total", ("service", "quiet")), Some(Value::Count(0)));
    drain(engine);
}

#[test]
fn a_shard_tells_its_threads_time_and_its_rings_size() {
    let engine = builder(1).start().unwrap();
    let handle = engine.handle().clone();
    let running = &handle.stats().shards[0];
    match handle.driver().unwrap().driver {
        "uring" => {
            assert!(running.submission_entries > 0 && running.completion_entries >= 2 * running.submission_entries)
        }
        _ => assert_eq!((running.submission_entries, running.completion_entries), (0, 0)),
    }
    assert!(running.cpu_ns > 0);
    drain(engine);
    let ended = handle.stats().shards[0].cpu_ns;
    assert!(ended >= running.cpu_ns);
    assert_eq!(handle.stats().shards[0].cpu_ns, ended);
}
