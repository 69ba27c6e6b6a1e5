//! Closing: order, resets, and slots that live again.

use std::io::Read;

use super::*;

#[test]
fn teardown_is_cancel_then_last_completion_then_close() {
    let mut bench = Bench::new();
    let (slot, mut client) = bench.connection();
    let recv = bench.recv_multishot(slot, 0);
    bench.expect_quiet();
    let cancel = bench.cancel(recv);
    let ended = bench.wait(recv);
    assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false));
    bench.wait(cancel);
    let close = bench.close(slot);
    assert_eq!(bench.wait(close).result, 0);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "a FIN");
    bench.expect_quiet();
}

#[test]
fn a_close_with_reset_resets() {
    let mut bench = Bench::new();
    let (slot, mut client) = bench.connection();
    bench.driver.reset_on_close(slot);
    let close = bench.close(slot);
    assert_eq!(bench.wait(close).result, 0);
    let error = client.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    bench.expect_quiet();
}

#[test]
fn a_close_of_an_empty_slot_fails_and_nothing_else() {
    let mut bench = Bench::new();
    bench.driver.reset_on_close(7);
    let close = bench.close(7);
    assert_eq!(bench.wait(close).result, -libc::EBADF);
    bench.expect_quiet();
}

#[test]
fn a_slots_close_is_reported_before_its_next_connection() {
    // One slot, and an accept that is armed in the same submission as the close: the kernel may fill the
    // slot while it still owes us the close.
    for _ in 0..50 {
        let mut bench = Bench::make("", 64, |config| config.slots = 1);
        let (listener, accept, addr) = bench.listen();
        let _first = connect(addr);
        let slot = bench.wait(accept).result as u32;
        let cancel = bench.cancel(accept);
        bench.wait(cancel);
        bench.wait(accept);
        let _second = connect(addr);
        let close = bench.close(slot);
        let again = bench.token(Kind::Accept, listener);
        bench.driver.accept(listener, again);
        bench.wait_until("accept", |bench| bench.seen.iter().any(|completion| completion.token == again).then_some(()));
        let place = |token| bench.seen.iter().position(|completion| completion.token == token);
        assert!(place(close) < place(again), "{:?}", bench.seen);
        assert!(place(close).is_some());
    }
}

#[test]
fn an_accept_that_overtakes_its_slots_close_is_held_back() {
    // As older kernels may report them; this one orders them itself.
    let mut bench = Bench::new();
    let (slot, _client) = bench.connection();
    let close = bench.close(slot);
    let early = |slot: u32| Completion {
        token: Token::new(Kind::Accept, 0, 0),
        result: slot as i32,
        more: true,
        payload: Payload::None,
    };
    assert!(bench.driver.accepted(early(slot)).is_none());
    assert!(bench.driver.accepted(early(slot + 1)).is_some());
    bench.turn(Wait::For(DEADLINE));
    let order: Vec<_> = bench.seen.iter().map(|completion| completion.token).collect();
    assert_eq!(order, [close, early(slot).token]);
}

#[test]
fn churn_through_few_slots_keeps_every_connection_apart() {
    let mut bench = Bench::make("", 64, |config| config.slots = 4);
    let (_, accept, addr) = bench.listen();
    for round in 0..200u32 {
        let mut client = connect(addr);
        let slot = bench.wait(accept).result as u32;
        write(&client, &round.to_le_bytes());
        let recv = bench.recv_once(slot);
        let completion = bench.wait(recv);
        assert_eq!(bench.data(&completion), round.to_le_bytes());
        let close = bench.close(slot);
        assert_eq!(bench.wait(close).result, 0);
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }
}
