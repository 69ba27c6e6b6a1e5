//! A server that is killed under load, and the next one on the same ports.
//!
//! The kernel takes a killed process's rings apart after the process is gone. Until then their listeners may still stand,
//! on a port that the next server shares with them.

use std::os::unix::net::UnixStream;

use megamux_system_tests::{Caps, Directory, Load, Options, connect, echo, scenarios, wait_until};

const CONNECTIONS: usize = 200;
const RESTARTS: usize = 5;

scenarios! {
    one_shard_is_killed_and_started_again
    two_shards_are_killed_and_started_again
    a_unix_socket_is_taken_over
    a_port_that_is_taken_is_an_error
}

fn one_shard_is_killed_and_started_again(caps: Caps) {
    is_killed_and_started_again(caps, 1);
}

fn two_shards_are_killed_and_started_again(caps: Caps) {
    is_killed_and_started_again(caps, 2);
}

fn is_killed_and_started_again(caps: Caps, shards: usize) {
    let Some(mut server) = Options::new(caps).set("shards", shards).start() else {
        return;
    };
    for _ in 0..RESTARTS {
        let addr = server.echo();
        let successor = server.successor();
        let load = Load::start(addr, CONNECTIONS);
        let mut metrics = server.metrics();
        wait_until("the load runs", || metrics.sum("megamux_received_bytes_total") > 1 << 20);

        server.kill();
        server = successor.start().expect("its port is free at once");

        assert_eq!(load.join().ended, CONNECTIONS);
        for _ in 0..CONNECTIONS {
            echo(&mut connect(addr), b"after").expect("every new connection is served");
        }
    }
    server.is_well();
}

fn a_unix_socket_is_taken_over(caps: Caps) {
    let place = Directory::new();
    let path = place.path("echo");
    let options = Options::new(caps).set("echo", format!("unix:{}", path.display()));
    let Some(mut server) = options.start() else {
        return;
    };
    for _ in 0..RESTARTS {
        let mut early = UnixStream::connect(&path).expect("the server accepts");
        echo(&mut early, b"before").expect("the server echoes");
        server.kill();
        server = options.start().expect("its path is free at once");
        let mut late = UnixStream::connect(&path).expect("the server accepts");
        echo(&mut late, b"after").expect("the server echoes");
    }
    server.is_well();
}

fn a_port_that_is_taken_is_an_error(caps: Caps) {
    let Some(server) = Options::new(caps).start() else {
        return;
    };
    // A second server would have to share the port, which two shards know how to do.
    for shards in [1, 2] {
        let (status, said) = server.successor().set("shards", shards).run();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("Address already in use"), "{said}");
    }
}
