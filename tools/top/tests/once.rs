//! The program against a real engine with a real HTTP listener.

use std::process::{Command, Output};
use std::time::SystemTime;

use megamux::engine::net::Addr;
use megamux::http::HttpHandler;
use megamux::{Config, Engine, Listen, NO_SERVICE};

fn top(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_megamux-top")).args(arguments).output().unwrap()
}

fn engine(listen: Listen) -> (Engine, Addr) {
    let mut config = Config::default();
    config.shards = 2;
    let mut builder = Engine::builder(config).unwrap();
    builder.listen(listen, &NO_SERVICE, |_| HttpHandler::new(SystemTime::now)).unwrap();
    let engine = builder.start().unwrap();
    let (_, addr) = engine.local_addrs().remove(0);
    (engine, addr)
}

#[test]
fn a_running_server_is_shown_with_a_row_per_shard_and_one_for_all() {
    let path = std::env::temp_dir().join(format!("megamux-top-{}.sock", std::process::id()));
    for listen in [Listen::tcp("127.0.0.1:0"), Listen::unix(&path)] {
        let (_engine, addr) = engine(listen);
        let output = top(&["--once", "--interval", "0.1", &addr.to_string()]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][0], "megamux", "{text}");
        let first: Vec<&str> = lines[2..].iter().map(|line| line[0]).collect();
        assert_eq!(first, ["0", "1", "all"], "{text}");
        // The scrape itself is a connection.
        assert_eq!(lines[4][1], "1", "{text}");
    }
    let _ = std::fs::remove_file(path);
}

#[test]
fn whoever_is_not_there_or_not_megamux_is_named() {
    let check = |arguments: &[&str], code, expect: &str| {
        let output = top(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expect), "{said}");
    };
    // Port 1 is nobody's.
    check(&["--once", "127.0.0.1:1"], 1, "cannot connect to 127.0.0.1:1");
    check(&["--once", "unix:/nowhere"], 1, "cannot connect to unix:/nowhere");
    check(&["--once", "localhost"], 2, "127.0.0.1:8080, [::1]:8080 or unix:/path");
    check(&["--interval", "0"], 2, "from 0.1 to 60 seconds");
}
