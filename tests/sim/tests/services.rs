//! Services behind handlers: the same answers under every placement, whatever the lanes' size.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use megamux_engine::sim::{Faults, Script};
use megamux_engine::stats::ShardSnapshot;
use megamux_engine::{
    CloseReason, Config, ConnId, ConnInfo, Cx, Gone, Handler, Input, Listen, Placement, RecvBuf, Scope, Service,
    ServiceCx, ShardId,
};
use megamux_sim_tests::{
    ADDR, Heard, Relay, RelayBytes, Repeat, SECOND, Shout, builder, config, echo_peers, for_seeds, simulate,
};

const PLACEMENTS: [Placement; 3] = [Placement::Thread, Placement::Shard(ShardId(1)), Placement::PerShard];

/// Two shards, and lanes that are full at once.
fn tiny_lanes() -> Config {
    let mut config = config(2);
    config.lane_capacity = 8;
    config
}

fn relay(seed: u64, faults: Faults, placement: Placement) {
    let heard = Heard::default();
    let mut builder = builder(tiny_lanes());
    let tells = heard.clone();
    let service = builder.service("repeat", placement, move || Repeat::new(&tells)).unwrap();
    builder.listen(Listen::tcp(ADDR), &service, |_| Relay::default()).unwrap();
    let mut sim = simulate(seed, faults, builder);
    echo_peers(&mut sim, 10, 20_000);
    sim.quiesce(200 * SECOND);
    heard.assert_all_closed();
    sim.finish(5 * SECOND);
}

#[test]
fn every_placement_gives_the_same_answers() {
    for placement in PLACEMENTS {
        for_seeds(60, |seed| relay(seed, Faults::gentle(seed), placement));
    }
}

#[test]
fn rough_faults_leave_no_connection_with_a_service() {
    for placement in PLACEMENTS {
        for_seeds(60, |seed| relay(seed, Faults::rough(seed), placement));
    }
}

/// Each byte has more answers than a lane holds, and every connection floods: both directions are full all the time.
fn shout(seed: u64, placement: Placement) {
    const TIMES: usize = 20;
    let heard = Heard::default();
    let mut builder = builder(tiny_lanes());
    let tells = heard.clone();
    let service = builder.service("shout", placement, move || Shout::new(&tells, TIMES)).unwrap();
    builder.listen(Listen::tcp(ADDR), &service, |_| RelayBytes::default()).unwrap();
    let mut sim = simulate(seed, Faults::gentle(seed), builder);
    let bytes: Vec<u8> = (0..200).map(|at| (at % 200) as u8).collect();
    let answer: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; TIMES]).collect();
    for _ in 0..6 {
        let script = Script::new().send(&bytes).await_bytes(answer.len()).finish();
        sim.connect(ADDR, script.expect(&answer));
    }
    sim.quiesce(200 * SECOND);
    heard.assert_all_closed();
    sim.finish(5 * SECOND);
}

#[test]
fn full_lanes_both_ways_do_not_deadlock() {
    for placement in PLACEMENTS {
        for_seeds(20, |seed| shout(seed, placement));
    }
}

#[test]
fn a_service_that_panics_is_made_anew_and_its_connections_are_closed() {
    for placement in PLACEMENTS {
        for_seeds(40, |seed| {
            let heard = Heard::default();
            let mut builder = builder(tiny_lanes());
            let tells = heard.clone();
            let service = builder.service("shout", placement, move || Shout::new(&tells, 1)).unwrap();
            builder.listen(Listen::tcp(ADDR), &service, |_| RelayBytes::default()).unwrap();
            let mut sim = simulate(seed, Faults::gentle(seed), builder);
            // Some before, one that brings it down, some after.
            for at in 0..9 {
                let mut script = Script::new().send([1, 2, 3]).await_bytes(3);
                if at == 4 {
                    script = script.send([0xff]);
                }
                let script = script.await_end().expect_begun([1, 2, 3]);
                sim.connect_after(at * SECOND / 10, ADDR, script);
            }
            sim.run_for(30 * SECOND);
            assert_eq!(sim.stats().service_panics, 1);
            let late = Script::new().send([7]).await_bytes(1).finish().expect([7]);
            sim.connect(ADDR, late);
            sim.run_for(30 * SECOND);
            sim.finish(5 * SECOND);
            heard.assert_all_closed();
        });
    }
}

#[test]
fn a_service_closes_a_connection_after_what_it_sent() {
    for placement in PLACEMENTS {
        for_seeds(30, |seed| {
            let heard = Heard::default();
            let mut builder = builder(tiny_lanes());
            let tells = heard.clone();
            let service = builder.service("shout", placement, move || Shout::new(&tells, 3)).unwrap();
            builder.listen(Listen::tcp(ADDR), &service, |_| RelayBytes::default()).unwrap();
            let mut sim = simulate(seed, Faults::gentle(seed), builder);
            for _ in 0..5 {
                let script = Script::new().send([5, 6, 0xfe]).await_end().finish();
                sim.connect(ADDR, script.expect([5, 5, 5, 6, 6, 6]));
            }
            sim.quiesce(60 * SECOND);
            heard.assert_all_closed();
            sim.finish(5 * SECOND);
        });
    }
}

/// Answers when it is too late: so many events to each connection that has closed, and one to nobody at all.
struct Late {
    times: u32,
    back: Arc<Mutex<Vec<(ConnId, u32)>>>,
}

const NOBODY: ConnId = ConnId::from_bits(u64::MAX);

impl Service for Late {
    type In = u8;
    type Out = u32;
    const SCOPE: Scope = Scope::Connection;

    fn on_start(&mut self, cx: &mut ServiceCx<'_, Self>) {
        cx.send(NOBODY, 7);
    }

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<u8>) {
        match input {
            Input::Open(_) => cx.try_send(conn, 0).expect("it has just opened"),
            Input::Frame(_) => {}
            Input::Close(_) => {
                assert_eq!(cx.try_send(conn, 1), Err(Gone(1)));
                (0..self.times).for_each(|number| cx.send(conn, number));
            }
        }
    }

    fn on_gone(&mut self, _: &mut ServiceCx<'_, Self>, conn: ConnId, event: u32) {
        self.back.lock().unwrap_or_else(PoisonError::into_inner).push((conn, event));
    }
}

/// Sends nothing on.
struct Mute;

impl Handler for Mute {
    type Service = Late;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, Late>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, _: &mut Cx<'_, Late>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        data.consume(data.len());
        Ok(())
    }
}

/// What came back to a service that sends `times` events to each of five connections that have closed.
fn late(seed: u64, placement: Placement, times: u32) -> (Vec<(ConnId, u32)>, ShardSnapshot) {
    let back = Arc::new(Mutex::new(Vec::new()));
    let mut builder = builder(tiny_lanes());
    let kept = Arc::clone(&back);
    let service = builder.service("late", placement, move || Late { times, back: Arc::clone(&kept) }).unwrap();
    builder.listen(Listen::tcp(ADDR), &service, |_| Mute).unwrap();
    let mut sim = simulate(seed, Faults::gentle(seed), builder);
    for _ in 0..5 {
        sim.connect(ADDR, Script::new().send("x").finish());
    }
    sim.quiesce(60 * SECOND);
    let stats = sim.stats().total();
    sim.finish(5 * SECOND);
    let back = std::mem::take(&mut *back.lock().unwrap_or_else(PoisonError::into_inner));
    (back, stats)
}

#[test]
fn what_was_sent_to_a_connection_that_is_gone_comes_back() {
    const TIMES: u32 = 30;
    for placement in PLACEMENTS {
        for_seeds(30, |seed| {
            let (back, stats) = late(seed, placement, TIMES);
            let (nowhere, back): (Vec<_>, Vec<_>) = back.into_iter().partition(|(conn, _)| *conn == NOBODY);
            let instances = if placement == Placement::PerShard { 2 } else { 1 };
            assert_eq!(nowhere, vec![(NOBODY, 7); instances]);
            let mut by_conn = BTreeMap::<_, Vec<u32>>::new();
            back.iter().for_each(|(conn, number)| by_conn.entry(*conn).or_default().push(*number));
            assert_eq!(by_conn.len(), 5);
            // The first may have been sent as the connection closed.
            let late = |events: &Vec<u32>| events.ends_with(&(0..TIMES).collect::<Vec<_>>());
            assert!(by_conn.values().all(late), "{by_conn:?}");
            assert_eq!((stats.replies_gone, stats.replies_lost), (back.len() as u64, 0));
        });
    }
}

#[test]
fn more_than_can_be_given_back_is_counted_and_holds_nobody_up() {
    for placement in PLACEMENTS {
        for_seeds(5, |seed| {
            let (back, stats) = late(seed, placement, 20_000);
            let back = back.iter().filter(|(conn, _)| *conn != NOBODY).count() as u64;
            assert!(stats.replies_gone >= 5 * 20_000 && back > 0);
            assert_eq!(back + stats.replies_lost, stats.replies_gone);
        });
    }
}
