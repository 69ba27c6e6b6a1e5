//! The console service: sessions, and who answers their lines.
//!
//! Invariants: each line is answered exactly once, in its session's order; a command of another service, or one that asks the
//! shards, has a deadline; what comes after it (or after an interrupt) is ignored, by its number. One timer per
//! session, under its connection's name.
//!
//! Must not: wait for anybody, or show text of others as it came.

use std::collections::HashMap;
use std::time::Duration;

use megamux_engine::{CloseReason, ConnId, Input, Scope, Service, ServiceCx, Subscribe, TimerKey};
use megamux_telnet::MAX_LINE;
use megamux_telnet::console::{CommandEntered, RegisterCommand, Reply, ReplyStatus};

use crate::builtin::conns::{Gathering, Query};
use crate::builtin::shards::{SAMPLE_EVERY, Sampler};
use crate::builtin::{Builtin, stats};
use crate::commands::{Action, Commands, Entered, Lookup};
use crate::event::{ConnRows, ConsoleIn, ConsoleOut, TYPE_AHEAD};
use crate::session::{Line, PROMPT, Running, Session};
use crate::text;

/// How long another service may take to answer a command, or for the next part of its answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a shard may take to list its connections: many ticks even of a busy shard, and no long wait for an operator.
const SHARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The sampling's timer. Sessions' timers have their connections' names, and no connection has this one: an engine has far
/// fewer shards than a name could tell apart.
const SAMPLE: TimerKey = TimerKey(u64::MAX);

/// The operator's console. See the crate's documentation for what it does.
#[derive(Debug, Default)]
pub struct Console {
    commands: Commands,
    sessions: HashMap<ConnId, Session>,
    sampler: Sampler,
}

type Cx<'a> = ServiceCx<'a, Console>;

/// What becomes of a line.
enum Outcome {
    Answer(String),
    Wait(Running, Duration),
    Leave,
}

impl Console {
    /// A console without sessions, over a table of commands that outlives it.
    #[must_use]
    pub fn new(commands: Commands) -> Console {
        Console { commands, ..Console::default() }
    }

    fn open(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        self.sessions.insert(conn, Session::default());
        if self.sampler.start(|| cx.engine().stats()) {
            cx.set_timer(SAMPLE, SAMPLE_EVERY);
        }
        let greeting = concat!("megamux ", env!("CARGO_PKG_VERSION"), ", try: help\n");
        cx.send(conn, ConsoleOut::Text(format!("{greeting}{PROMPT}")));
    }

    fn close(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        self.sessions.remove(&conn);
        cx.cancel_timer(timer(conn));
        if self.sessions.is_empty() {
            self.sampler.stop();
            cx.cancel_timer(SAMPLE);
        }
    }

    fn enter(&mut self, cx: &mut Cx<'_>, conn: ConnId, line: Line) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.leaving || session.enter(line) {
            return self.advance(cx, conn);
        }
        // A front that keeps the credit never gets here.
        tracing::warn!(%conn, most = TYPE_AHEAD, "a console front sends more lines than it may");
        session.leaving = true;
        cx.close(conn, CloseReason::ProtocolError);
    }

    /// Answers the lines at hand, up to one that has to wait.
    fn advance(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        while let Some(line) = self.sessions.get_mut(&conn).and_then(Session::next_line) {
            let outcome = match line {
                Line::TooLong => Outcome::Answer(format!("line too long: at most {MAX_LINE} bytes\n")),
                Line::Text(line) => self.execute(cx, conn, &line),
            };
            let Some(session) = self.sessions.get_mut(&conn) else {
                return;
            };
            match outcome {
                Outcome::Answer(text) => {
                    let text = session.last_part(text);
                    cx.send(conn, ConsoleOut::Answered(text));
                }
                Outcome::Wait(running, most) => {
                    session.running = Some(running);
                    cx.set_timer(timer(conn), most);
                }
                Outcome::Leave => {
                    session.leaving = true;
                    cx.send(conn, ConsoleOut::Text("good-bye\n".to_owned()));
                    cx.close(conn, CloseReason::Requested);
                }
            }
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.ended && session.running.is_none() && !session.leaving {
            session.leaving = true;
            cx.close(conn, CloseReason::PeerClosed);
        }
    }

    fn execute(&self, cx: &mut Cx<'_>, conn: ConnId, line: &str) -> Outcome {
        let columns = self.sessions.get(&conn).map_or(0, Session::columns);
        match self.commands.lookup(line, columns) {
            Lookup::Blank => Outcome::Answer(String::new()),
            Lookup::Directory(text) | Lookup::Unknown(text) => Outcome::Answer(text),
            Lookup::Command(entered) => match entered.action {
                Action::Builtin(builtin) => self.run(cx, conn, builtin, &entered.arguments),
                Action::Service => self.ask_service(cx, conn, entered),
            },
        }
    }

    fn run(&self, cx: &mut Cx<'_>, conn: ConnId, builtin: Builtin, arguments: &str) -> Outcome {
        let query = match builtin {
            Builtin::Help => {
                let columns = self.sessions.get(&conn).map_or(0, Session::columns);
                return Outcome::Answer(self.commands.help(arguments, columns));
            }
            Builtin::Shards => return Outcome::Answer(self.sampler.render(&cx.engine().stats())),
            Builtin::Stats => {
                return Outcome::Answer(stats::render(&cx.engine().stats(), arguments));
            }
            Builtin::Quit => return Outcome::Leave,
            Builtin::ConnsList => Query::list(arguments),
            Builtin::ConnsShow => Query::show(arguments),
            Builtin::ConnsKick => Query::kick(arguments, conn),
        };
        let query = match query {
            Ok(query) => query,
            Err(usage) => return Outcome::Answer(usage),
        };
        let gathering = Gathering::ask(cx.engine(), query, conn, self.request(conn));
        if gathering.is_complete() {
            // No shard takes orders now.
            return Outcome::Answer(gathering.finish(cx.engine()));
        }
        Outcome::Wait(Running::Conns(gathering), SHARD_TIMEOUT)
    }

    fn ask_service(&self, cx: &mut Cx<'_>, conn: ConnId, entered: Entered) -> Outcome {
        let Entered { directory, name, arguments, .. } = entered;
        let command = CommandEntered {
            session: conn.to_bits(),
            request: self.request(conn),
            directory,
            name: name.clone(),
            arguments,
        };
        match cx.publish(command) {
            Err(error) if error.full == error.subscribers => Outcome::Answer(format!("{name}: busy, try again\n")),
            // Where only some mailboxes are full, its own may have had room.
            _ => Outcome::Wait(Running::Service { name }, REPLY_TIMEOUT),
        }
    }

    fn request(&self, conn: ConnId) -> u32 {
        self.sessions.get(&conn).map_or(0, |session| session.request)
    }

    /// Ends the command that runs with the last of its answer, and goes on with the lines behind it.
    fn finish(&mut self, cx: &mut Cx<'_>, conn: ConnId, text: String) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.running = None;
        cx.cancel_timer(timer(conn));
        let text = session.last_part(text);
        cx.send(conn, ConsoleOut::Answered(text));
        self.advance(cx, conn);
    }

    fn interrupt(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.leaving {
            return;
        }
        // Lines wait only behind a command that runs.
        let forgotten = session.forget_waiting();
        if session.running.is_none() {
            return cx.send(conn, ConsoleOut::Text(format!("\n{PROMPT}")));
        }
        self.finish(cx, conn, "\ninterrupted\n".to_owned());
        for _ in 0..forgotten {
            cx.send(conn, ConsoleOut::Answered(String::new()));
        }
    }
}

impl Service for Console {
    type In = ConsoleIn;
    type Out = ConsoleOut;
    const SCOPE: Scope = Scope::Node;

    fn on_input(&mut self, cx: &mut Cx<'_>, conn: ConnId, input: Input<ConsoleIn>) {
        let event = match input {
            Input::Open(_) => return self.open(cx, conn),
            Input::Close(_) => return self.close(cx, conn),
            Input::Frame(event) => event,
        };
        match event {
            ConsoleIn::Line(line) => self.enter(cx, conn, Line::Text(line)),
            ConsoleIn::LineTooLong => self.enter(cx, conn, Line::TooLong),
            ConsoleIn::Interrupt => self.interrupt(cx, conn),
            ConsoleIn::WindowSize { columns, .. } => {
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.resize(columns);
                }
            }
            ConsoleIn::End => {
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.ended = true;
                }
                self.advance(cx, conn);
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, key: TimerKey) {
        if key == SAMPLE {
            self.sampler.sample(cx.engine().stats());
            return cx.set_timer(SAMPLE, SAMPLE_EVERY);
        }
        let conn = ConnId::from_bits(key.0);
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let text = match session.running.take() {
            Some(Running::Conns(gathering)) => gathering.finish(cx.engine()),
            Some(Running::Service { name }) => {
                format!("no answer to {name} within {}\n", text::span(REPLY_TIMEOUT))
            }
            None => return,
        };
        self.finish(cx, conn, text);
    }

    fn on_drain(&mut self, cx: &mut Cx<'_>) {
        for (&conn, session) in &mut self.sessions {
            if !session.leaving {
                session.leaving = true;
                cx.send(conn, ConsoleOut::Text("\nthe engine drains: good-bye\n".to_owned()));
            }
        }
    }
}

impl Subscribe<RegisterCommand> for Console {
    fn on_published(&mut self, _: &mut Cx<'_>, command: &RegisterCommand) {
        if let Err(refused) = self.commands.register(command) {
            let (directory, name) = (command.directory(), command.name());
            tracing::warn!(directory, name, ?refused, "the console does not take a command");
        }
    }
}

impl Subscribe<Reply> for Console {
    fn on_published(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        let conn = ConnId::from_bits(reply.session);
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let Some(Running::Service { .. }) = session.running(reply.request) else {
            return;
        };
        let text = match (reply.status, reply.text.as_str()) {
            (ReplyStatus::Failed, "") => "failed\n".to_owned(),
            (_, text) => text::safe(text),
        };
        if reply.status != ReplyStatus::More {
            return self.finish(cx, conn, text);
        }
        let part = session.part(text);
        if session.is_cut() {
            cx.send(conn, ConsoleOut::Text(part));
            return self.finish(cx, conn, String::new());
        }
        cx.set_timer(timer(conn), REPLY_TIMEOUT);
        cx.send(conn, ConsoleOut::Text(part));
    }
}

impl Subscribe<ConnRows> for Console {
    fn on_published(&mut self, cx: &mut Cx<'_>, answer: &ConnRows) {
        let Some(session) = self.sessions.get_mut(&answer.session) else {
            return;
        };
        let Some(Running::Conns(gathering)) = session.running(answer.request) else {
            return;
        };
        gathering.add(answer);
        if gathering.is_complete()
            && let Some(Running::Conns(gathering)) = session.running.take()
        {
            let text = gathering.finish(cx.engine());
            self.finish(cx, answer.session, text);
        }
    }
}

fn timer(conn: ConnId) -> TimerKey {
    TimerKey(conn.to_bits())
}
