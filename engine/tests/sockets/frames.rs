//! Received frames live as long as whoever holds them likes, wherever that is.

use std::sync::mpsc;

use megamux_engine::{Frame, Listen, NO_SERVICE};

use crate::harness::{Client, On, addr, builder, drain, eventually, next, open_connections, script};

#[test]
fn a_frame_outlives_its_connection_and_its_engine() {
    let (received, frames) = mpsc::channel::<Frame>();
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            let received = received.clone();
            script(move |cx, on| match on {
                On::Data(data) => {
                    while data.len() >= 100 {
                        received.send(data.take(100)).unwrap();
                    }
                    Ok(())
                }
                on => on.echo(cx),
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let client = Client::connect(addr(&engine));
    (0..10).for_each(|number| client.send([number; 100]));
    let held: Vec<Frame> = (0..10).map(|_| next(&frames)).collect();
    drop(client);
    eventually("the connection is closed", || open_connections(engine.handle()) == 0);
    // Other connections' bytes must not end up in what is held here.
    for _ in 0..50 {
        let other = Client::connect(addr(&engine));
        other.send([0xff; 100_000]);
        assert_eq!(next(&frames)[..], [0xff; 100]);
    }
    let check = |number: usize| assert_eq!(held[number][..], [number as u8; 100]);
    (0..10).for_each(check);
    drain(engine);
    (0..10).for_each(check);
}
