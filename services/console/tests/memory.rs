//! What an idle session takes from the allocator, in the engine and in the console together.
//!
//! The allocator counts for every thread but the test's own. Invariant: only one engine runs here, so all that is counted
//! is its. It must not measure time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use megamux_engine::net::Addr;
use megamux_engine::{Config, Engine, Listen, Pin, Placement};
use megamux_heap_tests::{ALL, Counting, leave_this_thread_out};

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that an idle, negotiated telnet connection takes: the engine's slot, the decoder, the front, the session.
const MOST: f64 = 320.0;
const DEADLINE: Duration = Duration::from_secs(120);

/// A client that takes all that is offered, and has an xterm of 80 by 24; then a key, and twice the key that takes it back.
const NEGOTIATES: &[u8] = b"\xff\xfd\x01\xff\xfd\x03\xff\xfb\x1f\xff\xfb\x18\
    \xff\xfa\x1f\x00\x50\x00\x18\xff\xf0\xff\xfa\x18\x00xterm\xff\xf0\xff\xfa\x18\x00xterm\xff\xf0x\x7f\x7f";
/// What the server says last: BEL, there was nothing left to take back.
const NEGOTIATED: &[u8] = b"\x07";

#[test]
fn an_idle_session_takes_at_most_320_bytes() {
    // The tables double: at powers of two what lies between them is what sessions take, and a hash table has grown just
    // before, so that its free places are counted, too.
    const FEW: usize = 2048;
    const MANY: usize = 4096;
    leave_this_thread_out();
    let mut config = Config::default();
    config.shards = 1;
    config.pin = Pin::None;
    let mut builder = Engine::builder(config).unwrap();
    megamux_console::install(&mut builder, Listen::tcp("127.0.0.1:0"), Placement::Thread).unwrap();
    let engine = builder.start().unwrap();
    let (_, addr) = engine.local_addrs().remove(0);
    let Addr::Tcp(addr) = addr else { panic!("{addr}") };

    let mut clients = Vec::new();
    let mut grow_to = |count: usize| {
        while clients.len() < count {
            clients.push(negotiated(addr));
        }
        // All of them fall silent and are parked; what one had in flight is not what it keeps.
        let deadline = Instant::now() + DEADLINE;
        loop {
            let total = engine.stats().total();
            if total.connections.of(megamux_engine::stats::ConnState::Parked) == count as u64 {
                return ALL.in_use();
            }
            assert!(Instant::now() < deadline, "not parked in time: {:?}", total.connections);
            thread::yield_now();
        }
    };
    let few = grow_to(FEW);
    let many = grow_to(MANY);
    let each = (many - few) as f64 / (MANY - FEW) as f64;
    eprintln!("an idle session takes {each:.1} bytes");
    assert!(each <= MOST, "{each:.1} bytes per session");
    // Less could not hold one: the count would be wrong.
    assert!(each >= 128.0, "{each:.1} bytes per session");
    drop(clients);
    engine.handle().stop();
    engine.join().unwrap();
}

/// A client whose terminal is known, and that has typed and taken it back.
fn negotiated(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("the server accepts");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    // Behind the prompt, so that the key is shown at once and not kept.
    read_until(&mut stream, b"megamux> ");
    stream.write_all(NEGOTIATES).expect("the server reads");
    read_until(&mut stream, NEGOTIATED);
    stream
}

fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut got = Vec::new();
    let mut piece = [0; 512];
    while !got.windows(end.len()).any(|window| window == end) {
        let count = stream.read(&mut piece).expect("the server answers");
        assert!(count > 0, "closed after {}", got.escape_ascii());
        got.extend_from_slice(&piece[..count]);
    }
}
