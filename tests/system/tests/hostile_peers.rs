//! Peers that break every rule, beside peers that behave: one of a hundred is hostile at any time.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use megamux_system_tests::{Caps, Load, Options, Usage, await_reaction, connect, connect_all, reset, scenarios};

const GOOD: usize = 1_980;
const HOSTILE: usize = 20;
const SPAN: Duration = Duration::from_secs(3);
const REACTION: Duration = Duration::from_millis(2);
const MOST_MEMORY: u64 = 64 << 20;

scenarios! { hostile_peers_harm_nobody }

fn hostile_peers_harm_nobody(caps: Caps) {
    let options = Options::new(caps).set("telnet", "127.0.0.1:0");
    // Behind the header bytes reach the console as they are, so both can be attacked.
    let Some(mut server) = options.set("proxy-protocol", "telnet").start() else {
        return;
    };
    let alone = Load::run(server.echo(), GOOD, SPAN);
    let before = server.usage().memory();

    let targets = Targets { echo: server.echo(), http: server.addr("http"), console: server.addr("telnet") };
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let hostile = thread::spawn(move || attack(&targets, || until.load(Relaxed)));
    let beside = Load::run(server.echo(), GOOD, SPAN);
    let grown = server.usage().memory().saturating_sub(before);
    over.store(true, Relaxed);
    let attacks = hostile.join().expect("the attacks end well");

    eprintln!(
        "{attacks} attacks: p99 {:?} alone, {:?} beside them; {:.0} and {:.0} round trips a second ({:.2}); {} KiB more",
        alone.p99(),
        beside.p99(),
        alone.rate(),
        beside.rate(),
        beside.rate() / alone.rate(),
        grown >> 10,
    );
    assert!(attacks >= ATTACKS.len(), "each kind ran");
    assert_eq!((alone.ended, beside.ended), (0, 0), "good peers are served");
    beside.is_near(&alone);
    Usage::bounded("hostile peers", grown, MOST_MEMORY);
    server.is_well();
}

struct Targets {
    echo: SocketAddr,
    http: SocketAddr,
    console: SocketAddr,
}

type Attack = fn(&Targets, usize) -> TcpStream;

/// Each opens a connection, harms it as far as it goes, and leaves it open. The number differs from call to call.
const ATTACKS: &[Attack] = &[
    option_flood,
    endless_subnegotiation,
    endless_line,
    smuggled_requests,
    half_a_request,
    half_a_proxy_header,
    wrong_proxy_header,
    one_byte_per_write,
    reset_midway,
    connect_and_close,
];

/// Attacks until it is over, with the last connections always left open. Says how many attacks there were.
fn attack(targets: &Targets, is_over: impl Fn() -> bool) -> usize {
    let mut open = VecDeque::new();
    let mut attacks = 0;
    while !is_over() {
        let stream = ATTACKS[attacks % ATTACKS.len()](targets, attacks);
        // It looks what comes of it, and leaves the good peers their share of the machine.
        await_reaction(&stream, REACTION);
        open.push_back(stream);
        attacks += 1;
        if open.len() > HOSTILE {
            let oldest = open.pop_front().expect("there are many");
            // In order and by RST in turn; an attack that ended another way has its turn too.
            if (attacks / ATTACKS.len()).is_multiple_of(2) {
                reset(oldest);
            }
        }
    }
    attacks
}

const PROXY: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 23\r\n";

fn option_flood(targets: &Targets, number: usize) -> TcpStream {
    let mut stream = connect(targets.console);
    let request = |at: usize| [255, 251 + (at % 4) as u8, ((at / 4 + number) % 256) as u8];
    let flood: Vec<_> = (0..20_000).flat_map(request).collect();
    send(&mut stream, &[PROXY, &flood].concat());
    stream
}

fn endless_subnegotiation(targets: &Targets, number: usize) -> TcpStream {
    let mut stream = connect(targets.console);
    let begin = [255, 250, [24, 31, 34, 39, 86][number % 5]];
    send(&mut stream, &[PROXY, &begin, &[b'x'; 100_000]].concat());
    stream
}

fn endless_line(targets: &Targets, _: usize) -> TcpStream {
    let mut stream = connect(targets.console);
    send(&mut stream, &[PROXY, &[b'y'; 100_000]].concat());
    stream
}

fn smuggled_requests(targets: &Targets, number: usize) -> TcpStream {
    const REQUESTS: &[&str] = &[
        "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n Folded: b\r\n\r\n",
        "GET /healthz HTTP/1.1\nHost: a\n\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut stream = connect(targets.http);
    send(&mut stream, REQUESTS[number / ATTACKS.len() % REQUESTS.len()].as_bytes());
    stream
}

fn half_a_request(targets: &Targets, number: usize) -> TcpStream {
    let mut stream = connect(targets.http);
    let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nX: {}", "z".repeat(60_000));
    send(&mut stream, &request.as_bytes()[..number * 7919 % request.len()]);
    stream
}

fn half_a_proxy_header(targets: &Targets, number: usize) -> TcpStream {
    let mut stream = connect(targets.console);
    send(&mut stream, &PROXY[..number % PROXY.len()]);
    stream
}

fn wrong_proxy_header(targets: &Targets, number: usize) -> TcpStream {
    let mut stream = connect(targets.console);
    // Version 2 with a length that never comes, a command and a family that do not exist.
    let (command, family) = ((number % 251) as u8, (number % 241) as u8);
    let header = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family, 255, 255]];
    send(&mut stream, &header.concat());
    stream
}

fn one_byte_per_write(targets: &Targets, number: usize) -> TcpStream {
    let (addr, bytes): (_, &[u8]) = match number % 2 {
        0 => (targets.http, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        _ => (targets.console, PROXY),
    };
    let mut stream = connect(addr);
    bytes.chunks(1).for_each(|byte| send(&mut stream, byte));
    stream
}

fn reset_midway(targets: &Targets, number: usize) -> TcpStream {
    let mut stream = connect(targets.echo);
    send(&mut stream, &vec![9; 1 + number * 7919 % 300_000]);
    let last = stream.try_clone().expect("a descriptor");
    reset(stream);
    last
}

fn connect_and_close(targets: &Targets, number: usize) -> TcpStream {
    let addr = [targets.echo, targets.http, targets.console][number / ATTACKS.len() % 3];
    drop(connect_all(addr, 20));
    connect(addr)
}

/// Sends as much as is taken at once: the server may close, or read no more.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let _ = stream.write_all(bytes);
}
