//! The commands of the console itself: their names, roles and help. Each has its file; none of them blocks.

pub(crate) mod conns;
pub(crate) mod events;
pub(crate) mod listeners;
pub(crate) mod log;
pub(crate) mod shards;
pub(crate) mod stats;
pub(crate) mod watch;

use megamux_telnet::console::Role::{self, Admin, Operator, Viewer};

/// A command of the console itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Buffers,
    Cd,
    ConnsFind,
    ConnsKick,
    ConnsList,
    ConnsShow,
    Events,
    Help,
    History,
    ListenersDrain,
    ListenersList,
    ListenersPause,
    ListenersResume,
    LogLevel,
    LogTail,
    Ls,
    Quit,
    Services,
    Shards,
    Stats,
    Watch,
    Whoami,
}

/// How a built-in command stands in the table.
pub(crate) struct Definition {
    pub(crate) action: Builtin,
    pub(crate) directory: &'static str,
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// The first line is the summary.
    pub(crate) help: &'static str,
}

const fn command(
    action: Builtin,
    directory: &'static str,
    name: &'static str,
    role: Role,
    help: &'static str,
) -> Definition {
    Definition { action, directory, name, role, help }
}

/// Every built-in command.
pub(crate) const BUILTINS: &[Definition] = &[
    command(
        Builtin::Buffers,
        "",
        "buffers",
        Viewer,
        "Shows what memory each shard holds for its connections.\n\
         free are receive buffers that the kernel has or may get, starved are connections that wait for one; the rest is bytes.",
    ),
    command(
        Builtin::Cd,
        "",
        "cd",
        Viewer,
        "Goes to a directory.\ncd [PATH]\nPATH is a name, .. or /from/the/root; without it, the root. A path alone goes there, too.",
    ),
    command(
        Builtin::ConnsFind,
        "conns",
        "find",
        Viewer,
        "Finds connections.\nconns find TEXT [--limit N]\nTEXT is a part of the peer's address, the name, the endpoint or the state.",
    ),
    command(Builtin::ConnsKick, "conns", "kick", Operator, "Closes a connection.\nconns kick ID"),
    command(
        Builtin::ConnsList,
        "conns",
        "list",
        Viewer,
        "Lists connections.\nconns list [--limit N]\nShows 100 of them, or N up to 1000.",
    ),
    command(Builtin::ConnsShow, "conns", "show", Viewer, "Shows all about a connection.\nconns show ID"),
    command(
        Builtin::Events,
        "",
        "events",
        Operator,
        "Shows what happens, until a key is typed.\nevents [FILTER]\n\
         Connections accepted, refused and closed, panics, stalls, operators' commands, and what services tell of.\n\
         FILTER is a part of the line.",
    ),
    command(Builtin::Quit, "", "exit", Viewer, "Ends this session."),
    command(Builtin::Help, "", "help", Viewer, "Lists commands, or tells about one.\nhelp [COMMAND]"),
    command(Builtin::History, "", "history", Viewer, "Lists the lines entered in this session."),
    command(
        Builtin::ListenersDrain,
        "listeners",
        "drain",
        Admin,
        "Stops accepting for good; connections live on.\nlisteners drain NAME",
    ),
    command(
        Builtin::ListenersList,
        "listeners",
        "list",
        Viewer,
        "Lists the listeners: address, state, and how many connections they have and had.",
    ),
    command(
        Builtin::ListenersPause,
        "listeners",
        "pause",
        Operator,
        "Stops accepting until resumed; who connects waits.\nlisteners pause NAME",
    ),
    command(Builtin::ListenersResume, "listeners", "resume", Operator, "Accepts again.\nlisteners resume NAME"),
    command(
        Builtin::LogLevel,
        "log",
        "level",
        Operator,
        "Shows or sets what is logged.\nlog level [DIRECTIVES]\nSuch as info, or warn,megamux_engine=debug. Setting it is for admins.",
    ),
    command(
        Builtin::LogTail,
        "log",
        "tail",
        Operator,
        "Shows the last of the log, and what comes, until a key is typed.\nlog tail [FILTER]\nFILTER is a part of the line.",
    ),
    command(Builtin::Ls, "", "ls", Viewer, "Lists a directory.\nls [PATH]"),
    command(Builtin::Quit, "", "quit", Viewer, "Ends this session."),
    command(
        Builtin::Services,
        "",
        "services",
        Viewer,
        "Lists the services, and shows how they keep up with the shards.",
    ),
    command(
        Builtin::Shards,
        "",
        "shards",
        Viewer,
        "Shows each shard's connections and load.\n\
         Rates and times are of the last seconds: cpu is the thread's share of a core, p50 and p99 bound the work of a tick, cqe/enter counts completions for each\n\
         call into the kernel, buffers are the receive buffers that are free.",
    ),
    command(
        Builtin::Stats,
        "",
        "stats",
        Viewer,
        "Shows every metric, summed over the shards.\nstats [FILTER]\nFILTER is a part of the metric's name or labels.",
    ),
    command(
        Builtin::Watch,
        "",
        "watch",
        Viewer,
        "Repeats a command until a key is typed.\nwatch [-n SECONDS] COMMAND\nEvery 2 seconds, or SECONDS from 1 to 3600.",
    ),
    command(Builtin::Whoami, "", "whoami", Viewer, "Shows who you are to this console."),
];
