//! Receives: credit, buffers running out and coming back, cancels.

use super::*;

fn a_receive_ends_when_its_credit_is_spent<D: Real>() {
    let mut bench = Bench::<D>::new();
    if !have(bench.driver.caps().recv_budget, "a receive's byte limit") {
        return;
    }
    let (slot, client) = bench.connection();
    let bytes = pattern(60_000);
    write(&client, &bytes);
    let mut got = Vec::new();
    for credit in [10_000, 1, 4096, 15_000] {
        let recv = bench.recv_multishot(slot, credit);
        let start = got.len();
        loop {
            let completion = bench.wait(recv);
            got.extend(bench.data(&completion));
            if !completion.more {
                break;
            }
        }
        let (brought, credit) = (got.len() - start, credit as usize);
        // The last of its receives may go past it, but never further than a buffer or the credit itself.
        assert!((credit..credit + credit.min(BUFFER_SIZE)).contains(&brought), "{credit}: {brought}");
        bench.expect_quiet();
    }
    assert_eq!(got, bytes[..got.len()]);
}

fn whatever_comes_first_nothing_is_missed<D: Real>() {
    for first in [First::Receive, First::Poll] {
        let mut bench = Bench::<D>::new();
        let (slot, client) = bench.connection();
        let bytes = pattern(30_000);
        write(&client, &bytes[..10_000]);
        let recv = bench.recv_multishot_first(slot, 0, first);
        assert_eq!(bench.collect(recv, 10_000), bytes[..10_000], "there before the receive was");
        write(&client, &bytes[10_000..]);
        assert_eq!(bench.collect(recv, 20_000), bytes[10_000..], "there after it");
        drop(client);
        let end = bench.wait(recv);
        assert_eq!((end.result, end.more), (0, false));
    }
}

fn whatever_a_single_receive_begins_with_nothing_is_missed<D: Real>() {
    for first in [First::Receive, First::Poll] {
        let mut bench = Bench::<D>::new();
        let (slot, client) = bench.connection();
        write(&client, b"there before");
        let recv = bench.recv_once_first(slot, first);
        let before = bench.wait(recv);
        assert_eq!((before.more, bench.data(&before)), (false, b"there before".to_vec()));
        let recv = bench.recv_once_first(slot, first);
        bench.expect_quiet();
        write(&client, b"there after");
        let after = bench.wait(recv);
        assert_eq!((after.more, bench.data(&after)), (false, b"there after".to_vec()));
        let recv = bench.recv_once_first(slot, first);
        drop(client);
        let end = bench.wait(recv);
        assert_eq!((end.result, end.more), (0, false));
    }
}

fn credit_is_ignored_where_it_is_masked<D: Real>() {
    let mut bench = Bench::<D>::masked("-recv_budget");
    let (slot, client) = bench.connection();
    write(&client, &pattern(30_000));
    let recv = bench.recv_multishot(slot, 1000);
    assert_eq!(bench.collect(recv, 30_000), pattern(30_000));
}

fn a_receive_without_buffers_ends_and_can_be_armed_again<D: Real>() {
    for mask in ["", "-inc"] {
        let mut bench = Bench::<D>::make(mask, 2, |_| ());
        let (slot, client) = bench.connection();
        let bytes = pattern(20_000);
        write(&client, &bytes);
        let mut got = Vec::new();
        let mut starved = 0;
        while got.len() < bytes.len() {
            let recv = bench.recv_multishot(slot, 0);
            // Buffers come back only when the receive has ended.
            let mut held = Vec::new();
            loop {
                let completion = bench.wait(recv);
                match completion.payload {
                    Payload::Data(received) => held.push(received),
                    _ => assert_eq!(completion.result, -libc::ENOBUFS),
                }
                if got.len() + held.iter().map(|one| one.len as usize).sum::<usize>() == bytes.len() {
                    let cancel = bench.cancel(recv);
                    bench.wait(cancel);
                    break;
                }
                if !completion.more {
                    starved += 1;
                    break;
                }
            }
            for received in held {
                got.extend_from_slice(bench.pool.bytes(&received));
                bench.pool.release(received);
            }
        }
        assert_eq!(got, bytes);
        assert!(starved >= 2, "{starved}");
    }
}

fn small_receives_share_a_buffer_only_incrementally<D: Real>() {
    for (mask, shared) in [("", true), ("-inc", false)] {
        let mut bench = Bench::<D>::masked(mask);
        if shared && !have(bench.driver.caps().incremental_buffers, "incremental buffers") {
            continue;
        }
        let (slot, client) = bench.connection();
        let recv = bench.recv_multishot(slot, 0);
        let ranges = [b"one", b"two"].map(|message| {
            write(&client, message);
            let completion = bench.wait(recv);
            let Payload::Data(received) = completion.payload else { panic!("{completion:?}") };
            assert_eq!(bench.pool.bytes(&received), message);
            received
        });
        let [first, second] = ranges;
        assert_eq!(first.buf == second.buf, shared, "{first:?} {second:?}");
        assert_eq!(second.off, if shared { 3 } else { 0 });
        bench.pool.release(first);
        bench.pool.release(second);
    }
}

fn every_buffer_comes_back<D: Real>() {
    for mask in ["", "-inc"] {
        let mut bench = Bench::<D>::make(mask, 8, |_| ());
        let (slot, client) = bench.connection();
        let recv = bench.recv_multishot(slot, 0);
        let message = pattern(1000);
        for _ in 0..200 {
            write(&client, &message);
            assert_eq!(bench.collect(recv, message.len()), message);
        }
        assert_eq!(bench.pool.held_frames(), 0);
    }
}

fn a_parked_connection_is_polled_then_received_from_once<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, client) = bench.connection();
    let poll = bench.token(Kind::Poll, slot);
    bench.driver.poll_readable(slot, poll);
    bench.expect_quiet();
    write(&client, b"wake up");
    let readable = bench.wait(poll);
    assert_eq!((readable.result, readable.more), (0, false));
    let recv = bench.recv_once(slot);
    let completion = bench.wait(recv);
    assert!(!completion.more);
    assert_eq!(bench.data(&completion), b"wake up");
    bench.expect_quiet();
}

fn a_parked_connection_notices_its_end<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, client) = bench.connection();
    let poll = bench.token(Kind::Poll, slot);
    bench.driver.poll_readable(slot, poll);
    drop(client);
    assert_eq!(bench.wait(poll).result, 0);
    let recv = bench.recv_once(slot);
    assert_eq!(bench.wait(recv).result, 0);
}

fn a_cancelled_receive_and_its_cancel_both_complete<D: Real>() {
    let mut bench = Bench::<D>::new();
    let (slot, _client) = bench.connection();
    for armed in [Bench::recv_once, |bench: &mut Bench<D>, slot| bench.recv_multishot(slot, 0)] {
        let recv = armed(&mut bench, slot);
        bench.expect_quiet();
        let cancel = bench.cancel(recv);
        assert_eq!(bench.wait(cancel).result, 0);
        let ended = bench.wait(recv);
        assert_eq!((ended.result, ended.more), (-libc::ECANCELED, false));
        let cancel = bench.cancel(recv);
        assert_eq!(bench.wait(cancel).result, -libc::ENOENT);
    }
}

fn reaping_stops_where_it_is_told_and_goes_on_later<D: Real>() {
    let mut bench = Bench::<D>::new();
    let connections: Vec<_> = (0..10).map(|_| bench.connection()).collect();
    let mut polls: Vec<_> = connections
        .iter()
        .map(|(slot, client)| {
            write(client, b"!");
            let poll = bench.token(Kind::Poll, *slot);
            bench.driver.poll_readable(*slot, poll);
            poll
        })
        .collect();
    bench.driver.enter(Wait::Batch { want: 10, min_wait: QUIET, most: DEADLINE }).unwrap();
    let mut out = Vec::new();
    while out.len() < 10 {
        let before = out.len();
        bench.driver.enter(Wait::For(DEADLINE)).unwrap();
        bench.driver.reap(&mut bench.pool, &mut out, 3);
        assert!((1..=3).contains(&(out.len() - before)));
    }
    let mut got: Vec<_> = out.iter().map(|completion| completion.token).collect();
    got.sort();
    polls.sort();
    assert_eq!(got, polls);
}

on_both!(
    a_receive_ends_when_its_credit_is_spent,
    whatever_comes_first_nothing_is_missed,
    whatever_a_single_receive_begins_with_nothing_is_missed,
    credit_is_ignored_where_it_is_masked,
    a_receive_without_buffers_ends_and_can_be_armed_again,
    small_receives_share_a_buffer_only_incrementally,
    every_buffer_comes_back,
    a_parked_connection_is_polled_then_received_from_once,
    a_parked_connection_notices_its_end,
    a_cancelled_receive_and_its_cancel_both_complete,
    reaping_stops_where_it_is_told_and_goes_on_later,
);
