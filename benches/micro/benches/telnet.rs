//! What decoding telnet costs per byte: plain lines and text, input made of commands, and a compressed stream.
//!
//! Each run decodes 1 MiB in reads of 64 KiB, as the engine delivers them, and counts the events so that none is optimized
//! away. In front of criterion's estimates stands the best of many runs, which a busy machine disturbs least. Run with `cargo xtask bench micro --bench telnet`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use flate2::{Compress, Compression, FlushCompress};
use megamux_telnet::{Support, Telnet, TelnetEvent};

const STREAM: usize = 1 << 20;
const RUNS: usize = 200;
const READ: usize = 64 * 1024;

const ECHO: &[u8] = b"\xff\xfd\x01\xff\xfd\x03";
const BEGIN_COMPRESSION: &[u8] = b"\xff\xfd\x57\xff\xfa\x57\xff\xf0";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("telnet");
    group.throughput(Throughput::Bytes(STREAM as u64)).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));

    let line = |len: usize| [&b"0123456789abcdef".repeat(len.div_ceil(16))[..len - 2], b"\r\n"].concat();
    let rows: [(&str, &[u8], Vec<u8>); 7] = [
        ("lines of 64 B", b"", line(64)),
        ("lines of 1 KiB", b"", line(1024)),
        ("text, keys", ECHO, b"0123456789abcdef".to_vec()),
        ("IAC NOP", b"", b"\xff\xf1".to_vec()),
        ("IAC IAC, lines", b"", [&b"\xff\xff".repeat(31)[..], b"\r\n"].concat()),
        ("IAC IAC, keys", ECHO, b"\xff\xff".to_vec()),
        ("refused requests", b"", b"\xff\xfd\x63".to_vec()),
    ];
    for (name, before, unit) in rows {
        let stream = unit.repeat(STREAM / unit.len());
        best(name, before, &stream, stream.len());
        group.bench_function(name, |bencher| bencher.iter(|| run(before, &stream)));
    }

    let text: Vec<u8> = (0_u32..)
        .flat_map(|n| format!("line {n} of {}\r\n", n.wrapping_mul(0x9e37_79b9)).into_bytes())
        .take(STREAM)
        .collect();
    let mut wire = Vec::with_capacity(STREAM);
    Compress::new(Compression::default(), true).compress_vec(&text, &mut wire, FlushCompress::Sync).expect("it fits");
    let name = "inflated lines (bytes after inflating)";
    best(name, BEGIN_COMPRESSION, &wire, text.len());
    group.bench_function(name, |bencher| bencher.iter(|| run(BEGIN_COMPRESSION, &wire)));
    group.finish();
    criterion.final_summary();
}

/// A new connection that hears `before` and `stream`.
fn run(before: &[u8], stream: &[u8]) -> usize {
    let mut telnet = Telnet::new(Support::FULL_SERVER);
    decode(&mut telnet, before) + decode(&mut telnet, black_box(stream))
}

fn best(name: &str, before: &[u8], stream: &[u8], decoded_len: usize) {
    let runs = (0..RUNS).map(|_| {
        let began = Instant::now();
        black_box(run(before, stream));
        began.elapsed()
    });
    let best = runs.min().unwrap_or_default();
    println!("{name}: best of {RUNS}: {:.0} MB/s", decoded_len as f64 / best.as_secs_f64() / 1e6);
}

/// Decodes `stream` read by read; gives the number of events.
fn decode(telnet: &mut Telnet, stream: &[u8]) -> usize {
    let (mut out, mut events) = (Vec::new(), 0);
    let (mut from, mut to) = (0, 0);
    while to < stream.len() {
        to = (to + READ).min(stream.len());
        let mut input = &stream[from..to];
        while let Some(event) = telnet.next_event(&mut input, &mut out).expect("the stream keeps the rules") {
            if let TelnetEvent::Line(text) | TelnetEvent::Text(text) = event {
                black_box(text);
            }
            events += 1;
        }
        from = to - input.len();
        out.clear();
    }
    events
}
