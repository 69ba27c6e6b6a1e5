//! One connection, two handlers: the first hands it to the second with what it has read too much.

use std::sync::mpsc;
use std::time::Instant;

use megamux_engine::{CloseReason, Dialer, Listen, NO_SERVICE, Origin};

use crate::harness::{Client, DEADLINE, On, addr, builder, drain, echo, next, script, script_until};

/// Says hello and shouts back.
fn shout() -> impl megamux_engine::Handler<Service = megamux_engine::NoService> {
    script(|cx, on| {
        match on {
            On::Open(info) => {
                assert_eq!(info.origin, Origin::Upgraded);
                cx.send(b"hello\n");
            }
            On::Data(data) => {
                cx.send(&data.to_ascii_uppercase());
                data.consume(data.len());
            }
            on => return on.echo(cx),
        }
        Ok(())
    })
}

#[test]
fn the_second_handler_gets_the_leftover_then_what_was_unread_then_the_rest() {
    let (closed, closes) = mpsc::channel();
    let mut builder = builder(1);
    let to = builder.dialer(Dialer::new(), &NO_SERVICE, |_| shout());
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            let closed = closed.clone();
            let on = move |cx: &mut megamux_engine::Cx<'_, _>, on: On<'_, '_>| match on {
                On::Data(data) if data.starts_with(b"upgrade\n") => {
                    data.consume(8);
                    cx.upgrade(to, b"kept, ");
                    Ok(())
                }
                On::Data(_) => Ok(()),
                on => on.echo(cx),
            };
            script_until(on, move |why| closed.send(why).unwrap())
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let mut client = Client::connect(addr(&engine));
    client.send("upgrade\nunread, ");
    assert_eq!(client.line(), "hello");
    assert_eq!(next(&closes), CloseReason::Upgraded);
    client.send("and the rest\n");
    assert_eq!(client.line(), "KEPT, UNREAD, AND THE REST");
    drain(engine);
}

#[test]
fn the_leftover_does_not_wait_for_more_bytes() {
    let mut builder = builder(1);
    let to = builder.dialer(Dialer::new(), &NO_SERVICE, |_| echo());
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            script(move |cx, on| match on {
                On::Data(data) => {
                    cx.upgrade(to, &data.take_all());
                    Ok(())
                }
                on => on.echo(cx),
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let began = Instant::now();
    // A shard that sleeps over one wakes within a second: so there are many, and all of them stay.
    let upgraded = |_| {
        let mut client = Client::connect(addr(&engine));
        client.send("now\n");
        assert_eq!(client.line(), "now");
        client
    };
    let clients: Vec<Client> = (0..100).map(upgraded).collect();
    assert!(began.elapsed() < DEADLINE / 10, "the shard slept over them");
    drop(clients);
    drain(engine);
}
