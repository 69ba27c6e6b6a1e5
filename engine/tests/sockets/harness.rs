//! What the tests share: a small engine, clients that give up after a deadline, and a handler made of one function.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use megamux_engine::net::Addr;
use megamux_engine::{
    Builder, CloseReason, Config, ConnInfo, Cx, DriverChoice, EndpointId, Engine, Handle, Handler, NoService, Pin,
    RecvBuf, TimerKey,
};

/// Long enough for a loaded machine; only a failing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub type Outcome = Result<(), CloseReason>;

/// Small tables, no pinning: tests run beside each other.
pub fn config(shards: usize) -> Config {
    let mut config = Config::default();
    config.shards = shards;
    config.pin = Pin::None;
    config.connections_per_shard = 1024;
    config.buffers = 16;
    config.driver = driver();
    config
}

/// The driver that the tests run on: `MEGAMUX_DRIVER`.
pub fn driver() -> DriverChoice {
    match std::env::var("MEGAMUX_DRIVER").as_deref() {
        Ok("epoll") => DriverChoice::Epoll,
        Ok("uring") => DriverChoice::Uring,
        Ok(other) => panic!("MEGAMUX_DRIVER={other} is no driver: uring or epoll"),
        Err(_) => DriverChoice::Auto,
    }
}

pub fn builder(shards: usize) -> Builder {
    Engine::builder(config(shards)).expect("settings that fit together")
}

/// Where the engine's first endpoint is bound.
pub fn addr(engine: &Engine) -> SocketAddr {
    match engine.local_addrs().first() {
        Some((_, Addr::Tcp(addr))) => *addr,
        other => panic!("no TCP listener: {other:?}"),
    }
}

/// Where one of several is bound.
pub fn addr_of(engine: &Engine, endpoint: EndpointId) -> SocketAddr {
    match engine.local_addrs().into_iter().find(|(id, _)| *id == endpoint) {
        Some((_, Addr::Tcp(addr))) => addr,
        other => panic!("no TCP listener: {other:?}"),
    }
}

/// Ends an engine in order, and checks that it does end, with nothing left open.
pub fn drain(engine: Engine) {
    let handle = engine.handle().clone();
    engine.drain(DEADLINE / 2);
    join(engine);
    assert_eq!(open_connections(&handle), 0);
}

/// Waits for the engine's end.
pub fn join(engine: Engine) {
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(engine.join()));
    end.recv_timeout(DEADLINE).expect("the engine does not end").expect("a shard failed");
}

pub fn open_connections(handle: &Handle) -> u64 {
    handle.stats().total().connections.total()
}

/// Polls for what no event tells: figures, mostly.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// The next event of a handler or service.
#[track_caller]
pub fn next<T>(events: &Receiver<T>) -> T {
    events.recv_timeout(DEADLINE).expect("no event in time")
}

/// The other end of a connection.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE).expect("connect");
        Client::over(stream)
    }

    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a write timeout");
        Client { reader: BufReader::new(stream) }
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub fn local(&self) -> SocketAddr {
        self.stream().local_addr().expect("an address")
    }

    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).expect("send");
    }

    pub fn finish(&self) {
        self.stream().shutdown(Shutdown::Write).expect("shutdown");
    }

    /// The next line, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        assert!(line.ends_with('\n'), "the connection ended after {line:?}");
        line.truncate(line.len() - 1);
        line
    }

    /// So many bytes.
    #[track_caller]
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).expect("so many bytes");
        bytes
    }

    /// Everything until FIN.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).expect("FIN");
        rest
    }

    /// Nothing more comes but the end: FIN or RST.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no end in time: {error}"),
        }
        assert!(rest.is_empty(), "{:?} before the end", rest.escape_ascii().to_string());
    }
}

/// Something that happens on a connection.
pub enum On<'a, 'b> {
    Open(&'a ConnInfo),
    Data(&'a mut RecvBuf<'b>),
    ReadClosed,
    Timer(TimerKey),
    Drain,
    Writable,
}

impl On<'_, '_> {
    /// What a handler does that has nothing else in mind: echo.
    pub fn echo(self, cx: &mut Cx<'_, NoService>) -> Outcome {
        match self {
            On::Data(data) => cx.send_frame(data.take_all()),
            On::ReadClosed => return Err(CloseReason::PeerClosed),
            On::Drain => return Err(CloseReason::Drained),
            On::Open(_) | On::Timer(_) | On::Writable => {}
        }
        Ok(())
    }
}

/// A handler made of a function of everything that happens, and one that hears of the end.
pub struct Script<F, C>(F, C);

pub fn script<F>(on: F) -> Script<F, fn(CloseReason)>
where
    F: FnMut(&mut Cx<'_, NoService>, On<'_, '_>) -> Outcome + 'static,
{
    Script(on, |_| {})
}

pub fn script_until<F, C>(on: F, on_close: C) -> Script<F, C>
where
    F: FnMut(&mut Cx<'_, NoService>, On<'_, '_>) -> Outcome + 'static,
    C: FnMut(CloseReason) + 'static,
{
    Script(on, on_close)
}

pub fn echo() -> impl Handler<Service = NoService> {
    script(|cx, on| on.echo(cx))
}

/// Echoes, and tells of who opened.
pub fn telling_echo(opened: &mpsc::Sender<ConnInfo>) -> impl Handler<Service = NoService> + use<> {
    let opened = opened.clone();
    script(move |cx, on| {
        if let On::Open(info) = &on {
            opened.send(**info).unwrap();
        }
        on.echo(cx)
    })
}

impl<F, C> Handler for Script<F, C>
where
    F: FnMut(&mut Cx<'_, NoService>, On<'_, '_>) -> Outcome + 'static,
    C: FnMut(CloseReason) + 'static,
{
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, cx: &mut Cx<'_, NoService>, info: &ConnInfo) -> Outcome {
        (self.0)(cx, On::Open(info))
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        (self.0)(cx, On::Data(data))
    }

    fn on_read_closed(&mut self, cx: &mut Cx<'_, NoService>, (): &mut ()) -> Outcome {
        (self.0)(cx, On::ReadClosed)
    }

    fn on_writable(&mut self, cx: &mut Cx<'_, NoService>, (): &mut ()) -> Outcome {
        (self.0)(cx, On::Writable)
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), key: TimerKey) -> Outcome {
        (self.0)(cx, On::Timer(key))
    }

    fn on_drain(&mut self, cx: &mut Cx<'_, NoService>, (): &mut ()) -> Outcome {
        (self.0)(cx, On::Drain)
    }

    fn on_close(&mut self, _: &mut megamux_engine::EndpointCx<'_, NoService>, (): (), why: CloseReason) {
        (self.1)(why);
    }
}
