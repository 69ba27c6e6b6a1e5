//! Logging in, by generated events. The test plays the verifier.

use std::time::Duration;

use megamux_engine::testing::{Sent, ServiceTester, Watched};
use megamux_engine::{CloseReason, Config, ConnId, Engine, Placement, ShardId};

use crate::access::tests::RIGHT;
use crate::access::verifier::{Verified, Verify};
use crate::{Access, Console, ConsoleIn, ConsoleOut, LOGIN_TIME, Operators, Prompt, Role, Roster, Setup};

struct Door {
    tester: ServiceTester<Console>,
    roster: Roster,
    session: ConnId,
    asked: Watched<Verify>,
}

impl Door {
    fn new() -> Door {
        let mut config = Config::default();
        config.shards = 1;
        let mut builder = Engine::builder(config).unwrap();
        let mut access = Access::open();
        access.add("ann", RIGHT, Role::Operator).unwrap();
        access.add("vic", RIGHT, Role::Viewer).unwrap();
        let roles = [("stats".to_owned(), Role::Admin)].into();
        let roster = Roster::new(Operators { access, roles });
        let setup = Setup::new().roster(roster.clone());
        let console = setup.register_without_verifier(&mut builder, Placement::Thread).unwrap();
        let mut tester = ServiceTester::new(builder, &console);
        let asked = tester.watch();
        let session = tester.open(ShardId(0), Some("192.0.2.7:1000".parse().unwrap()));
        let mut door = Door { tester, roster, session, asked };
        assert_eq!(door.events(), [ConsoleOut::Text("megamux\n".to_owned()), ConsoleOut::Prompt(Prompt::User)]);
        door
    }

    fn again(&mut self) {
        self.session = self.tester.open(ShardId(0), Some("192.0.2.7:1001".parse().unwrap()));
        self.tester.sent();
    }

    fn enter(&mut self, line: &str) {
        self.tester.frame(self.session, ConsoleIn::Line(line.to_owned()));
    }

    fn events(&mut self) -> Vec<ConsoleOut> {
        let event = |sent| match sent {
            Sent::Event(_, event) => event,
            other => panic!("{other:?}"),
        };
        self.tester.sent().into_iter().map(event).collect()
    }

    /// The one answer: its text, and what is asked next.
    fn answer(&mut self) -> (String, Prompt) {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        match events.remove(0) {
            ConsoleOut::Answered { text, prompt } => (text, prompt),
            other => panic!("{other:?}"),
        }
    }

    fn knock(&mut self, user: &str, password: &str) {
        self.enter(user);
        assert_eq!(self.answer(), (String::new(), Prompt::Password));
        self.enter(password);
        self.tester.run();
    }

    /// The verifier's answer to the one password that is being compared.
    fn compared(&mut self, right: bool) {
        let asked = self.asked.take();
        assert_eq!(asked.len(), 1);
        let verified = Verified { session: asked[0].session, request: asked[0].request, right };
        self.tester.engine().publish(verified).unwrap();
    }

    fn log_in(&mut self, user: &str) {
        self.knock(user, "right");
        self.compared(true);
        let (text, prompt) = self.answer();
        assert!(text.starts_with(&format!("welcome {user}, ")), "{text}");
        assert_eq!(prompt, Prompt::Command(String::new()));
    }
}

#[test]
fn the_right_password_opens() {
    let mut door = Door::new();
    door.enter(" ann ");
    assert_eq!(door.answer().1, Prompt::Password);
    door.enter(" right ");
    door.tester.run();
    let asked = door.asked.take();
    assert_eq!((&*asked[0].user, asked[0].password.as_str()), ("ann", " right "), "a password is taken as it is");
    let verified = Verified { session: asked[0].session, request: asked[0].request, right: true };
    door.tester.engine().publish(verified).unwrap();
    assert_eq!(door.answer().0, "welcome ann, operator, try: help\n");
    door.enter("help quit");
    assert_eq!(door.answer().0, "quit\n  Ends this session.\n");
    door.tester.advance(2 * LOGIN_TIME);
    assert_eq!(door.events(), [], "who is in may stay");
}

#[test]
fn a_wrong_password_costs_time_and_the_third_the_session() {
    let mut door = Door::new();
    for (failed, seconds) in [(1, 1), (2, 2), (3, 4)] {
        door.knock("ann", "wrong");
        door.compared(false);
        // Neither keys nor lines shorten it.
        door.tester.frame(door.session, ConsoleIn::Interrupt);
        door.tester.advance(Duration::from_millis(seconds * 1000 - 10));
        assert_eq!(door.events(), []);
        door.tester.advance(Duration::from_millis(20));
        if failed < 3 {
            assert_eq!(door.answer(), ("login incorrect\n".to_owned(), Prompt::User));
        }
    }
    let said = Sent::Event(door.session, ConsoleOut::Text("login incorrect\n".to_owned()));
    assert_eq!(door.tester.sent(), [said, Sent::Close(door.session, CloseReason::HandshakeTimeout)]);
}

#[test]
fn an_unknown_user_is_treated_like_a_wrong_password() {
    let mut door = Door::new();
    door.knock("nobody", "right");
    // Even if the verifier were wrong: who has no role does not come in.
    door.compared(true);
    door.tester.advance(Duration::from_millis(990));
    assert_eq!(door.events(), []);
    door.tester.advance(Duration::from_millis(20));
    assert_eq!(door.answer(), ("login incorrect\n".to_owned(), Prompt::User));
}

#[test]
fn a_source_that_tries_too_often_has_to_wait() {
    let mut door = Door::new();
    let mut tries = 0;
    loop {
        door.knock("ann", "wrong");
        if door.asked.take().is_empty() {
            break;
        }
        tries += 1;
        assert!(tries < 20, "nothing stops it");
        // A session of its own for each try does not help.
        door.tester.close(door.session, CloseReason::PeerClosed);
        door.again();
    }
    assert_eq!(tries, 6);
    door.tester.advance(Duration::from_secs(2));
    assert_eq!(door.answer().0, "too many attempts, try again in 10.0 s\n");
    door.tester.advance(Duration::from_secs(10));
    door.log_in("ann");
}

#[test]
fn who_does_not_log_in_is_sent_away() {
    let mut door = Door::new();
    door.tester.advance(LOGIN_TIME / 2);
    door.enter("ann");
    assert_eq!(door.answer().1, Prompt::Password);
    door.tester.frame(door.session, ConsoleIn::Interrupt);
    assert_eq!(door.events(), [ConsoleOut::Prompt(Prompt::User)]);
    door.tester.advance(LOGIN_TIME / 2 + Duration::from_secs(1));
    let sent = door.tester.sent();
    assert_eq!(sent.last(), Some(&Sent::Close(door.session, CloseReason::HandshakeTimeout)));
}

#[test]
fn a_verifier_that_does_not_answer_is_not_waited_for() {
    let mut door = Door::new();
    door.knock("ann", "right");
    let late = door.asked.take().remove(0);
    door.tester.advance(Duration::from_secs(16));
    assert_eq!(door.answer(), ("passwords cannot be checked now\n".to_owned(), Prompt::User));
    let verified = Verified { session: late.session, request: late.request, right: true };
    door.tester.engine().publish(verified).unwrap();
    assert_eq!(door.events(), [], "too late");
}

#[test]
fn a_role_limits_what_is_entered() {
    let mut door = Door::new();
    // Nothing is a command before the password.
    door.enter("quit");
    assert_eq!(door.answer().1, Prompt::Password);
    door.tester.frame(door.session, ConsoleIn::Interrupt);
    door.tester.sent();
    door.log_in("vic");
    door.enter("conns kick 1");
    assert_eq!(door.answer().0, "kick is for operators and above\n");
    door.enter("stats");
    assert_eq!(door.answer().0, "stats is for admins and above\n", "as configured");
    door.tester.close(door.session, CloseReason::PeerClosed);

    door.again();
    door.log_in("ann");
    door.enter("log level debug");
    assert_eq!(door.answer().0, "setting the level is for admins\n");
    door.enter("log level");
    assert_eq!(door.answer().0, "this process does not let its console change the log\n");
    door.tester.frame(door.session, ConsoleIn::Complete("sta".to_owned()));
    assert!(matches!(&door.events()[..], [ConsoleOut::Completions(none)] if none.words.is_empty()));
}

#[test]
fn another_list_counts_from_the_next_command_on() {
    let mut door = Door::new();
    door.log_in("ann");
    let list = |users: &[(&str, Role)]| {
        let mut access = Access::open();
        for (user, role) in users {
            access.add(user, RIGHT, *role).unwrap();
        }
        Operators { access, roles: [("shards".to_owned(), Role::Operator)].into() }
    };
    door.roster.replace(list(&[("ann", Role::Viewer)]));
    door.enter("shards");
    assert_eq!(door.answer().0, "shards is for operators and above\n");
    door.roster.replace(list(&[("ann", Role::Admin)]));
    door.enter("stats nothing");
    assert!(!door.answer().0.contains("is for"), "stats is everybody's again");
    door.roster.replace(list(&[("vic", Role::Viewer)]));
    door.enter("stats");
    let sent = door.tester.sent();
    assert!(
        matches!(&sent[0], Sent::Event(_, ConsoleOut::Text(text)) if text.contains("no operator any more")),
        "{sent:?}"
    );
    assert!(matches!(sent[1], Sent::Close(..)), "{sent:?}");
    // A new session is asked as ever, even when nobody is left.
    door.roster.replace(Operators::default());
    door.session = door.tester.open(ShardId(0), None);
    assert_eq!(door.events(), [ConsoleOut::Text("megamux\n".to_owned()), ConsoleOut::Prompt(Prompt::User)]);
}
