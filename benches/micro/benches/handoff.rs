//! What it costs to hand a 32-byte descriptor to another core: our lane beside bare rtrb.
//!
//! Both move the same descriptors in batches of 64 through 1,024 slots between the same two pinned
//! threads. First the ratios (`two_cores` says how they are compared), then criterion's view of each.
//!
//! Two inputs, because where items come from decides how a core's stores drain: a row of nothing but stores to the
//! slots lets it ask for several far lines at once, loads and stores in between do not.
//!
//! Run with `cargo bench -p megamux-micro --bench handoff`.

mod two_cores;

use std::{
    hint::{black_box, spin_loop},
    time::Duration,
};

use criterion::{Criterion, Throughput};
use megamux_engine::bench_internals::{
    inbox::inbox,
    lane::{Consumer, Producer, lane},
    ready::ReadySet,
    wake::{Sleeper, Wake},
};
use two_cores::{BATCH, CAPACITY, Descriptor, Row, across, built, pin_producer, ratios, rtrb_chunks};

fn main() {
    pin_producer();
    ratios(&ROWS, 201, 4_000);
    let mut criterion = Criterion::default().configure_from_args();
    both_cores(&mut criterion);
    one_core(&mut criterion);
    criterion.final_summary();
}

const ROWS: [Row; 8] = [
    ("built: rtrb chunks", 0, |n| rtrb_chunks(n, built)),
    ("built: rtrb again (A/A)", 0, |n| rtrb_chunks(n, built)),
    ("built: lane", 0, |n| bare_lane(n, built)),
    ("built: lane + doorbell", 0, |n| rung_lane(n, built)),
    ("copied: rtrb chunks", 4, |n| rtrb_chunks(n, copied)),
    ("copied: rtrb again (A/A)", 4, |n| rtrb_chunks(n, copied)),
    ("copied: lane", 4, |n| bare_lane(n, copied)),
    ("copied: lane + doorbell", 4, |n| rung_lane(n, copied)),
];

/// A batch that lies in memory already.
fn copied() -> impl Iterator<Item = Descriptor> {
    static DESCRIPTORS: [Descriptor; BATCH] = [[1, 2, 3, 4]; BATCH];
    black_box(&DESCRIPTORS).iter().copied()
}

fn both_cores(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handoff/two_cores");
    group
        .throughput(Throughput::Elements(BATCH as u64))
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    for (name, _, mover) in ROWS {
        if !name.ends_with("(A/A)") {
            group.bench_function(name, |b| b.iter_custom(|iters| mover(iters as usize)));
        }
    }
    group.finish();
}

/// The instructions without the cache misses: what one thread pays for both ends.
fn one_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handoff/one_core");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.bench_function("lane, 64 through", |b| {
        let (mut tx, mut rx) = lane::<Descriptor>(CAPACITY, 16);
        b.iter(|| {
            for descriptor in copied() {
                let _ = tx.push(descriptor);
            }
            tx.publish();
            while let Some(descriptor) = rx.pop() {
                black_box(descriptor);
            }
            rx.release();
        });
    });
    group.bench_function("rtrb, 64 through", |b| {
        let (mut tx, mut rx) = rtrb::RingBuffer::<Descriptor>::new(CAPACITY);
        b.iter(|| {
            fill(&mut tx, copied());
            let chunk = rx.read_chunk(BATCH).expect("just filled");
            for descriptor in chunk {
                black_box(descriptor);
            }
        });
    });
    group.bench_function("mark a set bit", |b| {
        let set = ReadySet::new(256);
        set.mark(200);
        b.iter(|| set.mark(black_box(200)));
    });
    group.bench_function("mark a clear bit and drain it", |b| {
        let set = ReadySet::new(256);
        b.iter(|| {
            set.mark(black_box(200));
            set.drain().count()
        });
    });
    group.bench_function("look at 4,096 idle lanes", |b| {
        let set = ReadySet::new(4096);
        b.iter(|| black_box(&set).drain().count());
    });
    group.bench_function("notify one who is up", |b| {
        let sleeper = Sleeper::new(Box::new(NoWake));
        b.iter(|| black_box(&sleeper).notify());
    });
    group.finish();
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

fn fill(tx: &mut rtrb::Producer<Descriptor>, batch: impl Iterator<Item = Descriptor>) {
    while tx.slots() < BATCH {
        spin_loop();
    }
    let chunk = tx.write_chunk_uninit(BATCH).expect("counted above");
    chunk.fill_from_iter(batch);
}

fn bare_lane<I: Iterator<Item = Descriptor>>(batches: usize, batch: fn() -> I) -> Duration {
    let (mut tx, mut rx) = lane::<Descriptor>(CAPACITY, 16);
    across(
        || {
            for _ in 0..batches {
                push_batch(&mut tx, batch());
                tx.publish();
            }
        },
        move || {
            let mut left = batches * BATCH;
            while left > 0 {
                let taken = take_batch(&mut rx);
                if taken == 0 {
                    spin_loop();
                    continue;
                }
                rx.release();
                left -= taken;
            }
        },
    )
}

/// What the engine does: each publish rings, and the consumer looks only where it was rung.
fn rung_lane<I: Iterator<Item = Descriptor>>(batches: usize, batch: fn() -> I) -> Duration {
    let (mut tx, mut rx) = lane::<Descriptor>(CAPACITY, 16);
    let (mut inbox, bell) = inbox(64, Box::new(NoWake));
    across(
        || {
            for _ in 0..batches {
                push_batch(&mut tx, batch());
                tx.publish();
                let _ = bell.ring(7);
            }
        },
        move || {
            let mut left = batches * BATCH;
            while left > 0 {
                for _lane in inbox.drain() {
                    loop {
                        let taken = take_batch(&mut rx);
                        if taken == 0 {
                            break;
                        }
                        left -= taken;
                        rx.release();
                    }
                }
                spin_loop();
            }
        },
    )
}

fn push_batch(tx: &mut Producer<Descriptor>, batch: impl Iterator<Item = Descriptor>) {
    for descriptor in batch {
        while tx.push(descriptor).is_err() {
            spin_loop();
        }
    }
}

fn take_batch(rx: &mut Consumer<Descriptor>) -> usize {
    let mut taken = 0;
    while taken < BATCH
        && let Some(descriptor) = rx.pop()
    {
        black_box(descriptor);
        taken += 1;
    }
    taken
}
