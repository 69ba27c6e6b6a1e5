//! What a shard takes from the allocator: nothing per message, and little per idle connection.
//!
//! The allocator counts by thread. A shard's thread is known by its handler, which the engine makes there; threads of clients
//! and of the test harness count elsewhere. Invariant: a test reads only the counts of its own engine. It must not
//! measure time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use megamux_engine::net::Addr;
use megamux_engine::stats::{ConnState, EngineStats};
use megamux_engine::{
    CloseReason, Config, ConnInfo, Cx, DriverChoice, Engine, Handler, Listen, NO_SERVICE, NoService, Pin, RecvBuf,
};
use megamux_heap_tests::{Counting, Counts};
use megamux_skip_tests::skip;

#[global_allocator]
static COUNTING: Counting = Counting;

const MESSAGE: usize = 64;
const MESSAGES: u64 = 1_000_000;
const CONNECTIONS: usize = 4;
/// Messages a client has under way on a connection.
const DEPTH: usize = 16;
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_million_frames_are_echoed_without_an_allocation() {
    static COUNTS: Counts = Counts::new();
    echoes_without_an_allocation(&COUNTS, Reply::Frame);
}

#[test]
fn a_million_copied_replies_are_sent_without_an_allocation() {
    static COUNTS: Counts = Counts::new();
    echoes_without_an_allocation(&COUNTS, Reply::Copy);
}

#[test]
fn a_connection_that_only_waits_takes_at_most_128_bytes() {
    static COUNTS: Counts = Counts::new();
    each_connection_takes_at_most(128.0, &COUNTS, connected);
}

#[test]
fn a_connection_that_was_served_and_waits_takes_no_more() {
    static COUNTS: Counts = Counts::new();
    each_connection_takes_at_most(128.0, &COUNTS, served);
}

fn each_connection_takes_at_most(most: f64, counts: &'static Counts, connect: fn(SocketAddr) -> TcpStream) {
    // The connection table doubles, so that between two powers of two a part of it was never touched. At the powers
    // themselves it is full, and what lies between them is what connections take.
    const FEW: usize = 4096;
    const MANY: usize = 8192;
    /// A fresh connection is received from at once, until it has been silent: what that takes at a time is bounded by
    /// how many are fresh, not by how many there are.
    const FRESH: usize = 1024;
    let Some((engine, addr)) = start(counts, Reply::Frame) else {
        return;
    };
    let mut clients = Vec::new();
    let mut grow_to = |count: usize| {
        let waiting = || {
            let states = engine.stats().total().connections;
            states.total() - states.of(ConnState::Opening)
        };
        while clients.len() < count {
            clients.push(connect(addr));
            // One by one: what a crowd in one tick takes is not what each of it keeps.
            wait_until("it is open", || waiting() == clients.len() as u64);
            if clients.len().is_multiple_of(FRESH) {
                let parked = || engine.stats().total().connections.of(ConnState::Parked);
                wait_until("all are parked", || parked() == clients.len() as u64);
            }
        }
        counts.in_use()
    };
    let few = grow_to(FEW);
    let many = grow_to(MANY);
    let each = (many - few) as f64 / (MANY - FEW) as f64;
    eprintln!("a connection takes {each:.1} bytes of the engine's memory");
    // The epoll driver remembers in 32 bytes what events said; a ring's table is the kernel's.
    let most = if is_on_epoll() { most + 32.0 } else { most };
    assert!(each <= most, "{each:.1} bytes per connection");
    // Less could not hold one: the count would be wrong.
    assert!(each >= 64.0, "{each:.1} bytes per connection");
    finish(engine);
}

fn echoes_without_an_allocation(counts: &'static Counts, reply: Reply) {
    let Some((engine, addr)) = start(counts, reply) else {
        return;
    };
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| served(addr)).collect();
    burst(&mut clients);
    exchange(&mut clients, MESSAGES / 20);
    let before = counts.calls();
    exchange(&mut clients, MESSAGES);
    let allocations = counts.calls() - before;
    assert_eq!(allocations, 0, "allocations of the shard over {MESSAGES} messages");
    let echoed = engine.stats().total().bytes_out;
    assert!(echoed >= MESSAGES * MESSAGE as u64, "{echoed} bytes");
    assert!(before > 0, "the shard allocates while it starts: the count works");
    finish(engine);
}

/// More at once than what follows ever has under way: what copies lie in is kept from then on, and how much of it is held at
/// once is otherwise the scheduler's to say.
fn burst(clients: &mut [TcpStream]) {
    let sent = [1; 64 << 10];
    for _ in 0..16 {
        for client in &mut *clients {
            client.write_all(&sent).expect("the server reads");
        }
        for client in &mut *clients {
            client.read_exact(&mut vec![0; sent.len()]).expect("the server echoes");
        }
    }
}

/// Sends messages over all connections, [`DEPTH`] under way on each, and takes their echoes.
fn exchange(clients: &mut [TcpStream], messages: u64) {
    let mut sent = [0; MESSAGE * DEPTH];
    let mut received = sent;
    for round in 0..messages.div_ceil((clients.len() * DEPTH) as u64) {
        sent.fill(round as u8);
        for client in &mut *clients {
            client.write_all(&sent).expect("the server reads");
        }
        for client in &mut *clients {
            client.read_exact(&mut received).expect("the server echoes");
            assert!(received == sent, "other bytes came back");
        }
    }
}

fn connected(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).expect("the server accepts")
}

/// A connection that has had an echo.
fn served(addr: SocketAddr) -> TcpStream {
    let mut client = connected(addr);
    client.set_nodelay(true).expect("a TCP option");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut message = [7; MESSAGE];
    client.write_all(&message).expect("the server reads");
    client.read_exact(&mut message).expect("the server echoes");
    client
}

/// One shard that echoes; `None` where there is no io_uring.
fn start(counts: &'static Counts, reply: Reply) -> Option<(Engine, SocketAddr)> {
    let mut config = Config::default();
    config.shards = 1;
    config.pin = Pin::None;
    if is_on_epoll() {
        config.driver = DriverChoice::Epoll;
    }
    let mut builder = Engine::builder(config).expect("a config");
    let handler = move |_| {
        counts.count_this_thread();
        Echo { reply }
    };
    builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, handler).expect("an endpoint");
    match builder.start() {
        Ok(engine) => {
            let addrs = engine.local_addrs();
            let [(_, Addr::Tcp(addr))] = addrs[..] else {
                panic!("one TCP listener: {addrs:?}");
            };
            Some((engine, addr))
        }
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

/// Whether these tests were told to run on epoll.
fn is_on_epoll() -> bool {
    std::env::var("MEGAMUX_DRIVER").is_ok_and(|driver| driver == "epoll")
}

fn finish(engine: Engine) {
    let EngineStats { shards, .. } = engine.stats();
    assert!(shards.iter().all(|shard| shard.panics == 0));
    engine.handle().stop();
    engine.join().expect("the engine ends well");
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}

/// How a message goes back.
#[derive(Clone, Copy)]
enum Reply {
    /// From where the kernel put it.
    Frame,
    /// Copied into the send queue.
    Copy,
}

/// Answers every message by itself, however many came at once.
struct Echo {
    reply: Reply,
}

impl Handler for Echo {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, _: &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        while data.len() >= MESSAGE {
            match self.reply {
                Reply::Frame => cx.send_frame(data.take(MESSAGE)),
                Reply::Copy => {
                    cx.send(&data[..MESSAGE]);
                    data.consume(MESSAGE);
                }
            }
        }
        Ok(())
    }
}
