//! From lines to answers: what waits, what runs, what is repeated, and how each of them ends.

use std::time::Duration;

use megamux_engine::{CloseReason, ConnId};
use megamux_telnet::MAX_LINE;
use zeroize::Zeroizing;

use super::{Console, Cx, LIVE_EVERY, REPLY_TIMEOUT, timer};
use crate::builtin::watch::Watch;
use crate::event::{Completions, ConsoleOut, Prompt, mark};
use crate::session::{Door, Line, Running, Session};
use crate::text;

/// What becomes of a line.
pub(super) enum Outcome {
    Answer(String),
    Completions(Completions),
    Wait(Running, Duration),
    /// Goes on until it is interrupted, and begins with this.
    Live(Running, String),
    Watch(Watch),
    /// The front shows the lines it has.
    History,
    Leave,
}

impl Console {
    /// Answers the lines at hand, up to one that has to wait.
    pub(super) fn advance(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        while let Some(line) = self.sessions.get_mut(&conn).and_then(|session| session.peek()?.next_line()) {
            if self.is_dismissed(cx, conn) {
                return;
            }
            let number = self.number();
            if let Some(session) = self.sessions.get_mut(&conn) {
                session.used().request = number;
            }
            let outcome = match line {
                Line::TooLong => Outcome::Answer(format!("line too long: at most {MAX_LINE} bytes\n")),
                Line::Begun(line) => self.complete(cx, conn, &line),
                // It may be a password.
                Line::Text(line) => self.execute(cx, conn, &Zeroizing::new(line)),
            };
            self.settle(cx, conn, outcome);
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if let Some(used) = session.peek() {
            let idle = used.running.is_none() && used.watch.is_none();
            if used.ended && idle && !used.leaving {
                used.leaving = true;
                cx.close(conn, CloseReason::PeerClosed);
            }
        }
        session.release();
    }

    fn settle(&mut self, cx: &mut Cx<'_>, conn: ConnId, outcome: Outcome) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let used = session.used();
        let watched = used.watch.is_some();
        match outcome {
            Outcome::Answer(text) => self.answer(cx, conn, text),
            Outcome::Wait(running, most) => {
                used.running = Some(running);
                cx.set_timer(timer(conn), most);
            }
            _ if watched => {
                used.watch = None;
                self.answer(cx, conn, "that cannot be watched\n".to_owned());
            }
            Outcome::Completions(completions) => cx.send(conn, ConsoleOut::Completions(completions)),
            Outcome::Live(running, first) => {
                used.running = Some(running);
                cx.set_timer(timer(conn), LIVE_EVERY);
                cx.send(conn, ConsoleOut::Live(first));
            }
            Outcome::Watch(watch) => {
                used.watch = Some(Box::new(watch));
                self.repeat(cx, conn);
            }
            Outcome::History => {
                cx.send(conn, ConsoleOut::History);
                self.answer(cx, conn, String::new());
            }
            Outcome::Leave => {
                used.leaving = true;
                cx.send(conn, ConsoleOut::Text("good-bye\n".to_owned()));
                cx.close(conn, CloseReason::Requested);
            }
        }
    }

    /// The last of an answer: to the front, or to what is watched.
    fn answer(&mut self, cx: &mut Cx<'_>, conn: ConnId, text: String) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let used = session.used();
        let text = used.last_part(text);
        if let Some(watch) = &mut used.watch {
            watch.said.push_str(&text);
            let (every, line) = (text::span(watch.every), text::safe_word(&watch.line, 60));
            let (faint, plain) = (mark::FAINT, mark::PLAIN);
            let said = std::mem::take(&mut watch.said);
            cx.set_timer(timer(conn), watch.every);
            return cx.send(conn, ConsoleOut::Screen(format!("{faint}every {every}: {line}{plain}\n{said}")));
        }
        let prompt = session.prompt();
        cx.send(conn, ConsoleOut::Answered { text, prompt });
        self.arm_login(cx, conn);
    }

    /// Does once more what is watched.
    fn repeat(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let number = self.number();
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        let Some(line) = used.watch.as_ref().map(|watch| watch.line.clone()) else {
            return;
        };
        used.begin();
        used.request = number;
        let outcome = self.execute(cx, conn, &line);
        self.settle(cx, conn, outcome);
    }

    /// Ends the command that runs with the last of its answer, and goes on with the lines behind it.
    pub(super) fn finish(&mut self, cx: &mut Cx<'_>, conn: ConnId, text: String) {
        self.stop(cx, conn);
        self.answer(cx, conn, text);
        self.advance(cx, conn);
    }

    /// The line was completed.
    pub(super) fn completed(&mut self, cx: &mut Cx<'_>, conn: ConnId, completions: Completions) {
        self.stop(cx, conn);
        cx.send(conn, ConsoleOut::Completions(completions));
        self.advance(cx, conn);
    }

    /// Takes away what runs.
    fn stop(&mut self, cx: &mut Cx<'_>, conn: ConnId) -> Option<Running> {
        cx.cancel_timer(timer(conn));
        let running = self.sessions.get_mut(&conn)?.peek()?.running.take()?;
        self.stopped(&running);
        Some(running)
    }

    /// Whether something is shown until a key is typed.
    pub(super) fn is_live(&mut self, conn: ConnId) -> bool {
        let used = self.sessions.get_mut(&conn).and_then(Session::peek);
        used.is_some_and(|used| {
            used.watch.is_some() || matches!(used.running, Some(Running::Events(_) | Running::Tail(_)))
        })
    }

    /// The key was typed.
    pub(super) fn end_live(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        self.stop(cx, conn);
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        used.watch = None;
        // In line mode the key was a line: an empty one has done its work.
        if used.take_blank() {
            cx.send(conn, ConsoleOut::Answered { text: String::new(), prompt: Prompt::Nothing });
        }
        self.answer(cx, conn, String::new());
        self.advance(cx, conn);
    }

    pub(super) fn interrupt(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.is_leaving() {
            return;
        }
        // Lines wait only behind a command that runs. Each is answered, or its place would never be free again.
        let forgotten = session.peek().map(|used| used.forget_waiting()).unwrap_or_default();
        for line in forgotten {
            cx.send(
                conn,
                match line {
                    Line::Begun(_) => ConsoleOut::Completions(Completions::default()),
                    _ => ConsoleOut::Answered { text: String::new(), prompt: Prompt::Nothing },
                },
            );
        }
        if self.is_live(conn) {
            return self.end_live(cx, conn);
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        match session.peek().and_then(|used| used.running.as_ref()) {
            Some(Running::Completing { .. }) => self.completed(cx, conn, Completions::default()),
            // A wrong password costs its time.
            Some(Running::Verifying { .. } | Running::Refused { .. }) => {}
            Some(_) => self.finish(cx, conn, "\ninterrupted\n".to_owned()),
            None => {
                if let Some(used) = session.peek() {
                    used.back_to_user();
                }
                let prompt = session.prompt();
                if matches!(prompt, Prompt::Command(_)) {
                    cx.send(conn, ConsoleOut::Text("\n".to_owned()));
                }
                cx.send(conn, ConsoleOut::Prompt(prompt));
            }
        }
    }

    /// A session's timer is due, or what it waited for is there.
    pub(super) fn session_timer(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if self.is_dismissed(cx, conn) {
            return;
        }
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        let shown = match &mut used.running {
            Some(Running::Events(events)) => {
                events.look(cx.engine().stats());
                events.take()
            }
            Some(Running::Tail(tail)) => tail.take(),
            _ => return self.time_is_up(cx, conn),
        };
        if let Some(shown) = shown {
            cx.send(conn, ConsoleOut::Live(shown));
        }
        cx.set_timer(timer(conn), LIVE_EVERY);
    }

    fn time_is_up(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let running = self.stop(cx, conn);
        let engine = cx.engine();
        let text = match running {
            Some(Running::Conns(gathering)) => gathering.finish(engine),
            Some(Running::Conn(single)) => single.silent(),
            Some(Running::Service { name }) => format!("no answer to {name} within {}\n", text::span(REPLY_TIMEOUT)),
            Some(Running::Completing { from, gathering }) => {
                let words = gathering.map(|gathering| gathering.names()).unwrap_or_default();
                return self.completed(cx, conn, Completions { from, words, cut: false });
            }
            Some(Running::Verifying { failed, .. }) => {
                return self.refused(cx, conn, "passwords cannot be checked now\n", failed);
            }
            Some(Running::Refused { said, failed }) => return self.refused(cx, conn, &said, failed),
            Some(Running::Events(_) | Running::Tail(_)) => return,
            None if self.is_live(conn) => return self.repeat(cx, conn),
            None => return self.out_of_patience(cx, conn),
        };
        self.finish(cx, conn, text);
    }
}

impl crate::session::Used {
    /// Takes the first line that waits, if there is nothing in it.
    fn take_blank(&mut self) -> bool {
        self.take_if(|line| matches!(line, Line::Text(text) if text.trim().is_empty())).is_some()
    }

    /// Whoever is not in begins anew.
    fn back_to_user(&mut self) {
        if let Door::Password { failed, .. } = self.door {
            self.door = Door::User { failed };
        }
    }
}
