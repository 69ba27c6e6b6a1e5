//! What travels between a console and its fronts, and what shards tell the console.
//!
//! Owns the credit between the two: a front holds at most [`TYPE_AHEAD`] lines that are not answered yet, so that neither side
//! needs a queue without bound.

use megamux_engine::{ConnId, ConnRow, ShardId};

/// Lines a front may have sent without an answer. It leaves the rest in the connection, where TCP holds the peer back.
/// Small, because every answer may be as long as [`MAX_OUTPUT`](crate::MAX_OUTPUT); large enough for a pasted handful.
pub const TYPE_AHEAD: u8 = 8;

/// From a front to the console. Each line takes one of [`TYPE_AHEAD`] places, until it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsoleIn {
    /// A line was entered.
    Line(String),
    /// A line was entered that is too long to be a command.
    LineTooLong,
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

/// From the console to a front. Text ends its lines with line feeds, and holds no other control characters but tabs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsoleOut {
    /// Text to show.
    Text(String),
    /// The last of the text that answers the oldest unanswered line: its place is free again.
    Answered(String),
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
