//! `conns list`, `conns show`, `conns kick`: questions that every shard answers for itself.
//!
//! Owns the collecting of the answers. Shards answer on their own threads by publishing [`ConnRows`]; the console adds them up
//! until all are there or time is up. Invariants: a shard is asked for a bounded number of rows and does nothing there
//! that takes longer than looking them over; who did not answer is said.

use std::fmt::Write;

use megamux_engine::{CloseReason, ConnId, ConnRow, Handle, Origin, ShardId};

use crate::event::ConnRows;
use crate::text::{self, Align, Table};

/// Rows that `conns list` shows unless told otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Rows it shows at most. An answer is bounded anyway; this one is cut at a row.
const MAX_LIMIT: usize = 1000;
/// Connections per shard that are searched for one by its name. A shard copies a row of each in one go, about 2 MiB for all,
/// and serves nobody meanwhile.
const SEARCHED: usize = 16 * 1024;

/// What is asked of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Query {
    List { limit: usize },
    Show(ConnId),
    Kick(ConnId),
}

impl Query {
    /// `[--limit N]`
    pub(crate) fn list(arguments: &str) -> Result<Query, String> {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let limit = match words[..] {
            [] => Some(DEFAULT_LIMIT),
            ["--limit", number] => number.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)),
            _ => None,
        };
        let usage = || format!("usage: conns list [--limit N], N from 1 to {MAX_LIMIT}\n");
        Ok(Query::List { limit: limit.ok_or_else(usage)? })
    }

    /// `ID`
    pub(crate) fn show(arguments: &str) -> Result<Query, String> {
        let id = arguments.parse().map_err(|_| "usage: conns show ID, as in conns list\n")?;
        Ok(Query::Show(id))
    }

    /// `ID`, but not of the session that asks.
    pub(crate) fn kick(arguments: &str, session: ConnId) -> Result<Query, String> {
        match arguments.parse() {
            Ok(id) if id == session => Err("that is this session: quit ends it\n".to_owned()),
            Ok(id) => Ok(Query::Kick(id)),
            Err(_) => Err("usage: conns kick ID, as in conns list\n".to_owned()),
        }
    }

    fn most_rows(self) -> usize {
        match self {
            Query::List { limit } => limit,
            Query::Show(_) | Query::Kick(_) => SEARCHED,
        }
    }

    fn wants(self, row: &ConnRow) -> bool {
        match self {
            Query::List { .. } => true,
            Query::Show(id) | Query::Kick(id) => row.info.id == id,
        }
    }
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
        let asked = engine.connections(query.most_rows(), move |answer| {
            let rows = answer.rows.iter().filter(|row| query.wants(row)).copied().collect();
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

    /// What to say once answers are complete or time is up. A kick happens here.
    pub(crate) fn finish(mut self, engine: &Handle) -> String {
        self.rows.sort_by_key(|&(shard, row)| (shard, row.info.id));
        let silent = self.silent(engine.shards());
        match self.query {
            Query::List { limit } => self.list(limit) + &silent,
            Query::Show(_) => match self.rows.first() {
                Some((shard, row)) => details(*shard, row),
                None => self.not_found() + &silent,
            },
            Query::Kick(id) => self.kick(engine, id, &silent),
        }
    }

    fn list(&self, limit: usize) -> String {
        let mut table = Table::new(&[
            ("id", Align::Left),
            ("shard", Align::Right),
            ("endpoint", Align::Right),
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
                row.info.endpoint.to_string(),
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
        let left_out = self.total.saturating_sub(self.rows.len().min(limit));
        let mut out = table.render();
        let _ = match left_out {
            0 => writeln!(out, "{} connections", self.total),
            _ => writeln!(out, "{} connections, {left_out} not shown (--limit N)", self.total),
        };
        out
    }

    fn kick(&self, engine: &Handle, id: ConnId, silent: &str) -> String {
        let found = self.rows.first();
        if found.is_none() && self.searched == self.total && silent.is_empty() {
            return self.not_found();
        }
        // One that was not found may yet be where nobody looked; closing one that does not exist does nothing.
        if let Err(error) = engine.close(id, CloseReason::Kicked) {
            return format!("not kicked: {error}\n");
        }
        match found {
            Some((_, row)) => format!("kicked {id}, peer {}\n", peer(row)),
            None => self.not_found() + silent + "its shard will close it if it exists\n",
        }
    }

    fn not_found(&self) -> String {
        if self.searched < self.total {
            let (searched, total) = (self.searched, self.total);
            return format!("no such connection among the {searched} looked at, of {total}\n");
        }
        "no such connection\n".to_owned()
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

fn details(shard: ShardId, row: &ConnRow) -> String {
    let lines = [
        ("id", row.info.id.to_string()),
        ("shard", shard.to_string()),
        ("endpoint", row.info.endpoint.to_string()),
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
