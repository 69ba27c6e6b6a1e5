//! Services behind real connections: late replies, and panics on either side of the lane.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, Sender};

use megamux_engine::{
    Builder, CloseReason, ConnId, ConnInfo, Cx, EndpointCx, Engine, Frame, Handler, Input, Listen, NO_SERVICE,
    Placement, RecvBuf, Scope, Service, ServiceCx,
};

use crate::harness::{Client, On, addr, builder, drain, eventually, join, next, script_until};

/// Counts lines and says how many there were. Knows a few words of power.
#[derive(Default)]
struct Counter {
    lines: usize,
    conns: BTreeSet<ConnId>,
}

impl Service for Counter {
    type In = Frame;
    type Out = String;
    const SCOPE: Scope = Scope::Node;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<Frame>) {
        match input {
            Input::Open(_) => {
                self.conns.insert(conn);
            }
            // Closes are not noticed: so it answers to connections that are gone.
            Input::Close(_) => {}
            Input::Frame(line) if &line[..] == b"panic\n" => {
                panic!("the line this service cannot bear")
            }
            Input::Frame(line) if &line[..] == b"all\n" => {
                self.conns.iter().for_each(|conn| cx.send(*conn, "all".into()));
            }
            Input::Frame(line) if &line[..] == b"close\n" => {
                cx.send(conn, "closing".into());
                cx.close(conn, CloseReason::Requested);
            }
            Input::Frame(_) => {
                self.lines += 1;
                cx.send(conn, self.lines.to_string());
            }
        }
    }
}

/// Lines to the service, its words back.
struct Lines(Sender<CloseReason>);

impl Handler for Lines {
    type Service = Counter;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, Counter>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, Counter>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let Some(permit) = cx.try_reserve() else {
                break;
            };
            permit.send(data.take(end + 1));
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Counter>, (): &mut (), event: String) -> Result<(), CloseReason> {
        cx.send(format!("{event}\n").as_bytes());
        Ok(())
    }

    fn on_close(&mut self, _: &mut EndpointCx<'_, Counter>, (): (), why: CloseReason) {
        let _ = self.0.send(why);
    }
}

fn counting(mut builder: Builder, placement: Placement) -> (Engine, Receiver<CloseReason>) {
    let (closed, closes) = mpsc::channel();
    let counter = builder.service("counter", placement, Counter::default).unwrap();
    builder.listen(Listen::tcp("127.0.0.1:0"), &counter, move |_| Lines(closed.clone())).unwrap();
    (builder.start().unwrap(), closes)
}

#[test]
fn replies_to_a_connection_that_is_gone_are_counted() {
    let (engine, closes) = counting(builder(2), Placement::Thread);
    let mut gone = Client::connect(addr(&engine));
    gone.send("first\n");
    assert_eq!(gone.line(), "1");
    drop(gone);
    assert_eq!(next(&closes), CloseReason::PeerClosed);
    let mut here = Client::connect(addr(&engine));
    here.send("all\n");
    assert_eq!(here.line(), "all");
    eventually("one reply found nobody", || engine.stats().total().replies_gone == 1);
    drain(engine);
}

#[test]
fn a_service_closes_a_connection_after_what_it_said_before() {
    let (engine, closes) = counting(builder(2), Placement::Thread);
    let mut client = Client::connect(addr(&engine));
    client.send("close\n");
    assert_eq!(client.rest(), b"closing\n");
    drop(client);
    assert_eq!(next(&closes), CloseReason::Requested);
    drain(engine);
}

#[track_caller]
fn check_restart(placement: Placement) {
    let (engine, closes) = counting(builder(2), placement);
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(addr(&engine))).collect();
    for (number, client) in (1..).zip(&mut clients) {
        client.send("hello\n");
        assert_eq!(client.line(), number.to_string());
    }
    clients[3].send("panic\n");
    for client in &mut clients {
        client.expect_end();
        assert_eq!(next(&closes), CloseReason::ServicePanic);
    }
    let mut late = Client::connect(addr(&engine));
    late.send("hello\n");
    assert_eq!(late.line(), "1", "the new service has not heard of the old one");
    assert_eq!(engine.stats().service_panics, 1);
    drain(engine);
}

#[test]
fn a_service_that_panics_is_made_anew_and_its_connections_are_closed() {
    check_restart(Placement::Thread);
}

#[test]
fn so_is_one_that_runs_on_a_shard() {
    check_restart(Placement::Shard(megamux_engine::ShardId(0)));
}

#[test]
fn an_engine_whose_service_panics_too_often_drains() {
    let (engine, _closes) = counting(builder(1), Placement::Thread);
    let addr = addr(&engine);
    for _ in 0..6 {
        let mut client = Client::connect(addr);
        client.send("panic\n");
        client.expect_end();
    }
    assert_eq!(engine.stats().service_panics, 6);
    join(engine);
}

#[test]
fn a_handler_that_panics_loses_that_connection_only() {
    let (closed, closes) = mpsc::channel();
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            let closed = closed.clone();
            let on = |cx: &mut Cx<'_, _>, on: On<'_, '_>| match &on {
                On::Data(data) if data.starts_with(b"panic") => {
                    panic!("the bytes this handler cannot bear")
                }
                _ => on.echo(cx),
            };
            script_until(on, move |why| closed.send(why).unwrap())
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let mut others: Vec<Client> = (0..4).map(|_| Client::connect(addr(&engine))).collect();
    let mut victim = Client::connect(addr(&engine));
    victim.send("panic");
    victim.expect_end();
    assert_eq!(next(&closes), CloseReason::HandlerPanic);
    for other in &mut others {
        other.send("still here\n");
        assert_eq!(other.line(), "still here");
    }
    assert_eq!(engine.stats().total().panics, 1);
    drain(engine);
}
