//! What a received frame costs: counted and dropped on its shard, and handed to another core and back.
//!
//! The handoff moves 64 B frames in batches of 64 through 1,024 slots between two pinned threads; the other
//! thread drops them, and their references come home over a return lane. Beside it, bare rtrb moves a
//! descriptor of the same size and brings nothing home. Ratios are of slices that alternate within
//! one run: wall time on a shared machine drifts.
//!
//! Run with `cargo bench -p megamux-micro --bench frame`.

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use megamux_engine::Frame;
use megamux_engine::bench_internals::lane::lane;
use megamux_engine::bench_internals::{
    Chunks, Pool, PoolConfig, Received, SendQueue, flush_returns, recv_buf,
};

/// As large as a frame.
type Descriptor = [u64; 4];

const CAPACITY: usize = 1024;
const BATCH: usize = 64;
const FRAME_BYTES: u32 = 64;
const FRAMES_PER_BUFFER: [u32; 3] = [1, 16, 512];
const SHARD_CORE: usize = 0;
const SERVICE_CORE: usize = 1;

fn main() {
    pin(SHARD_CORE);
    ratios();
    let mut criterion = Criterion::default().configure_from_args();
    on_the_shard(&mut criterion);
    send_queue(&mut criterion);
    criterion.final_summary();
}

/// Paired slices, alternating order, each shorter than a scheduler's: medians, and the median of the ratios to rtrb with its quartiles.
fn ratios() {
    const SLICES: usize = 401;
    const BATCHES: usize = 500;
    type Mover = (&'static str, fn(usize) -> Duration);
    const MOVERS: [Mover; 5] = [
        ("rtrb chunks", rtrb_chunks),
        ("rtrb chunks again (A/A)", rtrb_chunks),
        ("frames, 1 per buffer", |batches| frames_across(batches, 1)),
        ("frames, 16 per buffer", |batches| {
            frames_across(batches, 16)
        }),
        ("frames, 512 per buffer", |batches| {
            frames_across(batches, 512)
        }),
    ];
    let mut times = [const { Vec::new() }; MOVERS.len()];
    for slice in 0..SLICES {
        for turn in 0..MOVERS.len() {
            let which = (slice + turn) % MOVERS.len();
            let taken = MOVERS[which].1(BATCHES);
            times[which].push(taken.as_secs_f64() / (BATCHES * BATCH) as f64 * 1e9);
        }
    }
    println!(
        "{:<26}{:>10}{:>10}{:>24}",
        "", "ns best", "ns median", "ratio to rtrb (q1 - q3)"
    );
    for ((name, _), own) in MOVERS.iter().zip(&times) {
        let mut ratios: Vec<f64> = own.iter().zip(&times[0]).map(|(a, b)| a / b).collect();
        let mut own = own.clone();
        own.sort_by(f64::total_cmp);
        ratios.sort_by(f64::total_cmp);
        println!(
            "{name:<26}{:>10.2}{:>10.2}{:>10.2} ({:.2} - {:.2})",
            own[0],
            own[SLICES / 2],
            ratios[SLICES / 2],
            ratios[SLICES / 4],
            ratios[SLICES * 3 / 4],
        );
    }
}

/// Received, taken as a frame, dropped, all on the shard's thread: ns per frame.
fn on_the_shard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/on_the_shard");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    for per_buffer in FRAMES_PER_BUFFER {
        let mut source = Source::new(per_buffer);
        group.bench_function(format!("take and drop, {per_buffer} per buffer"), |b| {
            b.iter(|| drop(black_box(source.frame())));
        });
    }
    let mut source = Source::new(16);
    let frame = source.frame();
    group.bench_function("clone and drop", |b| {
        b.iter(|| drop(black_box(frame.clone())))
    });
    group.finish();
}

/// Queue, chain, completion of 16 small sends: which of a small frame's two ways is the cheaper.
fn send_queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send_queue");
    group.throughput(Throughput::Elements(16)).sample_size(20);
    group
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(16));
    for size in [64_usize, 256, 1024] {
        let encoded = Frame::from(vec![7; size]).share();
        group.bench_function(format!("16 copies of {size} B"), |b| {
            b.iter(|| {
                (0..16).for_each(|_| queue.push_copy(black_box(&encoded), &mut chunks));
                flush(&mut queue, &mut chunks);
            });
        });
        // Without an open chunk, frames are queued as they are.
        group.bench_function(format!("16 frames of {size} B"), |b| {
            b.iter(|| {
                (0..16).for_each(|_| queue.push_frame(black_box(&encoded).clone()));
                flush(&mut queue, &mut chunks);
            });
        });
    }
    group.finish();
}

fn flush(queue: &mut SendQueue, chunks: &mut Chunks) {
    while !queue.is_empty() {
        let total = black_box(queue.begin()).total();
        queue.complete(total, chunks);
    }
}

/// A shard that receives all the time, into buffers that are never touched.
struct Source {
    pool: Pool,
    per_buffer: u32,
    buffer: u16,
    left: u32,
}

impl Source {
    fn new(per_buffer: u32) -> Source {
        // Twice what a full lane and a batch under way can hold on to.
        let buffers = (2 * CAPACITY as u32 / per_buffer).max(8) as u16;
        let config = PoolConfig {
            buffers,
            buffer_size: per_buffer * FRAME_BYTES,
        };
        let mut pool = Pool::new(config).expect("memory for a pool");
        pool.set_current();
        Source {
            pool,
            per_buffer,
            buffer: 0,
            left: 0,
        }
    }

    /// Inlined, so that a frame is made in its slot: a copy by way of the stack, read in other sizes than it was
    /// written in, waits for every store before it, those to the other core's lines included.
    #[inline(always)]
    fn frame(&mut self) -> Frame {
        while self.left == 0 {
            match self.pool.take_free() {
                Some(given) => (self.buffer, self.left) = (given.bid, self.per_buffer),
                None => self.pool.collect_returns(),
            }
        }
        self.left -= 1;
        let received: Received = self.pool.received(self.buffer, FRAME_BYTES, self.left > 0);
        recv_buf(&mut self.pool, received).take_all()
    }
}

fn frames_across(batches: usize, per_buffer: u32) -> Duration {
    let (mut tx, mut rx) = lane::<Frame>(CAPACITY, 16);
    let mut source = Source::new(per_buffer);
    let returns = source.pool.return_lane();
    across(
        || {
            for _ in 0..batches {
                source.pool.collect_returns();
                for _ in 0..BATCH {
                    loop {
                        if let Some(permit) = tx.try_reserve() {
                            permit.send(source.frame());
                            break;
                        }
                        spin_loop();
                    }
                }
                tx.publish();
            }
        },
        move || {
            returns.register();
            let mut left = batches * BATCH;
            while left > 0 {
                let mut taken = 0;
                while taken < BATCH
                    && let Some(frame) = rx.pop()
                {
                    drop(black_box(frame));
                    taken += 1;
                }
                rx.release();
                if taken == 0 {
                    spin_loop();
                    continue;
                }
                flush_returns();
                left -= taken;
            }
        },
    )
}

fn rtrb_chunks(batches: usize) -> Duration {
    let (mut tx, mut rx) = rtrb::RingBuffer::<Descriptor>::new(CAPACITY);
    across(
        || {
            for _ in 0..batches {
                loop {
                    if let Ok(chunk) = tx.write_chunk_uninit(BATCH) {
                        chunk.fill_from_iter((0..BATCH as u64).map(|n| [n; 4]));
                        break;
                    }
                    spin_loop();
                }
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

/// Runs `produce` here and `consume` on the other core; from the common start to the last item taken.
fn across(produce: impl FnOnce(), consume: impl FnOnce() + Send) -> Duration {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            pin(SERVICE_CORE);
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

fn pin(core: usize) {
    assert!(
        core_affinity::set_for_current(core_affinity::CoreId { id: core }),
        "cannot pin to core {core}: this bench wants two cores"
    );
}
