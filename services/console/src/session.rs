//! One operator's session: who it is, the lines that wait, the command that runs, and what was shown of its answer.
//!
//! Invariants: at most one command runs, and lines behind it wait in order, at most [`TYPE_AHEAD`]; no answer shows more than
//! [`MAX_OUTPUT`] bytes; an idle session of a console without users is two words, the rest exists while it is used.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use megamux_telnet::console::Role;

use crate::builtin::conns::{Gathering, Single};
use crate::builtin::events::Events;
use crate::builtin::log::Tail;
use crate::builtin::watch::Watch;
use crate::event::{Prompt, TYPE_AHEAD};
use crate::text;

/// The most bytes of one answer; the rest is cut, and that is said. [`TYPE_AHEAD`] answers of it fit a send queue of the
/// engine's default size twice, so that reading slowly pauses a session and does not end it.
pub const MAX_OUTPUT: usize = 256 * 1024;

/// The width of a window whose size is not known, in characters.
const DEFAULT_COLUMNS: u16 = 80;

#[derive(Debug, Default)]
pub(crate) struct Session {
    used: Option<Box<Used>>,
    columns: u16,
}

/// What exists only while it is used.
#[derive(Debug, Default)]
pub(crate) struct Used {
    waiting: VecDeque<Line>,
    pub(crate) running: Option<Running>,
    /// The number of the command that runs, or ran last: what comes for an earlier one is too late.
    pub(crate) request: u32,
    /// What was shown of the running command's answer.
    shown: Shown,
    /// The directory the operator is in, without slashes at its ends.
    pub(crate) directory: String,
    pub(crate) watch: Option<Box<Watch>>,
    pub(crate) door: Door,
    /// Where the operator comes from, if that matters.
    pub(crate) source: Option<IpAddr>,
    /// Until when it must have logged in.
    pub(crate) login_until: Option<megamux_engine::Time>,
    /// No more lines will come.
    pub(crate) ended: bool,
    /// Its connection is being closed: nothing is done for it any more.
    pub(crate) leaving: bool,
}

/// Whether the operator may enter commands.
#[derive(Debug, Default)]
pub(crate) enum Door {
    /// Nobody asks who is there.
    #[default]
    Open,
    /// A name is asked for; so many passwords were wrong.
    User {
        failed: u32,
    },
    Password {
        user: String,
        failed: u32,
    },
    /// Somebody is in.
    In {
        user: Arc<str>,
        role: Role,
    },
}

/// A line as the front sent it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Text(String),
    TooLong,
    /// The beginning of one that is to be completed.
    Begun(String),
}

/// A command whose answer is yet to come.
#[derive(Debug)]
pub(crate) enum Running {
    /// Another service's.
    Service {
        name: String,
    },
    Conns(Gathering),
    Conn(Single),
    /// Words for the line, from this byte on, of connections or of another service.
    Completing {
        from: usize,
        gathering: Option<Gathering>,
    },
    Events(Box<Events>),
    Tail(Tail),
    /// A password is compared, and not answered before this time.
    Verifying {
        user: String,
        failed: u32,
        not_before: megamux_engine::Time,
    },
    /// A password was not right, or not compared: this is said when enough time has passed.
    Refused {
        said: String,
        failed: u32,
    },
}

#[derive(Debug, Default)]
struct Shown {
    bytes: usize,
    /// The last character was not a line's end.
    mid_line: bool,
    cut: bool,
}

impl Session {
    pub(crate) fn used(&mut self) -> &mut Used {
        self.used.get_or_insert_default()
    }

    /// What is used, if anything is.
    pub(crate) fn peek(&mut self) -> Option<&mut Used> {
        self.used.as_deref_mut()
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.used.as_ref().is_some_and(|used| used.leaving)
    }

    /// Gives back what is not used any more.
    pub(crate) fn release(&mut self) {
        if self.used.as_ref().is_some_and(|used| used.is_nothing()) {
            self.used = None;
        }
    }

    pub(crate) fn resize(&mut self, columns: u16) {
        self.columns = columns;
    }

    /// The width of the operator's window.
    pub(crate) fn columns(&self) -> usize {
        match self.columns {
            0 => usize::from(DEFAULT_COLUMNS),
            columns => usize::from(columns),
        }
    }

    pub(crate) fn directory(&self) -> &str {
        self.used.as_ref().map_or("", |used| &used.directory)
    }

    /// What the operator may do.
    pub(crate) fn role(&self) -> Role {
        match self.used.as_ref().map(|used| &used.door) {
            Some(Door::In { role, .. }) => *role,
            _ => Role::Admin,
        }
    }

    /// Whether the operator may enter commands.
    pub(crate) fn is_in(&self) -> bool {
        !matches!(self.used.as_ref().map(|used| &used.door), Some(Door::User { .. } | Door::Password { .. }))
    }

    /// The number of the command that runs.
    pub(crate) fn request(&self) -> u32 {
        self.used.as_ref().map_or(0, |used| used.request)
    }

    /// The operator's name; empty if nobody asks.
    pub(crate) fn user(&self) -> &str {
        match self.used.as_ref().map(|used| &used.door) {
            Some(Door::In { user, .. }) => user,
            _ => "",
        }
    }

    pub(crate) fn prompt(&self) -> Prompt {
        match self.used.as_ref().map(|used| &used.door) {
            Some(Door::User { .. }) => Prompt::User,
            Some(Door::Password { .. }) => Prompt::Password,
            _ => Prompt::Command(self.directory().to_owned()),
        }
    }
}

impl Used {
    fn is_nothing(&self) -> bool {
        let quiet = self.waiting.is_empty() && self.running.is_none() && self.watch.is_none();
        quiet && self.directory.is_empty() && matches!(self.door, Door::Open) && !self.ended && !self.leaving
    }

    /// Takes a line in; `false` if the front sends more than it has places for.
    pub(crate) fn enter(&mut self, line: Line) -> bool {
        let busy = self.running.is_some() || self.watch.is_some();
        let room = self.waiting.len() + usize::from(busy) < usize::from(TYPE_AHEAD);
        if room {
            self.waiting.push_back(line);
        }
        room
    }

    /// The next line, once nothing runs.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        if self.running.is_some() || self.watch.is_some() || self.leaving {
            return None;
        }
        let line = self.waiting.pop_front()?;
        self.begin();
        Some(line)
    }

    /// An answer begins.
    pub(crate) fn begin(&mut self) {
        self.shown = Shown::default();
    }

    /// Takes the first line that waits, if it is one of these.
    pub(crate) fn take_if(&mut self, wanted: impl FnOnce(&Line) -> bool) -> Option<Line> {
        self.waiting.front().is_some_and(wanted).then(|| self.waiting.pop_front())?
    }

    /// Forgets the lines that wait.
    pub(crate) fn forget_waiting(&mut self) -> VecDeque<Line> {
        std::mem::take(&mut self.waiting)
    }

    /// The command that runs, if it is the one with this number.
    pub(crate) fn running(&mut self, request: u32) -> Option<&mut Running> {
        self.running.as_mut().filter(|_| self.request == request)
    }

    /// Part of the answer, as far as there is room for it.
    pub(crate) fn part(&mut self, mut text: String) -> String {
        if self.shown.cut {
            return String::new();
        }
        self.shown.cut = text::cut(&mut text, MAX_OUTPUT - self.shown.bytes);
        self.shown.bytes += text.len();
        if let Some(last) = text.bytes().last() {
            self.shown.mid_line = last != b'\n';
        }
        text
    }

    /// Whether an answer was cut: no more of it will be shown.
    pub(crate) fn is_cut(&self) -> bool {
        self.shown.cut
    }

    /// The last part of the answer, which ends its line.
    pub(crate) fn last_part(&mut self, text: String) -> String {
        let mut text = self.part(text);
        if self.shown.mid_line {
            text.push('\n');
        }
        if self.shown.cut {
            text.push_str(&format!("[cut at {}]\n", text::bytes(MAX_OUTPUT as u64)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_two_words() {
        assert_eq!(size_of::<Session>(), 16);
        let mut session = Session::default();
        session.used().enter(Line::Text(String::new()));
        assert_eq!(session.used().next_line(), Some(Line::Text(String::new())));
        session.release();
        assert!(session.peek().is_none());
    }
}
