//! One scenario with everything in it, derived from its seed: several shards, services at any placement, echo, relay,
//! journal, proxy, timers, Unix sockets; slow readers and rough faults first, then a drain in the middle of it, a crash,
//! or a healed end in which everybody must be served.

use std::fmt;
use std::time::Duration;

use megamux_engine::sim::{Disks, Faults, Pace, PeerId, PeerState, Rng, Script, Sim};
use megamux_engine::{Listen, NO_SERVICE, Placement, ShardId};

use crate::{
    Echo, Found, Heard, Journal, Judge, LinesTo, Proxy, Relay, RelayBytes, Repeat, SECOND, Shout, Sleeper, builder,
    config, simulate_on,
};

const ECHO: &str = "10.0.0.1:7";
const RELAY: &str = "10.0.0.1:8";
const JOURNAL: &str = "10.0.0.1:9";
const SLEEPER: &str = "10.0.0.1:10";
const PROXY: &str = "10.0.0.1:11";
const SHOUT: &str = "10.0.0.1:12";
const UNIX: &str = "unix:/run/echo";
/// What the proxy dials, outside the engine.
const UPSTREAM: &str = "10.9.0.1:7";
/// Answers per byte.
const TIMES: usize = 20;
const DIR: &str = "/var/lib/journal";

/// What a scenario takes from its seed besides its faults.
#[derive(Debug, Clone)]
pub struct Options {
    shards: usize,
    buffers: u16,
    buffer_size: u32,
    lane_capacity: usize,
    slots: u32,
    watermark: usize,
    repeat: Placement,
    journal: Placement,
    guests: usize,
    ending: Ending,
}

/// How the rough part ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The engine drains in the middle of it.
    Drain,
    /// The power fails, and a healed engine goes on with what is on the disk.
    Crash,
    /// The faults end.
    Heal,
}

impl Options {
    /// The options of a seed.
    pub fn new(rng: &mut Rng) -> Options {
        let shards = rng.between(1, 3) as usize;
        let placements = [Placement::Thread, Placement::Shard(ShardId(rng.index(shards) as u16)), Placement::PerShard];
        Options {
            shards,
            buffers: [2, 8, 32][rng.index(3)],
            buffer_size: [512, 1024, 4096][rng.index(3)],
            lane_capacity: [8, 8, 64][rng.index(3)],
            slots: [16, 64, 256][rng.index(3)],
            watermark: [500, 4000, 64 * 1024][rng.index(3)],
            repeat: placements[rng.index(3)],
            journal: placements[rng.index(2)],
            guests: rng.between(4, 32) as usize,
            ending: [Ending::Drain, Ending::Crash, Ending::Heal, Ending::Heal][rng.index(4)],
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One life of the engine and what is checked of it.
struct Life {
    sim: Sim,
    heard: Heard,
    found: Found,
}

impl Life {
    fn new(seed: u64, faults: Faults, options: &Options, disks: Disks) -> Life {
        let (heard, found) = (Heard::default(), Found::default());
        let mut config = config(options.shards);
        (config.buffers, config.buffer_size) = (options.buffers, options.buffer_size);
        (config.lane_capacity, config.connections_per_shard) = (options.lane_capacity, options.slots);
        let mut builder = builder(config);
        let (tells, finds) = (heard.clone(), found.clone());
        let repeat = builder.service("repeat", options.repeat, move || Repeat::new(&tells)).expect("a placement");
        let journal = builder.service("journal", options.journal, move || Journal::new(&finds)).expect("a placement");
        let tells = heard.clone();
        let shout = move || Shout::new(&tells, TIMES);
        let shout = builder.service("shout", Placement::Thread, shout).expect("a placement");
        builder.storage(&journal, DIR).expect("a service of one instance");
        let (low, high) = (options.watermark / 4, options.watermark);
        let listen = |addr: &str| Listen::tcp(addr).send_queue(low, high, 1 << 20);
        let outcome = [
            builder.listen(listen(ECHO), &NO_SERVICE, |_| Echo::default()),
            builder.listen(listen(RELAY), &repeat, |_| Relay::default()),
            builder.listen(listen(JOURNAL), &journal, |_| LinesTo::default()),
            builder.listen(listen(SHOUT), &shout, |_| RelayBytes::default()),
            builder.listen(listen(SLEEPER), &NO_SERVICE, |_| Sleeper),
            builder.listen(listen(PROXY).keep_reading(), &NO_SERVICE, |_| Proxy::new(UPSTREAM)),
            builder.listen(Listen::unix("/run/echo"), &NO_SERVICE, |_| Echo::default()),
        ];
        assert!(outcome.iter().all(Result::is_ok), "listeners of a simulation");
        let mut sim = simulate_on(seed, faults, builder, disks);
        sim.serve(UPSTREAM, Script::new().echo());
        Life { sim, heard, found }
    }

    /// Guests of every kind.
    fn invite(&mut self, rng: &mut Rng, options: &Options, name: &str, judge: &Judge) -> Vec<PeerId> {
        // All at once, or over half a second.
        let within = [0, 0, 500, 500][rng.index(4)];
        let drains = options.ending == Ending::Drain;
        let mut guest = |sim: &mut Sim, number: usize| {
            let after = Duration::from_millis(rng.between(0, within));
            let (addr, script) = match rng.index(9) {
                0 | 1 => (ECHO, talker(rng, drains)),
                2 | 3 => (RELAY, talker(rng, drains)),
                4 => (JOURNAL, writer(rng, &format!("{name}-{number}"), judge)),
                5 => (SLEEPER, Script::new().send("good night").wait(rng.index(40) as u32 * SECOND).close()),
                6 => (PROXY, talker(rng, drains).expect_echo_begun()),
                7 => (SHOUT, caller(rng)),
                _ => (UNIX, talker(rng, drains)),
            };
            sim.connect_after(after, addr, script)
        };
        (0..options.guests).map(|number| guest(&mut self.sim, number)).collect()
    }

    /// What this life found must be what the lives before it acknowledged.
    fn check(&self, judge: &Judge) {
        if let Some(lines) = self.found.lines() {
            judge.check(&lines);
        }
    }

    fn hear(&self, judge: &mut Judge) {
        for peer in self.sim.peers() {
            judge.hear(&self.sim.received(peer));
        }
    }

    /// Everything comes to its end, and nothing is left.
    fn end(mut self) {
        self.sim.quiesce(400 * SECOND);
        self.heard.assert_all_closed();
        assert_eq!(self.sim.stats().service_panics, 0, "a service panicked");
        self.sim.finish(5 * SECOND);
    }
}

/// Sends some and expects it back; reads slowly, or leaves early, now and then.
/// A drain says good-bye in order to whoever has not sent everything yet.
fn talker(rng: &mut Rng, drains: bool) -> Script {
    let mut script = Script::new();
    if rng.chance(250) {
        let bytes = rng.between(100, 3000) as usize;
        script = script.read(Pace::Bytes { bytes, every: Duration::from_millis(rng.between(1, 100)) });
    }
    for _ in 0..rng.between(1, 4) {
        let most = [10, 1000, 6000][rng.index(3)];
        let len = rng.between(1, most) as usize;
        script = script.send(rng.bytes(len));
        if rng.chance(300) {
            script = script.wait(Duration::from_millis(rng.between(0, 3000)));
        }
    }
    match rng.index(8) {
        0 => script.reset().expect_echo_begun(),
        1 => script.close().expect_echo_begun(),
        _ if drains => script.finish().expect_echo_begun(),
        _ => script.finish().expect_echo(),
    }
}

/// Sends a few bytes, each of which is answered many times over: more than a lane holds.
fn caller(rng: &mut Rng) -> Script {
    let bytes: Vec<u8> = (0..rng.between(1, 60) as u8).collect();
    let answer: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; TIMES]).collect();
    Script::new().send(bytes).await_bytes(answer.len()).finish().expect_begun(answer)
}

/// Writes lines to the journal, each when the one before was answered.
fn writer(rng: &mut Rng, name: &str, judge: &Judge) -> Script {
    let mut script = Script::new();
    let mut answered = 0;
    let again = judge.some_of("", rng.index(3));
    let new = (0..rng.between(1, 20)).map(|number| format!("{name}.{number:06}"));
    for line in again.into_iter().chain(new) {
        answered += line.len() + "ok \n".len();
        script = script.send(line + "\n").await_bytes(answered);
    }
    script.finish()
}

/// The faults and options of a seed.
pub fn derive(seed: u64) -> (Faults, Options) {
    let mut rng = Rng::new(seed ^ 0x6576_6572);
    let faults = if rng.chance(250) { Faults::gentle(seed) } else { Faults::rough(seed) };
    (faults, Options::new(&mut rng))
}

/// Runs the scenario of a seed.
pub fn everything(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x7468_696e);
    let (faults, options) = derive(seed);
    let mut judge = Judge::default();
    let mut life = Life::new(seed, faults.clone(), &options, Disks::default());
    life.invite(&mut rng, &options, "first", &judge);
    life.sim.run_for(Duration::from_micros(rng.between(1, 2_000_000)));
    life.hear(&mut judge);
    match options.ending {
        Ending::Drain => return life.sim.finish(Duration::from_millis(rng.between(0, 3000))),
        Ending::Crash => life = Life::new(seed, faults.healed(), &options, life.sim.crash()),
        Ending::Heal => life.sim.heal(),
    }
    let late = life.invite(&mut rng, &options, "late", &judge);
    life.sim.run_for(SECOND);
    let served = |state| !matches!(state, PeerState::Connecting);
    life.sim.run_until(|sim| late.iter().all(|peer| served(sim.state(*peer))), 60 * SECOND);
    assert!(late.iter().all(|peer| served(life.sim.state(*peer))), "healed, and nobody answers");
    if options.ending == Ending::Crash {
        life.check(&judge);
    }
    life.end();
}
