//! What travels between a console and its fronts, and what shards tell the console.
//!
//! Owns the credit between the two: a front holds at most [`TYPE_AHEAD`] lines that are not answered yet, so that neither side
//! needs a queue without bound.

use megamux_engine::{ConnId, ConnRow, ShardId};

/// Lines a front may have sent without an answer. It leaves the rest in the connection, where TCP holds the peer back.
/// Small, because every answer may be as long as [`MAX_OUTPUT`](crate::MAX_OUTPUT); large enough for a pasted handful.
pub const TYPE_AHEAD: u8 = 8;

/// From a front to the console. Each line and each wish for completions takes one of [`TYPE_AHEAD`] places, until it is
/// answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsoleIn {
    /// A line was entered.
    Line(String),
    /// A line was entered that is too long to be a command.
    LineTooLong,
    /// The operator asks how this beginning of a line may go on.
    Complete(String),
    /// The operator wants no more of the command that runs, nor of the lines typed behind it.
    Interrupt,
    /// The operator's window has this size now, in characters; 0 stands for unknown.
    WindowSize {
        /// The width.
        columns: u16,
        /// The height.
        rows: u16,
    },
    /// No more lines will come: the session ends when those that came are answered.
    End,
}

/// From the console to a front. Text ends its lines with line feeds, and holds no other control characters but tabs and
/// [marks](mark).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsoleOut {
    /// Text to show.
    Text(String),
    /// Text of a command that goes on until it is interrupted: to show as it comes. Any key interrupts.
    Live(String),
    /// The same, to show in the place of what was shown last.
    Screen(String),
    /// The lines that were entered before are to be shown: the front has them.
    History,
    /// The last of the text that answers the oldest unanswered line: its place is free again.
    Answered {
        /// The text.
        text: String,
        /// What to ask for next.
        prompt: Prompt,
    },
    /// How the line may go on; frees its place.
    Completions(Completions),
    /// The operator is asked for something, without having entered a line.
    Prompt(Prompt),
}

/// What an operator is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// Nothing: more will follow, or the end.
    Nothing,
    /// A command, in the directory with this path; the root's is empty.
    Command(String),
    /// A user's name.
    User,
    /// A password: it is not shown and not remembered.
    Password,
}

impl Prompt {
    /// What stands in front of the operator's cursor.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Prompt::Nothing => String::new(),
            Prompt::Command(directory) if directory.is_empty() => "megamux> ".to_owned(),
            Prompt::Command(directory) => format!("megamux {directory}> "),
            Prompt::User => "login: ".to_owned(),
            Prompt::Password => "password: ".to_owned(),
        }
    }
}

/// The ways a line may go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Completions {
    /// Where in the line the words belong, in bytes.
    pub from: usize,
    /// Words to stand there. One that is complete ends with a space, a directory with a slash.
    pub words: Vec<String>,
    /// There are more than these.
    pub cut: bool,
}

/// Marks in text: a front turns them into colours, or leaves them out.
pub mod mark {
    /// From here on text is a heading.
    pub const HEADING: char = '\u{e}';
    /// From here on text is like any other.
    pub const PLAIN: char = '\u{f}';
    /// From here on text tells that something is well.
    pub const GOOD: char = '\u{11}';
    /// From here on text tells that something is wrong.
    pub const BAD: char = '\u{12}';
    /// From here on text is beside the point.
    pub const FAINT: char = '\u{13}';

    /// Whether a character is a mark.
    #[must_use]
    pub const fn is(c: char) -> bool {
        matches!(c, HEADING | PLAIN | GOOD | BAD | FAINT)
    }
}

/// One shard's part of the answer to a command about connections. Published by the console for itself: shards answer on
/// their own threads.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnRows {
    /// The session that asked.
    pub session: ConnId,
    /// Which of its commands it was.
    pub request: u32,
    /// The shard that answers.
    pub shard: ShardId,
    /// The rows that were asked for.
    pub rows: Vec<ConnRow>,
    /// How many connections the shard looked at for them.
    pub searched: usize,
    /// How many connections it has.
    pub total: usize,
}

/// A shard's answer about one connection; published like [`ConnRows`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnFound {
    /// The session that asked.
    pub session: ConnId,
    /// Which of its commands it was.
    pub request: u32,
    /// The connection, if it exists.
    pub row: Option<ConnRow>,
}
