//! Connecting out: proxies pass bytes and ends both ways, and failures are events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use megamux_engine::net::Addr;
use megamux_engine::sim::{Faults, Script, Sim};
use megamux_engine::{CloseReason, ConnInfo, Cx, Handler, Listen, NO_SERVICE, NoService, Origin, RecvBuf};
use megamux_sim_tests::{ADDR, Proxy, SECOND, builder, config, echo_begun_peers, echo_peers, for_seeds, simulate};

const BEHIND: &str = "10.9.9.9:80";

fn proxy(seed: u64, faults: Faults, peers: fn(&mut Sim, usize, usize)) {
    let mut builder = builder(config(2));
    let listen = Listen::tcp(ADDR).handshake_timeout(5 * SECOND);
    builder.listen(listen, &NO_SERVICE, |_| Proxy::new(BEHIND)).unwrap();
    let mut sim = simulate(seed, faults, builder);
    sim.serve(BEHIND, Script::new().echo().finish());
    peers(&mut sim, 8, 20_000);
    sim.quiesce(300 * SECOND);
    sim.finish(5 * SECOND);
}

#[test]
fn a_proxy_passes_everything_both_ways() {
    for_seeds(100, |seed| proxy(seed, Faults::gentle(seed), echo_peers));
}

#[test]
fn a_proxy_survives_failing_dials_and_resets() {
    for_seeds(100, |seed| {
        // A connection whose partner broke ends in order, with bytes missing.
        proxy(seed, Faults::rough(seed), echo_begun_peers);
    });
}

#[test]
fn a_refused_dial_is_an_event() {
    for_seeds(30, |seed| {
        let mut builder = builder(config(1));
        builder.listen(Listen::tcp(ADDR), &NO_SERVICE, |_| Proxy::new(BEHIND)).unwrap();
        let mut sim = simulate(seed, Faults::gentle(seed), builder);
        for _ in 0..5 {
            sim.connect(ADDR, Script::new().send("hello").await_end().expect(""));
        }
        sim.quiesce(60 * SECOND);
        assert_eq!(sim.stats().total().dials_failed, 5);
        sim.finish(SECOND);
    });
}

/// Dials as often as it may when a connection opens, and again in a drain.
struct Eager(Arc<AtomicUsize>);

impl Eager {
    fn dial(&self, cx: &mut Cx<'_, NoService>) {
        while cx.dial(BEHIND.parse::<Addr>().expect("an address"), 0) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Handler for Eager {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, cx: &mut Cx<'_, NoService>, info: &ConnInfo) -> Result<(), CloseReason> {
        if info.origin == Origin::Accepted {
            self.dial(cx);
        }
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        data.consume(data.len());
        self.dial(cx);
        Ok(())
    }

    fn on_drain(&mut self, cx: &mut Cx<'_, NoService>, (): &mut ()) -> Result<(), CloseReason> {
        self.dial(cx);
        Err(CloseReason::Drained)
    }
}

#[test]
fn dials_under_way_are_bounded_and_a_drain_takes_no_more() {
    for_seeds(10, |seed| {
        let begun = Arc::new(AtomicUsize::new(0));
        let mut config = config(1);
        config.dials_per_shard = 10;
        let mut builder = builder(config);
        let counts = Arc::clone(&begun);
        let listen = Listen::tcp(ADDR).handshake_timeout(5 * SECOND);
        builder.listen(listen, &NO_SERVICE, move |_| Eager(Arc::clone(&counts))).unwrap();
        let mut faults = Faults::none();
        // No dial is ever answered.
        faults.dial_failure = 3000;
        let mut sim = simulate(seed, faults, builder);
        sim.connect(
            ADDR,
            Script::new().wait(SECOND).send("again").wait(10 * SECOND).send("again").await_end().finish(),
        );
        sim.run_for(3 * SECOND);
        assert_eq!(begun.load(Ordering::Relaxed), 10);
        sim.run_for(5 * SECOND);
        assert_eq!(sim.stats().total().dials_failed, 10);
        sim.run_for(5 * SECOND);
        assert_eq!(begun.load(Ordering::Relaxed), 20, "there is room again");
        sim.finish(5 * SECOND);
        assert_eq!(begun.load(Ordering::Relaxed), 20);
    });
}
