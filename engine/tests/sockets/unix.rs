//! Listening on a path.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use megamux_engine::{Listen, NO_SERVICE, Origin};

use crate::harness::{DEADLINE, builder, drain, echo, eventually, next, telling_echo};

#[test]
fn connections_over_a_unix_socket_have_no_peer_address() {
    let path = std::env::temp_dir().join(format!("megamux-{}.sock", std::process::id()));
    let (opened, opens) = mpsc::channel();
    let mut builder = builder(2);
    builder.listen(Listen::unix(&path), &NO_SERVICE, move |_| telling_echo(&opened)).unwrap();
    let engine = builder.start().unwrap();
    for _ in 0..10 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(b"through the file system").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut echoed = String::new();
        stream.read_to_string(&mut echoed).unwrap();
        assert_eq!(echoed, "through the file system");
        let info = next(&opens);
        assert_eq!((info.peer, info.origin), (None, Origin::Accepted));
    }
    drain(engine);
    let _ = std::fs::remove_file(path);
}

#[test]
fn connections_over_a_unix_socket_are_spread_over_the_shards_in_turn() {
    let path = std::env::temp_dir().join(format!("megamux-spread-{}.sock", std::process::id()));
    let mut builder = builder(3);
    builder.listen(Listen::unix(&path), &NO_SERVICE, |_| echo()).unwrap();
    let engine = builder.start().unwrap();
    let mut clients: Vec<_> = (0..30).map(|_| UnixStream::connect(&path).unwrap()).collect();
    for client in &mut clients {
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(b"whose").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    // What was passed is counted, and gone here, after the other shard may have served it.
    eventually("each shard has its third", || {
        let stats = engine.stats();
        let live: Vec<u64> = stats.shards.iter().map(|shard| shard.connections.total()).collect();
        (live, stats.total().accepts, stats.total().passed) == (vec![10, 10, 10], 30, 20)
    });
    drop(clients);
    drain(engine);
    let _ = std::fs::remove_file(path);
}
