//! What the engine itself costs per message: a whole tick of a shard over a driver without a kernel.
//!
//! 500 connections each send 64 bytes and get them back: one receive completion, one handler call, one send and
//! its completion. The second bench is the null driver alone, which the first includes. Bar: 60 ns between them.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use megamux_engine::bench_internals::{NullAlone, NullShard};

const CONNS: u32 = 500;

fn echo(c: &mut Criterion) {
    let mut group = c.benchmark_group("shard");
    group.throughput(Throughput::Elements(u64::from(CONNS)));
    let mut shard = NullShard::echo(CONNS, &[7; 64]).expect("a shard");
    let before = shard.answered();
    shard.tick();
    assert_eq!(shard.answered() - before, u64::from(CONNS), "every connection is served in a tick");
    group.bench_function("echo 64 B, 500 connections", |b| b.iter(|| black_box(&mut shard).tick()));
    let mut alone = NullAlone::new(CONNS, &[7; 64]).expect("a pool");
    group.bench_function("the null driver alone", |b| b.iter(|| black_box(&mut alone).tick()));
    group.finish();
}

criterion_group!(benches, echo);
criterion_main!(benches);
