//! Clients that ask for much and read nothing, beside clients that behave.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use megamux_system_tests::{Caps, Load, Options, Server, Usage, connect, ends_within, reset, scenarios, wait_until};

const GOOD: usize = 1_980;
const SPAN: Duration = Duration::from_secs(2);

scenarios! {
    slow_readers_cost_bounded_memory_and_harm_nobody
    a_slow_reader_misses_nothing
}

fn slow_readers_cost_bounded_memory_and_harm_nobody(caps: Caps) {
    let options = Options::new(caps).set("telnet", "127.0.0.1:0");
    let Some(mut server) = options.start() else {
        return;
    };
    let alone = Load::run(server.echo(), GOOD, SPAN);
    let before = server.usage().memory();

    let slow = slow_readers(&server);
    let beside = Load::run(server.echo(), GOOD, SPAN);
    let grown = server.usage().memory().saturating_sub(before);
    eprintln!(
        "p99 {:?} alone, {:?} beside slow readers; {:.0} and {:.0} round trips a second; {} KiB more",
        alone.p99(),
        beside.p99(),
        alone.rate(),
        beside.rate(),
        grown >> 10,
    );
    Usage::bounded("slow readers", grown, MOST_MEMORY);
    beside.is_near(&alone);
    slow.into_iter().for_each(reset);
    server.is_well();
}

/// Not a scenario of both kinds: it is one of the clock alone.
#[test]
fn who_reads_nothing_for_half_a_minute_is_closed() {
    let Some(mut server) = Options::new(Caps::All).start() else {
        return;
    };
    let mut stream = connect(server.echo());
    ask_until_full(&mut stream, |_| 0);
    // Bytes to read are no news; the end of the connection is.
    assert!(ends_within(&stream, Duration::from_secs(45)), "it stays");
    let stalls = server.metrics().sum_of("megamux_closes_total", "reason=\"write_stall\"");
    assert_eq!(stalls, 1);
    drop(stream);
    server.is_well();
}

fn a_slow_reader_misses_nothing(caps: Caps) {
    let Some(mut server) = Options::new(caps).start() else {
        return;
    };
    let mut metrics = server.metrics();
    let mut stream = connect(server.echo());
    let sent = ask_until_full(&mut stream, |at| (at / 251) as u8);
    // What it did not read is with the server, which stopped to read from it.
    wait_until("bytes wait", || metrics.sum("megamux_send_queue_bytes") > 0);

    stream.set_nonblocking(false).expect("a socket");
    stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("all comes back");
    assert_eq!(back.len(), sent);
    let right = (0..).zip(&back).all(|(at, &byte)| byte == (at / 251) as u8);
    assert!(right, "other bytes came back");
    drop((stream, metrics));
    server.is_well();
}

/// What all of them together may cost: the receive pool, and for each a queue above its high watermark by what was on its way.
const MOST_MEMORY: u64 = 24 << 20;

/// One of a hundred, of three kinds; each sends until the server takes no more of it.
fn slow_readers(server: &Server) -> Vec<TcpStream> {
    let kinds: [(_, _, &[u8]); 3] = [
        ("echo", 14, b"echo "),
        ("http", 3, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("telnet", 3, b"stats\r\n"),
    ];
    let mut slow = Vec::new();
    for (listener, count, request) in kinds {
        let stream = || (connect(server.addr(listener)), request);
        slow.extend((0..count).map(|_| stream()));
    }
    thread::scope(|scope| {
        for (stream, request) in &mut slow {
            scope.spawn(|| ask_until_full(stream, |at| request[at % request.len()]));
        }
    });
    slow.into_iter().map(|(stream, _)| stream).collect()
}

/// Sends until the server has taken nothing more for a while. Says how many bytes that were.
fn ask_until_full(stream: &mut TcpStream, byte: impl Fn(usize) -> u8) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let mut sent = 0;
    loop {
        let chunk: Vec<_> = (sent..sent + 16_384).map(&byte).collect();
        match stream.write(&chunk) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
}
