//! `conns list`, `conns find`, `conns show`, `conns kick`: questions that shards answer for themselves.
//!
//! Owns the collecting of the answers. Shards answer on their own threads by publishing [`ConnRows`]; the console adds them up
//! until all are there or time is up. Invariants: a shard is asked for a bounded number of rows and does nothing there
//! that takes longer than looking them over; who did not answer is said.

use std::fmt::Write;
use std::sync::Arc;

use megamux_engine::{CloseReason, ConnId, ConnRow, Handle, Origin, ShardId};

use crate::event::{ConnFound, ConnRows};
use crate::text::{self, Align, Table};

/// Rows that `conns list` shows unless told otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Rows it shows at most. An answer is bounded anyway; this one is cut at a row.
const MAX_LIMIT: usize = 1000;
/// Connections per shard that are looked through for a text. A shard copies a row of each in one go, about 2 MiB for all,
/// and serves nobody meanwhile.
const SEARCHED: usize = 16 * 1024;
/// Names of connections that a line may be completed by.
const MAX_NAMES: usize = 128;

/// What is asked of all shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Query {
    List {
        limit: usize,
    },
    Find {
        text: Arc<str>,
        limit: usize,
    },
    /// Names that begin so, to complete a line.
    Names {
        prefix: Arc<str>,
    },
}

/// What is asked of the shard that has a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Single {
    Show(ConnId),
    Kick(ConnId),
    /// The session's own, behind what else is known of it.
    Own(String),
}

impl Query {
    /// `[--limit N]`
    pub(crate) fn list(arguments: &str) -> Result<Query, String> {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let limit = if words.is_empty() { Some(DEFAULT_LIMIT) } else { limit(&words) };
        let usage = || format!("usage: conns list [--limit N], N from 1 to {MAX_LIMIT}\n");
        Ok(Query::List { limit: limit.ok_or_else(usage)? })
    }

    /// `TEXT [--limit N]`
    pub(crate) fn find(arguments: &str) -> Result<Query, String> {
        let usage = || format!("usage: conns find TEXT [--limit N], N from 1 to {MAX_LIMIT}\n");
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let (text, rest) = words.split_first().ok_or_else(usage)?;
        let limit = if rest.is_empty() { Some(DEFAULT_LIMIT) } else { limit(rest) };
        Ok(Query::Find { text: (*text).into(), limit: limit.ok_or_else(usage)? })
    }

    pub(crate) fn names(prefix: &str) -> Query {
        Query::Names { prefix: prefix.into() }
    }

    fn most_rows(&self) -> usize {
        match self {
            Query::List { limit } => *limit,
            Query::Find { .. } | Query::Names { .. } => SEARCHED,
        }
    }

    fn limit(&self) -> usize {
        match self {
            Query::List { limit } | Query::Find { limit, .. } => *limit,
            Query::Names { .. } => MAX_NAMES,
        }
    }

    fn wants(&self, engine: &Handle, row: &ConnRow) -> bool {
        match self {
            Query::List { .. } => true,
            Query::Names { prefix } => row.info.id.to_string().starts_with(&**prefix),
            Query::Find { text, .. } => {
                let said = [peer(row), row.info.id.to_string(), origin(row), endpoint(engine, row)];
                row.state.contains(&**text) || said.iter().any(|said| said.contains(&**text))
            }
        }
    }
}

fn limit(words: &[&str]) -> Option<usize> {
    match words {
        ["--limit", number] => number.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)),
        _ => None,
    }
}

impl Single {
    /// `ID`
    pub(crate) fn show(arguments: &str) -> Result<Single, String> {
        let id = arguments.parse().map_err(|_| "usage: conns show ID, as in conns list\n")?;
        Ok(Single::Show(id))
    }

    /// `ID`, but not of the session that asks.
    pub(crate) fn kick(arguments: &str, session: ConnId) -> Result<Single, String> {
        match arguments.parse() {
            Ok(id) if id == session => Err("that is this session: quit ends it\n".to_owned()),
            Ok(id) => Ok(Single::Kick(id)),
            Err(_) => Err("usage: conns kick ID, as in conns list\n".to_owned()),
        }
    }

    /// Asks the connection's shard.
    pub(crate) fn ask(&self, engine: &Handle, session: ConnId, request: u32) -> Result<(), String> {
        let id = match self {
            Single::Show(id) | Single::Kick(id) => *id,
            Single::Own(_) => session,
        };
        let bus = engine.clone();
        let asked = engine.connection(id, move |row| {
            // Where the console's mailbox is full, its deadline says so.
            let _ = bus.publish(ConnFound { session, request, row });
        });
        asked.map_err(|_| if usize::from(id.shard().0) < engine.shards() { busy(id) } else { not_found() })
    }

    /// What to say about the connection. A kick happens here.
    pub(crate) fn finish(&self, engine: &Handle, row: Option<&ConnRow>) -> String {
        match (self, row) {
            (Single::Own(known), Some(row)) => format!("{known}, from {}\n", peer(row)),
            (Single::Own(known), None) => format!("{known}\n"),
            (_, None) => not_found(),
            (Single::Show(id), Some(row)) => details(engine, id.shard(), row),
            (Single::Kick(id), Some(row)) => match engine.close(*id, CloseReason::Kicked) {
                Ok(()) => format!("kicked {id}, peer {}\n", peer(row)),
                Err(error) => format!("not kicked: {error}\n"),
            },
        }
    }

    /// What to say if the shard does not answer.
    pub(crate) fn silent(&self) -> String {
        match self {
            Single::Show(id) | Single::Kick(id) => busy(*id),
            Single::Own(known) => format!("{known}\n"),
        }
    }
}

fn not_found() -> String {
    "no such connection\n".to_owned()
}

fn busy(id: ConnId) -> String {
    format!("no answer from shard {}\n", id.shard())
}

/// The answers to one query, as they come.
#[derive(Debug)]
pub(crate) struct Gathering {
    query: Query,
    /// How many shards will answer.
    asked: usize,
    answered: Vec<ShardId>,
    rows: Vec<(ShardId, ConnRow)>,
    /// Connections of the shards that answered, and how many of them were looked at.
    total: usize,
    searched: usize,
}

impl Gathering {
    /// Asks every shard.
    pub(crate) fn ask(engine: &Handle, query: Query, session: ConnId, request: u32) -> Gathering {
        let bus = engine.clone();
        let wanted = query.clone();
        let asked = engine.connections(query.most_rows(), move |answer| {
            let fitting = answer.rows.iter().filter(|row| wanted.wants(&bus, row));
            let rows = fitting.take(MAX_LIMIT).copied().collect();
            let rows = ConnRows {
                session,
                request,
                shard: answer.shard,
                rows,
                searched: answer.rows.len(),
                total: answer.total,
            };
            // The console's mailbox may be full: then this shard counts as one that did not answer.
            let _ = bus.publish(rows);
        });
        Gathering { query, asked, answered: Vec::new(), rows: Vec::new(), total: 0, searched: 0 }
    }

    /// Adds a shard's answer.
    pub(crate) fn add(&mut self, answer: &ConnRows) {
        self.answered.push(answer.shard);
        self.total += answer.total;
        self.searched += answer.searched;
        self.rows.extend(answer.rows.iter().map(|row| (answer.shard, *row)));
    }

    /// Whether nobody is waited for any more.
    pub(crate) fn is_complete(&self) -> bool {
        self.answered.len() >= self.asked
    }

    /// What to say once answers are complete or time is up.
    pub(crate) fn finish(mut self, engine: &Handle) -> String {
        self.rows.sort_by_key(|&(shard, row)| (shard, row.info.id));
        let silent = self.silent(engine.shards());
        self.list(engine, self.query.limit()) + &silent
    }

    /// The connections' names, to complete a line by.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.rows.iter().map(|(_, row)| format!("{} ", row.info.id)).collect();
        names.sort();
        names.truncate(MAX_NAMES);
        names
    }

    fn list(&self, engine: &Handle, limit: usize) -> String {
        let mut table = Table::new(&[
            ("id", Align::Left),
            ("shard", Align::Right),
            ("endpoint", Align::Left),
            ("peer", Align::Left),
            ("origin", Align::Left),
            ("state", Align::Left),
            ("age", Align::Right),
            ("idle", Align::Right),
            ("in", Align::Right),
            ("out", Align::Right),
            ("queued", Align::Right),
        ]);
        for (shard, row) in self.rows.iter().take(limit) {
            table.row(vec![
                row.info.id.to_string(),
                shard.to_string(),
                endpoint(engine, row),
                peer(row),
                origin(row),
                row.state.to_owned(),
                text::span(row.age),
                text::span(row.idle),
                text::bytes(row.bytes_in),
                text::bytes(row.bytes_out),
                text::bytes(row.queued_bytes as u64),
            ]);
        }
        let shown = self.rows.len().min(limit);
        let mut out = table.render();
        // Writing to a string does not fail.
        let _ = match &self.query {
            Query::List { .. } if shown == self.total => writeln!(out, "{shown} connections"),
            Query::List { .. } => {
                writeln!(out, "{} connections, {} not shown (--limit N)", self.total, self.total.saturating_sub(shown))
            }
            _ => writeln!(out, "{shown} shown of {} looked at, {} connections in all", self.searched, self.total),
        };
        out
    }

    /// The line that names the shards without an answer; empty if there are none.
    fn silent(&self, shards: usize) -> String {
        let all = (0..shards).map(|shard| ShardId(shard as u16));
        let silent = all.filter(|shard| !self.answered.contains(shard));
        let names: Vec<String> = silent.map(|shard| shard.to_string()).collect();
        match names.len() {
            0 => String::new(),
            1 => format!("no answer from shard {}\n", names[0]),
            _ => format!("no answer from shards {}\n", names.join(", ")),
        }
    }
}

fn details(engine: &Handle, shard: ShardId, row: &ConnRow) -> String {
    let lines = [
        ("id", row.info.id.to_string()),
        ("shard", shard.to_string()),
        ("endpoint", endpoint(engine, row)),
        ("peer", peer(row)),
        ("origin", origin(row)),
        ("state", row.state.to_owned()),
        ("age", text::span(row.age)),
        ("idle", text::span(row.idle)),
        ("received", text::bytes(row.bytes_in)),
        ("sent", text::bytes(row.bytes_out)),
        ("queued", text::bytes(row.queued_bytes as u64)),
        ("unread", text::bytes(row.unread_bytes as u64)),
    ];
    lines.iter().map(|(name, value)| format!("{name:<8}  {value}\n")).collect()
}

fn endpoint(engine: &Handle, row: &ConnRow) -> String {
    let name = engine.endpoint_name(row.info.endpoint);
    name.map_or_else(|| row.info.endpoint.to_string(), |name| text::safe_word(&name, 32))
}

fn peer(row: &ConnRow) -> String {
    row.info.peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string())
}

fn origin(row: &ConnRow) -> String {
    match row.info.origin {
        Origin::Accepted => "accepted".to_owned(),
        Origin::Dialed(tag) => format!("dialed {tag}"),
        Origin::Upgraded => "upgraded".to_owned(),
    }
}
