//! Pausing and resuming reads: what was sent meanwhile comes later, whole and in order, and not before.

use std::io::{ErrorKind, Write};
use std::sync::mpsc;
use std::time::Duration;

use megamux_engine::{Listen, NO_SERVICE, TimerKey};

use crate::harness::{Client, On, addr, builder, drain, next, script};

#[derive(Debug, PartialEq)]
enum Seen {
    Data(Vec<u8>),
    Resumed,
}

#[test]
fn a_paused_connection_hears_nothing_until_it_resumes() {
    let (seen, sights) = mpsc::channel();
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            let seen = seen.clone();
            script(move |cx, on| {
                match on {
                    On::Data(data) => {
                        seen.send(Seen::Data(data.to_vec())).unwrap();
                        data.consume(data.len());
                        cx.pause_read();
                        cx.set_timer(TimerKey(0), Duration::from_millis(30));
                    }
                    On::Timer(_) => {
                        seen.send(Seen::Resumed).unwrap();
                        cx.resume_read();
                    }
                    on => return on.echo(cx),
                }
                Ok(())
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let client = Client::connect(addr(&engine));
    let mut sent = Vec::new();
    let mut received = Vec::new();
    for round in 0..20_u8 {
        client.send([round; 100]);
        sent.extend([round; 100]);
        if let Seen::Data(data) = next(&sights) {
            received.extend(data);
        } else {
            panic!("resumed without a pause");
        }
        client.send([round, round]);
        sent.extend([round, round]);
        assert_eq!(next(&sights), Seen::Resumed, "data while reading was paused");
    }
    client.finish();
    while received.len() < sent.len() {
        if let Seen::Data(data) = next(&sights) {
            received.extend(data);
        }
    }
    assert_eq!(received, sent);
    drain(engine);
}

#[test]
fn the_pressure_of_a_paused_connection_reaches_its_peer() {
    let mut builder = builder(1);
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, |_| {
            script(|cx, on| {
                if let On::Open(_) = on {
                    cx.pause_read();
                }
                on.echo(cx)
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let client = Client::connect(addr(&engine));
    client.stream().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let blocked = loop {
        if let Err(error) = client.stream().write(&[0; 64 * 1024]) {
            break error.kind();
        }
    };
    assert_eq!(blocked, ErrorKind::WouldBlock);
    // The first receive is armed before the handler is asked, and has credit for so much.
    let read = engine.stats().total().bytes_in;
    assert!(read <= 16 * 1024, "{read} bytes were read");
    engine.handle().stop();
    crate::harness::join(engine);
}
