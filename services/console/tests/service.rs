//! The console by generated events: no socket, no thread, no clock. The test plays fronts, shards and other services.

use std::time::Duration;

use megamux_console::{Completions, Console, ConsoleIn, ConsoleOut, MAX_OUTPUT, Prompt, TYPE_AHEAD, register};
use megamux_engine::testing::{
    Asked, ListingAsked, RowAsked, Sent, ServiceTester, Watched, conn_id, conn_info, conn_row,
};
use megamux_engine::{CloseReason, Config, ConnId, ConnRow, Engine, Placement, ShardId};
use megamux_telnet::console::{CommandEntered, CompletionWanted, Notice, RegisterCommand, ReplyStatus};

/// A console with one session, in an engine of so many shards.
struct Bench {
    tester: ServiceTester<Console>,
    session: ConnId,
    entered: Watched<CommandEntered>,
}

impl Bench {
    fn new(shards: usize) -> Bench {
        let mut config = Config::default();
        config.shards = shards;
        let mut builder = Engine::builder(config).unwrap();
        let console = register(&mut builder, Placement::Thread).unwrap();
        let mut tester = ServiceTester::new(builder, &console);
        let entered = tester.watch();
        let session = tester.open(ShardId(0), None);
        let greeting = tester.sent();
        let [Sent::Event(to, ConsoleOut::Text(text)), Sent::Event(_, ConsoleOut::Prompt(asked))] = &greeting[..] else {
            panic!("{greeting:?}")
        };
        assert_eq!((*to, asked), (session, &prompt()));
        assert!(text.starts_with("megamux ") && text.ends_with("try: help\n"), "{text:?}");
        Bench { tester, session, entered }
    }

    fn enter(&mut self, line: &str) {
        let line = ConsoleIn::Line(line.to_owned());
        self.tester.frame(self.session, line);
    }

    /// What the session was sent since the last time.
    fn events(&mut self) -> Vec<ConsoleOut> {
        let event = |sent| match sent {
            Sent::Event(conn, event) if conn == self.session => event,
            other => panic!("{other:?}"),
        };
        self.tester.sent().into_iter().map(event).collect()
    }

    /// The one whole answer that came, without the prompt behind it.
    fn answer(&mut self) -> String {
        let events = self.events();
        let [ConsoleOut::Answered { text, prompt: asked }] = &events[..] else { panic!("{events:?}") };
        assert!(matches!(asked, Prompt::Command(_)), "{asked:?}");
        text.clone()
    }

    fn ask(&mut self, line: &str) -> String {
        self.enter(line);
        self.answer()
    }

    /// A service offers a command.
    fn offer(&mut self, directory: &str, name: &str) {
        let command = RegisterCommand::new(directory, name, "Does it.").unwrap();
        self.tester.engine().publish(command).unwrap();
    }

    /// The command that reached the other services.
    fn entered(&mut self) -> CommandEntered {
        self.tester.run();
        let entered = self.entered.take();
        assert_eq!(entered.len(), 1);
        (*entered[0]).clone()
    }

    fn reply(&mut self, entered: &CommandEntered, text: &str, status: ReplyStatus) {
        self.tester.engine().publish(entered.reply(text, status)).unwrap();
    }

    /// How the line may go on.
    fn complete(&mut self, line: &str) -> (usize, Vec<String>) {
        self.tester.frame(self.session, ConsoleIn::Complete(line.to_owned()));
        self.completions()
    }

    fn completions(&mut self) -> (usize, Vec<String>) {
        let events = self.events();
        let [ConsoleOut::Completions(Completions { from, words, .. })] = &events[..] else { panic!("{events:?}") };
        (*from, words.clone())
    }

    /// The connection that its shard was asked for.
    fn row_asked(&mut self) -> RowAsked {
        match self.tester.asked().remove(0) {
            Asked::Connection(asked) => asked,
            other => panic!("{other:?}"),
        }
    }

    /// The listings that shards were asked for.
    fn listings(&mut self) -> Vec<ListingAsked> {
        let listing = |asked| match asked {
            Asked::Connections(listing) => listing,
            other => panic!("{other:?}"),
        };
        self.tester.asked().into_iter().map(listing).collect()
    }
}

fn row(shard: u16, slot: u32) -> ConnRow {
    let peer = format!("192.0.2.{shard}:{slot}").parse().unwrap();
    conn_row(conn_info(conn_id(ShardId(shard), slot), Some(peer)))
}

/// What an operator in the root is asked.
fn prompt() -> Prompt {
    Prompt::Command(String::new())
}

fn answered(text: &str) -> ConsoleOut {
    ConsoleOut::Answered { text: text.to_owned(), prompt: prompt() }
}

fn forgotten() -> ConsoleOut {
    ConsoleOut::Answered { text: String::new(), prompt: Prompt::Nothing }
}

fn said(text: &str) -> ConsoleOut {
    ConsoleOut::Text(text.to_owned())
}

#[test]
fn every_line_gets_one_answer() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.ask(""), "");
    assert_eq!(bench.ask("  \t"), "");
    assert_eq!(bench.ask("shard"), "unknown command: shard\ndid you mean: shards?\n");
    assert!(bench.ask("help").contains("\n  shards            Shows each"));
    assert!(bench.ask("help conns list").contains("conns list [--limit N]\n"));
    assert!(bench.ask("stats accepts").contains("megamux_accepts_total"));
    assert!(bench.ask("shards").starts_with("shard  opening  open  "));
    bench.tester.frame(bench.session, ConsoleIn::LineTooLong);
    assert_eq!(bench.answer(), "line too long: at most 4096 bytes\n");
}

#[test]
fn another_services_command_is_answered_in_parts_and_harmlessly() {
    let mut bench = Bench::new(1);
    bench.offer("rooms/admin", "ban");
    bench.enter("rooms admin ban  bob  for spam ");
    let entered = bench.entered();
    assert_eq!((&*entered.directory, &*entered.name, &*entered.arguments), ("rooms/admin", "ban", "bob  for spam"));
    assert_eq!(bench.events(), []);

    bench.reply(&entered, "banned \x1b[31mbob\r\n", ReplyStatus::More);
    bench.reply(&entered, "for spam", ReplyStatus::Done);
    bench.reply(&entered, "and once more", ReplyStatus::Done);
    assert_eq!(bench.events(), [said("banned \\u{1b}[31mbob\n"), answered("for spam\n")]);
}

#[test]
fn a_service_that_does_not_answer_in_time_is_not_waited_for() {
    let mut bench = Bench::new(1);
    bench.offer("", "slow");
    bench.enter("slow");
    let entered = bench.entered();
    // Each part buys as much time as the first.
    bench.tester.advance(Duration::from_secs(4));
    bench.reply(&entered, "part\n", ReplyStatus::More);
    bench.tester.advance(Duration::from_secs(4));
    assert_eq!(bench.events(), [said("part\n")]);
    bench.tester.advance(Duration::from_secs(2));
    assert_eq!(bench.answer(), "no answer to slow within 5.00 s\n");

    // The late answer is not taken for one to the next command.
    bench.enter("slow");
    let second = bench.entered();
    bench.reply(&entered, "late\n", ReplyStatus::Done);
    assert_eq!(bench.events(), []);
    bench.reply(&second, "", ReplyStatus::Failed);
    assert_eq!(bench.answer(), "failed\n");
}

#[test]
fn pipelined_lines_are_answered_in_order() {
    let mut bench = Bench::new(1);
    bench.offer("", "slow");
    for line in ["slow 1", "help quit", "slow 2", ""] {
        bench.enter(line);
    }
    let first = bench.entered();
    assert_eq!(bench.events(), [], "all wait for the first");
    bench.reply(&first, "one\n", ReplyStatus::Done);
    let help = answered("quit\n  Ends this session.\n");
    assert_eq!(bench.events(), [answered("one\n"), help]);
    let second = bench.entered();
    assert_eq!(second.arguments, "2");
    bench.reply(&second, "two\n", ReplyStatus::Done);
    assert_eq!(bench.events(), [answered("two\n"), answered("")]);
}

#[test]
fn sessions_do_not_wait_for_each_other() {
    let mut bench = Bench::new(2);
    bench.offer("", "slow");
    bench.enter("slow");
    assert_eq!(bench.events(), []);
    let other = bench.tester.open(ShardId(1), None);
    bench.tester.frame(other, ConsoleIn::Line("nonsense".to_owned()));
    let sent = bench.tester.sent();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|sent| matches!(sent, Sent::Event(to, _) if *to == other)));
}

#[test]
fn an_interrupt_ends_what_runs_and_forgets_what_waits() {
    let mut bench = Bench::new(1);
    bench.offer("", "slow");
    bench.enter("slow");
    bench.enter("quit");
    bench.tester.frame(bench.session, ConsoleIn::Interrupt);
    // Both lines are answered, or their places would never be free again.
    assert_eq!(bench.events(), [forgotten(), answered("\ninterrupted\n")]);
    let entered = bench.entered();
    bench.reply(&entered, "late\n", ReplyStatus::Done);
    bench.tester.advance(Duration::from_secs(10));
    assert_eq!(bench.events(), []);

    bench.tester.frame(bench.session, ConsoleIn::Interrupt);
    assert_eq!(bench.events(), [said("\n"), ConsoleOut::Prompt(prompt())]);
}

#[test]
fn a_listing_is_shown_when_every_shard_has_answered() {
    let mut bench = Bench::new(3);
    bench.enter("conns list --limit 3");
    let mut listings = bench.listings();
    assert_eq!(
        listings.iter().map(|l| (l.shard, l.most)).collect::<Vec<_>>(),
        [(ShardId(0), 3), (ShardId(1), 3), (ShardId(2), 3)]
    );
    // In whatever order.
    listings.pop().unwrap().answer(vec![row(2, 1), row(2, 7)], 2);
    listings.pop().unwrap().answer(vec![], 0);
    assert_eq!(bench.events(), []);
    let rows = vec![row(0, 1), row(0, 2)];
    listings.pop().unwrap().answer(rows, 40);

    let text = bench.answer();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0].starts_with("id") && lines[0].ends_with("queued"), "{text}");
    for (line, peer) in lines[1..].iter().zip(["192.0.2.0:1 ", "192.0.2.0:2 ", "192.0.2.2:1 "]) {
        assert!(line.contains(peer), "{text}");
    }
    assert_eq!(lines[4], "42 connections, 39 not shown (--limit N)");
}

#[test]
fn shards_that_do_not_answer_are_named_after_a_second() {
    let mut bench = Bench::new(3);
    bench.enter("conns list");
    let mut late = bench.listings();
    late.remove(1).answer(vec![row(1, 1)], 1);
    bench.tester.advance(Duration::from_millis(900));
    assert_eq!(bench.events(), []);
    bench.tester.advance(Duration::from_millis(200));
    let text = bench.answer();
    assert!(text.ends_with("1 connections\nno answer from shards 0, 2\n"), "{text}");

    bench.enter("conns list");
    late.pop().unwrap().answer(vec![row(2, 1)], 1);
    assert_eq!(bench.events(), [], "too late for that, too early for this");
}

#[test]
fn a_connection_is_asked_for_by_name() {
    let mut bench = Bench::new(2);
    let id = row(1, 9).info.id;
    bench.enter(&format!("conns show {id}"));
    let asked = bench.row_asked();
    assert_eq!(asked.conn, id);
    asked.answer(Some(row(1, 9)));
    let text = bench.answer();
    assert!(text.contains(&format!("id        {id}\nshard     1\n")), "{text}");
    assert!(text.contains("peer      192.0.2.1:9\n"), "{text}");

    bench.enter(&format!("conns show {id}"));
    bench.row_asked().answer(None);
    assert_eq!(bench.answer(), "no such connection\n");

    bench.enter(&format!("conns show {id}"));
    let late = bench.row_asked();
    bench.tester.advance(Duration::from_secs(2));
    assert_eq!(bench.answer(), "no answer from shard 1\n");
    bench.enter(&format!("conns show {id}"));
    late.answer(Some(row(1, 9)));
    assert_eq!(bench.events(), [], "too late for that, too early for this");
    assert_eq!(Bench::new(2).ask("conns show ffff000000000001"), "no such connection\n", "no such shard");
}

#[test]
fn a_kick_reaches_the_connections_shard() {
    let mut bench = Bench::new(2);
    let id = row(1, 9).info.id;
    let mut kick = |row: Option<ConnRow>| {
        bench.enter(&format!("conns kick {id}"));
        bench.row_asked().answer(row);
        let text = bench.answer();
        let asked = bench.tester.asked();
        let kicked =
            asked.iter().filter(|asked| matches!(asked, Asked::Close(conn, CloseReason::Kicked) if *conn == id));
        (text, kicked.count())
    };
    let peer = format!("kicked {id}, peer 192.0.2.1:9\n");
    assert_eq!(kick(Some(row(1, 9))), (peer, 1));
    assert_eq!(kick(None), ("no such connection\n".to_owned(), 0));

    let own = bench.session;
    assert_eq!(bench.ask(&format!("conns kick {own}")), "that is this session: quit ends it\n");
}

#[test]
fn connections_are_found_by_a_part_of_what_is_known_of_them() {
    let mut bench = Bench::new(2);
    bench.enter("conns find 192.0.2.1: --limit 2");
    for listing in bench.listings() {
        assert!(listing.most > 1000);
        let shard = listing.shard.0;
        listing.answer((1..=3).map(|slot| row(shard, slot)).collect(), 3);
    }
    let text = bench.answer();
    assert!(!text.contains("192.0.2.0:"), "{text}");
    assert_eq!(text.lines().count(), 4);
    assert!(text.ends_with("2 shown of 6 looked at, 6 connections in all\n"), "{text}");
}

#[test]
fn the_tree_is_walked() {
    let mut bench = Bench::new(1);
    bench.offer("rooms/admin", "ban");
    let asked = |bench: &mut Bench, line: &str| {
        bench.enter(line);
        match bench.events().remove(0) {
            ConsoleOut::Answered { text, prompt: Prompt::Command(directory) } => (text, directory),
            other => panic!("{other:?}"),
        }
    };
    let at = |directory: &str| (String::new(), directory.to_owned());
    assert_eq!(asked(&mut bench, "cd rooms"), at("rooms"));
    assert_eq!(asked(&mut bench, "cd admin"), at("rooms/admin"));
    assert_eq!(asked(&mut bench, "ls"), ("  ban  Does it.\n".to_owned(), "rooms/admin".to_owned()));
    assert_eq!(asked(&mut bench, "cd attic"), ("no such directory: attic\n".to_owned(), "rooms/admin".to_owned()));
    bench.enter("ban bob");
    let entered = bench.entered();
    assert_eq!((&*entered.directory, &*entered.arguments, &*entered.user), ("rooms/admin", "bob", ""));
    bench.reply(&entered, "done", ReplyStatus::Done);
    bench.events();
    assert_eq!(asked(&mut bench, ".."), at("rooms"));
    assert_eq!(asked(&mut bench, "/conns"), at("conns"));
    assert_eq!(asked(&mut bench, "cd"), at(""));
    assert_eq!(Prompt::Command("rooms/admin".to_owned()).text(), "megamux rooms/admin> ");
}

#[test]
fn a_line_is_completed_by_the_tree_the_shards_and_the_service() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.complete("sha"), (0, vec!["shards ".to_owned()]));
    assert_eq!(bench.complete("help conns ki"), (11, vec!["kick ".to_owned()]));
    assert_eq!(bench.complete("watch -n 5 conns li"), (17, vec!["list ".to_owned()]));
    assert_eq!(bench.complete("cd con"), (3, vec!["conns/".to_owned()]));
    assert_eq!(bench.complete("log level wa"), (10, vec!["warn ".to_owned()]));
    assert_eq!(bench.complete("nonsense x"), (9, vec![]));

    bench.tester.frame(bench.session, ConsoleIn::Complete("conns kick ".to_owned()));
    for listing in bench.listings() {
        listing.answer(vec![row(0, 1), row(0, 2)], 2);
    }
    let ids = [1, 2].map(|slot| format!("{} ", row(0, slot).info.id));
    assert_eq!(bench.completions(), (11, ids.to_vec()));

    let wanted = bench.tester.watch::<CompletionWanted>();
    let command = RegisterCommand::new("rooms", "ban", "").unwrap().completed_when_asked();
    bench.tester.engine().publish(command).unwrap();
    bench.tester.run();
    bench.tester.frame(bench.session, ConsoleIn::Complete("rooms ban bo".to_owned()));
    bench.tester.run();
    let asked = wanted.take().remove(0);
    assert_eq!((&*asked.name, &*asked.word), ("ban", "bo"));
    bench.tester.engine().publish(asked.offer(["bob", "\u{202e}bo", "ann"])).unwrap();
    assert_eq!(bench.completions(), (10, vec!["bob ".to_owned()]));

    bench.tester.frame(bench.session, ConsoleIn::Complete("rooms ban ".to_owned()));
    assert_eq!(bench.events(), []);
    bench.tester.advance(Duration::from_millis(600));
    assert_eq!(bench.completions(), (10, vec![]), "nobody answered");
}

#[test]
fn a_watched_command_is_repeated_until_a_key_is_typed() {
    let mut bench = Bench::new(1);
    bench.offer("", "count");
    bench.enter("watch -n 3 count up");
    for round in 0..3 {
        let entered = bench.entered();
        assert_eq!(entered.arguments, "up");
        bench.reply(&entered, "part\n", ReplyStatus::More);
        bench.reply(&entered, &format!("{round}\n"), ReplyStatus::Done);
        let events = bench.events();
        let [ConsoleOut::Screen(shown)] = &events[..] else { panic!("{events:?}") };
        assert!(shown.contains("every 3.00 s: count up") && shown.ends_with(&format!("\npart\n{round}\n")), "{shown}");
        bench.tester.advance(Duration::from_secs(3));
    }
    bench.tester.frame(bench.session, ConsoleIn::Interrupt);
    assert_eq!(bench.answer(), "");
    bench.tester.advance(Duration::from_secs(60));
    assert_eq!(bench.events(), []);
    assert!(bench.ask("watch").starts_with("usage: watch"));
    assert_eq!(bench.ask("watch quit"), "that cannot be watched\n");
    assert_eq!(bench.ask("watch watch shards"), "that cannot be watched\n");
    // In line mode a line is the key, and an empty one does nothing else.
    bench.enter("watch shards");
    assert!(matches!(&bench.events()[..], [ConsoleOut::Screen(_)]));
    bench.enter("");
    assert_eq!(bench.events(), [forgotten(), answered("")]);
}

#[test]
fn what_happens_is_shown_as_it_happens() {
    let mut bench = Bench::new(1);
    bench.enter("events im");
    assert!(matches!(&bench.events()[..], [ConsoleOut::Live(_)]));
    let notice = |topic: &str, text: &str| Notice { topic: topic.to_owned(), text: text.to_owned() };
    bench.tester.engine().publish(notice("im", "user\x1b[2J came")).unwrap();
    bench.tester.engine().publish(notice("http", "nothing")).unwrap();
    bench.tester.advance(Duration::from_millis(600));
    assert_eq!(bench.events(), [ConsoleOut::Live("im          user\\u{1b}[2J came\n".to_owned())]);
    bench.tester.advance(Duration::from_secs(5));
    assert_eq!(bench.events(), []);
    bench.enter("help quit");
    assert_eq!(bench.events(), [answered(""), answered("quit\n  Ends this session.\n")]);
}

#[test]
fn who_is_there_is_told() {
    let mut bench = Bench::new(1);
    bench.enter("whoami");
    bench.row_asked().answer(Some(row(0, 0)));
    let text = bench.answer();
    assert!(text.starts_with("nobody asks who you are") && text.ends_with(", from 192.0.2.0:0\n"), "{text}");
    assert_eq!(bench.ask("log tail"), "this process keeps no log for its console\n");
    assert!(bench.ask("listeners").contains("listeners pause"));
    assert!(bench.ask("services").contains("\nconsole  a thread "));
    assert!(bench.ask("buffers").starts_with("shard  free"));
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let mut bench = Bench::new(1);
    for line in [
        "conns list --limit",
        "conns list --limit 0",
        "conns list --limit 1001",
        "conns list --limit x",
        "conns list all",
        "conns show",
        "conns show xyz",
        "conns kick",
        "conns kick 1 2",
        "conns kick 10000000000000000",
        "conns find",
        "conns find a b",
    ] {
        let text = bench.ask(line);
        let command: Vec<&str> = line.split(' ').take(2).collect();
        let usage = format!("usage: {}", command.join(" "));
        assert!(text.starts_with(&usage), "{line}: {text}");
    }
}

#[test]
fn quit_answers_and_closes() {
    for line in ["quit", "exit"] {
        let mut bench = Bench::new(1);
        bench.enter(line);
        bench.enter("help");
        let session = bench.session;
        assert_eq!(
            bench.tester.sent(),
            [Sent::Event(session, said("good-bye\n")), Sent::Close(session, CloseReason::Requested)]
        );
        bench.tester.close(session, CloseReason::Requested);
        bench.tester.advance(Duration::from_secs(60));
        assert_eq!(bench.tester.sent(), []);
    }
}

#[test]
fn a_peer_that_ends_gets_its_answers_first() {
    let mut bench = Bench::new(1);
    bench.offer("", "slow");
    bench.enter("slow");
    bench.tester.frame(bench.session, ConsoleIn::End);
    assert_eq!(bench.events(), []);
    let entered = bench.entered();
    bench.reply(&entered, "done\n", ReplyStatus::Done);
    let session = bench.session;
    assert_eq!(
        bench.tester.sent(),
        [Sent::Event(session, answered("done\n")), Sent::Close(session, CloseReason::PeerClosed)]
    );
}

#[test]
fn an_answer_is_bounded() {
    let mut bench = Bench::new(1);
    bench.offer("", "endless");
    bench.enter("endless");
    let entered = bench.entered();
    let part = "x".repeat(MAX_OUTPUT / 2 + 1);
    for _ in 0..4 {
        bench.reply(&entered, &part, ReplyStatus::More);
    }
    let events = bench.events();
    let [ConsoleOut::Text(first), ConsoleOut::Text(second), last] = &events[..] else {
        panic!("{} events", events.len())
    };
    assert_eq!(first.len() + second.len(), MAX_OUTPUT);
    assert_eq!(*last, answered("\n[cut at 256 KiB]\n"));
}

#[test]
fn a_front_that_keeps_no_credit_is_closed() {
    let mut bench = Bench::new(1);
    bench.offer("", "slow");
    for _ in 0..TYPE_AHEAD {
        bench.enter("slow");
    }
    assert_eq!(bench.events(), []);
    bench.enter("slow");
    bench.enter("slow");
    let closed = Sent::Close(bench.session, CloseReason::ProtocolError);
    assert_eq!(bench.tester.sent(), [closed]);
}

#[test]
fn a_drain_says_good_bye() {
    let mut bench = Bench::new(1);
    bench.tester.drain();
    assert_eq!(bench.events(), [said("\nthe engine drains: good-bye\n")]);
    bench.enter("help");
    assert_eq!(bench.events(), []);
}

#[test]
fn help_fits_the_window() {
    let mut bench = Bench::new(1);
    let size = ConsoleIn::WindowSize { columns: 46, rows: 10 };
    bench.tester.frame(bench.session, size);
    let help = bench.ask("help");
    assert!(help.lines().all(|line| line.chars().count() <= 46), "{help}");
}
