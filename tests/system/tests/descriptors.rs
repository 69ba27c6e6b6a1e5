//! A server that runs out of descriptors: it sheds what it cannot hold, rests, and recovers.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use megamux_system_tests::{
    Caps, DEADLINE, Options, Server, connect, connect_all, echo, is_open, reset, scenarios, wait_until,
};

/// RLIMIT_NOFILE, and so the length of the one shard's table.
const LIMIT: u32 = 64;
const FLOOD: usize = 500;

scenarios! {
    a_flood_is_shed_and_the_rest_is_served
    a_full_table_costs_no_time
    a_flood_that_never_ends_is_survived
    a_limit_that_falls_under_a_running_server_costs_nobody_who_is_there
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

/// EMFILE: each new descriptor is one too many, for the process and not for the table.
fn a_limit_that_falls_under_a_running_server_costs_nobody_who_is_there(caps: Caps) {
    let Some(mut server) = Options::new(caps).start() else {
        return;
    };
    let mut there = connect_all(server.echo(), LIMIT as usize);
    there.iter_mut().for_each(|stream| echo(stream, b"hello").expect("it is served"));

    let before = server.limit_descriptors(3);
    let mut new = connect_all(server.echo(), FLOOD);
    there.iter_mut().for_each(|stream| echo(stream, b"still here").expect("it was not sent away"));
    let began = server.usage().cpu_time();
    assert!(stays_quiet(&there[0], Duration::from_secs(1)));
    let busy = server.usage().cpu_time() - began;
    assert!(busy <= Duration::from_millis(300), "{busy:?} in a second without work");

    // Now whoever waited is served, and nobody is left hanging.
    server.limit_descriptors(before);
    there[0].set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let shed = new.iter_mut().filter_map(|stream| is_shed(stream).then_some(())).count();
    eprintln!("{shed} of {FLOOD} were sent away while there was no descriptor");
    let mut late = connect_all(server.echo(), FLOOD);
    late.iter_mut().for_each(|stream| echo(stream, b"late").expect("there are descriptors again"));
    [there, new, late].into_iter().flatten().for_each(reset);
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
