//! Ten thousand connections: held, counted in memory, gone at once and back at once.

use megamux_system_tests::{Caps, Options, Usage, connect_all, echo, reset, scenarios, wait_until};

const FEW: usize = 2_000;
const MANY: usize = 10_000;
/// User memory of the server per connection, also when each was just used.
const MOST_BYTES: u64 = 300;

scenarios! {
    ten_thousand_connections_are_held_in_little_memory
    ten_thousand_come_back_at_once
}

fn ten_thousand_connections_are_held_in_little_memory(caps: Caps) {
    let Some(mut server) = Options::new(caps).start() else {
        return;
    };
    let mut metrics = server.metrics();
    let mut streams = Vec::new();
    let mut memory_with = |count: usize| {
        streams.extend(connect_all(server.echo(), count - streams.len()));
        wait_until("all are there", || metrics.connections() == count as u64);
        server.usage().memory()
    };
    let few = memory_with(FEW);
    let many = memory_with(MANY);
    let held = many.saturating_sub(few) / (MANY - FEW) as u64;

    for stream in &mut streams {
        echo(stream, &[7; 64]).expect("it is served after a rest");
    }
    let used = server.usage().memory().saturating_sub(few) / MANY as u64;
    eprintln!("{held} bytes per connection, {used} when all were just used");
    Usage::bounded("a connection that waits", held, MOST_BYTES);
    Usage::bounded("a connection that was just used", used, MOST_BYTES);

    streams.into_iter().for_each(reset);
    drop(metrics);
    server.is_well();
}

fn ten_thousand_come_back_at_once(caps: Caps) {
    let Some(mut server) = Options::new(caps).start() else {
        return;
    };
    for _ in 0..2 {
        for mut stream in connect_all(server.echo(), MANY) {
            echo(&mut stream, b"back").expect("it is served");
            reset(stream);
        }
    }
    let mut metrics = server.metrics();
    assert!(metrics.sum("megamux_accepts_total") > 2 * MANY as u64);
    drop(metrics);
    server.is_well();
}
