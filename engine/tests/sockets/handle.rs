//! What an operator does to a running engine: lists, kicks, adds and removes listeners.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use megamux_engine::net::Addr;
use megamux_engine::{CloseReason, Engine, Listen, NO_SERVICE};

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
    handle.unlisten(late);
    eventually("nobody listens there", || refused(bound));
    greet(&mut stays);
    greet(&mut Client::connect(addr(&engine)));
    drain(engine);
}

fn refused(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).is_err()
}
