//! The program against a real engine with a real HTTP listener.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use megamux::engine::net::Addr;
use megamux::http::HttpHandler;
use megamux::{Config, Engine, Listen, NO_SERVICE};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

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
fn a_signal_gives_the_terminal_back() {
    let (_engine, addr) = engine(Listen::tcp("127.0.0.1:0"));
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&main).unwrap();
    let name = ptsname(&main, Vec::new()).unwrap().into_string().unwrap();
    let side = || File::options().read(true).write(true).open(&name).unwrap();
    tcsetwinsize(&main, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_megamux-top"));
    command.arg(addr.to_string()).stdin(side()).stdout(side()).stderr(side());
    let mut child = command.spawn().unwrap();
    // The command's own copies: without them reading ends when the program has.
    drop(command);
    let (mut main, mut shown, mut told) = (File::from(main), Vec::new(), false);
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = main.read(&mut chunk) {
        shown.extend_from_slice(&chunk[..count]);
        if !told && String::from_utf8_lossy(&shown).contains("interval") {
            told = true;
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        }
    }
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("\x1b[?1049h") && shown.ends_with("\x1b[?1049l"), "{shown:?}");
}

#[test]
fn whoever_reads_may_leave() {
    let (_engine, addr) = engine(Listen::tcp("127.0.0.1:0"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_megamux-top"));
    command.args(["--once", "--interval", "0.1", &addr.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
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
    check(&["127.0.0.1:1"], 1, "--once");
    check(&["--once", "unix:/nowhere"], 1, "cannot connect to unix:/nowhere");
    check(&["--once", "localhost"], 2, "127.0.0.1:8080, [::1]:8080 or unix:/path");
    check(&["--interval", "0"], 2, "from 0.1 to 60 seconds");
}
