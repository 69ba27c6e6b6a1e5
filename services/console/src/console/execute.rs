//! What a line does: the built-in commands, and the way to those of other services.

use megamux_engine::ConnId;
use megamux_telnet::console::{CommandEntered, CompletionWanted, Role};

use super::answer::Outcome;
use super::{COMPLETION_TIMEOUT, Console, Cx, REPLY_TIMEOUT, SHARD_TIMEOUT};
use crate::builtin::conns::{Gathering, Query, Single};
use crate::builtin::events::Events;
use crate::builtin::log::{self, Tail};
use crate::builtin::watch::Watch;
use crate::builtin::{Builtin, listeners, stats};
use crate::commands::{Action, Argument, Completed, Entered, Lookup, View, fitting};
use crate::event::Completions;
use crate::session::{Running, Session};

/// What `log level` may be completed by.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

impl Session {
    fn view(&self) -> View<'_> {
        View { role: self.role(), directory: self.directory(), columns: self.columns() }
    }
}

impl Console {
    /// Does what a line says.
    pub(super) fn execute(&mut self, cx: &mut Cx<'_>, conn: ConnId, line: &str) -> Outcome {
        if let Some(outcome) = self.knock(cx, conn, line) {
            return outcome;
        }
        let Some(session) = self.sessions.get(&conn) else {
            return Outcome::Answer(String::new());
        };
        let view = session.view();
        match self.parts.commands.lookup(line, view) {
            Lookup::Blank => Outcome::Answer(String::new()),
            Lookup::Go(path) => self.go(conn, path),
            Lookup::Directory(text) | Lookup::Unknown(text) => Outcome::Answer(text),
            Lookup::Command(entered) if entered.role > view.role => {
                let (name, role) = (entered.name, entered.role);
                tracing::warn!(%conn, user = session.user(), command = %name, "an operator may not enter a command");
                Outcome::Answer(format!("{name} is for {role}s and above\n"))
            }
            Lookup::Command(entered) => {
                self.record(conn, &entered);
                match entered.action {
                    Action::Builtin(builtin) => self.run(cx, conn, builtin, &entered.arguments),
                    Action::Service => self.ask_service(cx, conn, entered),
                }
            }
        }
    }

    /// What changes something, or might, is logged and told.
    fn record(&mut self, conn: ConnId, entered: &Entered) {
        if entered.role < Role::Operator {
            return;
        }
        let user = self.sessions.get(&conn).map(Session::user).unwrap_or_default();
        let Entered { directory, name, arguments, .. } = entered;
        tracing::info!(%conn, user, %directory, %name, ?arguments, "an operator entered a command");
        let who = if user.is_empty() { "an operator".to_owned() } else { user.to_owned() };
        self.notice("console", &format!("{who} ({conn}) entered {directory} {name} {arguments}"));
    }

    fn run(&mut self, cx: &mut Cx<'_>, conn: ConnId, builtin: Builtin, arguments: &str) -> Outcome {
        let Some(session) = self.sessions.get(&conn) else {
            return Outcome::Answer(String::new());
        };
        let view = session.view();
        let engine = cx.engine();
        Outcome::Answer(match builtin {
            Builtin::Help => self.parts.commands.help(arguments, view),
            Builtin::Ls => self.parts.commands.list(arguments, view),
            Builtin::Cd if arguments.is_empty() => return self.go(conn, String::new()),
            Builtin::Cd => match self.parts.commands.directory(arguments, view) {
                Ok(path) => return self.go(conn, path),
                Err(said) => said,
            },
            Builtin::Shards => self.sampler.render(&engine.stats()),
            Builtin::Stats => stats::render(&engine.stats(), arguments),
            Builtin::Buffers => stats::buffers(&engine.stats()),
            Builtin::Services => stats::services(&engine.stats()),
            Builtin::ListenersList => listeners::list(engine),
            Builtin::ListenersDrain => listeners::drain(engine, arguments),
            Builtin::ListenersPause => listeners::pause(engine, arguments),
            Builtin::ListenersResume => listeners::resume(engine, arguments),
            Builtin::History => return Outcome::History,
            Builtin::Quit => return Outcome::Leave,
            Builtin::Watch => match Watch::parse(arguments) {
                Ok(watch) => return Outcome::Watch(watch),
                Err(usage) => usage,
            },
            Builtin::Events => {
                let events = Events::new(arguments, engine.stats());
                let heading = events.heading();
                self.watching += 1;
                return Outcome::Live(Running::Events(Box::new(events)), heading);
            }
            Builtin::LogTail => match &self.parts.log {
                Some(ring) => {
                    let mut tail = Tail::new(ring, arguments);
                    let first = tail.take().unwrap_or_default();
                    return Outcome::Live(Running::Tail(tail), first);
                }
                None => "this process keeps no log for its console\n".to_owned(),
            },
            Builtin::LogLevel => match &self.parts.level {
                _ if !arguments.is_empty() && view.role < Role::Admin => "setting the level is for admins\n".to_owned(),
                Some(level) => log::level(&**level, arguments),
                None => "this process does not let its console change the log\n".to_owned(),
            },
            Builtin::ConnsList => return self.ask_shards(cx, conn, Query::list(arguments)),
            Builtin::ConnsFind => return self.ask_shards(cx, conn, Query::find(arguments)),
            Builtin::ConnsShow => return self.ask_shard(cx, conn, Single::show(arguments)),
            Builtin::ConnsKick => return self.ask_shard(cx, conn, Single::kick(arguments, conn)),
            Builtin::Whoami => {
                let known = match session.user() {
                    "" => format!("nobody asks who you are: you may do everything, on connection {conn}"),
                    user => format!("{user}, {}, on connection {conn}", session.role()),
                };
                return self.ask_shard(cx, conn, Ok(Single::Own(known)));
            }
        })
    }

    fn go(&mut self, conn: ConnId, path: String) -> Outcome {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.used().directory = path;
        }
        Outcome::Answer(String::new())
    }

    fn ask_shards(&self, cx: &Cx<'_>, conn: ConnId, query: Result<Query, String>) -> Outcome {
        let query = match query {
            Ok(query) => query,
            Err(usage) => return Outcome::Answer(usage),
        };
        let gathering = Gathering::ask(cx.engine(), query, conn, self.request(conn));
        if gathering.is_complete() {
            // No shard takes orders now.
            return Outcome::Answer(gathering.finish(cx.engine()));
        }
        Outcome::Wait(Running::Conns(gathering), SHARD_TIMEOUT)
    }

    fn ask_shard(&self, cx: &Cx<'_>, conn: ConnId, single: Result<Single, String>) -> Outcome {
        let asked = single.and_then(|single| single.ask(cx.engine(), conn, self.request(conn)).map(|()| single));
        match asked {
            Ok(single) => Outcome::Wait(Running::Conn(single), SHARD_TIMEOUT),
            Err(said) => Outcome::Answer(said),
        }
    }

    fn ask_service(&self, cx: &Cx<'_>, conn: ConnId, entered: Entered) -> Outcome {
        let Entered { directory, name, arguments, .. } = entered;
        let command = CommandEntered {
            session: conn.to_bits(),
            request: self.request(conn),
            directory,
            name: name.clone(),
            arguments,
            user: self.sessions.get(&conn).map(|session| session.user().to_owned()).unwrap_or_default(),
        };
        match cx.publish(command) {
            Ok(0) => Outcome::Answer(format!("{name}: nobody is there to answer\n")),
            Err(error) if error.full == error.subscribers => Outcome::Answer(format!("{name}: busy, try again\n")),
            // Where only some mailboxes are full, its own may have had room.
            _ => Outcome::Wait(Running::Service { name }, REPLY_TIMEOUT),
        }
    }

    /// How a line may go on.
    pub(super) fn complete(&mut self, cx: &mut Cx<'_>, conn: ConnId, line: &str) -> Outcome {
        let Some(session) = self.sessions.get(&conn).filter(|session| session.is_in()) else {
            return Outcome::Completions(Completions::default());
        };
        match self.parts.commands.complete(line, session.view()) {
            Completed::Words(from, words) => Outcome::Completions(Completions { from, words, cut: false }),
            Completed::Builtin(builtin, argument) => self.complete_builtin(cx, conn, builtin, line, argument),
            Completed::Service(directory, name, argument) => {
                let Argument { from, before, word } = argument;
                let (session, request) = (conn.to_bits(), self.request(conn));
                let asked = cx.publish(CompletionWanted { session, request, directory, name, before, word });
                match asked {
                    Ok(1..) => Outcome::Wait(Running::Completing { from, gathering: None }, COMPLETION_TIMEOUT),
                    _ => Outcome::Completions(Completions { from, ..Completions::default() }),
                }
            }
        }
    }

    fn complete_builtin(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        builtin: Builtin,
        line: &str,
        argument: Argument,
    ) -> Outcome {
        let Argument { from, before, word } = argument;
        let Some(session) = self.sessions.get(&conn) else {
            return Outcome::Completions(Completions::default());
        };
        let words = match builtin {
            Builtin::Cd | Builtin::Ls if before.is_empty() => {
                let (at, words) = self.parts.commands.directories(&word, session.view());
                return Outcome::Completions(Completions { from: from + at, words, cut: false });
            }
            Builtin::Help | Builtin::Watch => {
                // What follows is a line of its own.
                let own = Watch::parse(&format!("{before} {word}")).map(|watch| watch.line).unwrap_or_default();
                let own = if before.is_empty() || own.is_empty() { word } else { own };
                let start = line.len() - own.len();
                return match self.complete(cx, conn, &own) {
                    Outcome::Completions(inner) => {
                        Outcome::Completions(Completions { from: start + inner.from, ..inner })
                    }
                    Outcome::Wait(Running::Completing { from, gathering }, most) => {
                        Outcome::Wait(Running::Completing { from: start + from, gathering }, most)
                    }
                    other => other,
                };
            }
            Builtin::ConnsShow | Builtin::ConnsKick if before.is_empty() => {
                let gathering = Gathering::ask(cx.engine(), Query::names(&word), conn, self.request(conn));
                if !gathering.is_complete() {
                    let running = Running::Completing { from, gathering: Some(gathering) };
                    return Outcome::Wait(running, COMPLETION_TIMEOUT);
                }
                Vec::new()
            }
            Builtin::ListenersDrain | Builtin::ListenersPause | Builtin::ListenersResume if before.is_empty() => {
                fitting(&listeners::names(cx.engine()), &word)
            }
            Builtin::LogLevel => fitting(&LEVELS, &word),
            Builtin::Stats if before.is_empty() => fitting(&stats::names(&cx.engine().stats()), &word),
            _ => Vec::new(),
        };
        Outcome::Completions(Completions { from, words, cut: false })
    }

    fn request(&self, conn: ConnId) -> u32 {
        self.sessions.get(&conn).map_or(0, Session::request)
    }
}
