//! A server that runs out of descriptors: it sheds what it cannot hold, rests, and recovers.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use megamux_system_tests::{Caps, Options, Server, connect, connect_all, echo, is_open, reset, scenarios, wait_until};

/// RLIMIT_NOFILE, and so the length of the one shard's table.
const LIMIT: u32 = 64;
const FLOOD: usize = 500;

scenarios! {
    a_flood_is_shed_and_the_rest_is_served
    a_full_table_costs_no_time
    a_flood_that_never_ends_is_survived
}

fn a_flood_is_shed_and_the_rest_is_served(caps: Caps) {
    let Some(mut server) = Options::new(caps).descriptors(LIMIT).start() else {
        return;
    };
    let mut metrics = server.metrics();
    metrics.figures();

    // Nobody is left hanging: each is either served or sent away.
    let (served, shed) = flood(&server);
    assert!(!served.is_empty() && served.len() < LIMIT as usize, "{}", served.len());
    assert_eq!(served.len() + shed, FLOOD);
    let refusals = metrics.sum_of("megamux_refusals_total", "cause=\"table_full\"");
    assert_eq!(refusals, shed as u64, "every refusal is counted");

    // Who was served still is, and who comes when they have left is served again.
    for mut stream in served {
        echo(&mut stream, b"still here").expect("it was not sent away");
        reset(stream);
    }
    wait_until("the table is empty", || metrics.connections() == 0);
    for _ in 0..FLOOD {
        let mut stream = connect(server.echo());
        echo(&mut stream, b"new").expect("there is room again");
        reset(stream);
        wait_until("it has left", || metrics.connections() == 0);
    }
    drop(metrics);
    server.is_well();
}

fn a_full_table_costs_no_time(caps: Caps) {
    let Some(mut server) = Options::new(caps).descriptors(LIMIT).start() else {
        return;
    };
    let (served, _) = flood(&server);
    let usage = server.usage();

    // A second in which nobody does anything: the end of a connection would be the only event.
    let before = usage.cpu_time();
    let quiet = served[0].try_clone().expect("a descriptor");
    assert!(stays_quiet(&quiet, Duration::from_secs(1)));
    let busy = usage.cpu_time() - before;
    assert!(busy <= Duration::from_millis(100), "{busy:?} in a second without work");

    drop(quiet);
    served.into_iter().for_each(reset);
    server.is_well();
}

fn a_flood_that_never_ends_is_survived(caps: Caps) {
    let Some(mut server) = Options::new(caps).descriptors(LIMIT).start() else {
        return;
    };
    let (served, _) = flood(&server);
    let addr = server.echo();
    let mut held: Vec<_> = served;
    let mut kept = held.pop().expect("somebody was served");

    // Connections come as fast as they are sent away, while one that is served goes on.
    let until = Instant::now() + Duration::from_secs(2);
    let flooding = thread::spawn(move || {
        let mut shed = 0;
        while Instant::now() < until {
            for mut stream in connect_all(addr, 100) {
                shed += usize::from(is_shed(&mut stream));
            }
        }
        shed
    });
    let mut slowest = Duration::ZERO;
    while !flooding.is_finished() {
        let began = Instant::now();
        echo(&mut kept, b"in the flood").expect("it was not sent away");
        slowest = slowest.max(began.elapsed());
    }
    let shed = flooding.join().expect("the flood ends well");
    eprintln!("{shed} connections were shed; the slowest round trip beside them took {slowest:?}");
    assert!(slowest <= Duration::from_secs(1), "{slowest:?}");

    held.into_iter().for_each(reset);
    drop(kept);
    server.is_well();
}

/// Many connections at once: those that are served, and how many were sent away.
fn flood(server: &Server) -> (Vec<TcpStream>, usize) {
    let mut served = connect_all(server.echo(), FLOOD);
    served.retain_mut(|stream| !is_shed(stream));
    let shed = FLOOD - served.len();
    assert!(served.iter().all(is_open));
    (served, shed)
}

/// Whether the server sent a connection away: it ends without an echo.
fn is_shed(stream: &mut TcpStream) -> bool {
    match echo(stream, b"hello") {
        Ok(()) => false,
        Err(error) => {
            let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
            assert!(gone.contains(&error.kind()), "neither served nor sent away: {error}");
            true
        }
    }
}

/// Whether nothing comes on a connection for so long.
fn stays_quiet(mut stream: &TcpStream, span: Duration) -> bool {
    use std::io::Read;
    stream.set_read_timeout(Some(span)).expect("a timeout");
    let outcome = stream.read(&mut [0]);
    outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
