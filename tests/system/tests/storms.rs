//! Ten thousand who come at once: after they were all cut off, and after the server was killed under them.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use megamux_system_tests::{
    Caps, Exchange, Load, Network, Options, connect_all, leaves_nothing_behind, reset, scenarios, spares_bystanders,
    wait_until,
};

const MANY: usize = 10_000;
const BYSTANDERS: usize = 200;

scenarios! {
    ten_thousand_reconnect_at_once_and_all_are_served
    ten_thousand_come_back_to_a_server_that_was_killed
}

fn ten_thousand_reconnect_at_once_and_all_are_served(caps: Caps) {
    Network::by_itself(|| reconnect_at_once(caps));
}

fn ten_thousand_come_back_to_a_server_that_was_killed(caps: Caps) {
    Network::by_itself(|| come_back_to_a_killed_server(caps));
}

fn reconnect_at_once(caps: Caps) {
    let Some(mut server) = Options::new(caps).set("shards", 2).start() else { return };
    let alone = Load::run(server.echo(), BYSTANDERS, Duration::from_secs(1));
    let (victims, beside) = leaves_nothing_behind(&mut server, |server| {
        let first = Exchange::of(1).run(server.echo(), MANY).0;
        let load = Load::start(server.echo(), BYSTANDERS);
        first.into_iter().for_each(reset);
        let (second, victims) = Exchange::of(1).run(server.echo(), MANY);
        let beside = load.stop();
        second.into_iter().for_each(reset);
        (victims, beside)
    });
    let accepts = server.metrics().sum("megamux_accepts_total");
    // One round may be enough to see that memory is back.
    assert!(accepts >= 2 * MANY as u64, "{accepts} accepted");
    spares_bystanders("10,000 reconnects", &victims, &alone, &beside);
}

fn come_back_to_a_killed_server(caps: Caps) {
    let Some(server) = Options::new(caps).set("shards", 2).start() else { return };
    let load = Load::start(server.echo(), BYSTANDERS);
    let mut streams: Vec<TcpStream> = connect_all(server.echo(), MANY - BYSTANDERS);
    let mut metrics = server.metrics();
    wait_until("all are there", || metrics.connections() == MANY as u64);

    let (addr, successor) = (server.echo(), server.successor());
    let began = Instant::now();
    server.kill();
    let mut server = successor.start().expect("its port is free at once");
    let down = began.elapsed();
    assert_eq!(load.join().ended, BYSTANDERS, "the dead serve nobody");
    streams.drain(..).for_each(reset);

    let (streams, victims) = Exchange::of(1).run(addr, MANY);
    eprintln!("killed under 10,000: down for {down:?}; back and served after {:?} (p99)", victims.p99());
    assert_eq!(streams.len(), MANY);
    streams.into_iter().for_each(reset);
    server.is_well();
}
