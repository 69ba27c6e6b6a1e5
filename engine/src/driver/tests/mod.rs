//! The drivers for real sockets against the kernel: what the shard relies on, one scenario per test, each on every driver.
//!
//! Nothing sleeps to wait: every wait is for a completion, with a deadline.

mod close;
mod datagram;
mod dial;
mod pass;
mod receive;
mod stream;
pub(crate) mod wait;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffer::{Pool, PoolConfig};
use crate::driver::{Accept, Completion, Driver, First, Payload, Wait};
use crate::epoll::{self, EpollConfig, EpollDriver, Inboxes};
use crate::id::ShardId;
use crate::net::{Addr, Balance, SocketOptions, bind_listeners};
use crate::ring::{Rings, UringConfig, UringDriver, probe};
use crate::token::{Kind, Token};

/// How long a completion may take before its test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// A time in which something that must not happen would have happened.
pub(crate) const QUIET: Duration = Duration::from_millis(30);
/// A wait that something has to end.
pub(crate) const LONG: Duration = Duration::from_secs(5);
/// Every optional capability masked.
pub(crate) const ALL_MASKED: &str =
    "-inc,-recv_budget,-min_wait,-registered_ring,-peer_cmd,-accept_dontwait,-msg_ring,-pass,-restrictions";

/// Bytes of a receive buffer.
pub(crate) const BUFFER_SIZE: usize = 4096;

/// A driver for real sockets, which these tests can make.
pub(crate) trait Real: Driver<Listener = OwnedFd, Datagram = OwnedFd> {
    /// Whether the kernel completes its operations.
    const IS_RING: bool;

    fn make(setup: &Setup) -> Self;
}

/// What a driver is made with.
pub(crate) struct Setup {
    pub(crate) mask: &'static str,
    pub(crate) sq: u32,
    pub(crate) cq: u32,
    pub(crate) slots: u32,
    pub(crate) buffers: u16,
    pub(crate) shard: ShardId,
    pub(crate) neighbours: Neighbours,
}

/// Where drivers find each other.
#[derive(Clone)]
pub(crate) struct Neighbours {
    rings: Arc<Rings>,
    inboxes: Arc<Inboxes>,
}

impl Neighbours {
    pub(crate) fn new(shards: usize) -> Neighbours {
        Neighbours { rings: Arc::new(Rings::new(shards)), inboxes: Arc::new(Inboxes::new(shards)) }
    }
}

impl Real for UringDriver {
    const IS_RING: bool = true;

    fn make(setup: &Setup) -> UringDriver {
        let &Setup { mask, sq, cq, slots, buffers, shard, ref neighbours } = setup;
        let caps = probe(&mask.parse().unwrap()).unwrap();
        let (started, rings) = (Instant::now(), Arc::clone(&neighbours.rings));
        UringDriver::new(&UringConfig { sq, cq, slots, buffers, caps, started, shard, rings }).unwrap()
    }
}

impl Real for EpollDriver {
    const IS_RING: bool = false;

    fn make(setup: &Setup) -> EpollDriver {
        let &Setup { mask, slots, shard, ref neighbours, .. } = setup;
        let caps = epoll::caps(&mask.parse().unwrap(), None);
        let (started, inboxes) = (Instant::now(), Arc::clone(&neighbours.inboxes));
        EpollDriver::new(&EpollConfig { slots, caps, started, shard, inboxes }).unwrap()
    }
}

/// Makes tests of functions, one per driver.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod uring {
            $(#[test] fn $test() { super::$test::<crate::ring::UringDriver>() })*
        }
        mod epoll {
            $(#[test] fn $test() { super::$test::<crate::epoll::EpollDriver>() })*
        }
    };
}
use on_both;

/// A driver with its pool, and what it has completed so far.
pub(crate) struct Bench<D: Driver> {
    // Dropped before the pool, as drivers ask.
    pub(crate) driver: D,
    pub(crate) pool: Pool,
    pub(crate) seen: Vec<Completion>,
    generation: u32,
}

impl<D: Real> Bench<D> {
    pub(crate) fn new() -> Bench<D> {
        Bench::masked("")
    }

    pub(crate) fn masked(mask: &'static str) -> Bench<D> {
        Bench::make(mask, 64, |_| ())
    }

    pub(crate) fn make(mask: &'static str, buffers: u16, change: impl FnOnce(&mut Setup)) -> Bench<D> {
        let (shard, neighbours) = (ShardId(0), Neighbours::new(1));
        let mut setup = Setup { mask, sq: 64, cq: 256, slots: 64, buffers, shard, neighbours };
        change(&mut setup);
        let mut bench = Bench {
            driver: D::make(&setup),
            pool: Pool::new(PoolConfig { buffers, buffer_size: BUFFER_SIZE as u32 }).unwrap(),
            seen: Vec::new(),
            generation: 0,
        };
        bench.driver.provide_buffers(&mut bench.pool);
        bench
    }

    /// A token that no other operation has.
    pub(crate) fn token(&mut self, kind: Kind, slot: u32) -> Token {
        self.generation += 1;
        Token::new(kind, self.generation, slot)
    }

    /// One tick: buffers out, submissions out, completions in.
    pub(crate) fn turn(&mut self, wait: Wait) {
        self.driver.provide_buffers(&mut self.pool);
        self.driver.enter(wait).unwrap();
        self.driver.reap(&mut self.pool, &mut self.seen, usize::MAX >> 1);
    }

    /// Turns until an operation completes, and takes that completion.
    #[track_caller]
    pub(crate) fn wait(&mut self, token: Token) -> Completion {
        self.wait_until(&format!("{token:?}"), |bench| bench.take(token))
    }

    #[track_caller]
    pub(crate) fn wait_until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Bench<D>) -> Option<T>) -> T {
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
    pub(crate) fn take(&mut self, token: Token) -> Option<Completion> {
        let place = self.seen.iter().position(|completion| completion.token == token)?;
        Some(self.seen.remove(place))
    }

    /// Turns for a while; nothing may have completed then.
    #[track_caller]
    pub(crate) fn expect_quiet(&mut self) {
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            self.turn(Wait::For(QUIET));
        }
        assert!(self.seen.is_empty(), "{:?}", self.seen);
    }

    /// The bytes of a receive, released.
    #[track_caller]
    pub(crate) fn data(&mut self, completion: &Completion) -> Vec<u8> {
        let Payload::Data(received) = completion.payload else { panic!("{completion:?}") };
        let bytes = self.pool.bytes(&received).to_vec();
        assert_eq!(bytes.len(), completion.result as usize);
        self.pool.release(received);
        bytes
    }

    /// Receives until `length` bytes have come from one multishot.
    #[track_caller]
    pub(crate) fn collect(&mut self, token: Token, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let completion = self.wait(token);
            assert!(completion.more && completion.result > 0, "{completion:?}");
            bytes.extend(self.data(&completion));
        }
        bytes
    }

    /// A listener on loopback, with its multishot accept.
    pub(crate) fn listen(&mut self) -> (u32, Token, SocketAddr) {
        let any = Addr::Tcp("127.0.0.1:0".parse().unwrap());
        let (mut listeners, addr) = bind_listeners(&any, &SocketOptions::default(), 1, Balance::default()).unwrap();
        let Addr::Tcp(addr) = addr else { panic!("{addr}") };
        let listener = self.driver.adopt_listener(listeners.remove(0)).unwrap();
        let token = self.token(Kind::Accept, listener);
        self.driver.accept(listener, token, Accept::All);
        (listener, token, addr)
    }

    /// A connection that the driver has accepted, and its other end.
    pub(crate) fn connection(&mut self) -> (u32, TcpStream) {
        let (_, accept, addr) = self.listen();
        let client = connect(addr);
        let accepted = self.wait(accept);
        assert!(accepted.result >= 0, "{accepted:?}");
        (accepted.result as u32, client)
    }

    pub(crate) fn recv_multishot(&mut self, slot: u32, credit: u32) -> Token {
        self.recv_multishot_first(slot, credit, First::Receive)
    }

    pub(crate) fn recv_multishot_first(&mut self, slot: u32, credit: u32, first: First) -> Token {
        let token = self.token(Kind::Recv, slot);
        self.driver.recv_multishot(slot, token, credit, first);
        token
    }

    pub(crate) fn recv_once(&mut self, slot: u32) -> Token {
        self.recv_once_first(slot, First::Receive)
    }

    pub(crate) fn recv_once_first(&mut self, slot: u32, first: First) -> Token {
        let token = self.token(Kind::Recv, slot);
        self.driver.recv_once(slot, token, first);
        token
    }

    pub(crate) fn cancel(&mut self, target: Token) -> Token {
        let token = self.token(Kind::Cancel, target.slot());
        self.driver.cancel(target, token);
        token
    }

    pub(crate) fn close(&mut self, slot: u32) -> Token {
        let token = self.token(Kind::Close, slot);
        self.driver.close(slot, token);
        token
    }
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// Closes with RST.
pub(crate) fn reset(client: TcpStream) {
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Whether the kernel has what a test is about; if not, the test is skipped loudly.
pub(crate) fn have(capability: bool, what: &str) -> bool {
    if !capability {
        megamux_skip_tests::skip(&format!("{what}: not here"));
    }
    capability
}

/// Writes all of it at once.
pub(crate) fn write(mut client: &TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
}

/// Bytes that tell their place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place ^ place >> 8) as u8).collect()
}
