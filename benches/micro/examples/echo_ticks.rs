//! Instructions per echoed message, for callgrind: the same shard as the `shard` bench, a given number of ticks.
//!
//! `cargo xtask bench instructions` runs it for two numbers of ticks and prints the difference per
//! message; with `alone` as a second argument there is only the driver.

use megamux_engine::bench_internals::{NullAlone, NullShard};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ticks: u64 = std::env::args().nth(1).map_or(Ok(100), |ticks| ticks.parse())?;
    if std::env::args().nth(2).is_some_and(|which| which == "alone") {
        let mut alone = NullAlone::new(500, &[7; 64])?;
        (0..ticks).for_each(|_| alone.tick());
        println!("{} messages", alone.answered());
        return Ok(());
    }
    let mut shard = NullShard::echo(500, &[7; 64])?;
    for _ in 0..ticks {
        shard.tick();
    }
    println!("{} messages", shard.answered());
    Ok(())
}
