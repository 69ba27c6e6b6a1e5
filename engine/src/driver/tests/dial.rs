//! Dials: success, every way to fail, cancels, and no slot lost to any of them.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::*;
use crate::net::{Dial, Keepalive, Route};

fn dial(route: impl Into<Route>) -> Dial {
    Dial { route: route.into(), options: SocketOptions::default() }
}

impl<D: Real> Bench<D> {
    fn dial(&mut self, dial: &Dial) -> Token {
        let token = self.token(Kind::Dial, 3);
        self.driver.dial(dial, token);
        token
    }

    /// All slots can be taken, so none is in use.
    #[track_caller]
    fn expect_no_slot_in_use(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = dial(listener.local_addr().unwrap());
        let slots: Vec<_> = (0..self.driver.slots())
            .map(|_| {
                let token = self.dial(&to);
                self.wait(token).result
            })
            .collect();
        assert!(slots.iter().all(|&slot| slot >= 0), "{slots:?}");
        let full = self.dial(&to);
        assert_eq!(self.wait(full).result, -libc::ENFILE);
        for slot in slots {
            let close = self.close(slot as u32);
            self.wait(close);
        }
    }
}

fn a_dialled_socket_is_a_connection_with_its_options<D: Real>() {
    let mut bench = Bench::<D>::new();
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(any).unwrap();
        let keepalive = Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), count: 3 };
        let options =
            SocketOptions { keepalive: Some(keepalive), send_buffer: Some(32 * 1024), ..SocketOptions::default() };
        let to = Dial { route: listener.local_addr().unwrap().into(), options };
        let token = bench.dial(&to);
        let dialled = bench.wait(token);
        assert!(dialled.result >= 0 && !dialled.more, "{dialled:?}");
        let slot = dialled.result as u32;
        let (mut server, peer) = listener.accept().unwrap();
        let own = bench.token(Kind::Peer, slot);
        bench.driver.peer(slot, own);
        let Payload::Peer(index) = bench.wait(own).payload else { panic!() };
        assert_eq!(bench.driver.take_peer(index), Some(listener.local_addr().unwrap()));
        assert!(peer.ip().is_loopback());
        let recv = bench.recv_multishot(slot, 0);
        write(&server, b"welcome");
        assert_eq!(bench.collect(recv, 7), b"welcome");
        let cancel = bench.cancel(recv);
        bench.wait(cancel);
        bench.wait(recv);
        let close = bench.close(slot);
        bench.wait(close);
        assert_eq!(server.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}

fn a_dial_comes_from_where_it_is_told<D: Real>() {
    let mut bench = Bench::<D>::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = || Route::from(listener.local_addr().unwrap());
    let mut from = |local: &str| {
        let token = bench.dial(&dial(target().with_source(local.parse().unwrap())));
        bench.wait(token).result
    };
    let slot = from("127.9.8.7:0");
    assert!(slot >= 0, "{slot}");
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip().to_string(), "127.9.8.7");
    let taken = from(&peer.to_string());
    assert_eq!(taken, -libc::EADDRNOTAVAIL, "that port is this connection's");
    let named = SocketAddr::new(peer.ip(), if peer.port() > 30_000 { 20_000 } else { 40_000 });
    assert!(from(&named.to_string()) >= 0);
    assert_eq!(listener.accept().unwrap().1, named);
    // An address of nobody here, and one of another family.
    assert_eq!(from("192.0.2.1:0"), -libc::EADDRNOTAVAIL);
    assert!(from("[::1]:0") < 0);
}

fn a_refused_dial_says_so_and_frees_its_slot<D: Real>() {
    let mut bench = Bench::<D>::make("", 64, |config| config.slots = 3);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..5 {
        let token = bench.dial(&dial(nobody));
        assert_eq!(bench.wait(token).result, -libc::ECONNREFUSED);
    }
    bench.expect_no_slot_in_use();
}

fn a_dial_that_cannot_begin_says_so<D: Real>() {
    let mut bench = Bench::<D>::new();
    let too_long = Addr::Unix("x".repeat(200).into());
    let token = bench.dial(&dial(too_long));
    assert_eq!(bench.wait(token).result, -libc::EINVAL);
    let token = bench.dial(&dial(Addr::Unix("/nonexistent/socket".into())));
    assert_eq!(bench.wait(token).result, -libc::ENOENT);
}

fn an_option_that_is_refused_fails_the_dial<D: Real>() {
    let mut bench = Bench::<D>::make("", 64, |config| config.slots = 2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut to = dial(listener.local_addr().unwrap());
    let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(60));
    // TCP_KEEPCNT goes to 127.
    to.options.keepalive = Some(Keepalive { idle, interval, count: 1000 });
    let token = bench.dial(&to);
    assert_eq!(bench.wait(token).result, -libc::EINVAL);
    bench.expect_no_slot_in_use();
}

fn a_dial_can_be_cancelled_at_any_time<D: Real>() {
    let mut bench = Bench::<D>::make("", 64, |config| config.slots = 3);
    // A listener whose backlog is full answers nothing: connects hang.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let _fills_backlog = connect(addr);
    for turns in 0..4 {
        let token = bench.dial(&dial(addr));
        for _ in 0..turns {
            bench.turn(Wait::For(Duration::from_millis(5)));
        }
        let cancel = bench.cancel(token);
        assert_eq!(bench.wait(token).result, -libc::ECANCELED, "after {turns} turns");
        bench.wait(cancel);
    }
    bench.expect_no_slot_in_use();
}

fn a_cancel_that_nobody_wants_to_hear_of_is_not_heard_of<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, _client) = bench.connection();
    let recv = bench.recv_multishot(slot, 0);
    bench.driver.cancel(recv, Token::new(Kind::Driver, 0, slot));
    assert_eq!(bench.wait(recv).result, -libc::ECANCELED);
    bench.expect_quiet();
}

fn cancelling_a_dial_that_is_over_finds_nothing<D: Real>() {
    let mut bench = Bench::<D>::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let token = bench.dial(&dial(listener.local_addr().unwrap()));
    assert!(bench.wait(token).result >= 0);
    let cancel = bench.cancel(token);
    assert_eq!(bench.wait(cancel).result, -libc::ENOENT);
    bench.expect_quiet();
}

fn unix_sockets_are_listened_on_and_dialled<D: Real>() {
    let path = std::env::temp_dir().join(format!("megamux-dial-{}", std::process::id()));
    let addr = Addr::Unix(path.clone());
    let mut bench = Bench::<D>::new();
    let (mut listeners, _) = bind_listeners(&addr, &SocketOptions::default(), 2, Balance::default()).unwrap();
    let mut accepts = Vec::new();
    for listener in listeners.drain(..) {
        let listener = bench.driver.adopt_listener(listener).unwrap();
        let accept = bench.token(Kind::Accept, listener);
        bench.driver.accept(listener, accept, Accept::All);
        accepts.push(accept);
    }
    let token = bench.dial(&dial(addr));
    let near = bench.wait(token).result as u32;
    let far = bench.wait_until("accept", |bench| accepts.iter().find_map(|&accept| bench.take(accept)));
    let far = far.result as u32;
    let peer = bench.token(Kind::Peer, far);
    bench.driver.peer(far, peer);
    let Payload::Peer(index) = bench.wait(peer).payload else { panic!() };
    assert_eq!(bench.driver.take_peer(index), None);

    let recv = bench.recv_multishot(far, 0);
    let (mut queue, mut chunks) = (crate::buffer::SendQueue::new(), crate::buffer::Chunks::new(4));
    queue.push_copy(b"over there", &mut chunks);
    let send = bench.token(Kind::Send, near);
    bench.driver.send(near, send, queue.begin());
    assert_eq!(bench.wait(send).result, 10);
    queue.complete(10, &mut chunks);
    assert_eq!(bench.collect(recv, 10), b"over there");
    std::fs::remove_file(path).unwrap();
}

fn a_unix_dial_to_a_full_backlog_can_be_cancelled<D: Real>() {
    let path = std::env::temp_dir().join(format!("megamux-full-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    // Listening again only changes the backlog.
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let mut bench = Bench::<D>::make("", 64, |config| config.slots = 3);
    let to = dial(Addr::Unix(path.clone()));
    let first = bench.dial(&to);
    let slot = bench.wait(first).result;
    assert!(slot >= 0);
    let token = bench.dial(&to);
    bench.expect_quiet();
    let cancel = bench.cancel(token);
    assert_eq!(bench.wait(token).result, -libc::ECANCELED);
    bench.wait(cancel);
    let close = bench.close(slot as u32);
    bench.wait(close);
    std::fs::remove_file(path).unwrap();
    bench.expect_no_slot_in_use();
}

on_both!(
    a_dialled_socket_is_a_connection_with_its_options,
    a_dial_comes_from_where_it_is_told,
    a_refused_dial_says_so_and_frees_its_slot,
    a_dial_that_cannot_begin_says_so,
    an_option_that_is_refused_fails_the_dial,
    a_dial_can_be_cancelled_at_any_time,
    a_cancel_that_nobody_wants_to_hear_of_is_not_heard_of,
    cancelling_a_dial_that_is_over_finds_nothing,
    unix_sockets_are_listened_on_and_dialled,
    a_unix_dial_to_a_full_backlog_can_be_cancelled,
);
