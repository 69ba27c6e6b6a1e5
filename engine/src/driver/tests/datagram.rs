//! Datagrams both ways.

use std::net::UdpSocket;

use super::*;
use crate::net::bind_datagrams;

impl<D: Real> Bench<D> {
    pub(crate) fn datagram_socket(&mut self) -> (u32, SocketAddr) {
        let any = "127.0.0.1:0".parse().unwrap();
        let (mut sockets, addr) = bind_datagrams(any, &SocketOptions::default(), 1, Balance::default()).unwrap();
        (self.driver.adopt_datagram(sockets.remove(0)).unwrap(), addr)
    }

    fn datagram_recv(&mut self, socket: u32) -> Token {
        let token = self.token(Kind::DatagramRecv, socket);
        self.driver.datagram_recv(socket, token);
        token
    }
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

fn datagrams_come_with_their_sender_and_go_where_they_should<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (socket, addr) = bench.datagram_socket();
    for message in [b"", &b"hello"[..], &pattern(60_000)] {
        let client = client();
        let recv = bench.datagram_recv(socket);
        assert_eq!(client.send_to(message, addr).unwrap(), message.len());
        let completion = bench.wait(recv);
        let Payload::Datagram(index) = completion.payload else { panic!("{completion:?}") };
        assert_eq!((completion.result as usize, completion.more), (message.len(), false));
        let (from, bytes, cut) = bench.driver.datagram(index);
        assert_eq!((from, bytes, cut), (client.local_addr().unwrap(), message, false));

        let send = bench.token(Kind::DatagramSend, socket);
        assert!(bench.driver.datagram_send(socket, send, from, message));
        assert_eq!(bench.wait(send).result as usize, message.len());
        let mut echo = vec![0; 65_536];
        let (length, from) = client.recv_from(&mut echo).unwrap();
        assert_eq!((&echo[..length], from), (message, addr));
    }
}

fn what_fits_no_datagram_is_refused_by_the_kernel<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (socket, _) = bench.datagram_socket();
    let send = bench.token(Kind::DatagramSend, socket);
    let to = "127.0.0.1:9".parse().unwrap();
    assert!(bench.driver.datagram_send(socket, send, to, &pattern(1 << 20)));
    assert_eq!(bench.wait(send).result, -libc::EMSGSIZE);
}

fn a_datagram_socket_closes_after_its_receive_was_cancelled<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (socket, addr) = bench.datagram_socket();
    let recv = bench.datagram_recv(socket);
    bench.expect_quiet();
    let cancel = bench.cancel(recv);
    assert_eq!(bench.wait(recv).result, -libc::ECANCELED);
    bench.wait(cancel);
    drop(bench);
    UdpSocket::bind(addr).unwrap();
}

on_both!(
    datagrams_come_with_their_sender_and_go_where_they_should,
    what_fits_no_datagram_is_refused_by_the_kernel,
    a_datagram_socket_closes_after_its_receive_was_cancelled,
);
