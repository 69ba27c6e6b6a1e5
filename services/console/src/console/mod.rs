//! The console service: sessions, and who answers their lines.
//!
//! Invariants: each line is answered exactly once, in its session's order; a command of another service, or one that asks the
//! shards, has a deadline; what comes after it (or after an interrupt) is ignored, by its number. One timer per
//! session, under its connection's name.
//!
//! Must not: wait for anybody, or show text of others as it came.

mod answer;
mod execute;
mod login;

pub use login::{LOGIN_TIME, MAX_FAILURES};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use megamux_engine::{CloseReason, ConnId, Input, Scope, Service, ServiceCx, Subscribe, TimerKey};
use megamux_telnet::console::{CompletionOffered, Notice, RegisterCommand, Reply, ReplyStatus};

use crate::access::limiter::Limiter;
use crate::access::roster::Roster;
use crate::access::verifier::Verified;
use crate::builtin::shards::{SAMPLE_EVERY, Sampler};
use crate::commands::Commands;
use crate::event::{Completions, ConnFound, ConnRows, ConsoleIn, ConsoleOut, TYPE_AHEAD};
use crate::log::{LogLevel, LogRing};
use crate::session::{Line, Running, Session};
use crate::text;

/// How long another service may take to answer a command, or for the next part of its answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long anybody may take to complete a line: an operator who pressed Tab waits.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a shard may take to list its connections: many ticks even of a busy shard, and no long wait for an operator.
const SHARD_TIMEOUT: Duration = Duration::from_secs(1);

/// How often what is shown as it happens is shown.
const LIVE_EVERY: Duration = Duration::from_millis(500);

/// The sampling's timer. Sessions' timers have their connections' names, and no connection has this one: an engine has far
/// fewer shards than a name could tell apart.
const SAMPLE: TimerKey = TimerKey(u64::MAX);

/// What a console is made of, beside its sessions. It outlives the console, which is made anew after a panic.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    pub(crate) commands: Commands,
    /// Whether it asks who is there.
    pub(crate) asks: bool,
    pub(crate) roster: Roster,
    pub(crate) log: Option<LogRing>,
    pub(crate) level: Option<Arc<dyn LogLevel>>,
}

/// The operator's console. See the crate's documentation for what it does.
#[derive(Default)]
pub struct Console {
    parts: Parts,
    sessions: HashMap<ConnId, Session>,
    sampler: Sampler,
    limiter: Limiter,
    /// Passwords that are being compared.
    verifying: usize,
    /// Numbers the commands of all sessions.
    requests: u32,
    /// Sessions that watch events.
    watching: usize,
}

type Cx<'a> = ServiceCx<'a, Console>;

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

impl Console {
    /// A console without sessions.
    pub(crate) fn new(parts: Parts) -> Console {
        Console { parts, ..Console::default() }
    }

    fn open(&mut self, cx: &mut Cx<'_>, conn: ConnId, source: Option<std::net::IpAddr>) {
        let mut session = Session::default();
        if self.parts.asks {
            login::ask(cx, conn, session.used(), source);
        }
        let prompt = session.prompt();
        self.sessions.insert(conn, session);
        if self.sampler.start(|| cx.engine().stats()) {
            cx.set_timer(SAMPLE, SAMPLE_EVERY);
        }
        let greeting = match self.parts.asks {
            false => concat!("megamux ", env!("CARGO_PKG_VERSION"), ", try: help\n"),
            true => "megamux\n",
        };
        cx.send(conn, ConsoleOut::Text(greeting.to_owned()));
        cx.send(conn, ConsoleOut::Prompt(prompt));
    }

    fn close(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if let Some(mut session) = self.sessions.remove(&conn)
            && let Some(running) = session.peek().and_then(|used| used.running.take())
        {
            self.stopped(&running);
        }
        cx.cancel_timer(timer(conn));
        if self.sessions.is_empty() {
            self.sessions = HashMap::new();
            self.sampler.stop();
            cx.cancel_timer(SAMPLE);
        }
    }

    fn enter(&mut self, cx: &mut Cx<'_>, conn: ConnId, line: Line) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.is_leaving() {
            return;
        }
        if !session.used().enter(line) {
            // A front that keeps the credit never gets here.
            tracing::warn!(%conn, most = TYPE_AHEAD, "a console front sends more lines than it may");
            session.used().leaving = true;
            return cx.close(conn, CloseReason::ProtocolError);
        }
        // A line ends what is shown until a key is typed.
        if self.is_live(conn) {
            return self.end_live(cx, conn);
        }
        self.advance(cx, conn);
    }

    fn resize(&mut self, conn: ConnId, columns: u16) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.resize(columns);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.used().ended = true;
        }
        if self.is_live(conn) {
            return self.end_live(cx, conn);
        }
        self.advance(cx, conn);
    }

    /// The number of the next command.
    fn number(&mut self) -> u32 {
        self.requests = self.requests.wrapping_add(1);
        self.requests
    }

    /// Something runs no more.
    fn stopped(&mut self, running: &Running) {
        match running {
            Running::Events(_) => self.watching -= 1,
            Running::Verifying { .. } => self.verifying -= 1,
            _ => {}
        }
    }

    /// Tells those who watch.
    fn notice(&mut self, topic: &str, what: &str) {
        if self.watching == 0 {
            return;
        }
        for session in self.sessions.values_mut() {
            if let Some(Running::Events(events)) = session.peek().and_then(|used| used.running.as_mut()) {
                events.add(topic, what);
            }
        }
    }
}

impl Service for Console {
    type In = ConsoleIn;
    type Out = ConsoleOut;
    const SCOPE: Scope = Scope::Node;

    fn on_input(&mut self, cx: &mut Cx<'_>, conn: ConnId, input: Input<ConsoleIn>) {
        let event = match input {
            Input::Open(info) => return self.open(cx, conn, info.peer.map(|peer| peer.ip())),
            Input::Close(_) => return self.close(cx, conn),
            Input::Frame(event) => event,
        };
        match event {
            ConsoleIn::Line(line) => self.enter(cx, conn, Line::Text(line)),
            ConsoleIn::LineTooLong => self.enter(cx, conn, Line::TooLong),
            ConsoleIn::Complete(line) => self.enter(cx, conn, Line::Begun(line)),
            ConsoleIn::Interrupt => self.interrupt(cx, conn),
            ConsoleIn::WindowSize { columns, .. } => self.resize(conn, columns),
            ConsoleIn::End => self.end(cx, conn),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, key: TimerKey) {
        if key == SAMPLE {
            self.sampler.sample(cx.engine().stats());
            return cx.set_timer(SAMPLE, SAMPLE_EVERY);
        }
        self.session_timer(cx, ConnId::from_bits(key.0));
    }

    fn on_drain(&mut self, cx: &mut Cx<'_>) {
        for (&conn, session) in &mut self.sessions {
            if !session.is_leaving() {
                session.used().leaving = true;
                cx.send(conn, ConsoleOut::Text("\nthe engine drains: good-bye\n".to_owned()));
            }
        }
    }
}

impl Subscribe<RegisterCommand> for Console {
    fn on_published(&mut self, _: &mut Cx<'_>, command: &RegisterCommand) {
        if let Err(refused) = self.parts.commands.register(command) {
            let (directory, name) = (command.directory(), command.name());
            tracing::warn!(directory, name, ?refused, "the console does not take a command");
        }
    }
}

impl Subscribe<Reply> for Console {
    fn on_published(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        let conn = ConnId::from_bits(reply.session);
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        let Some(Running::Service { .. }) = used.running(reply.request) else {
            return;
        };
        let text = match (reply.status, reply.text.as_str()) {
            (ReplyStatus::Failed, "") => "failed\n".to_owned(),
            (_, text) => text::safe(text),
        };
        if reply.status != ReplyStatus::More {
            return self.finish(cx, conn, text);
        }
        let part = used.part(text);
        let is_cut = used.is_cut();
        match &mut used.watch {
            Some(watch) => watch.said.push_str(&part),
            None => cx.send(conn, ConsoleOut::Text(part)),
        }
        if is_cut {
            return self.finish(cx, conn, String::new());
        }
        cx.set_timer(timer(conn), REPLY_TIMEOUT);
    }
}

impl Subscribe<ConnRows> for Console {
    fn on_published(&mut self, cx: &mut Cx<'_>, answer: &ConnRows) {
        let conn = answer.session;
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        let (Some(Running::Conns(gathering)) | Some(Running::Completing { gathering: Some(gathering), .. })) =
            used.running(answer.request)
        else {
            return;
        };
        gathering.add(answer);
        if gathering.is_complete() {
            self.session_timer(cx, conn);
        }
    }
}

impl Subscribe<ConnFound> for Console {
    fn on_published(&mut self, cx: &mut Cx<'_>, answer: &ConnFound) {
        let conn = answer.session;
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        let Some(Running::Conn(single)) = used.running(answer.request) else {
            return;
        };
        let text = single.finish(cx.engine(), answer.row.as_ref());
        self.finish(cx, conn, text);
    }
}

impl Subscribe<CompletionOffered> for Console {
    fn on_published(&mut self, cx: &mut Cx<'_>, offered: &CompletionOffered) {
        let conn = ConnId::from_bits(offered.session());
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        if let Some(&mut Running::Completing { from, gathering: None }) = used.running(offered.request()) {
            let harmless = offered.words().iter().filter(|word| word.chars().all(text::is_harmless));
            let words = harmless.map(|word| format!("{word} ")).collect();
            self.completed(cx, conn, Completions { from, words, cut: false });
        }
    }
}

impl Subscribe<Notice> for Console {
    fn on_published(&mut self, _: &mut Cx<'_>, notice: &Notice) {
        self.notice(&notice.topic, &notice.text);
    }
}

impl Subscribe<Verified> for Console {
    fn on_published(&mut self, cx: &mut Cx<'_>, verified: &Verified) {
        self.verified(cx, verified);
    }
}

fn timer(conn: ConnId) -> TimerKey {
    TimerKey(conn.to_bits())
}
