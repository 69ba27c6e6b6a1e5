//! Draining: services say good-bye first, then handlers, and what is owed is sent before the end.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use megamux_engine::{
    CloseReason, ConnId, ConnInfo, Cx, Handler, Input, Listen, NO_SERVICE, Placement, RecvBuf, Scope, Service,
    ServiceCx, TimerKey,
};

use crate::harness::{Client, DEADLINE, On, addr, builder, drain, join, script};

/// Says good-bye to everybody.
#[derive(Default)]
struct Host(BTreeSet<ConnId>);

impl Service for Host {
    type In = ();
    type Out = &'static str;
    const SCOPE: Scope = Scope::Node;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<()>) {
        match input {
            Input::Open(_) => {
                self.0.insert(conn);
                cx.send(conn, "welcome\n");
            }
            Input::Frame(()) => {}
            Input::Close(_) => {
                self.0.remove(&conn);
            }
        }
    }

    fn on_drain(&mut self, cx: &mut ServiceCx<'_, Self>) {
        self.0.iter().for_each(|conn| cx.send(*conn, "the service says good-bye\n"));
    }
}

struct Guest;

impl Handler for Guest {
    type Service = Host;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, Host>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, _: &mut Cx<'_, Host>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        data.consume(data.len());
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Host>, (): &mut (), event: &'static str) -> Result<(), CloseReason> {
        cx.send(event.as_bytes());
        Ok(())
    }

    fn on_drain(&mut self, cx: &mut Cx<'_, Host>, (): &mut ()) -> Result<(), CloseReason> {
        cx.send(b"and so does the handler\n");
        Err(CloseReason::Drained)
    }
}

#[track_caller]
fn check_good_byes(placement: Placement) {
    let mut builder = builder(2);
    let host = builder.service("host", placement, Host::default).unwrap();
    builder.listen(Listen::tcp("127.0.0.1:0"), &host, |_| Guest).unwrap();
    let engine = builder.start().unwrap();
    let addr = addr(&engine);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        assert_eq!(client.line(), "welcome");
    }
    engine.drain(DEADLINE);
    for client in &mut clients {
        assert_eq!(client.line(), "the service says good-bye");
        assert_eq!(client.line(), "and so does the handler");
        client.expect_end();
    }
    join(engine);
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}

#[test]
fn the_services_good_bye_comes_before_the_handlers_and_then_the_end() {
    check_good_byes(Placement::Thread);
}

#[test]
fn so_it_does_when_the_service_runs_on_a_shard() {
    check_good_byes(Placement::Shard(megamux_engine::ShardId(1)));
}

#[test]
fn a_handler_may_take_its_time_until_the_deadline() {
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| {
            script(|cx, on| match on {
                On::Drain => {
                    cx.set_timer(TimerKey(0), Duration::from_millis(20));
                    Ok(())
                }
                On::Timer(_) => {
                    cx.send(b"done\n");
                    Err(CloseReason::Drained)
                }
                on => on.echo(cx),
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let mut client = Client::connect(addr(&engine));
    client.send("ready?\n");
    assert_eq!(client.line(), "ready?");
    engine.drain(DEADLINE);
    assert_eq!(client.line(), "done");
    client.expect_end();
    join(engine);
}

#[test]
fn what_is_left_at_the_deadline_is_reset() {
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| {
            script(|cx, on| match on {
                On::Drain => Ok(()),
                on => on.echo(cx),
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let mut client = Client::connect(addr(&engine));
    client.send("ready?\n");
    assert_eq!(client.line(), "ready?");
    let began = Instant::now();
    engine.drain(Duration::from_millis(100));
    client.expect_end();
    join(engine);
    assert!(began.elapsed() >= Duration::from_millis(100), "it had until then");
}

#[test]
fn a_long_good_bye_arrives_though_the_peer_was_not_listened_to() {
    static GOOD_BYE: [u8; 1 << 20] = [b'.'; 1 << 20];
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| {
            script(|cx, on| match on {
                On::Data(data) => {
                    cx.send_frame(data.take_all());
                    cx.pause_read();
                    Ok(())
                }
                On::Drain => {
                    cx.send(&GOOD_BYE);
                    Err(CloseReason::Drained)
                }
                on => on.echo(cx),
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let mut client = Client::connect(addr(&engine));
    client.send("ready?\n");
    assert_eq!(client.line(), "ready?");
    client.send([b'x'; 500_000]);
    engine.drain(DEADLINE);
    assert!(client.rest() == GOOD_BYE);
    drop(client);
    join(engine);
}

#[test]
fn an_engine_without_connections_drains_at_once() {
    let mut builder = builder(2);
    let host = builder.service("host", Placement::Thread, Host::default).unwrap();
    builder.listen(Listen::tcp("127.0.0.1:0"), &host, |_| Guest).unwrap();
    drain(builder.start().unwrap());
}
