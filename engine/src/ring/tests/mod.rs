//! The driver alone against the kernel: what the shard relies on, one scenario per test.
//!
//! Nothing sleeps to wait: every wait is for a completion, with a deadline.

mod close;
mod datagram;
mod dial;
mod receive;
mod setup;
mod stream;
mod wait;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Mask, UringConfig, UringDriver, probe};
use crate::buffer::{Pool, PoolConfig};
use crate::driver::{Completion, Driver, Payload, Wait};
use crate::net::{Addr, Balance, SocketOptions, bind_listeners};
use crate::token::{Kind, Token};

/// How long a completion may take before its test fails.
const DEADLINE: Duration = Duration::from_secs(10);
/// A time in which something that must not happen would have happened.
const QUIET: Duration = Duration::from_millis(30);

/// Bytes of a receive buffer.
const BUFFER_SIZE: usize = 4096;

/// A driver with its pool, and what it has completed so far.
struct Bench {
    // Dropped before the pool, as the driver asks.
    driver: UringDriver,
    pool: Pool,
    seen: Vec<Completion>,
    generation: u32,
}

impl Bench {
    fn new() -> Bench {
        Bench::masked("")
    }

    fn masked(mask: &str) -> Bench {
        Bench::make(mask, 64, |_| ())
    }

    fn make(mask: &str, buffers: u16, change: impl FnOnce(&mut UringConfig)) -> Bench {
        let caps = probe(&mask.parse::<Mask>().unwrap()).unwrap();
        let mut config = UringConfig { sq: 64, cq: 256, slots: 64, buffers, caps, started: Instant::now() };
        change(&mut config);
        let mut bench = Bench {
            driver: UringDriver::new(&config).unwrap(),
            pool: Pool::new(PoolConfig { buffers, buffer_size: BUFFER_SIZE as u32 }).unwrap(),
            seen: Vec::new(),
            generation: 0,
        };
        bench.driver.provide_buffers(&mut bench.pool);
        bench
    }

    /// A token that no other operation has.
    fn token(&mut self, kind: Kind, slot: u32) -> Token {
        self.generation += 1;
        Token::new(kind, self.generation, slot)
    }

    /// One tick: buffers out, submissions out, completions in.
    fn turn(&mut self, wait: Wait) {
        self.driver.provide_buffers(&mut self.pool);
        self.driver.enter(wait).unwrap();
        self.driver.reap(&mut self.pool, &mut self.seen, usize::MAX >> 1);
    }

    /// Turns until an operation completes, and takes that completion.
    #[track_caller]
    fn wait(&mut self, token: Token) -> Completion {
        self.wait_until(&format!("{token:?}"), |bench| bench.take(token))
    }

    #[track_caller]
    fn wait_until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Bench) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(done) = done(self) {
                return done;
            }
            assert!(Instant::now() < deadline, "no {what} among {:?}", self.seen);
            self.turn(Wait::For(Duration::from_millis(100)));
        }
    }

    /// Takes the first completion of an operation that was already reaped.
    fn take(&mut self, token: Token) -> Option<Completion> {
        let place = self.seen.iter().position(|completion| completion.token == token)?;
        Some(self.seen.remove(place))
    }

    /// Turns for a while; nothing may have completed then.
    #[track_caller]
    fn expect_quiet(&mut self) {
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            self.turn(Wait::For(QUIET));
        }
        assert!(self.seen.is_empty(), "{:?}", self.seen);
    }

    /// The bytes of a receive, released.
    #[track_caller]
    fn data(&mut self, completion: &Completion) -> Vec<u8> {
        let Payload::Data(received) = completion.payload else { panic!("{completion:?}") };
        let bytes = self.pool.bytes(&received).to_vec();
        assert_eq!(bytes.len(), completion.result as usize);
        self.pool.release(received);
        bytes
    }

    /// Receives until `length` bytes have come from one multishot.
    #[track_caller]
    fn collect(&mut self, token: Token, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let completion = self.wait(token);
            assert!(completion.more && completion.result > 0, "{completion:?}");
            bytes.extend(self.data(&completion));
        }
        bytes
    }

    /// A listener on loopback, with its multishot accept.
    fn listen(&mut self) -> (u32, Token, SocketAddr) {
        let any = Addr::Tcp("127.0.0.1:0".parse().unwrap());
        let (mut listeners, addr) = bind_listeners(&any, &SocketOptions::default(), 1, Balance::default()).unwrap();
        let Addr::Tcp(addr) = addr else { panic!("{addr}") };
        let listener = self.driver.adopt_listener(listeners.remove(0)).unwrap();
        let token = self.token(Kind::Accept, listener);
        self.driver.accept(listener, token);
        (listener, token, addr)
    }

    /// A connection that the driver has accepted, and its other end.
    fn connection(&mut self) -> (u32, TcpStream) {
        let (_, accept, addr) = self.listen();
        let client = connect(addr);
        let accepted = self.wait(accept);
        assert!(accepted.result >= 0, "{accepted:?}");
        (accepted.result as u32, client)
    }

    fn recv_multishot(&mut self, slot: u32, credit: u32) -> Token {
        let token = self.token(Kind::Recv, slot);
        self.driver.recv_multishot(slot, token, credit);
        token
    }

    fn recv_once(&mut self, slot: u32) -> Token {
        let token = self.token(Kind::Recv, slot);
        self.driver.recv_once(slot, token);
        token
    }

    fn cancel(&mut self, target: Token) -> Token {
        let token = self.token(Kind::Cancel, target.slot());
        self.driver.cancel(target, token);
        token
    }

    fn close(&mut self, slot: u32) -> Token {
        let token = self.token(Kind::Close, slot);
        self.driver.close(slot, token);
        token
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// Closes with RST.
fn reset(client: TcpStream) {
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Whether the kernel has what a test is about; if not, the test is skipped loudly (see CONTRIBUTING.md).
fn have(capability: bool, what: &str) -> bool {
    if capability {
        return true;
    }
    let required = std::env::var("MEGAMUX_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "{what}: not here");
    eprintln!("SKIP: {what}: not here");
    if let Some(path) = std::env::var_os("MEGAMUX_SKIP_FILE") {
        let test = std::thread::current().name().unwrap_or("ring").to_owned();
        // One write of one line: test processes append at the same time.
        let line = format!("{test}: {what}: not here\n");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the skip file can be written");
    }
    false
}

/// Writes all of it at once.
fn write(mut client: &TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
}

/// Bytes that tell their place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place ^ place >> 8) as u8).collect()
}
