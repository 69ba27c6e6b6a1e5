//! telnetlib3 as the terminal of an operator: by keys, which the console edits, and by lines, which the terminal edits.

use megamux_conformance_tests::{Judge, Verdict};
use megamux_engine::net::Addr;
use megamux_engine::{Config, Engine, Listen, Pin, Placement};
use serde_json::json;

/// The result of a match; `None` if it was skipped.
fn play(scenario: &str) -> Option<Verdict> {
    let mut config = Config::default();
    config.shards = 1;
    config.pin = Pin::None;
    let mut builder = Engine::builder(config).expect("a config");
    megamux_console::install(&mut builder, Listen::tcp("127.0.0.1:0"), Placement::Thread).expect("a console");
    let engine = builder.start().expect("the engine starts");
    let (_, Addr::Tcp(addr)) = engine.local_addrs().remove(0) else { panic!("it listens on TCP") };
    let verdict = Judge::start("telnetlib3_client.py", &[&scenario, &addr.port()])?.verdict();
    engine.handle().stop();
    engine.join().expect("the engine ends well");
    eprintln!("{verdict:#}");
    assert_eq!(verdict["complaints"], json!([]));
    Some(verdict)
}

#[test]
fn keys_are_edited_and_pages_fit_the_window() {
    let Some(verdict) = play("console_by_keys") else { return };
    assert_eq!(verdict["local"], json!(["NAWS", "TTYPE"]));
    assert_eq!(verdict["remote"], json!(["ECHO", "SGA"]));
    assert_eq!(verdict["mode"], "kludge");
    // The line that was entered, and a page of all rows but one.
    assert_eq!(verdict["pages"], json!([1 + 9, 1 + 6]));
    assert_eq!(verdict["farewell"], true);
}

#[test]
fn lines_are_edited_by_who_wants_to() {
    let Some(verdict) = play("console_by_lines") else { return };
    assert_eq!(verdict["local"], json!(["LINEMODE", "NAWS", "TTYPE"]));
    assert_eq!(verdict["remote"], json!([]));
    assert_eq!(verdict["mode"], "local");
    assert_eq!(verdict["mask"], 3);
    assert!(verdict["said"].as_str().unwrap().contains("Ends this session."), "{verdict}");
}
