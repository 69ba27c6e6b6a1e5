//! The operators' file: where it is checked, what a reload makes of it, and what becomes of a log level set from the console.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::server::{Server, command, run, run_command, scratch};

/// "right", hashed as cheaply as argon2 allows.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$P3OLBQw3O3GiY9hpX8wpK8qO6gQccIdDXnlkdzKceqU";

/// A configuration and the operators' file that it names.
struct Files {
    config: PathBuf,
    operators: PathBuf,
}

impl Files {
    fn new(name: &str, operators: &str) -> Files {
        let files =
            Files { config: scratch(&format!("{name}.toml")), operators: scratch(&format!("{name}.operators")) };
        files.name(operators);
        files.set("");
        files
    }

    fn name(&self, operators: &str) {
        fs::write(&self.operators, operators.replace("HASH", HASH)).unwrap();
    }

    fn set(&self, more: &str) {
        let operators = &self.operators;
        let text = format!(
            "data_dir = \"none\"\nhttp.listen = \"off\"\ntelnet.listen = \"127.0.0.1:0\"\nconsole.operators = {operators:?}\n{more}"
        );
        fs::write(&self.config, text).unwrap();
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    fn start(&self) -> Option<Server> {
        Server::start_as_is(&["--config", self.config(), "--shards", "1"])
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
        let _ = fs::remove_file(&self.operators);
    }
}

/// A session of a client that says nothing of itself.
struct Session(TcpStream);

impl Session {
    fn log_in(server: &Server, user: &str, role: &str) -> Session {
        let mut session = Session(server.connect("telnet"));
        session.await_text("login: ");
        session.enter(user, "password: ");
        session.enter("right", &format!("welcome {user}, {role}"));
        session.await_text("megamux> ");
        session
    }

    fn enter(&mut self, line: &str, answer: &str) {
        self.0.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.await_text(answer);
    }

    #[track_caller]
    fn await_text(&mut self, text: &str) {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(text) {
            let mut byte = [0];
            let count = self.0.read(&mut byte).unwrap();
            assert!(count > 0, "no {text:?} in {:?}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&byte);
        }
    }
}

#[test]
fn a_reload_judges_who_is_in_and_a_bad_file_changes_nothing() {
    let files = Files::new("judge", "user ann operator HASH\n");
    let Some(server) = files.start() else { return };
    let mut session = Session::log_in(&server, "ann", "operator");

    let path = files.operators.display().to_string();
    for (bad, why) in [
        ("# ann is away\nuser ann admin\n", ":2: give `user NAME ROLE HASH`"),
        ("# nobody\n", ":1: no user is named here"),
    ] {
        files.name(bad);
        server.signal(Signal::HUP);
        server.wait_for(&format!("reload refused, nothing changed: {path}{why}"));
        session.enter("whoami", "ann, operator, on connection");
        let (status, said) = run_command(command().args(["config", "check", files.config()]));
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.starts_with(&format!("megamux: {path}{why}")), "{said}");
    }

    files.name("user ann viewer HASH\nuser vic admin HASH\n");
    server.signal(Signal::HUP);
    server.wait_for("who may use the console has changed");
    server.wait_for("reloaded");
    session.enter("whoami", "ann, viewer, on connection");

    files.name("user vic admin HASH\n");
    server.signal(Signal::HUP);
    server.wait_for("reloaded");
    session.enter("whoami", "you are no operator any more");
    Session::log_in(&server, "vic", "admin");
    let (status, said) = run_command(command().args(["config", "check", files.config()]));
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn a_console_that_asks_nobody_goes_on_so_until_a_restart() {
    let files = Files::new("open", "user ann operator HASH\n");
    let config = fs::read_to_string(&files.config).unwrap();
    let open: String =
        config.lines().filter(|line| !line.contains("operators")).map(|line| format!("{line}\n")).collect();
    fs::write(&files.config, open).unwrap();
    let Some(server) = files.start() else { return };
    files.set("");
    server.signal(Signal::HUP);
    server.wait_for("the console stays open until a restart");
    let mut session = Session(server.connect("telnet"));
    session.await_text("megamux> ");
}

#[test]
fn a_level_set_from_the_console_outlives_a_reload_that_has_the_same_filter() {
    let files = Files::new("level", "user ann admin HASH\n");
    let Some(server) = files.start() else { return };
    let mut session = Session::log_in(&server, "ann", "admin");
    session.enter("log level info,megamux_engine=debug", "logged from now on: info,megamux_engine=debug");
    session.await_text("megamux> ");
    server.signal(Signal::HUP);
    server.wait_for("as it was set since, stays");
    server.wait_for("reloaded");
    session.enter("log level", "megamux_engine=debug");
    session.await_text("megamux> ");

    files.set("log.filter = \"info,megamux_console=debug\"\n");
    server.signal(Signal::HUP);
    server.wait_for("reload: log.filter is \"info,megamux_console=debug\" now, and not");
    server.wait_for("reloaded");
    session.enter("log level", "megamux_console=debug");
}

#[test]
fn where_the_console_may_listen_has_one_rule_with_two_reasons() {
    let files = Files::new("binding", "user ann admin HASH\n");
    let check = |args: &[&str], why: &str| {
        let (status, said) = run(args);
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("the telnet console is not bound to 0.0.0.0:0: ") && said.contains(why), "{said}");
    };
    check(&["--telnet", "0.0.0.0:0"], "no passwords are configured");
    check(&["--telnet", "0.0.0.0:0", "--config", files.config()], "passwords would travel in the clear");
}
