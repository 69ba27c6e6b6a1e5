//! Passing a connection to another shard's driver.

use std::io::Read;
use std::sync::mpsc;

use super::*;

const HERE: ShardId = ShardId(0);
const THERE: ShardId = ShardId(1);

fn bench<D: Real>(neighbours: &Neighbours, shard: ShardId, slots: u32) -> Bench<D> {
    Bench::<D>::make("", 64, |config| {
        (config.shard, config.neighbours, config.slots) = (shard, neighbours.clone(), slots);
    })
}

fn pass<D: Real>(bench: &mut Bench<D>, slot: u32, there: Token) -> i32 {
    let token = bench.token(Kind::Pass, slot);
    bench.driver.pass(slot, THERE, there, token);
    bench.wait(token).result
}

fn a_connection_passed_to_a_waiting_driver_lives_on_there<D: Real>() {
    let neighbours = Neighbours::new(2);
    let mut here = bench::<D>(&neighbours, HERE, 64);
    let (slot, mut client) = here.connection();
    let there = Token::new(Kind::Passed, 0, 5);
    let (ready, started) = mpsc::channel();
    let other = std::thread::spawn({
        let neighbours = neighbours.clone();
        move || {
            let mut bench = bench::<D>(&neighbours, THERE, 64);
            ready.send(()).unwrap();
            let passed = bench.wait(there);
            assert!(passed.result >= 0 && !passed.more, "{passed:?}");
            let slot = passed.result as u32;
            let receive = bench.recv_once(slot);
            let received = bench.wait(receive);
            assert_eq!(bench.data(&received), b"over");
            let close = bench.close(slot);
            assert_eq!(bench.wait(close).result, 0);
        }
    });
    started.recv_timeout(DEADLINE).unwrap();
    assert_eq!(pass(&mut here, slot, there), 0);
    // Closed here, it is open there: no FIN, no RST.
    let close = here.close(slot);
    assert_eq!(here.wait(close).result, 0);
    write(&client, b"over");
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0, "the FIN of the other shard");
    other.join().unwrap();
}

fn a_full_table_refuses_and_the_connection_stays<D: Real>() {
    let neighbours = Neighbours::new(2);
    let mut here = bench::<D>(&neighbours, HERE, 64);
    let (ready, started) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let other = std::thread::spawn({
        let neighbours = neighbours.clone();
        move || {
            let mut bench = bench::<D>(&neighbours, THERE, 1);
            ready.send(()).unwrap();
            while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
                bench.turn(Wait::For(QUIET));
            }
        }
    });
    started.recv_timeout(DEADLINE).unwrap();
    let there = Token::new(Kind::Passed, 0, 0);
    let (first, _client) = here.connection();
    assert_eq!(pass(&mut here, first, there), 0);
    let (second, client) = here.connection();
    assert_eq!(pass(&mut here, second, there), -libc::ENFILE);
    let receive = here.recv_once(second);
    write(&client, b"still here");
    let received = here.wait(receive);
    assert_eq!(here.data(&received), b"still here");
    drop(stop);
    other.join().unwrap();
}

fn nobody_there_yet_or_any_more_refuses<D: Real>() {
    let neighbours = Neighbours::new(2);
    let mut here = bench::<D>(&neighbours, HERE, 64);
    let (slot, _client) = here.connection();
    let there = Token::new(Kind::Passed, 0, 0);
    assert_eq!(pass(&mut here, slot, there), -libc::EAGAIN);
    let other = std::thread::spawn({
        let neighbours = neighbours.clone();
        move || drop(bench::<D>(&neighbours, THERE, 64))
    });
    other.join().unwrap();
    let refused = pass(&mut here, slot, there);
    assert!(refused < 0, "{refused}");
}

on_both!(
    a_connection_passed_to_a_waiting_driver_lives_on_there,
    a_full_table_refuses_and_the_connection_stays,
    nobody_there_yet_or_any_more_refuses,
);
