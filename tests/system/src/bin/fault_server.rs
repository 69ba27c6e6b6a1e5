//! A server whose threads can be made to stand still: what a slow disk, a long pause or a debugger does to a real one.
//!
//! It is made of the public interface alone, and stands in for the released binary where that has nothing to be stopped.
//! It takes the binary's options as `--name=value`, and has besides echo and metrics a listener `lines`: each line goes to
//! a service on a thread of its own, which sends it back. A listener `gate`, which is none of the engine's, stops and
//! releases the threads (see `gate.rs` of the library). Invariant: a line that was taken is answered, also in a drain.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use megamux::echo::Echo;
use megamux::engine::net::{Keepalive, SocketOptions};
use megamux::engine::{
    CloseReason, Config, ConnId, ConnInfo, Cx, DriverChoice, Engine, Frame, Handle, Handler, Input, Listen, NO_SERVICE,
    Pin, Placement, RecvBuf, Scope, Service, ServiceCx,
};
use megamux::http::{HttpHandler, limited};

const DRAIN: Duration = Duration::from_secs(10);
const MAX_LINE: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read()?;
    let (service, shard) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let mut builder = Engine::builder(options.config()?)?;

    let answers = options.number("answers")?.unwrap_or(1) as usize;
    let gate = Arc::clone(&service);
    let answerer =
        builder.service("answers", Placement::Thread, move || Answers { answers, gate: Arc::clone(&gate) })?;
    let gate = Arc::clone(&shard);
    let lines = options.listen("lines")?.max_frame(MAX_LINE);
    let lines = builder.listen(lines, &answerer, move |_| Lines { answers, gate: Arc::clone(&gate) })?;
    let echo = builder.listen(options.listen("echo")?, &NO_SERVICE, |_| Echo)?;
    let http = limited(options.listen("http")?, builder.shards());
    let http = builder.listen(http, &NO_SERVICE, |_| HttpHandler::new(SystemTime::now))?;

    let engine = builder.start()?;
    let doors = TcpListener::bind("127.0.0.1:0")?;
    for (id, addr) in engine.local_addrs() {
        let name = [(lines, "lines"), (echo, "echo"), (http, "http")].into_iter().find(|(known, _)| *known == id);
        println!("  {} {addr}", name.map_or("other", |(_, name)| name));
    }
    println!("  gate {}", doors.local_addr()?);
    println!("megamux is ready");
    let handle = engine.handle().clone();
    thread::spawn(move || doors.incoming().flatten().for_each(|stream| obey(stream, &handle, &service, &shard)));
    Ok(engine.join()?)
}

/// Answers the orders of one tester at a time.
fn obey(stream: TcpStream, engine: &Handle, service: &Gate, shard: &Gate) {
    for line in BufReader::new(&stream).lines().map_while(Result::ok) {
        let (verb, who) = line.split_once(' ').unwrap_or((&line, ""));
        let gate = if who == "shard" { shard } else { service };
        let answer = match verb {
            "hold" => gate.set(true),
            "release" => gate.set(false),
            "waiting" => gate.waiting.load(Relaxed),
            "passed" => gate.passed.load(Relaxed),
            "drain" => {
                engine.drain(DRAIN);
                0
            }
            _ => return,
        };
        // Whoever asked may be gone.
        let _ = writeln!(&stream, "{answer}");
    }
}

/// Where a thread may have to stop.
#[derive(Default)]
struct Gate {
    is_closed: AtomicBool,
    closed: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicU64,
    passed: AtomicU64,
}

impl Gate {
    fn pass(&self) {
        if self.is_closed.load(Relaxed) {
            let closed = self.closed.lock().expect("nobody panics here");
            self.waiting.fetch_add(1, Relaxed);
            drop(self.opened.wait_while(closed, |closed| *closed));
            self.waiting.fetch_sub(1, Relaxed);
        }
        self.passed.fetch_add(1, Relaxed);
    }

    fn set(&self, closed: bool) -> u64 {
        *self.closed.lock().expect("nobody panics here") = closed;
        self.is_closed.store(closed, Relaxed);
        self.opened.notify_all();
        0
    }
}

/// Sends each line back, as often as was said.
struct Answers {
    answers: usize,
    gate: Arc<Gate>,
}

impl Service for Answers {
    type In = Frame;
    type Out = Frame;
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<Frame>) {
        let Input::Frame(line) = input else { return };
        self.gate.pass();
        for _ in 1..self.answers {
            cx.send(conn, line.clone());
        }
        cx.send(conn, line);
    }
}

/// Lines to the service, its answers back.
struct Lines {
    answers: usize,
    gate: Arc<Gate>,
}

/// What a connection is owed.
#[derive(Default)]
struct Owed {
    answers: usize,
    /// Why it closes when it has got them.
    then: Option<CloseReason>,
}

impl Owed {
    fn close_when_paid(&mut self, why: CloseReason) -> Result<(), CloseReason> {
        self.then = Some(why);
        self.check()
    }

    fn check(&self) -> Result<(), CloseReason> {
        match self.then {
            Some(why) if self.answers == 0 => Err(why),
            _ => Ok(()),
        }
    }
}

impl Handler for Lines {
    type Service = Answers;
    type Conn = Owed;

    fn on_open(&mut self, _: &mut Cx<'_, Answers>, _: &ConnInfo) -> Result<Owed, CloseReason> {
        Ok(Owed::default())
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, Answers>,
        owed: &mut Owed,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        self.gate.pass();
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let Some(permit) = cx.try_reserve() else { break };
            permit.send(data.take(end + 1));
            owed.answers += self.answers;
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Answers>, owed: &mut Owed, line: Frame) -> Result<(), CloseReason> {
        cx.send_frame(line);
        owed.answers -= 1;
        owed.check()
    }

    fn on_read_closed(&mut self, _: &mut Cx<'_, Answers>, owed: &mut Owed) -> Result<(), CloseReason> {
        owed.close_when_paid(CloseReason::PeerClosed)
    }

    fn on_drain(&mut self, _: &mut Cx<'_, Answers>, owed: &mut Owed) -> Result<(), CloseReason> {
        owed.close_when_paid(CloseReason::Drained)
    }
}

/// What was said on the command line.
struct Options(HashMap<String, String>);

impl Options {
    fn read() -> Result<Options, String> {
        let word = |word: String| {
            let said = word.strip_prefix("--").and_then(|said| said.split_once('='));
            let (name, value) = said.ok_or_else(|| format!("{word:?}: say --name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        std::env::args().skip(1).map(word).collect::<Result<_, String>>().map(Options)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |value: &String| value.parse().map_err(|error| format!("{name}: {error}"));
        self.0.get(name).map(parse).transpose()
    }

    fn config(&self) -> Result<Config, String> {
        let mut config = Config::default();
        config.shards = self.number("shards")?.unwrap_or(1) as usize;
        config.pin = Pin::None;
        config.caps_mask = self.0.get("caps").cloned().unwrap_or_default();
        config.driver = match self.0.get("driver").map_or("auto", String::as_str) {
            "auto" => DriverChoice::Auto,
            "uring" => DriverChoice::Uring,
            "epoll" => DriverChoice::Epoll,
            other => return Err(format!("no driver {other:?}")),
        };
        if let Some(capacity) = self.number("lane-capacity")? {
            config.lane_capacity = capacity as usize;
        }
        Ok(config)
    }

    fn listen(&self, name: &str) -> Result<Listen, String> {
        let addr = self.0.get(name).map_or("127.0.0.1:0", String::as_str);
        let mut listen = Listen::tcp(addr);
        let span =
            |option: &str| Ok::<_, String>(self.number(&format!("{name}-{option}-ms"))?.map(Duration::from_millis));
        if let Some(after) = span("idle")? {
            listen = listen.idle_timeout(after);
        }
        if let Some(after) = span("stall")? {
            listen = listen.write_stall_timeout(after);
        }
        let mut options = SocketOptions::default();
        options.keepalive = span("keepalive")?.map(|idle| Keepalive { idle, interval: idle, count: 2 });
        options.send_buffer = self.number(&format!("{name}-send-buffer"))?.map(|bytes| bytes as usize);
        Ok(listen.socket(options))
    }
}
