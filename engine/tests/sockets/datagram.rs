//! Datagrams: the handler sees who sent one, and its answer goes there.

use std::net::{SocketAddr, UdpSocket};

use megamux_engine::{CloseReason, ConnInfo, Cx, Datagram, EndpointCx, Handler, NO_SERVICE, NoService, RecvBuf};

use crate::harness::{DEADLINE, addr, builder, drain, eventually};

/// Answers with the sender's address in front.
struct Mirror;

impl Handler for Mirror {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        unreachable!("datagrams open no connections")
    }

    fn on_data(&mut self, _: &mut Cx<'_, NoService>, (): &mut (), _: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        unreachable!("datagrams are no streams")
    }

    fn on_datagram(&mut self, cx: &mut EndpointCx<'_, NoService>, from: SocketAddr, bytes: &[u8]) {
        cx.send_datagram(from, &[from.to_string().as_bytes(), b" ", bytes].concat());
    }
}

#[track_caller]
fn check(at: &str, from: &str) {
    let mut builder = builder(2);
    builder.datagram(Datagram::udp(at), &NO_SERVICE, |_| Mirror).unwrap();
    let engine = builder.start().unwrap();
    let sockets: Vec<UdpSocket> = (0..8).map(|_| UdpSocket::bind(from).unwrap()).collect();
    for (number, socket) in sockets.iter().enumerate() {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.connect(addr(&engine)).unwrap();
        socket.send(format!("number {number}").as_bytes()).unwrap();
    }
    for (number, socket) in sockets.iter().enumerate() {
        let mut buffer = [0; 100];
        let len = socket.recv(&mut buffer).unwrap();
        let expect = format!("{} number {number}", socket.local_addr().unwrap());
        assert_eq!(String::from_utf8_lossy(&buffer[..len]), expect);
    }
    // An answer is counted after it was sent, and may have arrived by then.
    eventually("all are counted", || {
        let total = engine.stats().total();
        (total.datagrams_in, total.datagrams_out) == (8, 8)
    });
    drain(engine);
}

#[test]
fn every_sender_is_answered_at_its_own_address() {
    check("127.0.0.1:0", "127.0.0.1:0");
}

#[test]
fn so_is_every_sender_over_ipv6() {
    check("[::1]:0", "[::1]:0");
}
