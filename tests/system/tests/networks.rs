//! Networks that lose, delay, reorder, double, throttle and swallow packets, beside connections that no fault touches.

use std::io::Write;
use std::time::{Duration, Instant};

use megamux_system_tests::{
    Caps, DEADLINE, Exchange, Link, Load, LoadReport, Network, Options, Server, Usage, Weather, connect_all,
    ends_within, leaves_nothing_behind, reset, scenarios, spares_bystanders, wait_until,
};

const FAULT_SERVER: &str = env!("CARGO_BIN_EXE_fault_server");
const BYSTANDERS: usize = 200;
const VICTIMS: usize = 100;
/// Peers that asked for much when they vanished, and for how many bytes.
const ASKING: usize = 20;
const QUESTION: usize = 240_000;
const SPAN: Duration = Duration::from_secs(1);
/// Beyond the receive pool: what the queues of all victims may hold above their high watermark.
const MOST_MEMORY: u64 = 48 << 20;

scenarios! {
    lost_packets_lose_nothing
    a_slow_link_holds_bounded_memory
    delayed_reordered_and_doubled_packets_change_nothing
    peers_in_a_black_hole_are_given_up
}

fn lost_packets_lose_nothing(caps: Caps) {
    Network::run(Link::Ethernet, |network| {
        let Some(mut server) = everywhere(caps).start() else { return };
        let alone = alone(&server);
        let (victims, beside) = leaves_nothing_behind(&mut server, |server| {
            network.lose(5);
            let addr = network.over_the_link(server.echo());
            beside(server, || {
                let (streams, victims) = network.far(|| Exchange::of(512).run(addr, VICTIMS));
                // Healed first: a reset may be lost, and is not sent again.
                network.heal();
                streams.into_iter().for_each(reset);
                victims
            })
        });
        spares_bystanders("5% of packets lost each way", &victims, &alone, &beside);
    });
}

fn a_slow_link_holds_bounded_memory(caps: Caps) {
    const LINES: usize = 4096;
    Network::run(Link::Ethernet, |network| {
        let Some(mut server) = everywhere(caps).start() else { return };
        let alone = alone(&server);
        let before = server.usage().memory();
        let mut grown = 0;
        let (victims, beside) = leaves_nothing_behind(&mut server, |server| {
            // A quarter of a megabyte for each of twenty, through a link that carries two and a half a second.
            network.slow_down(20_000_000);
            let addr = network.over_the_link(server.echo());
            beside(server, || {
                let (streams, victims) = network.far(|| Exchange::of(LINES).run(addr, VICTIMS / 5));
                grown = server.usage().memory().saturating_sub(before);
                network.heal();
                streams.into_iter().for_each(reset);
                victims
            })
        });
        assert!(victims.p99() > SPAN, "the link was slow: {:?}", victims.p99());
        Usage::bounded("a slow link", grown, MOST_MEMORY);
        spares_bystanders("20 Mbit/s", &victims, &alone, &beside);
    });
}

fn delayed_reordered_and_doubled_packets_change_nothing(caps: Caps) {
    let weather = Weather { least: Duration::from_millis(5), most: Duration::from_millis(20), doubled_percent: 2 };
    Network::run(Link::Relay(weather), |network| {
        let Some(mut server) = everywhere(caps).start() else { return };
        let alone = alone(&server);
        let (victims, beside) = leaves_nothing_behind(&mut server, |server| {
            let addr = network.over_the_link(server.echo());
            beside(server, || {
                let (streams, victims) = network.far(|| Exchange::of(512).run(addr, VICTIMS));
                streams.into_iter().for_each(reset);
                victims
            })
        });
        let overtaken = network.overtaken();
        assert!(overtaken > 1000, "packets were overtaken: {overtaken}");
        let fault = format!("5 to 20 ms, {overtaken} packets overtaken, 2% doubled");
        spares_bystanders(&fault, &victims, &alone, &beside);
    });
}

fn peers_in_a_black_hole_are_given_up(caps: Caps) {
    Network::run(Link::Ethernet, |network| {
        let options = everywhere(caps).program(FAULT_SERVER).set("lines", "0.0.0.0:0");
        // Each kind of peer is found out in another way.
        let options = options.set("lines-keepalive-ms", 1000).set("echo-idle-ms", 3000);
        let options = options.set("echo-stall-ms", 1000).set("echo-send-buffer", 16_384);
        let Some(mut server) = options.start() else { return };
        let alone = alone(&server);
        let closed = |server: &Server, reason: &str| {
            server.metrics().sum_of("megamux_closes_total", &format!("reason=\"{reason}\""))
        };
        let reasons = [("peer_reset", VICTIMS), ("idle_timeout", VICTIMS), ("write_stall", ASKING)];
        let (given_up, beside) = leaves_nothing_behind(&mut server, |server| {
            let before = reasons.map(|(reason, _)| closed(server, reason));
            let outcome = beside(server, || vanish(network, server));
            for ((reason, count), before) in reasons.into_iter().zip(before) {
                assert!(closed(server, reason) >= before + count as u64, "{reason}");
            }
            outcome
        });
        spares_bystanders("a black hole", &given_up, &alone, &beside);
    });
}

/// Peers of three kinds fall silent at once. How long it took until the server had given up on all.
fn vanish(network: &Network, server: &Server) -> LoadReport {
    let mut metrics = server.metrics();
    wait_until("the bystanders are there", || metrics.connections() == BYSTANDERS as u64);
    let (echo, lines) = (network.over_the_link(server.echo()), network.over_the_link(server.addr("lines")));
    let (mut silent, mut probed, mut asking) =
        network.far(|| (connect_all(echo, VICTIMS), connect_all(lines, VICTIMS), connect_all(echo, ASKING)));
    // They are owed more than the sockets hold.
    for stream in &mut asking {
        stream.write_all(&[b'?'; QUESTION]).expect("the server reads");
    }
    let all = (BYSTANDERS + 2 * VICTIMS + ASKING) as u64;
    let owed = (ASKING * QUESTION / 8) as u64;
    wait_until("all are there", || metrics.connections() == all && metrics.sum("megamux_send_queue_bytes") >= owed);

    network.black_hole();
    let began = Instant::now();
    wait_until("all are given up", || metrics.connections() == BYSTANDERS as u64);
    let took = began.elapsed();
    network.heal();

    // Who comes out of the hole learns it with the first word, and whoever comes anew is served.
    for stream in silent.iter_mut().chain(&mut probed) {
        let _ = stream.write_all(b"still there?\n");
        assert!(ends_within(stream, DEADLINE), "the server knows it no more");
    }
    let (streams, _) = network.far(|| Exchange::of(1).run(lines, VICTIMS));
    [silent, probed, asking, streams].into_iter().flatten().for_each(reset);
    LoadReport::of(vec![took])
}

/// A server that is reached over the link and over the loopback.
fn everywhere(caps: Caps) -> Options {
    Options::new(caps).set("echo", "0.0.0.0:0").set("shards", 2)
}

/// Bystanders while there is no fault.
fn alone(server: &Server) -> LoadReport {
    Load::run(([127, 0, 0, 1], server.echo().port()).into(), BYSTANDERS, SPAN)
}

/// Bystanders while something happens to others: what that says, and what they saw.
fn beside<T>(server: &Server, fault: impl FnOnce() -> T) -> (T, LoadReport) {
    let load = Load::start(([127, 0, 0, 1], server.echo().port()).into(), BYSTANDERS);
    let outcome = fault();
    (outcome, load.stop())
}
