//! One operator's session: the lines that wait, the command that runs, and what was shown of its answer.
//!
//! Invariants: at most one command runs, and lines behind it wait in order, at most [`TYPE_AHEAD`]; no answer shows more than
//! [`MAX_OUTPUT`] bytes.

use std::collections::VecDeque;

use crate::builtin::conns::Gathering;
use crate::event::TYPE_AHEAD;
use crate::text;

/// The most bytes of one answer; the rest is cut, and that is said. [`TYPE_AHEAD`] answers of it fit a send queue of the
/// engine's default size twice, so that reading slowly pauses a session and does not end it.
pub const MAX_OUTPUT: usize = 256 * 1024;

/// What stands in front of the operator's cursor.
pub(crate) const PROMPT: &str = "megamux> ";

/// The width of a window whose size is not known, in characters.
const DEFAULT_COLUMNS: u16 = 80;

#[derive(Debug, Default)]
pub(crate) struct Session {
    waiting: VecDeque<Line>,
    pub(crate) running: Option<Running>,
    /// Counts the commands: what comes for an earlier one is too late.
    pub(crate) request: u32,
    /// What was shown of the running command's answer.
    shown: Shown,
    columns: u16,
    /// No more lines will come.
    pub(crate) ended: bool,
    /// Its connection is being closed: nothing is done for it any more.
    pub(crate) leaving: bool,
}

/// A line as the front sent it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Text(String),
    TooLong,
}

/// A command whose answer is yet to come.
#[derive(Debug)]
pub(crate) enum Running {
    /// Another service's.
    Service {
        name: String,
    },
    Conns(Gathering),
}

#[derive(Debug, Default)]
struct Shown {
    bytes: usize,
    /// The last character was not a line's end.
    mid_line: bool,
    cut: bool,
}

impl Session {
    /// Takes a line in; `false` if the front sends more than it has places for.
    pub(crate) fn enter(&mut self, line: Line) -> bool {
        let unanswered = self.waiting.len() + usize::from(self.running.is_some());
        let room = unanswered < usize::from(TYPE_AHEAD);
        if room {
            self.waiting.push_back(line);
        }
        room
    }

    /// The next line, once nothing runs.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        if self.running.is_some() || self.leaving {
            return None;
        }
        let line = self.waiting.pop_front()?;
        self.request = self.request.wrapping_add(1);
        self.shown = Shown::default();
        Some(line)
    }

    /// Forgets the lines that wait; says how many there were.
    pub(crate) fn forget_waiting(&mut self) -> usize {
        let waiting = self.waiting.len();
        self.waiting.clear();
        waiting
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

    /// The last part of the answer, with the prompt behind it on a line of its own.
    pub(crate) fn last_part(&mut self, text: String) -> String {
        let mut text = self.part(text);
        if self.shown.mid_line {
            text.push('\n');
        }
        if self.shown.cut {
            text.push_str(&format!("[cut at {}]\n", text::bytes(MAX_OUTPUT as u64)));
        }
        text + PROMPT
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
}
