//! Power fails under a service that has promised to keep what it acknowledged.

use std::time::Duration;

use megamux_engine::planted::{Bug, plant};
use megamux_engine::sim::{Disks, Faults, PeerId, Rng, Script, Sim};
use megamux_engine::{Listen, Placement, ShardId};
use megamux_sim_tests::{
    ADDR, Found, Journal, Judge, LinesTo, SECOND, builder, config, first_failure, for_seeds, simulate_on,
};

const DIR: &str = "/var/lib/journal";

/// Lives before the last one, each of which ends without power.
const CRASHES: u64 = 4;
const WRITERS: usize = 4;
const LINES: usize = 30;

fn journal(seed: u64, faults: Faults, disks: Disks, found: &Found, placement: Placement) -> Sim {
    let mut config = config(2);
    config.lane_capacity = 8;
    let mut builder = builder(config);
    let tells = found.clone();
    let service = builder.service("journal", placement, move || Journal::new(&tells)).unwrap();
    builder.storage(&service, DIR).unwrap();
    builder.listen(Listen::tcp(ADDR), &service, |_| LinesTo::default()).unwrap();
    simulate_on(seed, faults, builder, disks)
}

/// Each writer writes lines that it had acknowledged before, and new ones; one after the other or all at once.
fn writers(sim: &mut Sim, rng: &mut Rng, life: u64, judge: &Judge) -> Vec<PeerId> {
    let mut writer = |writer: usize| {
        let name = format!("{writer}-{life}");
        let again = judge.some_of(&format!("{writer}-"), rng.index(4));
        let new = (0..LINES).map(|number| format!("{name}.{number:06}"));
        let mut script = Script::new();
        let mut answered = 0;
        let patient = rng.chance(500);
        for line in again.into_iter().chain(new) {
            answered += line.len() + "ok \n".len();
            script = script.send(line + "\n");
            if patient {
                script = script.await_bytes(answered).wait(Duration::from_micros(rng.between(0, 20_000)));
            }
        }
        script.await_bytes(answered).finish()
    };
    let scripts: Vec<Script> = (0..WRITERS).map(&mut writer).collect();
    scripts.into_iter().map(|script| sim.connect(ADDR, script)).collect()
}

/// Some lives that end in a crash, then one in peace.
fn lives(seed: u64, rough: bool) {
    let mut rng = Rng::new(seed ^ 0x6372_6173);
    let placement = if rng.chance(500) { Placement::Thread } else { Placement::Shard(ShardId(1)) };
    let (mut disks, mut judge, found) = (Disks::default(), Judge::default(), Found::default());
    for life in 0..CRASHES {
        let seed = seed.wrapping_mul(CRASHES).wrapping_add(life);
        let faults = if rough { Faults::rough(seed) } else { Faults::gentle(seed) };
        let mut sim = journal(seed, faults, disks, &found, placement);
        let peers = writers(&mut sim, &mut rng, life, &judge);
        sim.run_for(Duration::from_micros(rng.between(1, 400_000)));
        if let Some(lines) = found.lines() {
            judge.check(&lines);
        }
        peers.iter().for_each(|peer| judge.hear(&sim.received(*peer)));
        disks = sim.crash();
    }
    let mut sim = journal(seed, Faults::gentle(seed), disks, &found, placement);
    let peers = writers(&mut sim, &mut rng, CRASHES, &judge);
    sim.quiesce(200 * SECOND);
    judge.check(&found.lines().expect("nothing goes wrong in the last life"));
    let before = judge.acknowledged();
    peers.iter().for_each(|peer| judge.hear(&sim.received(*peer)));
    assert!(judge.acknowledged() > before, "a healed journal acknowledges");
    for peer in peers {
        let answers = sim.received(peer);
        assert_eq!(
            answers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"ok ")).count(),
            0
        );
    }
    sim.finish(5 * SECOND);
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    for_seeds(150, |seed| lives(seed, false));
}

#[test]
fn a_disk_that_fails_and_fills_loses_nothing_that_was_acknowledged() {
    for_seeds(150, |seed| lives(seed, true));
}

#[test]
fn a_sync_that_is_not_done_is_found() {
    plant(Some(Bug::EarlyDurable));
    let seed = first_failure(20, |seed| lives(seed, false));
    plant(None);
    println!("EarlyDurable: seed {seed:?}");
    assert!(seed.is_some(), "nobody noticed that nothing was synced");
}

#[test]
fn a_service_that_panics_finds_its_files_again() {
    for_seeds(40, |seed| {
        let (mut judge, found) = (Judge::default(), Found::default());
        let mut sim = journal(seed, Faults::gentle(seed), Disks::default(), &found, Placement::Thread);
        let mut rng = sim.rng();
        let mut peers = writers(&mut sim, &mut rng, 0, &judge);
        sim.connect_after(Duration::from_millis(20), ADDR, Script::new().send("panic\n").await_end());
        sim.run_for(5 * SECOND);
        peers.extend(writers(&mut sim, &mut rng, 1, &judge));
        sim.run_for(20 * SECOND);
        peers.iter().for_each(|peer| judge.hear(&sim.received(*peer)));
        assert_eq!(sim.stats().service_panics, 1);
        assert!(judge.acknowledged() >= WRITERS * LINES, "the journal that was made anew acknowledges");
        // A third one reads what the second one left.
        let disks = sim.crash();
        let mut sim = journal(seed, Faults::none(), disks, &found, Placement::Thread);
        sim.run_for(SECOND);
        judge.check(&found.lines().expect("nothing goes wrong"));
        sim.finish(SECOND);
    });
}
