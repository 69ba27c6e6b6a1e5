//! The commands of the console itself: their names and help. Each has its file; none of them blocks.

pub(crate) mod conns;
pub(crate) mod shards;
pub(crate) mod stats;

/// A command of the console itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    ConnsKick,
    ConnsList,
    ConnsShow,
    Help,
    Quit,
    Shards,
    Stats,
}

/// Every built-in command: directory, name, and help whose first line is the summary.
pub(crate) const BUILTINS: &[(Builtin, &str, &str, &str)] = &[
    (Builtin::ConnsKick, "conns", "kick", "Closes a connection.\nconns kick ID"),
    (
        Builtin::ConnsList,
        "conns",
        "list",
        "Lists connections.\nconns list [--limit N]\nShows 100 of them, or N up to 1000.",
    ),
    (Builtin::ConnsShow, "conns", "show", "Shows all about a connection.\nconns show ID"),
    (Builtin::Quit, "", "exit", "Ends this session."),
    (Builtin::Help, "", "help", "Lists commands, or tells about one.\nhelp [COMMAND]"),
    (Builtin::Quit, "", "quit", "Ends this session."),
    (
        Builtin::Shards,
        "",
        "shards",
        "Shows each shard's connections and load.\n\
         Rates and times are of the last seconds: p50 and p99 bound the work of a tick, cqe/enter counts completions for each\n\
         call into the kernel, buffers are the receive buffers that are free.",
    ),
    (
        Builtin::Stats,
        "",
        "stats",
        "Shows every metric, summed over the shards.\nstats [FILTER]\nFILTER is a part of the metric's name or labels.",
    ),
];
