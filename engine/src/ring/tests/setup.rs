//! Probing, masking, making and dropping drivers.

use super::*;
use crate::ring::{RingError, ops};

#[test]
fn each_capability_can_be_masked_alone_and_says_so() {
    let words = [
        "-inc",
        "-recv_budget",
        "-min_wait",
        "-registered_ring",
        "-peer_cmd",
        "-accept_dontwait",
        "-msg_ring",
        "-pass",
        "-restrictions",
    ];
    let full = probe(&Mask::default()).unwrap();
    for (place, word) in words.iter().enumerate() {
        let caps = probe(&word.parse().unwrap()).unwrap();
        let of = |caps: &crate::driver::Caps| {
            [
                caps.incremental_buffers,
                caps.recv_budget,
                caps.min_wait,
                caps.registered_ring,
                caps.peer_cmd,
                caps.accept_dontwait,
                caps.msg_ring,
                caps.pass,
                caps.restrictions,
            ]
        };
        let mut expect = of(&full);
        expect[place] = false;
        assert_eq!((of(&caps), &caps.masked[..]), (expect, &[word.to_string()][..]));
    }
}

#[test]
fn masks_parse_or_say_what_is_wrong() {
    let mask: Mask = " -inc, -min_wait,,-inc".parse().unwrap();
    assert_eq!(probe(&mask).unwrap().masked, ["-inc", "-min_wait"]);
    assert_eq!("".parse(), Ok(Mask::default()));
    for wrong in ["inc", "-incr", "-inc;-min_wait"] {
        let error = wrong.parse::<Mask>().unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}

#[test]
fn the_ring_has_the_size_asked_for() {
    let bench = Bench::make("", 64, |config| (config.sq, config.cq) = (128, 1024));
    assert_eq!(bench.driver.ring_size(), (128, 1024, false));
    assert_eq!(bench.driver.slots(), 64);
}

#[test]
fn slots_are_bounded_by_the_descriptor_limit() {
    let bench = Bench::make("", 64, |config| config.slots = u32::MAX);
    let (soft, _) = crate::net::nofile_limit();
    assert_eq!(u64::from(bench.driver.slots()), soft.min(1 << 20));
}

#[test]
fn a_pool_too_large_for_a_ring_of_buffers_is_refused() {
    let caps = probe(&Mask::default()).unwrap();
    let config = UringConfig {
        sq: 32,
        cq: 64,
        slots: 8,
        buffers: u16::MAX,
        caps,
        started: Instant::now(),
        shard: ShardId(0),
        rings: Arc::new(Rings::new(1)),
    };
    let Err(error) = UringDriver::new(&config) else { panic!("made") };
    assert!(matches!(error, RingError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("provided buffers"), "{error}");
}

#[test]
fn dropping_a_driver_ends_all_it_has_under_way() {
    let mut bench = Bench::new();
    let (slot, client) = bench.connection();
    let (_, _, addr) = bench.listen();
    bench.recv_multishot(slot, 0);
    let poll = bench.token(Kind::Poll, slot);
    bench.driver.poll_readable(slot, poll);
    bench.expect_quiet();
    // Pushed, but not seen by the kernel.
    bench.recv_once(slot);
    drop(bench);
    // Both the listener and the connection are gone, at once.
    assert!(TcpStream::connect(addr).is_err());
    let mut end = Vec::new();
    let _ = std::io::Read::read_to_end(&mut &client, &mut end);
    assert!(end.is_empty());
}

#[test]
fn the_clock_starts_at_the_engines_start_and_goes_on() {
    let bench = Bench::new();
    let first = bench.driver.now();
    assert!(bench.driver.now() >= first);
    assert!(first.as_nanos() < DEADLINE.as_nanos() as u64);
}

#[test]
fn a_confined_ring_refuses_what_the_driver_never_does() {
    let mut bench = Bench::new();
    assert!(bench.driver.caps().restrictions, "the kernel has them since 5.10");
    let nop = bench.token(Kind::Poll, 0);
    // SAFETY: the entry points at nothing.
    unsafe { bench.driver.ring.push(ops::nop(nop)) };
    assert_eq!(bench.wait(nop).result, -libc::EACCES);
    let registered = bench.driver.ring.submitter().register_files_update(0, &[-1]);
    assert_eq!(registered.unwrap_err().raw_os_error(), Some(libc::EACCES));
}

#[test]
fn a_free_ring_refuses_nothing() {
    let mut bench = Bench::masked("-restrictions");
    let nop = bench.token(Kind::Poll, 0);
    // SAFETY: the entry points at nothing.
    unsafe { bench.driver.ring.push(ops::nop(nop)) };
    assert_eq!(bench.wait(nop).result, 0);
}
