//! What very many connections take, and that they are served: the run behind `cargo xtask sim --mass` and its small sister
//! among the tests.

use std::time::{Duration, Instant};

use megamux_engine::sim::Mass;
use megamux_engine::stats::ConnState;
use megamux_engine::{Config, Engine, Listen, NO_SERVICE};
use megamux_heap_tests::ALL;

use crate::Echo;

/// Connections of a full shard: a table doubles, and is full at a power of two.
const SLOTS: u64 = 1 << 19;
/// What a round does after one in this many connections has sent a message.
const ACTIVE: u64 = 100;

/// What a run measured. Bytes are the engine's, by the allocator's count, per connection.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Connections.
    pub connections: u64,
    /// Shards they were on.
    pub shards: usize,
    /// Bytes of each that had only connected.
    pub waiting: f64,
    /// Bytes of each after rounds in which some talked.
    pub served: f64,
    /// Messages that were answered, each checked.
    pub answered: u64,
    /// Time of the ramp, of a round, and of the end, on the machine's clock.
    pub ramp: Duration,
    /// See `ramp`.
    pub round: Duration,
    /// See `ramp`.
    pub end: Duration,
}

/// Opens so many connections, each with an idle timeout if `idle_timeout` says so, has one in a hundred talk in each of
/// `rounds`, replaces some, and ends all.
///
/// # Panics
///
/// When an answer is lost or wrong, or something is left in the end.
pub fn measure(connections: u64, rounds: u32, idle_timeout: Option<Duration>) -> Measured {
    let shards = connections.div_ceil(SLOTS) as usize;
    let mut config = Config::default();
    config.shards = shards;
    config.buffers = 64;
    config.max_connections = u32::try_from(connections).expect("as many as an engine may have");
    let mut builder = Engine::builder(config).expect("a configuration that fits");
    let mut listen = Listen::tcp("10.0.0.1:7");
    if let Some(after) = idle_timeout {
        listen = listen.idle_timeout(after);
    }
    builder.listen(listen, &NO_SERVICE, |_| Echo::default()).expect("a listener");
    let mut mass = Mass::new(1, builder, SLOTS as u32).expect("an engine that starts");
    let empty = ALL.in_use();
    let each = || (ALL.in_use() - empty) as f64 / connections as f64;

    let (ramp, ()) = timed(|| mass.connect(connections));
    let stats = mass.stats().total();
    assert_eq!(stats.connections.total(), connections, "all are open");
    let waiting = each();
    let (talking, ()) = timed(|| (0..rounds).for_each(|_| mass.talk(connections / ACTIVE)));
    mass.idle(Duration::from_secs(5));
    let served = each();
    assert_eq!(mass.stats().total().connections.of(ConnState::Parked), connections, "all are parked");
    let (end, answered) = timed(|| {
        let per_shard = SLOTS / 1000;
        mass.hang_up(per_shard);
        mass.connect(per_shard * shards as u64);
        mass.talk(connections / ACTIVE);
        let answered = mass.answered();
        mass.finish();
        answered
    });
    let round = talking / rounds.max(1);
    Measured { connections, shards, waiting, served, answered, ramp, round, end }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let done = work();
    (began.elapsed(), done)
}
