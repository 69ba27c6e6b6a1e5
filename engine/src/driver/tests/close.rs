//! Closing: order, resets, and slots that live again.

use std::io::Read;

use super::*;

fn teardown_is_cancel_then_last_completion_then_close<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, mut client) = bench.connection();
    let recv = bench.recv_multishot(slot, 0);
    bench.expect_quiet();
    let cancel = bench.cancel(recv);
    let ended = bench.wait(recv);
    assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false));
    bench.wait(cancel);
    let close = bench.close(slot);
    assert_eq!(bench.wait(close).result, 0);
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0, "a FIN");
    bench.expect_quiet();
}

fn a_close_with_reset_resets<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, mut client) = bench.connection();
    bench.driver.reset_on_close(slot);
    let close = bench.close(slot);
    assert_eq!(bench.wait(close).result, 0);
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    bench.expect_quiet();
}

fn a_close_of_an_empty_slot_completes_and_nothing_else<D: Real>() {
    let mut bench = Bench::<D>::new();
    bench.driver.reset_on_close(7);
    let close = bench.close(7);
    assert!(bench.wait(close).result <= 0);
    bench.expect_quiet();
}

fn a_slots_close_is_reported_before_its_next_connection<D: Real>() {
    // One slot, and an accept that is armed in the same submission as the close: the kernel may fill the
    // slot while it still owes us the close.
    for _ in 0..50 {
        let mut bench = Bench::<D>::make("", 64, |config| config.slots = 1);
        let (listener, accept, addr) = bench.listen();
        let _first = connect(addr);
        let slot = bench.wait(accept).result as u32;
        let cancel = bench.cancel(accept);
        bench.wait(cancel);
        bench.wait(accept);
        let _second = connect(addr);
        let close = bench.close(slot);
        let again = bench.token(Kind::Accept, listener);
        bench.driver.accept(listener, again, Accept::All);
        bench.wait_until("accept", |bench| bench.seen.iter().any(|completion| completion.token == again).then_some(()));
        let place = |token| bench.seen.iter().position(|completion| completion.token == token);
        assert!(place(close) < place(again), "{:?}", bench.seen);
        assert!(place(close).is_some());
    }
}

fn churn_through_few_slots_keeps_every_connection_apart<D: Real>() {
    let mut bench = Bench::<D>::make("", 64, |config| config.slots = 4);
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
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}

/// What ends the watch over a connection that is not read, and with what result.
#[track_caller]
fn check_watch<D: Real>(end: impl FnOnce(TcpStream), result: i32) {
    let mut bench = Bench::<D>::new();
    let (slot, client) = bench.connection();
    let watch = bench.token(Kind::Watch, slot);
    bench.driver.poll_hangup(slot, watch);
    write(&client, b"bytes are no end");
    bench.expect_quiet();
    end(client);
    assert_eq!(bench.wait(watch).result, result);
    // It looks at what is, not at what happens.
    let again = bench.token(Kind::Watch, slot);
    bench.driver.poll_hangup(slot, again);
    assert_eq!(bench.wait(again).result, result);
}

fn a_connection_that_is_not_read_can_be_watched_for_its_peers_end<D: Real>() {
    check_watch::<D>(reset, -libc::ECONNRESET);
    check_watch::<D>(|client| client.shutdown(std::net::Shutdown::Both).unwrap(), 0);
    check_watch::<D>(|client| client.shutdown(std::net::Shutdown::Write).unwrap(), 0);
}

fn a_watch_can_be_ended<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, _client) = bench.connection();
    let watch = bench.token(Kind::Watch, slot);
    bench.driver.poll_hangup(slot, watch);
    bench.expect_quiet();
    let cancel = bench.cancel(watch);
    assert_eq!(bench.wait(watch).result, -libc::ECANCELED);
    assert_eq!(bench.wait(cancel).result, 0);
}

on_both!(
    teardown_is_cancel_then_last_completion_then_close,
    a_close_with_reset_resets,
    a_close_of_an_empty_slot_completes_and_nothing_else,
    a_slots_close_is_reported_before_its_next_connection,
    churn_through_few_slots_keeps_every_connection_apart,
    a_connection_that_is_not_read_can_be_watched_for_its_peers_end,
    a_watch_can_be_ended,
);
