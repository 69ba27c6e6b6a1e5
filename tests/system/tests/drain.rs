//! The end in order: what was asked for is answered, nobody can hold it up, and a second signal ends it at once.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use megamux_system_tests::{Caps, DEADLINE, Ended, Load, Options, connect, read_to_end, scenarios, wait_until};
use rustix::process::Signal;

/// More than the sockets of a connection hold, so that an answer is still with the server; less than the server stops
/// reading at.
const REQUEST: usize = 200_000;

scenarios! {
    what_is_in_flight_is_answered
    a_loaded_server_drains
    a_peer_that_never_reads_holds_up_nothing
    a_second_signal_ends_it_at_once
}

fn what_is_in_flight_is_answered(caps: Caps) {
    let Some(mut server) = Options::new(caps).start() else {
        return;
    };
    let mut metrics = server.metrics();
    let request: Vec<_> = (0..REQUEST).map(|at| at as u8).collect();
    let mut streams: Vec<_> = (0..10).map(|_| connect(server.echo())).collect();
    for stream in &mut streams {
        stream.write_all(&request).expect("the server reads");
    }
    let all = (streams.len() * REQUEST) as u64;
    wait_until("all is asked", || metrics.sum("megamux_received_bytes_total") >= all);

    server.signal(Signal::TERM);
    for stream in &mut streams {
        let (answer, ended) = read_to_end(stream);
        assert!(answer == request, "{} of {REQUEST} bytes", answer.len());
        assert_eq!(ended, Ended::InOrder);
    }
    assert_eq!(server.wait(DEADLINE).and_then(|status| status.code()), Some(0));
}

fn a_loaded_server_drains(caps: Caps) {
    let options = Options::new(caps).set("shards", 2);
    let Some(mut server) = options.set("drain-timeout", "10s").start() else {
        return;
    };
    let load = Load::start(server.echo(), 500);
    let mut metrics = server.metrics();
    wait_until("the load runs", || metrics.sum("megamux_received_bytes_total") > 1 << 20);

    let began = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(load.join().ended, 500, "the server closes every connection");
    assert_eq!(server.wait(DEADLINE).and_then(|status| status.code()), Some(0));
    let took = began.elapsed();
    eprintln!("drained in {took:?}");
    assert!(took < Duration::from_secs(5), "half of the deadline: {took:?}");
}

fn a_peer_that_never_reads_holds_up_nothing(caps: Caps) {
    let options = Options::new(caps).set("drain-timeout", "1s");
    let Some(mut server) = options.start() else {
        return;
    };
    let deaf = fill(connect(server.echo()));
    let began = Instant::now();
    server.signal(Signal::TERM);
    let status = server.wait(DEADLINE).expect("the deadline holds");
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "a second, and what it takes to end: {took:?}");
    drop(deaf);
}

fn a_second_signal_ends_it_at_once(caps: Caps) {
    let options = Options::new(caps).set("drain-timeout", "60s");
    let Some(mut server) = options.start() else {
        return;
    };
    let deaf = fill(connect(server.echo()));
    server.signal(Signal::TERM);
    // The drain has begun when nobody is let in any more.
    wait_until("it drains", || TcpStream::connect(server.echo()).is_err());
    assert!(server.is_alive(), "somebody still has to be answered");

    server.signal(Signal::TERM);
    let status = server.wait(Duration::from_secs(2)).expect("it ends at once");
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    drop(deaf);
}

/// Sends until the server takes no more.
fn fill(mut stream: TcpStream) -> TcpStream {
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let full = loop {
        if let Err(error) = stream.write(&[1; 65_536]) {
            break error.kind();
        }
    };
    assert_eq!(full, ErrorKind::WouldBlock);
    stream
}
