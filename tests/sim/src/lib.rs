//! What the simulation tests share: seeds and their replay, a small engine's configuration, handlers and services.
//!
//! A test is a function of a seed. [`for_seeds`] runs it over a fixed set and a few fresh ones; whichever fails is
//! printed and replayed with `MEGAMUX_SIM_SEED=N`.

mod handlers;
mod proxy;
mod services;

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use megamux_engine::sim::{Faults, Script, Sim};
use megamux_engine::{Builder, Config, Engine};

pub use handlers::{Door, Echo, Lines, Pusher, Relay, RelayBytes};
pub use proxy::Proxy;
pub use services::{Heard, Repeat, Shout};

/// Fresh seeds per test and run, unless `MEGAMUX_SIM_FRESH` says how many.
const FRESH: u64 = 3;

/// One virtual second.
pub const SECOND: Duration = Duration::from_secs(1);

/// Where the engine of a test listens.
pub const ADDR: &str = "10.0.0.1:7";

/// Runs `test` for the seeds `0..fixed` and a few fresh ones, or for `MEGAMUX_SIM_SEED` alone.
pub fn for_seeds(fixed: u64, test: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("MEGAMUX_SIM_SEED") {
        return test(seed.parse().expect("MEGAMUX_SIM_SEED is a number"));
    }
    let fresh =
        std::env::var("MEGAMUX_SIM_FRESH").map_or(FRESH, |fresh| fresh.parse().expect("MEGAMUX_SIM_FRESH is a number"));
    let base = RandomState::new().hash_one(0) >> 1;
    for seed in (0..fixed).chain((0..fresh).map(|fresh| base + fresh)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("failed with seed {seed}; replay with MEGAMUX_SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// The first seed below `most` with which `test` fails.
pub fn first_failure(most: u64, test: impl Fn(u64)) -> Option<u64> {
    (0..most).find(|&seed| catch_unwind(AssertUnwindSafe(|| test(seed))).is_err())
}

/// Small pools and tables, so that their ends are met.
pub fn config(shards: usize) -> Config {
    let mut config = Config::default();
    config.shards = shards;
    config.buffers = 8;
    config.buffer_size = 4096;
    config.connections_per_shard = 256;
    config
}

/// A builder with that configuration.
pub fn builder(config: Config) -> Builder {
    Engine::builder(config).expect("a configuration that fits")
}

/// The simulation of an engine.
pub fn simulate(seed: u64, faults: Faults, builder: Builder) -> Sim {
    Sim::new(seed, faults, builder).expect("an engine that starts")
}

/// Connects `count` peers over half a second, each of which sends up to `most` bytes and expects all of them back.
pub fn echo_peers(sim: &mut Sim, count: usize, most: usize) {
    any_echo_peers(sim, count, most, Script::expect_echo);
}

/// The same, of peers that expect no more than the beginning.
pub fn echo_begun_peers(sim: &mut Sim, count: usize, most: usize) {
    any_echo_peers(sim, count, most, Script::expect_echo_begun);
}

fn any_echo_peers(sim: &mut Sim, count: usize, most: usize, expect: fn(Script) -> Script) {
    let mut rng = sim.rng();
    for _ in 0..count {
        let mut script = Script::new();
        for _ in 0..rng.between(1, 4) {
            let len = rng.between(1, most as u64 / 4) as usize;
            script = script.send(rng.bytes(len));
            if rng.chance(300) {
                script = script.wait(Duration::from_millis(rng.between(0, 3000)));
            }
        }
        script = match rng.index(8) {
            0 => script.reset().expect_echo_begun(),
            1 => script.close().expect_echo_begun(),
            _ => expect(script.finish()),
        };
        let after = Duration::from_millis(rng.between(0, 500));
        sim.connect_after(after, ADDR, script);
    }
}
