//! What only queues shared with the kernel can do: be full, linger, and report out of order.

use std::io::Read;
use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::driver::Accept;
use crate::driver::tests::{LONG, connect, wait::timed};
use crate::ring::CLOSE_SEEN;
use crate::ring::alarm::AFTER;
use crate::ring::queues::LONGEST_LINGER;

#[test]
fn a_full_submission_queue_is_submitted_on_the_spot() {
    let mut bench = Bench::make("", 64, |config| (config.sq, config.cq) = (32, 64));
    let (slot, client) = bench.connection();
    write(&client, b"!");
    // All of these complete as they are submitted, more than the completion queue has room for.
    let polls: Vec<_> = (0..200)
        .map(|_| {
            let poll = bench.token(Kind::Poll, slot);
            bench.driver.poll_readable(slot, poll);
            poll
        })
        .collect();
    for poll in polls {
        let readable = bench.wait(poll);
        assert_eq!((readable.result, readable.more), (0, false));
    }
    let counts = bench.driver.counts();
    assert!(counts.overflows > 0 && counts.submissions > 200, "{counts:?}");
}

#[test]
fn wakes_survive_an_overflow_of_the_completion_queue() {
    let mut bench = Bench::make("", 64, |config| (config.sq, config.cq) = (32, 64));
    let (slot, client) = bench.connection();
    write(&client, b"!");
    for _ in 0..200 {
        let poll = bench.token(Kind::Poll, slot);
        bench.driver.poll_readable(slot, poll);
    }
    let waker = bench.driver.waker();
    for _ in 0..20 {
        waker.wake();
        bench.driver.enter(Wait::No).unwrap();
    }
    bench.wait_until("polls", |bench| (bench.seen.len() == 200).then_some(()));
    bench.turn(Wait::No);
    assert!(timed(&mut bench, Wait::For(QUIET)) >= QUIET);
    waker.wake();
    assert!(timed(&mut bench, Wait::For(LONG)) < LONG / 10);
}

#[test]
fn who_waits_is_accepted_in_a_group_that_ends_by_itself() {
    let mut bench = Bench::new();
    if !have(bench.driver.caps().accept_dontwait, "accepts that do not wait") {
        return;
    }
    let (listener, all, addr) = bench.listen();
    bench.cancel(all);
    assert!(!bench.wait(all).more);
    let clients = [connect(addr), connect(addr), connect(addr)];
    let group = bench.token(Kind::Accept, listener);
    for (most, expect) in [(2, &[true, true][..]), (4, &[true, false, false, false]), (1, &[false])] {
        bench.driver.accept(listener, group, Accept::Waiting(most));
        for (place, &accepted) in expect.iter().enumerate() {
            let completion = bench.wait(group);
            assert_eq!(completion.more, place + 1 < expect.len(), "{completion:?}");
            assert!(
                if accepted { completion.result >= 0 } else { completion.result == -libc::EAGAIN },
                "{completion:?}"
            );
        }
    }
    bench.driver.accept(listener, group, Accept::Next);
    bench.turn(Wait::No);
    assert!(bench.take(group).is_none(), "it waits");
    let late = connect(addr);
    let accepted = bench.wait(group);
    assert!(accepted.result >= 0 && !accepted.more, "{accepted:?}");
    drop((clients, late));
}

#[test]
fn a_batch_lingers_for_more_and_settles_for_less() {
    let mut bench = Bench::new();
    if !have(bench.driver.caps().min_wait, "lingering waits") {
        return;
    }
    let (slot, client) = bench.connection();
    let poll = bench.token(Kind::Poll, slot);
    bench.driver.poll_readable(slot, poll);
    bench.turn(Wait::No);
    write(&client, b"!");
    let waited = timed(&mut bench, Wait::Batch { want: 2, min_wait: QUIET, most: LONG });
    assert!(waited >= LONGEST_LINGER && waited < LONG / 10, "{waited:?}");
    bench.wait(poll);
}

#[test]
fn a_wake_in_a_lingering_wait_is_seen_when_lingering_ends() {
    let mut bench = Bench::new();
    bench.turn(Wait::No);
    bench.driver.waker().wake();
    let waited = timed(&mut bench, Wait::Batch { want: 64, min_wait: QUIET, most: LONG });
    assert!(waited < LONG / 10, "{waited:?}");
}

#[test]
fn a_busy_ring_is_woken_once_more_and_then_sleeps() {
    fn waits(bench: &mut Bench, most: Duration) -> Duration {
        let waited = timed(bench, Wait::For(most));
        bench.turn(Wait::No);
        waited
    }
    let mut bench = Bench::new();
    let waker = bench.driver.waker();
    for _ in 0..100 {
        waker.wake();
        assert!(waits(&mut bench, LONG) < LONG / 10);
    }
    let alarmed = waits(&mut bench, LONG);
    assert!(alarmed < LONG / 10, "{alarmed:?}");
    // It does not ring again, and what comes ends a wait all the same.
    assert!(waits(&mut bench, QUIET) >= QUIET);
    for _ in 0..100 {
        waker.wake();
        assert!(waits(&mut bench, LONG) < LONG / 10);
    }
    // It stands: a wait that may not last so long has its own end.
    let short = waits(&mut bench, AFTER / 10);
    assert!(short >= AFTER / 10 && short < LONG / 10, "{short:?}");
}

#[test]
fn closes_end_no_wait_and_are_seen_soon() {
    let mut bench = Bench::new();
    let (slot, mut client) = bench.connection();
    bench.turn(Wait::No);
    let close = bench.close(slot);
    let waited = timed(&mut bench, Wait::For(LONG));
    assert!(waited >= CLOSE_SEEN && waited < LONG / 2, "{waited:?}");
    bench.turn(Wait::No);
    assert_eq!(bench.take(close).map(|completion| completion.result), Some(0));
    // The peer did not have to wait for that.
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
    let (other, _client) = bench.connection();
    let close = bench.close(other);
    bench.turn(Wait::No);
    assert!(bench.take(close).is_some());
}

#[test]
fn what_overtakes_its_connections_peer_address_is_held_back() {
    // As older kernels may report it; newer ones keep the order.
    let mut bench = Bench::new();
    let (slot, _client) = bench.connection();
    let (peer, recv) = (bench.token(Kind::Peer, slot), bench.token(Kind::Recv, slot));
    let early = Completion { token: recv, result: 1, more: true, payload: Payload::None };
    assert!(bench.driver.received(early).is_some());
    bench.driver.peer(slot, peer);
    assert!(bench.driver.received(early).is_none());
    bench.turn(Wait::For(DEADLINE));
    let order: Vec<_> = bench.seen.iter().map(|completion| completion.token).collect();
    assert_eq!(order, [peer, recv]);
}

#[test]
fn sends_are_bounded_and_their_places_come_back() {
    let mut bench = Bench::new();
    let (socket, _) = bench.datagram_socket();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = client.local_addr().unwrap();
    for _ in 0..3 {
        let mut sends = Vec::new();
        loop {
            let send = bench.token(Kind::DatagramSend, socket);
            if !bench.driver.datagram_send(socket, send, to, b"x") {
                break;
            }
            sends.push(send);
        }
        assert_eq!(sends.len(), crate::ring::datagram::SENDS);
        for send in sends {
            assert_eq!(bench.wait(send).result, 1);
        }
    }
}
