//! What the simulation tests share: seeds and their replay, a small engine's configuration, handlers and services.
//!
//! A test is a function of a seed. [`for_seeds`] runs it over a fixed set and a few fresh ones; whichever fails is
//! printed and replayed with `MEGAMUX_SIM_SEED=N`.

mod everything;
mod handlers;
mod journal;
mod mass;
mod proxy;
mod services;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;
use std::time::Duration;

use megamux_engine::sim::{Disks, Faults, Script, Sim, leave_out, quiet};
use megamux_engine::{Builder, Config, Engine};

pub use everything::{Options, derive, everything};
pub use handlers::{Door, Echo, Lines, Pusher, Relay, RelayBytes, Sleeper};
pub use journal::{Found, Journal, Judge, LinesTo};
pub use mass::{Measured, measure};
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
    let base = fresh_seed();
    for seed in (0..fixed).chain((0..fresh).map(|fresh| base + fresh)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            explain(seed, &test);
            resume_unwind(panic);
        }
    }
}

/// A seed that nobody has had before.
pub fn fresh_seed() -> u64 {
    RandomState::new().hash_one(0) >> 1
}

/// Prints how to run a failed seed again, and which faults it fails without.
pub fn explain(seed: u64, test: &impl Fn(u64)) {
    // A test's thread has its name.
    let name = std::thread::current().name().filter(|name| *name != "main").unwrap_or_default().to_owned();
    let needed = quietly(|| needed_faults(seed, test));
    let needed = needed.map_or("it did not fail again".to_owned(), |names| names.join(" "));
    eprintln!("failed with seed {seed}; faults it needs: {needed}");
    eprintln!("replay: cargo xtask sim --seed {seed} {name}");
}

/// Leaves out one kind of fault after the other as long as the seed still fails: a small set that it fails with, though
/// hardly the smallest. `None` if it does not fail again at all.
fn needed_faults(seed: u64, test: &impl Fn(u64)) -> Option<Vec<&'static str>> {
    let fails = || catch_unwind(AssertUnwindSafe(|| test(seed))).is_err();
    let mut out = Vec::new();
    leave_out(&out);
    if !fails() {
        return None;
    }
    for &name in Faults::NAMES {
        out.push(name);
        leave_out(&out);
        if !fails() {
            out.pop();
        }
    }
    leave_out(&[]);
    Some(Faults::NAMES.iter().filter(|name| !out.contains(name)).copied().collect())
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` without what its panics say. Other tests still say what they have to.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    quiet(true);
    let done = work();
    quiet(false);
    QUIET.set(false);
    done
}

/// The first seed below `most` with which `test` fails.
pub fn first_failure(most: u64, test: impl Fn(u64)) -> Option<u64> {
    let fails = |&seed: &u64| catch_unwind(AssertUnwindSafe(|| test(seed))).is_err();
    quietly(|| (0..most).find(fails))
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

/// The simulation of an engine on what a life before left.
pub fn simulate_on(seed: u64, faults: Faults, builder: Builder, disks: Disks) -> Sim {
    Sim::on_disks(seed, faults, builder, disks).expect("an engine that starts")
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
