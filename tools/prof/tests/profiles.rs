//! The program against a real engine with a real HTTP listener, in this process.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use megamux::http::HttpHandler;
use megamux::{CloseReason, Config, ConnInfo, Cx, Engine, Handler, Listen, NO_SERVICE, NoService, Pin, RecvBuf};
use megamux_skip_tests::skip;
use serde_json::Value;

fn prof(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_megamux-prof")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Echoes; at the byte `!` it does not come back before the gate is open.
struct Blocks(Arc<Gate>);

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    #[inline(never)]
    fn blocks_the_shard(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Handler for Blocks {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, _: &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        let frame = data.take_all();
        if frame.first() == Some(&b'!') {
            self.0.blocks_the_shard();
        }
        cx.send_frame(frame);
        Ok(())
    }
}

struct Server {
    _engine: Engine,
    http: String,
    echo: SocketAddr,
    gate: Arc<Gate>,
}

impl Server {
    fn start(shards: usize) -> Server {
        let mut config = Config::default();
        config.shards = shards;
        config.pin = Pin::None;
        let gate = Arc::new(Gate::default());
        let mut builder = Engine::builder(config).unwrap();
        let http = megamux::http::limited(Listen::tcp("127.0.0.1:0"), shards);
        builder.listen(http, &NO_SERVICE, |_| HttpHandler::new(SystemTime::now)).unwrap();
        let handed = Arc::clone(&gate);
        builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| Blocks(Arc::clone(&handed))).unwrap();
        let engine = builder.start().unwrap();
        let addrs: Vec<String> = engine.local_addrs().iter().map(|(_, addr)| addr.to_string()).collect();
        Server { _engine: engine, http: addrs[0].clone(), echo: addrs[1].parse().unwrap(), gate }
    }

    /// Says something and takes it back, until told to stop.
    fn busy<R>(&self, meanwhile: impl FnOnce() -> R) -> R {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(self.echo).unwrap();
                while !over.load(Relaxed) {
                    stream.write_all(b"hello").unwrap();
                    stream.read_exact(&mut [0; 5]).unwrap();
                }
            });
            let result = meanwhile();
            over.store(true, Relaxed);
            result
        })
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("megamux-prof-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_trace_of_a_busy_server_has_phases_that_nest_in_their_ticks() {
    let (server, folder) = (Server::start(2), Folder::new("trace"));
    let file = folder.file("trace.json");
    let output = server.busy(|| prof(&["trace", "--seconds", "0.3", "--output", &file, &server.http]));
    assert!(output.status.success(), "{}", said(&output));
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();

    let mut phases: HashMap<String, usize> = HashMap::new();
    // The tick that is being told, by track; its phases follow it.
    let mut open: HashMap<u64, (f64, f64)> = HashMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let (begin, span) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
        let (track, name) = (event["tid"].as_u64().unwrap(), event["name"].as_str().unwrap());
        *phases.entry(name.to_owned()).or_default() += 1;
        if name == "tick" {
            let before = open.insert(track, (begin, begin + span));
            // Microseconds with fractions: a nanosecond is lost now and then.
            assert!(before.is_none_or(|(_, end)| begin + 0.002 > end), "ticks of a shard do not overlap");
        } else {
            let (from, to) = open[&track];
            assert!(begin + 0.002 > from && begin + span < to + 0.002, "{name} is outside its tick: {event}");
        }
    }
    // A shard without work ticks once a second.
    assert_eq!(events.iter().filter(|event| event["name"] == "thread_name").count(), 2, "each shard has a track");
    for phase in ["tick", "enter", "reap", "dispatch", "flush"] {
        assert!(phases.get(phase).is_some_and(|count| *count > 10), "{phase}: {phases:?}");
    }
    let completions = events.iter().filter(|event| event["ph"] == "C");
    assert!(completions.map(|event| event["args"]["completions"].as_u64().unwrap()).sum::<u64>() > 0);
}

#[test]
fn the_rings_are_shown_shard_by_shard() {
    let server = Server::start(2);
    let output = server.busy(|| prof(&["uring", "--interval", "0.1", &server.http]));
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let titles = text.lines().position(|line| line.starts_with("shard")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(titles + 1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), ["0", "1"], "{text}");
    // No workers of the kernel's, no overflow: nothing is punted for an echo.
    assert!(rows.iter().all(|row| row[6..10] == ["0"; 4]), "{text}");
}

#[test]
fn the_kernels_tracepoints_are_counted() {
    if Command::new("bpftrace").arg("--version").output().is_err() {
        return skip("bpftrace is not installed");
    }
    let server = Server::start(1);
    let output = server.busy(|| prof(&["uring", &server.http]));
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    if let Some(why) = text.lines().find(|line| line.contains("no tracepoints of the kernel")) {
        return skip(&format!("bpftrace may not be used here: {why}"));
    }
    assert!(text.starts_with("the kernel's tracepoints, 1 s:\n") && text.contains("@waits[shard-0]: "), "{text}");
    assert!(text.contains("\nshard "), "the counters come as well: {text}");
}

/// Runs it, waits, interrupts it, and hears it out.
fn interrupted(arguments: &[&str], wait: impl FnOnce(u32)) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_megamux-prof"));
    let child = child.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait(child.id());
    // SAFETY: a child that has not been waited for, so the number is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    child.wait_with_output().unwrap()
}

#[test]
fn an_interrupted_trace_is_whole() {
    let (server, folder) = (Server::start(1), Folder::new("interrupted"));
    let file = folder.file("trace.json");
    let arguments = ["trace", "--seconds", "600", "--output", &file, &server.http];
    let is_begun = || fs::metadata(&file).is_ok_and(|file| file.len() > 0);
    let output = server.busy(|| interrupted(&arguments, |_| until(is_begun)));
    assert!(output.status.success(), "{}", said(&output));
    let trace: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().len() > 1);
}

#[test]
fn an_interrupted_recording_is_drawn() {
    let probe = Command::new("perf").args(["record", "-o", "-", "-e", "cpu-clock", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip("perf is not installed, or may not be used here");
    }
    let (server, folder) = (Server::start(1), Folder::new("interrupted-record"));
    let file = folder.file("flame.svg");
    let arguments = ["record", "--seconds", "600", "--output", &file, &server.http];
    let samples = |id| std::env::temp_dir().join(format!("megamux-prof-{id}"));
    let sampled = |id| fs::metadata(samples(id).join("perf.data")).is_ok_and(|file| file.len() > 100_000);
    let mut prof = 0;
    let wait = |id| {
        prof = id;
        until(|| sampled(id));
    };
    let output = server.busy(|| interrupted(&arguments, wait));
    assert!(output.status.success(), "{}", said(&output));
    assert!(fs::read_to_string(&file).unwrap().contains("megamux_engine::shard::Shard"), "{}", said(&output));
    assert!(!samples(prof).exists(), "nothing is left behind");
}

/// Waits for it, with a deadline.
fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn a_stall_names_the_function_that_blocks() {
    for shards in [1, 2] {
        let server = Server::start(shards);
        let mut stream = TcpStream::connect(server.echo).unwrap();
        let mut watching = Command::new(env!("CARGO_BIN_EXE_megamux-prof"));
        // It leaves by itself in the end, so no line is waited for forever.
        watching.args(["stalls", "--threshold", "50", "--seconds", "60", &server.http]);
        let mut watching = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut notes = BufReader::new(watching.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(notes.any(|line| line.starts_with("watching ")), "it begins to watch");

        stream.write_all(b"!").unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut text = String::new();
        let mut read_to = |ends: &[&str]| {
            for line in lines.by_ref() {
                text = format!("{text}{line}\n");
                if ends.iter().any(|end| line.contains(end)) {
                    break;
                }
            }
            text.clone()
        };
        // A busy machine may show other stalls before.
        let stalled = read_to(&["Gate::blocks_the_shard", "may not stop thread"]);
        server.gate.open();
        if stalled.contains("may not stop thread") {
            let _ = watching.kill().and_then(|()| watching.wait());
            return skip("other processes' threads may not be stopped here (ptrace)");
        }
        let over = read_to(&["of that dispatch"]);
        let _ = watching.kill().and_then(|()| watching.wait());
        assert!(stalled.contains("Gate::blocks_the_shard"), "{stalled}");
        assert!(stalled.contains("it waits in the kernel: "), "{stalled}");
        assert!(over[stalled.len()..].contains("answers again after"), "{over}");
    }
}

#[test]
fn a_recording_is_a_flame_graph_of_the_shards() {
    if Command::new("perf").arg("--version").output().is_err() {
        return skip("perf is not installed");
    }
    let (server, folder) = (Server::start(1), Folder::new("record"));
    let file = folder.file("flame.svg");
    let arguments = ["record", "--seconds", "1", "--shard", "0", "--by-thread", "--output", &file, &server.http];
    let output = server.busy(|| prof(&arguments));
    let text = said(&output);
    if text.contains("perf may not look") {
        return skip("perf may not be used here");
    }
    assert!(output.status.success(), "{text}");
    let svg = std::fs::read_to_string(Path::new(&file)).unwrap();
    assert!(svg.contains("<title>shard-0 (") && svg.contains("megamux_engine::shard::Shard"), "{text}");
}

#[test]
fn whoever_is_not_there_or_not_megamux_is_named() {
    let check = |arguments: &[&str], code, expect: &str| {
        let output = prof(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(expect), "{}", said(&output));
    };
    // Port 1 is nobody's.
    check(&["trace", "127.0.0.1:1"], 1, "cannot connect to 127.0.0.1:1");
    check(&["uring", "unix:/nowhere"], 1, "cannot connect to unix:/nowhere");
    check(&["stalls", "--pid", "4294967295"], 1, "there is no process 4294967295");
    check(&["stalls", "--threshold", "0"], 2, "from 1 to 600000 milliseconds");
    check(&["trace", "localhost"], 2, "127.0.0.1:8080, [::1]:8080 or unix:/path");
    check(&["--completions", "bash"], 0, "megamux-prof");
    check(&["uring", "--script"], 0, "tracepoint:io_uring:");
}
