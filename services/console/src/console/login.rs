//! Logging in: a name, a password, and what a wrong one costs.
//!
//! Invariants: nobody who is not in enters a command; an answer to a password comes no sooner than its time, whatever was
//! wrong with it and whether the name exists; [`MAX_FAILURES`] of them end the session, and so does [`LOGIN_TIME`].

use std::net::IpAddr;
use std::time::Duration;

use megamux_engine::{CloseReason, ConnId};

use super::answer::Outcome;
use super::{Console, Cx, timer};
use crate::access::MAX_USER_NAME;
use crate::access::verifier::{MAX_VERIFYING, Verified, Verify};
use crate::event::ConsoleOut;
use crate::session::{Door, Running, Session, Used};
use crate::text;

/// Wrong passwords that a session survives, and one.
pub const MAX_FAILURES: u32 = 3;

/// How long a session may take to log in.
pub const LOGIN_TIME: Duration = Duration::from_secs(120);

/// How long a wrong password takes to be answered; the next one takes twice as long.
const PENALTY: Duration = Duration::from_secs(1);

/// How long comparing a password may take, with those before it.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(15);

/// A session begins at the door.
pub(super) fn ask(cx: &mut Cx<'_>, conn: ConnId, used: &mut Used, source: Option<IpAddr>) {
    used.door = Door::User { failed: 0 };
    used.source = source;
    used.login_until = Some(cx.now() + LOGIN_TIME);
    cx.set_timer(timer(conn), LOGIN_TIME);
}

impl Console {
    /// A line of somebody who is not in. `None` if they are.
    pub(super) fn knock(&mut self, cx: &mut Cx<'_>, conn: ConnId, line: &str) -> Option<Outcome> {
        let used = self.sessions.get_mut(&conn)?.peek()?;
        match std::mem::take(&mut used.door) {
            door @ (Door::Open | Door::In { .. }) => {
                used.door = door;
                None
            }
            Door::User { failed } => {
                let mut user = line.trim().to_owned();
                // No user has a longer name.
                text::cut(&mut user, MAX_USER_NAME + 1);
                used.door = if user.is_empty() { Door::User { failed } } else { Door::Password { user, failed } };
                Some(Outcome::Answer(String::new()))
            }
            Door::Password { user, failed } => {
                used.door = Door::User { failed };
                let (request, source) = (used.request, used.source);
                Some(self.compare(
                    cx,
                    Verify { session: conn, request, user, password: line.to_owned().into() },
                    source,
                    failed,
                ))
            }
        }
    }

    fn compare(&mut self, cx: &mut Cx<'_>, verify: Verify, source: Option<IpAddr>, failed: u32) -> Outcome {
        let penalty = PENALTY * (1 << failed.min(4));
        let refuse = |said: String| Outcome::Wait(Running::Refused { said, failed }, penalty);
        if let Err(wait) = self.limiter.take(cx.now(), source) {
            tracing::warn!(conn = %verify.session, user = %verify.user, "too many passwords are tried");
            return refuse(format!("too many attempts, try again in {}\n", text::span(wait)));
        }
        let user = verify.user.clone();
        let taken = self.verifying < MAX_VERIFYING && matches!(cx.publish(verify), Ok(1..));
        if !taken {
            return refuse("passwords cannot be checked now\n".to_owned());
        }
        self.verifying += 1;
        Outcome::Wait(Running::Verifying { user, failed, not_before: cx.now() + penalty }, VERIFY_TIMEOUT)
    }

    pub(super) fn verified(&mut self, cx: &mut Cx<'_>, verified: &Verified) {
        let conn = verified.session;
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        let Some(Running::Verifying { user, failed, not_before }) = used.running(verified.request) else {
            return;
        };
        let (user, failed, not_before) = (std::mem::take(user), *failed, *not_before);
        let role = self.parts.roster.access().role(&user).filter(|_| verified.right);
        let Some(role) = role else {
            self.verifying -= 1;
            tracing::warn!(%conn, user = %user, "a password was wrong");
            used.running = Some(Running::Refused { said: "login incorrect\n".to_owned(), failed });
            return cx.set_timer(timer(conn), not_before.since(cx.now()));
        };
        self.limiter.give_back(used.source);
        tracing::info!(%conn, user = %user, %role, "an operator logged in");
        used.login_until = None;
        used.door = Door::In { user: user.as_str().into(), role };
        self.finish(cx, conn, format!("welcome {user}, {role}, try: help\n"));
    }

    /// Judges anew who is in: the list of operators may be another. Whether the session is over because of that.
    pub(super) fn is_dismissed(&mut self, cx: &mut Cx<'_>, conn: ConnId) -> bool {
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return false;
        };
        let Door::In { user, role } = &mut used.door else {
            return false;
        };
        if let Some(now) = self.parts.roster.access().role(user) {
            *role = now;
            return false;
        }
        if !std::mem::replace(&mut used.leaving, true) {
            tracing::warn!(%conn, user = %user, "an operator is none any more");
            cx.send(conn, ConsoleOut::Text("\nyou are no operator any more: good-bye\n".to_owned()));
            cx.close(conn, CloseReason::Requested);
        }
        true
    }

    /// A password was refused, and has cost its time.
    pub(super) fn refused(&mut self, cx: &mut Cx<'_>, conn: ConnId, said: &str, failed: u32) {
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        let failed = failed + 1;
        used.door = Door::User { failed };
        if failed < MAX_FAILURES {
            return self.finish(cx, conn, said.to_owned());
        }
        used.leaving = true;
        cx.send(conn, ConsoleOut::Text(said.to_owned()));
        cx.close(conn, CloseReason::HandshakeTimeout);
    }

    /// Who is not in has as long as is left.
    pub(super) fn arm_login(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let used = self.sessions.get_mut(&conn).and_then(Session::peek);
        if let Some(until) = used.and_then(|used| used.login_until) {
            cx.set_timer(timer(conn), until.since(cx.now()));
        }
    }

    pub(super) fn out_of_patience(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let Some(used) = self.sessions.get_mut(&conn).and_then(Session::peek) else {
            return;
        };
        if used.login_until.is_some() && !used.leaving {
            used.leaving = true;
            cx.send(conn, ConsoleOut::Text("\nnobody logged in: good-bye\n".to_owned()));
            cx.close(conn, CloseReason::HandshakeTimeout);
        }
    }
}
