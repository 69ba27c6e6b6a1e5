//! Threads that stand still: a service that does not come back for a while, and a shard whose lanes are full both ways.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use megamux_system_tests::{
    Caps, DEADLINE, Ended, Exchange, Gate, Held, Load, Options, Usage, connect, connect_all, echo,
    leaves_nothing_behind, read_to_end, reset, scenarios, spares_bystanders, wait_until,
};

const FAULT_SERVER: &str = env!("CARGO_BIN_EXE_fault_server");
const BYSTANDERS: usize = 200;
const VICTIMS: usize = 200;
const SPAN: Duration = Duration::from_secs(1);
/// The receive pools, and what connections leave unread.
const MOST_MEMORY: u64 = 48 << 20;

scenarios! {
    a_service_that_stands_still_stops_nobody_else
    lanes_full_both_ways_come_loose
    a_drain_waits_for_what_was_promised
}

fn a_service_that_stands_still_stops_nobody_else(caps: Caps) {
    let Some(mut server) = fault_server(caps).set("shards", 2).start() else { return };
    let mut gate = Gate::at(server.addr("gate"));
    let alone = Load::run(server.echo(), BYSTANDERS, SPAN);
    let before = server.usage().memory();
    let (victims, beside, grown) = leaves_nothing_behind(&mut server, |server| {
        let refused = server.metrics().sum("megamux_permits_refused_total");
        gate.hold(Held::Service);
        let lines = server.addr("lines");
        let asking = thread::spawn(move || Exchange::of(1024).run(lines, VICTIMS));
        wait_until("the service stands", || gate.is_held(Held::Service));
        let mut metrics = server.metrics();
        wait_until("its lanes are full", || metrics.sum("megamux_permits_refused_total") > refused);

        let beside = Load::run(server.echo(), BYSTANDERS, SPAN);
        let grown = server.usage().memory().saturating_sub(before);
        gate.release(Held::Service);
        let (streams, victims) = asking.join().expect("every line is answered");
        streams.into_iter().for_each(reset);
        (victims, beside, grown)
    });
    Usage::bounded("a service that stands still", grown, MOST_MEMORY);
    spares_bystanders("a service that stands still", &victims, &alone, &beside);
}

/// One shard, and lanes so short that the answers to a lane's lines do not fit into the other.
fn lanes_full_both_ways_come_loose(caps: Caps) {
    const ANSWERS: usize = 8;
    const LANE: usize = 128;
    let options = fault_server(caps).set("lane-capacity", LANE).set("answers", ANSWERS);
    let Some(mut server) = options.start() else { return };
    let mut gate = Gate::at(server.addr("gate"));
    let alone = Load::run(server.echo(), BYSTANDERS, SPAN);
    let (victims, beside) = leaves_nothing_behind(&mut server, |server| {
        let mut metrics = server.metrics();
        let refused = metrics.sum("megamux_permits_refused_total");
        let lines = server.addr("lines");
        let streams = connect_all(lines, VICTIMS);
        // So that lines alone are in the lane.
        wait_until("the service knows all", || {
            let waiting = ["megamux_handoff_occupancy", "megamux_lifecycle_waiting"].map(|name| metrics.sum(name));
            metrics.connections() == VICTIMS as u64 && waiting == [0, 0]
        });
        gate.hold(Held::Service);
        let exchange = Exchange { answers: ANSWERS, ..Exchange::of(256) };
        let asking = thread::spawn(move || exchange.run_on(streams, Instant::now()));
        wait_until("its lane is full", || metrics.sum("megamux_permits_refused_total") > refused);
        let shown = (2 * LANE / ANSWERS) as u64;
        wait_until("its lane is shown to the service", || metrics.sum("megamux_handoff_occupancy") > shown);
        let passed = gate.passed(Held::Service);

        // The shard stops at one more line; now nobody takes the answers, so that lane fills too.
        gate.hold(Held::Shard);
        let nudge = thread::spawn(move || echo(&mut connect(lines), b"\n"));
        wait_until("the shard stands", || gate.is_held(Held::Shard));
        gate.release(Held::Service);
        let enough = passed + (LANE / ANSWERS) as u64;
        wait_until("the answers fill their lane", || gate.passed(Held::Service) > enough);

        gate.release(Held::Shard);
        let beside = Load::run(server.echo(), BYSTANDERS, SPAN);
        let (streams, victims) = asking.join().expect("every line is answered");
        nudge.join().expect("so is the last").expect("it was served");
        streams.into_iter().for_each(reset);
        (victims, beside)
    });
    spares_bystanders("lanes full both ways", &victims, &alone, &beside);
}

fn a_drain_waits_for_what_was_promised(caps: Caps) {
    const LINES: usize = 4;
    let Some(mut server) = fault_server(caps).set("shards", 2).start() else { return };
    let mut gate = Gate::at(server.addr("gate"));
    let mut metrics = server.metrics();
    let (addr, lines) = (server.echo(), server.addr("lines"));
    let load = Load::start(addr, BYSTANDERS);

    gate.hold(Held::Service);
    let streams = connect_all(lines, VICTIMS);
    let asking = thread::spawn(move || Exchange::of(LINES).run_on(streams, Instant::now()));
    wait_until("every line is taken", || metrics.sum("megamux_frames_total") == (VICTIMS * LINES) as u64);
    gate.drain();
    wait_until("it drains", || TcpStream::connect(addr).is_err());
    gate.release(Held::Service);
    assert_eq!(load.join().ended, BYSTANDERS, "who is owed nothing is let go");

    let (streams, answered) = asking.join().expect("what was taken is answered");
    for mut stream in streams {
        assert_eq!(read_to_end(&mut stream), (Vec::new(), Ended::InOrder));
    }
    eprintln!("a drain under load: every promised answer came within {:?}", answered.p99());
    assert_eq!(server.wait(DEADLINE).and_then(|status| status.code()), Some(0));
}

fn fault_server(caps: Caps) -> Options {
    Options::new(caps).program(FAULT_SERVER)
}
