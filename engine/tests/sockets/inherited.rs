//! Listening on a socket that somebody else bound.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use std::sync::mpsc;

use megamux_engine::{DriverChoice, Engine, Listen, NO_SERVICE};

use crate::harness::{DEADLINE, addr, builder, config, drain, echo, eventually, next, telling_echo};

fn echoes(mut stream: impl Read + Write) {
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

#[test]
fn the_shards_share_a_socket_that_was_bound_before() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = listener.local_addr().unwrap();
    // Connected before there is an engine: nobody is lost at a start.
    let early = TcpStream::connect(bound).unwrap();
    let mut builder = builder(2);
    let listen = Listen::inherited(listener.into()).unwrap();
    builder.listen(listen, &NO_SERVICE, |_| echo()).unwrap();
    let engine = builder.start().unwrap();
    assert_eq!(addr(&engine), bound);
    for stream in [early, TcpStream::connect(bound).unwrap()] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        echoes(stream);
    }
    drain(engine);
    assert!(TcpStream::connect(bound).is_err(), "the engine had the last descriptor");
}

#[test]
fn a_running_engine_takes_one_over() {
    let path = std::env::temp_dir().join(format!("megamux-inherited-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let engine = builder(1).start().unwrap();
    let listen = Listen::inherited(listener.into()).unwrap();
    engine.handle().listen(listen, &NO_SERVICE, |_| echo()).unwrap();
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    echoes(stream);
    drain(engine);
    std::fs::remove_file(path).unwrap();
}

fn connections_are_spread_with_their_peers(addr: &str, driver: DriverChoice) {
    let listener = TcpListener::bind(addr).unwrap();
    let bound = listener.local_addr().unwrap();
    let (opened, opens) = mpsc::channel();
    let mut config = config(3);
    config.driver = driver;
    let mut builder = Engine::builder(config).unwrap();
    let listen = Listen::inherited(listener.into()).unwrap();
    builder.listen(listen, &NO_SERVICE, move |_| telling_echo(&opened)).unwrap();
    let engine = builder.start().unwrap();
    let mut clients = Vec::new();
    for _ in 0..30 {
        let client = TcpStream::connect(bound).unwrap();
        assert_eq!(next(&opens).peer, Some(client.local_addr().unwrap()));
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        echoes(&client);
        clients.push(client);
    }
    eventually("each shard has its third", || {
        let stats = engine.stats();
        let live: Vec<u64> = stats.shards.iter().map(|shard| shard.connections.total()).collect();
        (live, stats.total().passed) == (vec![10, 10, 10], 20)
    });
    drop(clients);
    drain(engine);
}

#[test]
fn connections_are_spread_in_turn_and_keep_their_peers_addresses() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        connections_are_spread_with_their_peers(addr, DriverChoice::Auto);
        connections_are_spread_with_their_peers(addr, DriverChoice::Epoll);
    }
}
