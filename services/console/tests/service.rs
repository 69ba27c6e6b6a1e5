//! The console by generated events: no socket, no thread, no clock. The test plays fronts, shards and other services.

use std::time::Duration;

use megamux_console::{Console, ConsoleIn, ConsoleOut, MAX_OUTPUT, TYPE_AHEAD, register};
use megamux_engine::testing::{Asked, ListingAsked, Sent, ServiceTester, Watched, conn_id, conn_info, conn_row};
use megamux_engine::{CloseReason, Config, ConnId, ConnRow, Engine, Placement, ShardId};
use megamux_telnet::console::{CommandEntered, RegisterCommand, ReplyStatus};

const PROMPT: &str = "megamux> ";

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
        let [Sent::Event(to, ConsoleOut::Text(text))] = &greeting[..] else { panic!("{greeting:?}") };
        assert_eq!(*to, session);
        assert!(text.starts_with("megamux ") && text.ends_with("\nmegamux> "), "{text:?}");
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
        let [ConsoleOut::Answered(text)] = &events[..] else { panic!("{events:?}") };
        text.strip_suffix(PROMPT).expect("a prompt").to_owned()
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

fn answered(text: &str) -> ConsoleOut {
    ConsoleOut::Answered(text.to_owned() + PROMPT)
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
    assert!(bench.ask("help").contains("\n  shards      Shows each"));
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
    assert_eq!(sent.len(), 2);
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
    let forgotten = ConsoleOut::Answered(String::new());
    assert_eq!(bench.events(), [answered("\ninterrupted\n"), forgotten]);
    let entered = bench.entered();
    bench.reply(&entered, "late\n", ReplyStatus::Done);
    bench.tester.advance(Duration::from_secs(10));
    assert_eq!(bench.events(), []);

    bench.tester.frame(bench.session, ConsoleIn::Interrupt);
    assert_eq!(bench.events(), [said("\nmegamux> ")]);
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
fn a_connection_is_found_among_all_shards() {
    let mut bench = Bench::new(2);
    let id = row(1, 9).info.id;
    bench.enter(&format!("conns show {id}"));
    let mut rows = [vec![row(0, 9)], vec![row(1, 1), row(1, 9)]].into_iter();
    for listing in bench.listings() {
        listing.answer(rows.next().unwrap(), 2);
    }
    let text = bench.answer();
    assert!(text.contains(&format!("id        {id}\nshard     1\n")), "{text}");
    assert!(text.contains("peer      192.0.2.1:9\n"), "{text}");

    bench.enter(&format!("conns show {id}"));
    for listing in bench.listings() {
        listing.answer(vec![], 0);
    }
    assert_eq!(bench.answer(), "no such connection\n");

    bench.enter(&format!("conns show {id}"));
    for listing in bench.listings() {
        listing.answer(vec![row(0, 1)], 1_000_000);
    }
    assert_eq!(bench.answer(), "no such connection among the 2 looked at, of 2000000\n");
}

#[test]
fn a_kick_reaches_the_connections_shard() {
    let mut bench = Bench::new(2);
    let id = row(1, 9).info.id;
    let mut kick = |rows: Vec<ConnRow>, total: usize| {
        bench.enter(&format!("conns kick {id}"));
        for listing in bench.listings() {
            listing.answer(rows.clone(), total);
        }
        let text = bench.answer();
        let kicked = bench
            .tester
            .asked()
            .iter()
            .filter(|asked| matches!(asked, Asked::Close(conn, CloseReason::Kicked) if *conn == id))
            .count();
        (text, kicked)
    };
    let peer = format!("kicked {id}, peer 192.0.2.1:9\n");
    assert_eq!(kick(vec![row(1, 9)], 1), (peer, 1));
    assert_eq!(kick(vec![], 0), ("no such connection\n".to_owned(), 0));
    let (text, kicked) = kick(vec![], 70_000);
    assert!(text.ends_with("its shard will close it if it exists\n"), "{text}");
    assert_eq!(kicked, 1);

    let own = bench.session;
    assert_eq!(bench.ask(&format!("conns kick {own}")), "that is this session: quit ends it\n");
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
    let size = ConsoleIn::WindowSize { columns: 40, rows: 10 };
    bench.tester.frame(bench.session, size);
    let help = bench.ask("help");
    assert!(help.lines().all(|line| line.chars().count() <= 40), "{help}");
}
