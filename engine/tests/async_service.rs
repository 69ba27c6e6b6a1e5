//! Services written as futures, over real sockets, under both runtimes.
//!
//! One service serves all tests: a clerk who does what a line says. Whatever a test waits for, it waits for with a
//! deadline.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use megamux_engine::net::Addr;
use megamux_engine::{
    Async, AsyncCx, AsyncInput, AsyncRuntime, AsyncService, CloseReason, Config, ConnId, ConnInfo, Cx, Engine, Frame,
    Handler, Input, Listen, Pin, RecvBuf, RuntimeKind,
};

const DEADLINE: Duration = Duration::from_secs(30);
const RUNTIMES: [AsyncRuntime; 2] = [AsyncRuntime::TokioUring, AsyncRuntime::Tokio];

#[test]
fn both_runtimes_give_the_same_answers() {
    let answers = RUNTIMES.map(|runtime| {
        let engine = Office::open(runtime, 2);
        let mut client = engine.client();
        client.say("echo hello\nfile hello.txt\nfile nothing\nlater 5 late\necho soon\n");
        let mut lines = client.lines(5);
        // A task of its own answers when it is done.
        lines.sort();
        engine.close();
        lines
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], ["entity not found", "from the disk", "hello", "late", "soon"]);
}

#[test]
fn a_service_knows_its_runtime() {
    for (runtime, name) in [(AsyncRuntime::TokioUring, "tokio-uring"), (AsyncRuntime::Tokio, "tokio")] {
        let engine = Office::open(runtime, 1);
        let mut client = engine.client();
        client.say("runtime\n");
        assert_eq!(client.line(), name);
        engine.close();
    }
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_order() {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 2);
        thread::scope(|scope| {
            for _ in 0..3 {
                let mut client = engine.client();
                scope.spawn(move || {
                    let mut writer = client.writer();
                    let sender = thread::spawn(move || {
                        for number in 0..10_000 {
                            writeln!(writer, "echo {number}").expect("send");
                        }
                    });
                    for number in 0..10_000 {
                        assert_eq!(client.line(), number.to_string());
                    }
                    sender.join().expect("everything was sent");
                });
            }
        });
        engine.close();
    }
}

#[test]
fn a_service_that_was_far_behind_catches_up() {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 1);
        let mut client = engine.client();
        // More than may wait for the service, and more bytes than its shard has buffers; none of it is answered.
        client.say("pause 100\n");
        let long = format!("hush {}\n", "x".repeat(20_000));
        let short = "hush\n".repeat(10_000);
        client.say(&long.repeat(300));
        client.say(&short);
        client.say("echo done\n");
        assert_eq!(client.line(), "done");
        engine.close();
    }
}

#[test]
fn answers_that_find_no_room_wait_in_order() {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 1);
        let mut client = engine.client();
        client.say("flood 20000\necho between\nstream 20000\n");
        for number in 0..20_000 {
            assert_eq!(client.line(), number.to_string());
        }
        let rest = client.lines(20_001);
        assert!(rest.contains(&"between".to_owned()));
        let streamed = rest.iter().filter(|line| *line != "between");
        assert!(streamed.eq((0..20_000).map(|number| number.to_string()).collect::<Vec<_>>().iter()));
        engine.close();
    }
}

#[test]
fn other_threads_may_answer() {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 1);
        let mut client = engine.client();
        for number in 0..200 {
            client.say(&format!("thread {number}\n"));
            assert_eq!(client.line(), number.to_string());
        }
        engine.close();
    }
}

#[test]
fn what_was_sent_to_a_connection_that_is_gone_comes_back() {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 2);
        let mut stays = engine.client();
        stays.say("mourn\necho here\n");
        assert_eq!(stays.line(), "here");
        let mut leaves = engine.client();
        leaves.say("echo here\nlater 100 too late\n");
        assert_eq!(leaves.line(), "here");
        drop(leaves);
        assert_eq!(stays.line(), "too late");
        engine.close();
    }
}

#[test]
fn a_panic_closes_the_connections_and_makes_the_service_anew() {
    fails_and_lives_on("panic\n");
}

#[test]
fn a_future_that_ends_by_itself_is_made_anew() {
    fails_and_lives_on("end\n");
}

fn fails_and_lives_on(how: &str) {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 2);
        let (mut one, mut other) = (engine.client(), engine.client());
        other.say("task\n");
        assert_eq!(other.line(), "begun");
        one.say("echo here\n");
        assert_eq!(one.line(), "here");
        one.say(how);
        one.expect_end();
        other.expect_end();
        // The task that it had spawned went with it.
        eventually("the task is dropped", || engine.tasks.load(Ordering::Relaxed) == 0);
        let mut next = engine.client();
        next.say("echo again\n");
        assert_eq!(next.line(), "again");
        let stats = engine.engine.stats();
        assert_eq!(stats.service_panics, 1);
        let closed = stats.total();
        assert_eq!(closed.closes.of(CloseReason::ServicePanic), 2);
        engine.close();
    }
}

#[test]
fn a_service_that_fails_too_often_drains_the_engine() {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 1);
        for _ in 0..6 {
            let mut client = engine.client();
            client.say("panic\n");
            client.expect_end();
        }
        engine.join();
    }
}

#[test]
fn good_byes_come_before_the_end() {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 2);
        let mut clients = [engine.client(), engine.client(), engine.client()];
        for client in &mut clients {
            client.say("echo here\n");
            assert_eq!(client.line(), "here");
        }
        engine.engine.drain(DEADLINE);
        for client in &mut clients {
            assert_eq!(client.line(), "good-bye");
            client.expect_end();
        }
        engine.join();
    }
}

#[test]
fn a_stop_waits_for_nothing_that_the_service_awaits() {
    for runtime in RUNTIMES {
        let engine = Office::open(runtime, 1);
        let mut client = engine.client();
        client.say("task\nread\necho here\n");
        assert_eq!(client.lines(2), ["begun", "here"]);
        client.say("pause 3600000\n");
        engine.engine.handle().stop();
        engine.join();
        client.expect_end();
    }
}

/// Does what a line says.
struct Clerk {
    folder: PathBuf,
    tasks: Arc<AtomicUsize>,
}

impl AsyncService for Clerk {
    type In = Frame;
    type Out = Frame;

    async fn run(self, cx: AsyncCx<Self>) {
        let mut present = BTreeSet::new();
        loop {
            let (conn, line) = match cx.recv().await {
                AsyncInput::Drain => {
                    // It takes its time.
                    pass(Duration::from_millis(20)).await;
                    present.iter().for_each(|conn| say(&cx, *conn, "good-bye"));
                    continue;
                }
                AsyncInput::Conn(conn, Input::Frame(line)) => (conn, line),
                AsyncInput::Conn(conn, Input::Open(_)) => {
                    assert!(present.insert(conn), "opened once");
                    continue;
                }
                AsyncInput::Conn(conn, Input::Close(_)) => {
                    assert!(present.remove(&conn), "closed once, after it opened");
                    continue;
                }
            };
            let line = str::from_utf8(&line).expect("tests send text").trim_end();
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            match verb {
                "panic" => panic!("as the test wanted"),
                "end" => return,
                _ => self.obey(&cx, conn, verb, rest).await,
            }
        }
    }
}

impl Clerk {
    async fn obey(&self, cx: &AsyncCx<Self>, conn: ConnId, verb: &str, rest: &str) {
        let (cx, text) = (cx.clone(), rest.to_owned());
        match verb {
            "echo" => say(&cx, conn, rest),
            "hush" => {}
            "runtime" => say(&cx, conn, &cx.runtime().to_string()),
            "pause" => pass(millis(rest)).await,
            "file" => match read(cx.runtime(), self.folder.join(rest)).await {
                Ok(bytes) => say(&cx, conn, str::from_utf8(&bytes).expect("text")),
                Err(error) => say(&cx, conn, &error.kind().to_string()),
            },
            "flood" => (0..number(rest)).for_each(|n| say(&cx, conn, &n.to_string())),
            "stream" => spawn(cx.runtime(), async move {
                for n in 0..number(&text) {
                    cx.room().await;
                    say(&cx, conn, &n.to_string());
                }
            }),
            "later" => spawn(cx.runtime(), async move {
                let (after, text) = text.split_once(' ').expect("later MILLIS TEXT");
                pass(millis(after)).await;
                say(&cx, conn, text);
            }),
            "mourn" => spawn(cx.runtime(), async move {
                let (gone, event) = cx.gone().await;
                assert_ne!(gone, conn);
                cx.send(conn, event);
            }),
            "thread" => drop(thread::spawn(move || say(&cx, conn, &text))),
            "task" => {
                let counted = Counted::new(&self.tasks);
                spawn(cx.runtime(), async move {
                    let _counted = counted;
                    say(&cx, conn, "begun");
                    std::future::pending::<()>().await;
                });
            }
            "read" => spawn(cx.runtime(), async move {
                // Of a pipe that nobody writes to: in flight until it is given up.
                let (reader, _writer) = std::io::pipe().expect("a pipe");
                if cx.runtime() == RuntimeKind::TokioUring {
                    let reader = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
                    let file = tokio_uring::fs::File::from_std(reader);
                    let _ = file.read_at(vec![0; 4096], 0).await;
                }
            }),
            _ => panic!("{verb}?"),
        }
    }
}

fn say(cx: &AsyncCx<Clerk>, conn: ConnId, line: &str) {
    cx.send(conn, Frame::from(format!("{line}\n").into_bytes()));
}

fn spawn(runtime: RuntimeKind, task: impl Future<Output = ()> + 'static) {
    match runtime {
        RuntimeKind::TokioUring => drop(tokio_uring::spawn(task)),
        RuntimeKind::Tokio => drop(tokio::task::spawn_local(task)),
    }
}

async fn read(runtime: RuntimeKind, path: PathBuf) -> std::io::Result<Vec<u8>> {
    if runtime == RuntimeKind::Tokio {
        return tokio::task::spawn_blocking(|| std::fs::read(path)).await?;
    }
    let file = tokio_uring::fs::File::open(path).await?;
    let (read, mut bytes) = file.read_at(Vec::with_capacity(4096), 0).await;
    bytes.truncate(read?);
    file.close().await?;
    Ok(bytes)
}

/// A timer of the runtime.
async fn pass(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(number(text))
}

/// Counts what exists.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hands lines to the clerk, and what he says to the peer.
struct Counter;

impl Handler for Counter {
    type Service = Async<Clerk>;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, Self::Service>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, Self::Service>,
        (): &mut (),
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let Some(permit) = cx.try_reserve() else {
                break;
            };
            permit.send(data.take(end + 1));
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Self::Service>, (): &mut (), line: Frame) -> Result<(), CloseReason> {
        cx.send_frame(line);
        Ok(())
    }
}

/// An engine with the clerk in it. Its lanes are as small as lanes can be.
struct Office {
    engine: Engine,
    addr: SocketAddr,
    tasks: Arc<AtomicUsize>,
}

impl Office {
    fn open(runtime: AsyncRuntime, shards: usize) -> Office {
        let folder = std::env::temp_dir().join(format!("megamux-async-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("hello.txt"), "from the disk").expect("a file");
        let tasks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tasks);
        let mut config = Config::default();
        config.shards = shards;
        config.pin = Pin::None;
        config.connections_per_shard = 64;
        config.buffers = 16;
        config.lane_capacity = 4;
        let mut builder = Engine::builder(config).expect("settings that fit together");
        let clerk = move || Clerk { folder: folder.clone(), tasks: Arc::clone(&counted) };
        let service = builder.async_service("clerk", runtime, clerk).expect("room for a service");
        let listen = Listen::tcp("127.0.0.1:0");
        builder.listen(listen, &service, |_| Counter).expect("an address");
        let engine = builder.start().expect("io_uring works here");
        let addr = match engine.local_addrs().first() {
            Some((_, Addr::Tcp(addr))) => *addr,
            other => panic!("no TCP listener: {other:?}"),
        };
        Office { engine, addr, tasks }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect_timeout(&self.addr, DEADLINE).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        Client(BufReader::new(stream))
    }

    fn close(self) {
        self.engine.drain(DEADLINE);
        self.join();
    }

    fn join(self) {
        let (ended, end) = mpsc::channel();
        let engine = self.engine;
        thread::spawn(move || ended.send(engine.join()));
        end.recv_timeout(DEADLINE).expect("the engine ends").expect("no shard fails");
        assert_eq!(self.tasks.load(Ordering::Relaxed), 0, "tasks outlive their service");
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn writer(&self) -> TcpStream {
        self.0.get_ref().try_clone().expect("a descriptor")
    }

    fn say(&self, lines: &str) {
        self.0.get_ref().write_all(lines.as_bytes()).expect("send");
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        line.strip_suffix('\n').unwrap_or_else(|| panic!("the end after {line:?}")).to_owned()
    }

    #[track_caller]
    fn lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }

    #[track_caller]
    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert!(rest.is_empty(), "{:?}", rest.escape_ascii().to_string());
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::yield_now();
    }
}
