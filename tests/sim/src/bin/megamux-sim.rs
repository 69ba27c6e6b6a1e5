//! The simulator from the command line: replay a seed, search for a time, or run very many connections.
//!
//! `cargo xtask sim` calls it; it owns its arguments and what it prints, and nothing of a scenario.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use megamux_heap_tests::{ALL, Counting};
use megamux_sim_tests::{Measured, derive, everything, explain, fresh_seed, measure};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);
/// Rounds of a mass run.
const ROUNDS: u32 = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match parsed[..] {
        ["seed", seed] => number(seed).map_or_else(usage, replay),
        ["seconds", seconds] => number(seconds).map_or_else(usage, |seconds| search(Duration::from_secs(seconds))),
        ["mass", connections] => number(connections).filter(|count| *count > 0).map_or_else(usage, mass),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("megamux-sim seed N | seconds N | mass N");
    ExitCode::FAILURE
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn replay(seed: u64) -> ExitCode {
    let (faults, options) = derive(seed);
    println!("seed {seed}\n{options}\n{faults}");
    run(seed)
}

fn run(seed: u64) -> ExitCode {
    match catch_unwind(AssertUnwindSafe(|| everything(seed))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => {
            let (_, options) = derive(seed);
            eprintln!("{options}");
            explain(seed, &everything);
            ExitCode::FAILURE
        }
    }
}

/// Runs one fresh seed after the other, and ends at the first that fails.
fn search(time: Duration) -> ExitCode {
    let (began, base) = (Instant::now(), fresh_seed());
    let (mut seeds, mut said) = (0, began);
    println!("seeds from {base} on, for {time:?}");
    while began.elapsed() < time {
        if run(base + seeds) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
        seeds += 1;
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            println!("{:>6.0?}  {seeds} seeds", began.elapsed());
        }
    }
    println!("{seeds} seeds, none failed");
    ExitCode::SUCCESS
}

fn mass(connections: u64) -> ExitCode {
    for idle_timeout in [None, Some(Duration::from_secs(3600))] {
        let Measured { shards, waiting, served, answered, ramp, round, end, .. } =
            measure(connections, ROUNDS, idle_timeout);
        println!("{connections} connections on {shards} shards, idle timeout {idle_timeout:?}");
        println!("  {waiting:.1} bytes of the engine per connection, {served:.1} after {ROUNDS} rounds with 1% active");
        println!("  {answered} messages answered, each checked");
        println!("  ramp {ramp:.1?}, a round {round:.1?}, churn and end {end:.1?}");
    }
    println!("at most {} MiB of heap, the simulated kernel's included", ALL.most() >> 20);
    ExitCode::SUCCESS
}
