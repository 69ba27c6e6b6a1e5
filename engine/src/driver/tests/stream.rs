//! Accept, peer addresses, sends, half-closes.

use std::io::Read;
use std::net::Shutdown;

use super::*;
use crate::buffer::{Chunks, Frame, SendQueue};

fn bytes_go_round<D: Real>() {
    for mask in ["", "-inc", "-recv_budget", ALL_MASKED] {
        let mut bench = Bench::<D>::masked(mask);
        let (slot, mut client) = bench.connection();
        let recv = bench.recv_multishot(slot, 1 << 20);
        let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
        for message in [&b"hello"[..], &pattern(3000)] {
            write(&client, message);
            let bytes = bench.collect(recv, message.len());
            assert_eq!(bytes, message, "{mask}");
            queue.push_copy(&bytes, &mut chunks);
            let send = bench.token(Kind::Send, slot);
            bench.driver.send(slot, send, queue.begin());
            let sent = bench.wait(send);
            assert_eq!((sent.result as usize, sent.more), (message.len(), false));
            queue.complete(message.len(), &mut chunks);
            let mut echo = vec![0; message.len()];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(echo, message, "{mask}");
        }
    }
}

fn a_chain_of_many_pieces_is_one_send_and_is_sent_whole<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, mut client) = bench.connection();
    let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
    // More than any socket buffer takes at once, so that the kernel has to wait for the reader in between.
    let piece = pattern(1 << 20);
    for _ in 0..16 {
        queue.push_frame(Frame::from(piece.clone()));
    }
    let total = queue.queued_bytes();
    let send = bench.token(Kind::Send, slot);
    bench.driver.send(slot, send, queue.begin());
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; total];
        client.read_exact(&mut all).unwrap();
        all
    });
    assert_eq!(bench.wait(send).result as usize, total);
    queue.complete(total, &mut chunks);
    assert!(reader.join().unwrap().chunks(1 << 20).all(|got| got == piece));
}

fn a_send_to_a_reset_connection_is_an_error_and_no_signal<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, client) = bench.connection();
    let recv = bench.recv_multishot(slot, 0);
    reset(client);
    assert_eq!(bench.wait(recv).result, -libc::ECONNRESET);
    let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(4));
    queue.push_copy(b"too late", &mut chunks);
    let send = bench.token(Kind::Send, slot);
    bench.driver.send(slot, send, queue.begin());
    assert_eq!(bench.wait(send).result, -libc::EPIPE);
    queue.complete(0, &mut chunks);
}

fn one_accept_takes_many_connections<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (_, accept, addr) = bench.listen();
    let clients: Vec<_> = (0..20).map(|_| connect(addr)).collect();
    let mut slots: Vec<_> = clients
        .iter()
        .map(|_| {
            let accepted = bench.wait(accept);
            assert!(accepted.more && accepted.result >= 0, "{accepted:?}");
            accepted.result
        })
        .collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), clients.len());
}

fn a_full_table_ends_the_accept_and_a_free_slot_revives_it<D: Real>() {
    let mut bench = Bench::<D>::make("", 64, |config| config.slots = 2);
    let (listener, accept, addr) = bench.listen();
    let clients: Vec<_> = (0..3).map(|_| connect(addr)).collect();
    let slots = [bench.wait(accept), bench.wait(accept)].map(|accepted| accepted.result);
    let refused = bench.wait(accept);
    assert_eq!((refused.result, refused.more), (-libc::ENFILE, false));
    let close = bench.close(slots[0] as u32);
    assert_eq!(bench.wait(close).result, 0);
    let again = bench.token(Kind::Accept, listener);
    bench.driver.accept(listener, again, Accept::All);
    let _late = connect(addr);
    assert_eq!(bench.wait(again).result, slots[0]);
    drop(clients);
}

fn a_listener_is_closed_after_its_accept<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (listener, accept, addr) = bench.listen();
    let cancel = bench.cancel(accept);
    assert_eq!(bench.wait(cancel).result, 0);
    let ended = bench.wait(accept);
    assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false));
    bench.driver.close_listener(listener);
    assert!(TcpStream::connect(addr).is_err());
    // Its number is free for the next.
    assert_eq!(bench.listen().0, listener);
}

fn peers_are_named_by_command_and_by_descriptor<D: Real>() {
    for mask in ["", "-peer_cmd"] {
        let mut bench = Bench::<D>::masked(mask);
        if D::IS_RING && mask.is_empty() && !have(bench.driver.caps().peer_cmd, "peer names by command") {
            continue;
        }
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let any = Addr::Tcp(any.parse().unwrap());
            let (mut listeners, addr) = bind_listeners(&any, &SocketOptions::default(), 1, Balance::default()).unwrap();
            let Addr::Tcp(addr) = addr else { panic!("{addr}") };
            let listener = bench.driver.adopt_listener(listeners.remove(0)).unwrap();
            // The token's number is the shard's, and need not be the driver's.
            let accept = bench.token(Kind::Accept, listener + 7);
            bench.driver.accept(listener, accept, Accept::All);
            let clients: Vec<_> = (0..10).map(|_| connect(addr)).collect();
            for client in &clients {
                let slot = bench.wait(accept).result as u32;
                let peer = bench.token(Kind::Peer, slot);
                bench.driver.peer(slot, peer);
                let named = bench.wait(peer);
                let Payload::Peer(index) = named.payload else { panic!("{named:?}") };
                assert_eq!((named.result, named.more), (0, false));
                let peer = bench.driver.take_peer(index);
                assert_eq!(peer, Some(client.local_addr().unwrap()), "{mask}");
            }
        }
    }
}

fn what_is_received_comes_after_a_peers_name_that_was_asked_for_before<D: Real>() {
    for mask in ["", "-peer_cmd"] {
        let mut bench = Bench::<D>::masked(mask);
        if D::IS_RING && mask.is_empty() && !have(bench.driver.caps().peer_cmd, "peer names by command") {
            continue;
        }
        let (slot, mut client) = bench.connection();
        client.write_all(b"hello").unwrap();
        // The bytes have arrived when the socket is readable.
        let poll = bench.token(Kind::Poll, slot);
        bench.driver.poll_readable(slot, poll);
        bench.wait(poll);
        let peer = bench.token(Kind::Peer, slot);
        bench.driver.peer(slot, peer);
        let recv = bench.recv_multishot(slot, 0);
        while bench.seen.len() < 2 {
            bench.turn(Wait::For(DEADLINE));
        }
        let order: Vec<_> = bench.seen.iter().map(|completion| completion.token).collect();
        assert_eq!(order, [peer, recv], "{mask}");
        let received = bench.take(recv).unwrap();
        assert_eq!(bench.data(&received), b"hello");
    }
}

fn a_peer_that_is_gone_leaves_a_place_to_take<D: Real>() {
    for mask in ["", "-peer_cmd"] {
        let mut bench = Bench::<D>::masked(mask);
        if D::IS_RING && mask.is_empty() && !have(bench.driver.caps().peer_cmd, "peer names by command") {
            continue;
        }
        let (slot, client) = bench.connection();
        let addr = client.local_addr().unwrap();
        reset(client);
        // The reset has arrived when the socket is readable.
        let poll = bench.token(Kind::Poll, slot);
        bench.driver.poll_readable(slot, poll);
        bench.wait(poll);
        let peer = bench.token(Kind::Peer, slot);
        bench.driver.peer(slot, peer);
        let named = bench.wait(peer);
        let Payload::Peer(index) = named.payload else { panic!("{named:?}") };
        // The command still knows it, and epoll's accept knew it; a late `getpeername` does not.
        let expect = (mask.is_empty() || !D::IS_RING).then_some(addr);
        assert_eq!((named.result, bench.driver.take_peer(index)), (0, expect));
    }
}

fn either_side_may_close_half<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, mut client) = bench.connection();
    let recv = bench.recv_multishot(slot, 0);

    let shutdown = bench.token(Kind::Shutdown, slot);
    bench.driver.shutdown_write(slot, shutdown);
    assert_eq!(bench.wait(shutdown).result, 0);
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
    write(&client, b"still here");
    assert_eq!(bench.collect(recv, 10), b"still here");

    client.shutdown(Shutdown::Write).unwrap();
    let end = bench.wait(recv);
    assert!((end.result, end.more) == (0, false) && matches!(end.payload, Payload::None), "{end:?}");
}

on_both!(
    bytes_go_round,
    a_chain_of_many_pieces_is_one_send_and_is_sent_whole,
    a_send_to_a_reset_connection_is_an_error_and_no_signal,
    one_accept_takes_many_connections,
    a_full_table_ends_the_accept_and_a_free_slot_revives_it,
    a_listener_is_closed_after_its_accept,
    peers_are_named_by_command_and_by_descriptor,
    what_is_received_comes_after_a_peers_name_that_was_asked_for_before,
    a_peer_that_is_gone_leaves_a_place_to_take,
    either_side_may_close_half,
);
