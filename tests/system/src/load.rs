//! A measured load: good clients in a closed loop, and what they saw.
//!
//! One thread serves all its connections, a window of them at a time: it sends on each, then takes each echo. So a client
//! never has more under way than one message, and the server always has several.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::binary;
use crate::client::{connect_all, is_end, reset};

/// Connections with a message under way.
const WINDOW: usize = 32;
const MESSAGE: usize = 64;
/// What counts as quick.
const QUICK: Duration = Duration::from_millis(5);

/// A load under way.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<LoadReport>,
}

/// What a load saw.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Round trips, shortest first.
    round_trips: Vec<Duration>,
    took: Duration,
    /// Connections that the server ended.
    pub ended: usize,
}

impl Load {
    /// Connects and starts.
    pub fn start(addr: SocketAddr, connections: usize) -> Load {
        let streams = connect_all(addr, connections);
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::spawn(move || run(streams, || until.load(Relaxed)));
        Load { stop, thread }
    }

    /// Runs it for a while, on this thread.
    pub fn run(addr: SocketAddr, connections: usize, span: Duration) -> LoadReport {
        let streams = connect_all(addr, connections);
        let began = Instant::now();
        run(streams, || began.elapsed() >= span)
    }

    /// Stops it.
    #[track_caller]
    pub fn stop(self) -> LoadReport {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the load's thread ends well")
    }

    /// Waits until the server has ended every connection.
    #[track_caller]
    pub fn join(self) -> LoadReport {
        self.thread.join().expect("the load's thread ends well")
    }
}

impl LoadReport {
    /// Of what somebody else measured, all begun at once.
    pub fn of(mut round_trips: Vec<Duration>) -> LoadReport {
        round_trips.sort_unstable();
        let took = round_trips.last().copied().unwrap_or_default();
        LoadReport { round_trips, took, ended: 0 }
    }

    /// The round trip that 99 of 100 do not pass.
    pub fn p99(&self) -> Duration {
        let at = self.round_trips.len() * 99 / 100;
        *self.round_trips.get(at).expect("there were round trips")
    }

    /// Asks that this load, beside a fault, got on nearly as well as the same did alone. Of an instrumented server it is
    /// not asked: what a fault costs it is mostly the watching.
    #[track_caller]
    pub fn is_near(&self, alone: &LoadReport) {
        if binary::instrumented().is_some() {
            return;
        }
        assert!(self.p99() <= 20 * alone.p99().max(QUICK), "{:?}", self.p99());
        assert!(self.rate() >= alone.rate() / 10.0, "{:.0} a second", self.rate());
    }

    /// Round trips per second.
    pub fn rate(&self) -> f64 {
        self.round_trips.len() as f64 / self.took.as_secs_f64()
    }
}

fn run(mut streams: Vec<TcpStream>, is_over: impl Fn() -> bool) -> LoadReport {
    let connections = streams.len();
    let mut report = LoadReport::default();
    let began = Instant::now();
    let mut number = 0;
    while !is_over() && !streams.is_empty() {
        // The next window is at the front; those of it that stand go to the end.
        let rest = streams.split_off(streams.len().min(WINDOW));
        number += 1;
        let window = std::mem::replace(&mut streams, rest);
        streams.extend(round(window, number, &mut report));
    }
    report.took = began.elapsed();
    report.ended = connections - streams.len();
    report.round_trips.sort_unstable();
    streams.into_iter().for_each(reset);
    report
}

/// One message on each connection of a window. Gives back those that stand.
fn round(mut window: Vec<TcpStream>, number: u32, report: &mut LoadReport) -> Vec<TcpStream> {
    // A line, for servers that want one.
    let mut message = [b' '; MESSAGE];
    message[MESSAGE - 1] = b'\n';
    message[..8].copy_from_slice(format!("{number:08x}").as_bytes());
    let send = |stream: &mut TcpStream| {
        let now = Instant::now();
        stream.write_all(&message).map(|()| now)
    };
    let sent: Vec<_> = window.iter_mut().map(send).collect();
    let mut standing = Vec::with_capacity(window.len());
    for (mut stream, sent) in window.into_iter().zip(sent) {
        let mut back = [0; MESSAGE];
        match sent.and_then(|sent| stream.read_exact(&mut back).map(|()| sent)) {
            Ok(sent) => {
                assert!(back == message, "other bytes came back");
                report.round_trips.push(sent.elapsed());
                standing.push(stream);
            }
            Err(error) if is_end(&error) => {}
            Err(error) => panic!("no echo in time: {error}"),
        }
    }
    standing
}
