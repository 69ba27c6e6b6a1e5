//! Our end of a match: an engine whose only handler is a decoder, a script that speaks through it, and a record.
//!
//! Invariant: a [`Session`] is told once, when its connection is over; it holds everything that was told, in order, and the
//! state at the end.
//!
//! Must not: answer by itself. What the decoder does not answer, the script does.

use std::mem;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use megamux_engine::net::Addr;
use megamux_engine::{
    CloseReason, Config, ConnInfo, Cx, Dialer, EndpointCx, Engine, Handler, Listen, NO_SERVICE, NoService, Pin, RecvBuf,
};
use megamux_telnet::{Escaped, LineMode, Side, Support, Telnet, TelnetEvent, TelnetOption};

use crate::DEADLINE;

/// What our end says, upon everything it hears. It begins with [`Heard::OPEN`].
pub type Script = fn(&mut Telnet, &Heard, &mut Vec<u8>);

/// An event, in words, and the bytes of a line or text.
#[derive(Debug)]
pub struct Heard {
    /// Such as `line hello`, `on Remote WindowSize`, `window 80x24`.
    pub words: String,
    /// What a line or a text says.
    pub data: Vec<u8>,
}

impl Heard {
    /// The words when a connection begins.
    pub const OPEN: &str = "open";
}

/// A connection that is over.
#[derive(Debug)]
pub struct Session {
    /// All that was told, in words. Typed text that came in pieces is one text.
    pub told: Vec<String>,
    /// The options that were on, in the order of their codes: `Local Echo`.
    pub on: Vec<String>,
    /// The mode of the terminal's line.
    pub line_mode: LineMode,
    /// Whether what we sent was compressed to the end.
    pub compressing: bool,
}

/// Our end.
pub struct End {
    engine: Engine,
    sessions: Receiver<Session>,
}

impl End {
    /// Listens as a server.
    pub fn server(support: Support, script: Script) -> End {
        End::start(Role { telnet: || Telnet::new(Support::NONE), support, script }, None)
    }

    /// Connects as a client.
    pub fn client(support: Support, script: Script, to: SocketAddr) -> End {
        End::start(Role { telnet: || Telnet::client(Support::NONE), support, script }, Some(to))
    }

    fn start(role: Role, to: Option<SocketAddr>) -> End {
        let mut config = Config::default();
        config.shards = 1;
        config.pin = Pin::None;
        let mut builder = Engine::builder(config).expect("a config");
        let (tell, sessions) = mpsc::channel();
        let handler = move |_| Recorder { role, tell: tell.clone(), out: Vec::new() };
        let dialer = match to {
            None => {
                builder.listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, handler).expect("a listener");
                None
            }
            Some(_) => Some(builder.dialer(Dialer::new(), &NO_SERVICE, handler)),
        };
        let engine = builder.start().expect("the engine starts");
        if let (Some(dialer), Some(to)) = (dialer, to) {
            engine.handle().dial(dialer, Addr::from(to), 0).expect("the engine dials");
        }
        End { engine, sessions }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        match self.engine.local_addrs()[..] {
            [(_, Addr::Tcp(addr))] => addr.port(),
            ref addrs => panic!("one TCP listener: {addrs:?}"),
        }
    }

    /// Waits until so many bytes were read, over all connections: a reader that has read them has seen them by themselves.
    #[track_caller]
    pub fn has_read(&self, bytes: u64) {
        let deadline = Instant::now() + DEADLINE;
        while self.engine.stats().total().bytes_in < bytes {
            assert!(Instant::now() < deadline, "{bytes} bytes are not read in time");
            std::thread::yield_now();
        }
    }

    /// The next connection that is over.
    #[track_caller]
    pub fn session(&self) -> Session {
        self.sessions.recv_timeout(DEADLINE).expect("the connection ends in time")
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.engine.handle().stop();
    }
}

#[derive(Clone, Copy)]
struct Role {
    telnet: fn() -> Telnet,
    support: Support,
    script: Script,
}

struct Recorder {
    role: Role,
    tell: Sender<Session>,
    out: Vec<u8>,
}

struct Conn {
    telnet: Telnet,
    told: Vec<String>,
}

impl Recorder {
    fn hear(&mut self, conn: &mut Conn, heard: Heard) {
        (self.role.script)(&mut conn.telnet, &heard, &mut self.out);
        match (conn.told.last_mut(), heard.words.strip_prefix("text ")) {
            (Some(last), Some(more)) if last.starts_with("text ") => last.push_str(more),
            _ => conn.told.push(heard.words),
        }
    }

    fn decode(&mut self, conn: &mut Conn, input: &mut &[u8]) -> Result<(), CloseReason> {
        loop {
            let heard = match conn.telnet.next_event(input, &mut self.out) {
                Ok(Some(TelnetEvent::Inflated)) => continue,
                Ok(Some(event)) => Heard::of(&event),
                Ok(None) => return Ok(()),
                Err(error) => {
                    conn.told.push(format!("error {error:?}"));
                    return Err(CloseReason::ProtocolError);
                }
            };
            self.hear(conn, heard);
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_, NoService>, conn: &mut Conn) {
        conn.telnet.seal(&mut self.out);
        if !self.out.is_empty() {
            cx.send(&self.out);
            self.out.clear();
        }
    }
}

impl Handler for Recorder {
    type Service = NoService;
    type Conn = Conn;

    fn on_open(&mut self, cx: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<Conn, CloseReason> {
        let mut conn = Conn { telnet: (self.role.telnet)(), told: Vec::new() };
        conn.telnet.set_support(self.role.support);
        let open = Heard { words: Heard::OPEN.to_owned(), data: Vec::new() };
        (self.role.script)(&mut conn.telnet, &open, &mut self.out);
        self.flush(cx, &mut conn);
        Ok(conn)
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, NoService>,
        conn: &mut Conn,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        let mut input: &[u8] = data;
        let outcome = self.decode(conn, &mut input);
        let read = data.len() - input.len();
        self.flush(cx, conn);
        data.consume(read);
        outcome
    }

    fn on_close(&mut self, _: &mut EndpointCx<'_, NoService>, mut conn: Conn, _: CloseReason) {
        // Nobody may ask any more.
        let _ = self.tell.send(Session {
            told: mem::take(&mut conn.told),
            on: on(&conn.telnet),
            line_mode: conn.telnet.line_mode(),
            compressing: conn.telnet.is_compressing(),
        });
    }
}

fn on(telnet: &Telnet) -> Vec<String> {
    let is_on = |side| move |option: &TelnetOption| telnet.is_on(side, *option);
    let named =
        |side| TelnetOption::ALL.into_iter().filter(is_on(side)).map(move |option| format!("{side:?} {option:?}"));
    named(Side::Local).chain(named(Side::Remote)).collect()
}

impl Heard {
    fn of(event: &TelnetEvent<'_>) -> Heard {
        let data = match event {
            TelnetEvent::Line(data) | TelnetEvent::Text(data) => data.to_vec(),
            _ => Vec::new(),
        };
        Heard { words: words(event), data }
    }
}

fn raw(text: Escaped<'_>) -> String {
    Vec::from_iter(text.bytes()).escape_ascii().to_string()
}

fn words(event: &TelnetEvent<'_>) -> String {
    match event {
        TelnetEvent::Line(line) => format!("line {}", line.escape_ascii()),
        TelnetEvent::Text(text) => format!("text {}", text.escape_ascii()),
        TelnetEvent::Command(command) => format!("{command:?}"),
        TelnetEvent::OptionOn(side, option) => format!("on {side:?} {option:?}"),
        TelnetEvent::OptionOff(side, option) => format!("off {side:?} {option:?}"),
        TelnetEvent::WindowSize { columns, rows } => format!("window {columns}x{rows}"),
        TelnetEvent::TerminalType(name) => format!("terminal {}", name.escape_ascii()),
        TelnetEvent::TerminalFeatures(features) => format!("features {}", features.0),
        TelnetEvent::TerminalTypeAsked { round } => format!("terminal? {round}"),
        TelnetEvent::Environment(variables) => {
            let value = |v: Option<Escaped<'_>>| v.map_or("-".to_owned(), raw);
            let each = variables.iter().map(|v| format!("{:?} {}={}", v.kind, raw(v.name), value(v.value)));
            format!("environment {}", each.collect::<Vec<_>>().join(", "))
        }
        TelnetEvent::EnvironmentAsked(names) => {
            let each = names.iter().map(|(kind, name)| format!("{kind:?} {}", raw(name)));
            format!("environment? {}", each.collect::<Vec<_>>().join(", "))
        }
        TelnetEvent::Charset(charset) => format!("charset {}", charset.name()),
        TelnetEvent::SpecialCharacters(keys) => {
            let ack = |is: bool| if is { "!" } else { "" };
            let each = keys.iter().map(|k| format!("{}={:?} {}{}", k.function, k.level, k.value, ack(k.acknowledged)));
            format!("keys {}", each.collect::<Vec<_>>().join(", "))
        }
        TelnetEvent::Status(report) => {
            let each = report.iter().map(|o| format!("{:?} {} {}", o.side, o.code, o.on));
            format!("status {}", each.collect::<Vec<_>>().join(", "))
        }
        TelnetEvent::Gmcp(message) => {
            format!("gmcp {} {}", message.package().escape_ascii(), message.data().escape_ascii())
        }
        TelnetEvent::ServerStatus(table) => {
            let each = table.iter().map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
            format!("server status {}", each.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}
