//! Where a server listens and runs: shards more than cores, pinned shards, IPv6, Unix sockets.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use megamux_system_tests::{Caps, Directory, Options, connect_all, echo, scenarios, skip};

scenarios! {
    five_shards_share_the_connections
    shards_run_where_they_are_pinned
    echoes_over_ipv6
    echoes_over_a_unix_socket
}

fn five_shards_share_the_connections(caps: Caps) {
    let Some(mut server) = Options::new(caps).set("shards", 5).start() else {
        return;
    };
    let mut streams = connect_all(server.echo(), 500);
    for stream in &mut streams {
        echo(stream, b"hello").expect("it is served");
    }
    let figures = server.metrics().figures();
    for shard in 0..5 {
        let accepts = figures.sum("megamux_accepts_total", &format!("shard=\"{shard}\""));
        assert!(accepts >= 50, "shard {shard} has {accepts} of 500");
    }
    drop(streams);
    server.is_well();
}

fn shards_run_where_they_are_pinned(caps: Caps) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let last = cpus - 1;
    let options = Options::new(caps).set("shards", 3);
    let Some(server) = options.clone().set("pin", last).start() else {
        return;
    };
    for shard in 0..3 {
        let cpus = server.usage().cpus_of(&format!("shard-{shard}"));
        assert_eq!(cpus, [last.to_string()], "shard {shard}");
    }
    let server = options.set("pin", "none").start().expect("it started before");
    // Wherever the process may run.
    let usage = server.usage();
    assert_eq!(usage.cpus_of("shard-0"), [usage.cpus()]);
}

fn echoes_over_ipv6(caps: Caps) {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        return skip(&format!("no IPv6: {error}"));
    }
    let Some(mut server) = Options::new(caps).set("echo", "[::1]:0").start() else {
        return;
    };
    for stream in &mut connect_all(server.echo(), 10) {
        echo(stream, b"hello").expect("it is served");
    }
    server.is_well();
}

fn echoes_over_a_unix_socket(caps: Caps) {
    let place = Directory::new();
    let path = place.path("echo");
    let options = Options::new(caps).set("shards", 2);
    let listen = format!("unix:{}", path.display());
    let Some(mut server) = options.set("echo", &listen).start() else {
        return;
    };
    assert_eq!(server.word("echo"), listen);
    let mut streams: Vec<_> = (0..10).map(|_| UnixStream::connect(&path).expect("the server accepts")).collect();
    for stream in &mut streams {
        echo(stream, b"hello").expect("it is served");
    }
    drop(streams);
    server.is_well();
}
