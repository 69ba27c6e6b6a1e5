//! Ends that nobody waits for: a peer that goes while it is not read, last words, and what an end leaves behind.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use megamux_engine::sim::{Faults, PeerState, Script, Sim};
use megamux_engine::{
    CloseReason, ConnId, ConnInfo, Cx, Filter, FilterStatus, Frame, Handler, Listen, NO_SERVICE, NoService, RecvBuf,
    Time, TimerKey,
};
use megamux_sim_tests::{ADDR, Echo, SECOND, builder, config, for_seeds, simulate};

type Outcome = Result<(), CloseReason>;
type NoCx<'a> = Cx<'a, NoService>;

fn closes(sim: &Sim, why: CloseReason) -> u64 {
    sim.stats().total().closes.of(why)
}

/// Connections that are there, by name, with the bytes that they have sent.
fn listed(sim: &mut Sim) -> Vec<(ConnId, u64)> {
    let rows = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&rows);
    sim.handle().connections(1000, move |listing| {
        let rows = listing.rows.iter().map(|row| (row.info.id, row.bytes_in));
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
    });
    sim.run_for(Duration::from_millis(1));
    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *rows)
}

/// Sends back what it gets, and stops reading for so long after the first of it.
struct Napper(Option<Duration>);

impl Handler for Napper {
    type Service = NoService;
    type Conn = bool;

    fn on_open(&mut self, _: &mut NoCx<'_>, _: &ConnInfo) -> Result<bool, CloseReason> {
        Ok(false)
    }

    fn on_data(&mut self, cx: &mut NoCx<'_>, napped: &mut bool, data: &mut RecvBuf<'_>) -> Outcome {
        cx.send_frame(data.take_all());
        if !std::mem::replace(napped, true) {
            cx.pause_read();
            if let Some(nap) = self.0 {
                cx.set_timer(TimerKey(0), nap);
            }
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut NoCx<'_>, _: &mut bool, _: TimerKey) -> Outcome {
        cx.resume_read();
        Ok(())
    }
}

#[test]
fn a_peer_that_resets_while_nobody_reads_is_noticed() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Napper(None)).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        for after in [1, 20, 60] {
            sim.connect(ADDR, Script::new().send("x").await_bytes(1).wait(after * SECOND).reset());
        }
        let stays = sim.connect(ADDR, Script::new().send("x").wait(200 * SECOND).reset());
        sim.run_for(100 * SECOND);
        assert_eq!((closes(&sim, CloseReason::PeerReset), sim.connections()), (3, 1));
        assert_eq!(sim.state(stays), PeerState::Open);
        sim.quiesce(200 * SECOND);
        sim.finish(SECOND);
    });
}

#[test]
fn a_peer_that_finished_first_and_reset_then_is_noticed_too() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Napper(None)).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        // Silent at first, so that it is parked and no receive outlives the one that brings "x".
        let script = Script::new().wait(2 * SECOND).send("x").await_bytes(1);
        sim.connect(ADDR, script.finish().wait(30 * SECOND).reset());
        sim.quiesce(60 * SECOND);
        assert_eq!(closes(&sim, CloseReason::PeerReset), 1);
        sim.finish(SECOND);
    });
}

#[test]
fn what_a_peer_sent_before_it_finished_waits_until_it_is_read() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Napper(Some(30 * SECOND))).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let peer = sim.connect(ADDR, Script::new().send("x").wait(SECOND).send([7; 3000]).finish().expect_echo());
        sim.quiesce(100 * SECOND);
        assert_eq!(sim.state(peer), PeerState::Ended);
        sim.finish(SECOND);
    });
}

/// Passes everything on, and says good-bye on the wire.
struct Polite;

impl Filter for Polite {
    fn receive(
        &mut self,
        _: Time,
        wire: &[u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<usize, CloseReason> {
        plain.extend_from_slice(wire);
        reply.extend_from_slice(b"!");
        Ok(wire.len())
    }

    fn status(&self) -> FilterStatus {
        FilterStatus::Open
    }

    fn finish(&mut self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(b"bye");
    }
}

/// Sends a word and FIN, then reads.
struct Brief;

impl Handler for Brief {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, cx: &mut NoCx<'_>, _: &ConnInfo) -> Outcome {
        cx.send(b"hi");
        cx.shutdown_write();
        cx.shutdown_write();
        Ok(())
    }

    fn on_data(&mut self, _: &mut NoCx<'_>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        data.consume(data.len());
        Ok(())
    }
}

#[test]
fn a_half_close_sends_the_filters_last_bytes_once_and_before_the_fin() {
    for_seeds(40, |seed| {
        let mut builder = builder(config(1));
        let listen = Listen::tcp(ADDR).filter(|| Box::new(Polite));
        builder.listen(listen, &NO_SERVICE, |_| Brief).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let script = Script::new().send("x").await_end().send("more").finish();
        // The filter opens with the first byte, and what it replies after the FIN goes nowhere.
        let peer = sim.connect(ADDR, script);
        sim.quiesce(60 * SECOND);
        assert_eq!(sim.received(peer), b"!hibye".as_slice());
        assert_eq!(sim.state(peer), PeerState::Ended);
        sim.finish(SECOND);
    });
}

#[test]
fn a_cancel_that_comes_too_late_is_not_asked_for_again_and_again() {
    for_seeds(10, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Echo::default()).unwrap();
        let mut faults = Faults::none();
        (faults.cancel_already, faults.delay) = (1000, 50 * Duration::from_millis(1));
        let mut sim = simulate(seed, faults, builder);
        for _ in 0..10 {
            sim.connect(ADDR, Script::new().send("hello").await_end().finish());
        }
        sim.run_for(SECOND);
        let before = sim.stats().total().submissions;
        for (conn, _) in listed(&mut sim) {
            sim.handle().close(conn, CloseReason::Os).unwrap();
        }
        sim.run_for(SECOND);
        assert_eq!(sim.connections(), 0);
        let pushed = sim.stats().total().submissions - before;
        assert!(pushed <= 10 * 4, "{pushed} operations to end 10 connections");
        sim.quiesce(10 * SECOND);
        sim.finish(SECOND);
    });
}

/// Keeps its frames as long as the connection lives. No service does: of a short pool it gets copies.
struct Hoard;

impl Handler for Hoard {
    type Service = NoService;
    type Conn = Vec<Frame>;

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<Vec<Frame>, CloseReason> {
        Ok(Vec::new())
    }

    fn on_data(&mut self, _: &mut Cx<'_, NoService>, kept: &mut Vec<Frame>, data: &mut RecvBuf<'_>) -> Outcome {
        kept.push(data.take_all());
        Ok(())
    }
}

#[test]
fn who_left_while_it_waited_for_a_buffer_is_not_waited_for_twice() {
    for_seeds(10, |seed| {
        let mut config = config(1);
        (config.buffers, config.connections_per_shard) = (2, 4);
        let mut builder = builder(config);
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Hoard).unwrap();
        let mut faults = Faults::none();
        faults.incremental_buffers = false;
        let mut sim = simulate(seed, faults, builder);
        for _ in 0..2 {
            sim.connect(ADDR, Script::new().send(vec![1; 4096]).wait(60 * SECOND).finish());
        }
        sim.run_for(SECOND / 10);
        for _ in 0..10 {
            for _ in 0..2 {
                sim.connect(ADDR, Script::new().send("hello").await_end());
            }
            sim.run_for(SECOND / 10);
            let starved = sim.stats().total().starved;
            assert_eq!(starved, 2);
            for (conn, _) in listed(&mut sim).into_iter().filter(|(_, bytes)| *bytes == 0) {
                sim.handle().close(conn, CloseReason::Os).unwrap();
            }
            sim.run_for(SECOND / 10);
        }
        sim.quiesce(200 * SECOND);
        sim.finish(SECOND);
    });
}

/// Says why and lets nobody in.
struct Porter;

impl Handler for Porter {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, cx: &mut NoCx<'_>, _: &ConnInfo) -> Outcome {
        cx.send(b"no room\n");
        Err(CloseReason::Refused)
    }

    fn on_data(&mut self, _: &mut NoCx<'_>, (): &mut (), _: &mut RecvBuf<'_>) -> Outcome {
        Ok(())
    }
}

#[test]
fn a_refusal_is_heard_by_a_peer_that_still_sends() {
    for_seeds(60, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Porter).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let peers: Vec<_> = (0..4)
            .map(|_| sim.connect(ADDR, Script::new().send([1; 3000]).wait(SECOND / 5).send([2; 3000]).finish()))
            .collect();
        sim.quiesce(60 * SECOND);
        for peer in peers {
            assert_eq!(sim.received(peer), b"no room\n");
        }
        sim.finish(SECOND);
    });
}

/// Says a word for each that it hears, and good-bye in the end.
struct Talker;

impl Handler for Talker {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut NoCx<'_>, _: &ConnInfo) -> Outcome {
        Ok(())
    }

    fn on_data(&mut self, _: &mut NoCx<'_>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        data.consume(data.len());
        Ok(())
    }

    fn on_drain(&mut self, cx: &mut NoCx<'_>, (): &mut ()) -> Outcome {
        cx.send(b"good-bye\n");
        Err(CloseReason::Drained)
    }
}

#[test]
fn a_good_bye_is_heard_by_a_peer_that_still_sends() {
    for_seeds(60, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Talker).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        let talks = |script: Script, _| script.send([7; 500]).wait(Duration::from_millis(20));
        let peers: Vec<_> = (0..4).map(|_| sim.connect(ADDR, (0..40).fold(Script::new(), talks).finish())).collect();
        sim.run_for(Duration::from_millis(300));
        sim.handle().drain(20 * SECOND);
        assert!(sim.run_until(Sim::is_stopped, 30 * SECOND));
        sim.run_for(SECOND);
        for peer in peers {
            assert_eq!(sim.received(peer), b"good-bye\n");
        }
    });
}
