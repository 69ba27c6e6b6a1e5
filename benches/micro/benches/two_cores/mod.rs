//! Two pinned threads and their paired slices: what the benches of ways between cores share.
//!
//! Wall time on a shared machine drifts, so ways are run in turns, in slices of a few milliseconds, and what counts is
//! the ratio of a slice to its neighbour of the same turn. A row that repeats the base row (A/A) shows how much that resolves.

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// 32 bytes: as large as a frame.
pub type Descriptor = [u64; 4];

pub const CAPACITY: usize = 1024;
pub const BATCH: usize = 64;
const PRODUCER_CORE: usize = 0;
const CONSUMER_CORE: usize = 1;

/// A way across: its name, the row that it is compared with, and what moves so many batches and says how long it took.
pub type Row = (&'static str, usize, fn(batches: usize) -> Duration);

/// Slices of every row in turns; per row the times and the median of the ratios to its base, with quartiles.
pub fn ratios(rows: &[Row], slices: usize, batches: usize) {
    let mut times = vec![Vec::new(); rows.len()];
    for slice in 0..slices {
        for turn in 0..rows.len() {
            let which = (slice + turn) % rows.len();
            let taken = rows[which].2(batches);
            times[which].push(taken.as_secs_f64() / (batches * BATCH) as f64 * 1e9);
        }
    }
    println!("{slices} slices of {} items each", batches * BATCH);
    println!("{:<26}{:>10}{:>10}{:>24}", "", "ns best", "ns median", "ratio to rtrb (q1 - q3)");
    for ((name, base, _), own) in rows.iter().zip(&times) {
        let mut ratios: Vec<f64> = own.iter().zip(&times[*base]).map(|(a, b)| a / b).collect();
        let mut own = own.clone();
        own.sort_by(f64::total_cmp);
        ratios.sort_by(f64::total_cmp);
        println!(
            "{name:<26}{:>10.2}{:>10.2}{:>10.2} ({:.2} - {:.2})",
            own[0],
            own[slices / 2],
            ratios[slices / 2],
            ratios[slices / 4],
            ratios[slices * 3 / 4],
        );
    }
}

/// The base: rtrb's chunks, filled by its own iterator, read by its own iterator.
pub fn rtrb_chunks<I: Iterator<Item = Descriptor>>(batches: usize, batch: fn() -> I) -> Duration {
    let (mut tx, mut rx) = rtrb::RingBuffer::<Descriptor>::new(CAPACITY);
    across(
        || {
            for _ in 0..batches {
                while tx.slots() < BATCH {
                    spin_loop();
                }
                let chunk = tx.write_chunk_uninit(BATCH).expect("counted above");
                chunk.fill_from_iter(batch());
            }
        },
        move || {
            let mut left = batches * BATCH;
            while left > 0 {
                let ready = rx.slots().min(BATCH);
                if ready == 0 {
                    spin_loop();
                    continue;
                }
                for descriptor in rx.read_chunk(ready).expect("counted above") {
                    black_box(descriptor);
                }
                left -= ready;
            }
        },
    )
}

/// A batch made on the way into the slots.
pub fn built() -> impl Iterator<Item = Descriptor> {
    (0..BATCH as u64).map(|n| [n; 4])
}

/// Runs `produce` here and `consume` on the other core; from the common start to the last item taken.
pub fn across(produce: impl FnOnce(), consume: impl FnOnce() + Send) -> Duration {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            pin(CONSUMER_CORE);
            start.wait();
            consume();
            Instant::now()
        });
        start.wait();
        let began = Instant::now();
        produce();
        consumer.join().expect("the consumer only counts") - began
    })
}

/// Puts this thread where [`across`] produces.
pub fn pin_producer() {
    pin(PRODUCER_CORE);
}

fn pin(core: usize) {
    assert!(
        core_affinity::set_for_current(core_affinity::CoreId { id: core }),
        "cannot pin to core {core}: this bench wants two cores"
    );
}
