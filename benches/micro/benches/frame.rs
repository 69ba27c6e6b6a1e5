//! What a received frame costs: counted and dropped on its shard, and handed to another core and back.
//!
//! The handoff moves 64 B frames in batches of 64 through 1,024 slots between two pinned threads; the other
//! thread drops them, and their references come home over a return lane. Beside it, bare rtrb moves a
//! descriptor of the same size and brings nothing home. `two_cores` says how they are compared.
//!
//! Run with `cargo bench -p megamux-micro --bench frame`.

mod two_cores;

use std::hint::{black_box, spin_loop};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use megamux_engine::Frame;
use megamux_engine::bench_internals::lane::lane;
use megamux_engine::bench_internals::{Chunks, Pool, PoolConfig, Received, SendQueue, flush_returns, recv_buf};
use two_cores::{BATCH, CAPACITY, Row, across, built, pin_producer, ratios, rtrb_chunks};

const FRAME_BYTES: u32 = 64;
const FRAMES_PER_BUFFER: [u32; 3] = [1, 16, 512];

fn main() {
    pin_producer();
    ratios(&ROWS, 401, 500);
    let mut criterion = Criterion::default().configure_from_args();
    on_the_shard(&mut criterion);
    send_queue(&mut criterion);
    criterion.final_summary();
}

const ROWS: [Row; 5] = [
    ("rtrb chunks", 0, |n| rtrb_chunks(n, built)),
    ("rtrb chunks again (A/A)", 0, |n| rtrb_chunks(n, built)),
    ("frames, 1 per buffer", 0, |n| frames_across(n, 1)),
    ("frames, 16 per buffer", 0, |n| frames_across(n, 16)),
    ("frames, 512 per buffer", 0, |n| frames_across(n, 512)),
];

/// Received, taken as a frame, dropped, all on the shard's thread: ns per frame.
fn on_the_shard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/on_the_shard");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for per_buffer in FRAMES_PER_BUFFER {
        let mut source = Source::new(per_buffer);
        group.bench_function(format!("take and drop, {per_buffer} per buffer"), |b| {
            b.iter(|| drop(black_box(source.frame())));
        });
    }
    let mut source = Source::new(16);
    let frame = source.frame();
    group.bench_function("clone and drop", |b| b.iter(|| drop(black_box(frame.clone()))));
    group.finish();
}

/// Queue, chain, completion of 16 small sends: which of a small frame's two ways is the cheaper.
fn send_queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send_queue");
    group.throughput(Throughput::Elements(16)).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let (mut queue, mut chunks) = (SendQueue::new(), Chunks::new(16));
    for size in [64_usize, 256, 1024] {
        let encoded = Frame::from(vec![7; size]).share();
        group.bench_function(format!("16 copies of {size} B"), |b| {
            b.iter(|| {
                for _ in 0..16 {
                    queue.push_copy(black_box(&encoded), &mut chunks);
                }
                flush(&mut queue, &mut chunks);
            });
        });
        // Without an open chunk, frames are queued as they are.
        group.bench_function(format!("16 frames of {size} B"), |b| {
            b.iter(|| {
                for _ in 0..16 {
                    queue.push_frame(black_box(&encoded).clone());
                }
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
        let config = PoolConfig { buffers, buffer_size: per_buffer * FRAME_BYTES };
        let mut pool = Pool::new(config).expect("memory for a pool");
        pool.set_current();
        Source { pool, per_buffer, buffer: 0, left: 0 }
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
