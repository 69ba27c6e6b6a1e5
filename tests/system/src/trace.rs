//! What a fault leaves behind: this file owns how that is measured.

use std::io::Write;
use std::time::Duration;

use crate::{LoadReport, Server, binary, connect_all, reset};

/// What the heap's own pages are worth in a process of a few megabytes.
const SLACK: u64 = 256 << 10;
/// Tables and spare memory come to their size within a few rounds, by doubling; a leak grows in each.
const MOST_ROUNDS: usize = 10;
/// An instrumented server keeps what was freed, so its memory never is back. What a second round finds wrong is told by itself.
const INSTRUMENTED_ROUNDS: usize = 2;
/// What counts as quick on a machine that has other work.
const QUICK: Duration = Duration::from_millis(10);
/// What warms a server up: more bytes than its receive pools hold, asked for and not read.
const WARMERS: usize = 64;
const WARMTH: usize = 200_000;

/// Puts a warm server through a fault again and again. After each time nothing may be held for anybody, and soon there
/// has to be a time that leaves the memory where it was before, within a tenth. Gives back what that time gave.
#[track_caller]
pub fn leaves_nothing_behind<T>(server: &mut Server, mut fault: impl FnMut(&mut Server) -> T) -> T {
    warm_up(server);
    server.is_well();
    let mut sizes = vec![server.usage().memory()];
    loop {
        let outcome = fault(server);
        server.is_well();
        let after = server.usage().memory();
        let is_back = sizes.last().is_some_and(|before| after <= before + before / 10 + SLACK);
        let is_enough = binary::instrumented().is_some() && sizes.len() == INSTRUMENTED_ROUNDS;
        sizes.push(after);
        if is_back || is_enough {
            eprintln!("memory before and after each round, in bytes: {sizes:?}");
            return outcome;
        }
        assert!(sizes.len() <= MOST_ROUNDS, "memory grows in each round: {sizes:?}");
    }
}

fn warm_up(server: &Server) {
    let addr = ([127, 0, 0, 1], server.echo().port()).into();
    let mut warmers = connect_all(addr, WARMERS);
    for stream in &mut warmers {
        stream.write_all(&[b'w'; WARMTH]).expect("the server reads");
    }
    warmers.into_iter().for_each(reset);
}

/// Tells what a fault did, and asks that those who had no part in it did not have to wait for it.
#[track_caller]
pub fn spares_bystanders(fault: &str, victims: &LoadReport, alone: &LoadReport, beside: &LoadReport) {
    eprintln!(
        "{fault}: {:.0} round trips a second held, {:.0} without; p99 of victims {:?}, of bystanders {:?} beside and {:?} alone",
        beside.rate(),
        alone.rate(),
        victims.p99(),
        beside.p99(),
        alone.p99(),
    );
    assert_eq!((alone.ended, beside.ended), (0, 0), "bystanders are served");
    // How much they got done is told only: a fault may take most of two cores, and then theirs is what is left.
    let is_timed = binary::instrumented().is_none();
    assert!(!is_timed || beside.p99() <= 20 * alone.p99().max(QUICK), "{:?}", beside.p99());
}
