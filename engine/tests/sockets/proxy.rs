//! Relaying between an accepted and a dialled connection, with the example an embedder learns from.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use megamux_engine::Engine;
use megamux_engine::net::Addr;

use crate::harness::{Client, DEADLINE, addr, drain, eventually, open_connections};

#[path = "../../examples/proxy.rs"]
#[allow(dead_code)]
mod example;

const SIZE: usize = 10 << 20;

/// Bytes that differ by place and by direction.
fn pattern(seed: u8) -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8 ^ seed).collect()
}

/// A relay to an upstream that serves one connection with `serve`.
fn relay<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (Engine, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = Addr::Tcp(listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        serve(stream)
    });
    (example::start("127.0.0.1:0", upstream).unwrap(), served)
}

/// Sends everything and FIN on a thread of its own.
fn send_all(mut stream: TcpStream, bytes: Vec<u8>) -> JoinHandle<()> {
    thread::spawn(move || {
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn ten_mebibytes_go_both_ways_and_each_way_ends_by_itself() {
    let (engine, served) = relay(|stream| {
        let sending = send_all(stream.try_clone().unwrap(), pattern(0x55));
        let received = read_all(&stream);
        sending.join().unwrap();
        received
    });
    let mut client = Client::connect(addr(&engine));
    let sending = send_all(client.stream().try_clone().unwrap(), pattern(0));
    assert!(client.rest() == pattern(0x55));
    sending.join().unwrap();
    assert!(served.join().unwrap() == pattern(0));
    eventually("both sides are closed", || open_connections(engine.handle()) == 0);
    drain(engine);
}

#[test]
fn a_request_that_ends_is_still_answered() {
    let (engine, _served) = relay(|mut stream| {
        let request = read_all(&stream);
        stream.write_all(b"got ").unwrap();
        stream.write_all(&request).unwrap();
    });
    let mut client = Client::connect(addr(&engine));
    client.send("a request");
    client.finish();
    assert_eq!(client.rest(), b"got a request");
    drain(engine);
}

#[test]
fn an_upstream_that_answers_before_it_listens_is_no_deadlock() {
    let (engine, served) = relay(|mut stream| {
        // It takes nothing until all of this is gone, so the relay's queue to it is full all that time.
        stream.write_all(&pattern(0x55)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(&stream)
    });
    let mut client = Client::connect(addr(&engine));
    let sending = send_all(client.stream().try_clone().unwrap(), pattern(0));
    assert!(client.rest() == pattern(0x55));
    sending.join().unwrap();
    assert!(served.join().unwrap() == pattern(0));
    drain(engine);
}

#[test]
fn what_the_client_says_before_the_upstream_is_there_is_not_lost() {
    let (engine, served) = relay(|stream| read_all(&stream));
    let mut client = Client::connect(addr(&engine));
    client.send("early");
    client.finish();
    assert_eq!(served.join().unwrap(), b"early");
    assert_eq!(client.rest(), b"");
    drain(engine);
}

#[test]
fn a_client_of_an_upstream_that_refuses_is_closed() {
    let unused: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let engine = example::start("127.0.0.1:0", Addr::Tcp(unused)).unwrap();
    let mut client = Client::connect(addr(&engine));
    client.expect_end();
    drop(client);
    assert_eq!(engine.stats().total().dials_failed, 1);
    drain(engine);
}

#[test]
fn an_upstream_that_dies_takes_its_client_along_after_its_last_words() {
    let (engine, served) = relay(|mut stream| {
        stream.write_all(b"last words\n").unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        // Closed with bytes unread: the kernel sends RST.
    });
    let mut client = Client::connect(addr(&engine));
    assert_eq!(client.line(), "last words");
    client.send([0; 100_000]);
    served.join().unwrap();
    client.expect_end();
    drop(client);
    eventually("both sides are closed", || open_connections(engine.handle()) == 0);
    drain(engine);
}

#[test]
fn a_slow_reader_stops_its_upstream_and_not_the_relays_memory() {
    let (engine, served) = relay(|mut stream| {
        // Sends until the pressure has come back here.
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let piece = [7; 64 * 1024];
        let mut sent = 0;
        loop {
            match stream.write(&piece) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (stream, sent),
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut client = Client::connect(addr(&engine));
    let (stream, sent) = served.join().unwrap();
    let total = engine.stats().total();
    // One high watermark, and what was under way when it was passed: a credit of receives.
    let bound = example::HIGH + 2 * 128 * 1024;
    assert!(total.send_queue_bytes as usize <= bound, "{} bytes queued", total.send_queue_bytes);
    assert!(total.send_queue_bytes > 0, "the pressure came from somewhere else");
    drop(stream);
    assert_eq!(client.rest().len(), sent, "the slow reader gets everything in the end");
    drain(engine);
}
