//! The server with as little as it needs: under its seccomp profile, and as nobody with little locked memory.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use megamux_system_tests::{Caps, DEADLINE, Directory, Options, Server, connect, echo, scenarios, skip, wait_until};
use rustix::process::{Signal, geteuid};

const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../services/node/dist/seccomp.json");
/// "right", hashed as the manual's example has it: with memory to work in.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$iOiMwQaww6pVoWvnTXokSB1g7dRAcGEtne/uJZuwfp4";
const CONFINED: &str = env!("CARGO_BIN_EXE_confined");

scenarios! {
    the_profile_allows_all_that_the_server_does
    nobody_may_run_it_with_little_locked_memory
}

#[test]
fn the_profile_refuses_what_the_server_does_not() {
    let directory = Directory::new();
    let path = directory.path("fifo");
    let made = Command::new(CONFINED).args([PROFILE, "mkfifo"]).arg(&path).output().expect("it runs");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(!made.status.success() && said.contains("Operation not permitted"), "{said}");
    assert!(!path.exists());
}

fn the_profile_allows_all_that_the_server_does(caps: Caps) {
    let directory = Directory::new();
    let options = options(caps, &directory).launched_by(&[CONFINED, PROFILE]);
    let Some(server) = options.start() else { return };
    serves_reloads_and_drains(server, &directory);
}

fn nobody_may_run_it_with_little_locked_memory(caps: Caps) {
    let directory = Directory::new();
    // Where nobody may read it: a build directory may lie in somebody's home.
    let copy = directory.path("megamux");
    fs::copy(Options::binary(), &copy).expect("the binary is there");
    for (path, mode) in [(directory.path("."), 0o777), (copy.clone(), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }
    let run = format!("exec {} \"$@\"", copy.display());
    let mut launcher = vec!["prlimit", "--memlock=65536:65536"];
    if geteuid().is_root() {
        launcher.extend(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
        launcher.extend(["--inh-caps=-all", "--no-new-privs"]);
    }
    launcher.extend(["sh", "-c", &run]);
    for program in ["prlimit", "setpriv"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skip(&format!("{program} is not installed"));
        }
    }
    let Some(server) = options(caps, &directory).launched_by(&launcher).start() else { return };
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it lives");
    let held = status.lines().find(|line| line.starts_with("CapEff:")).expect("the kernel says it");
    assert!(held.ends_with("0000000000000000"), "{held}");
    serves_reloads_and_drains(server, &directory);
}

/// A server with every listener, a file to reload, and a directory for its files.
fn options(caps: Caps, directory: &Directory) -> Options {
    let config = directory.path("megamux.toml");
    let operators = directory.path("operators");
    fs::write(&operators, format!("user ann admin {HASH}\n")).expect("it is ours");
    fs::write(&config, asking(directory)).expect("it is ours");
    for path in [&config, &operators] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    }
    let options = Options::new(caps).set("telnet", "127.0.0.1:0").set("shards", 2);
    options.set("data-dir", directory.path("data").display()).set("config", config.display())
}

/// Settings of a console that asks who is there.
fn asking(directory: &Directory) -> String {
    format!("console.operators = {:?}\n", directory.path("operators"))
}

/// Types lines, each when what is expected before it was said.
fn operate(server: &Server, dialogue: &[(&str, &str)]) {
    let mut operator = connect(server.addr("telnet"));
    for (expect, line) in dialogue {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(expect) {
            let mut byte = [0];
            let len = operator.read(&mut byte).expect("it answers");
            assert!(len > 0, "no {expect:?} in {:?}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        operator.write_all(format!("{line}\r\n").as_bytes()).expect("it reads");
    }
}

fn serves_reloads_and_drains(mut server: Server, directory: &Directory) {
    let mut stream = connect(server.echo());
    for size in [1, 1000, 300_000] {
        echo(&mut stream, &vec![7; size]).expect("it is served");
    }
    operate(
        &server,
        &[
            ("login: ", "ann"),
            ("password: ", "right"),
            ("welcome ann, admin", "shards"),
            ("megamux> ", "log level debug"),
            ("logged from now on", "log tail"),
            ("name=tail", ""),
            ("megamux> ", "watch -n 1 whoami"),
            ("ann, admin", ""),
            ("megamux> ", "quit"),
            ("good-bye", ""),
        ],
    );
    assert!(server.metrics().sum("megamux_accepts_total") >= 3);
    assert!(directory.path("data/FORMAT").exists());

    // One more listener, by a reload.
    let socket = directory.path("more");
    let entry =
        asking(directory) + &format!("[[listen]]\nprotocol = \"echo\"\nlisten = \"unix:{}\"\n", socket.display());
    fs::write(directory.path("megamux.toml"), entry).expect("it is ours");
    server.signal(Signal::HUP);
    // Its file is there a moment before it listens.
    let mut more = None;
    wait_until("it listens", || {
        more = UnixStream::connect(&socket).ok();
        more.is_some()
    });
    let mut more = more.expect("it listens");
    more.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    echo(&mut more, b"here too").expect("it is served");

    server.signal(Signal::TERM);
    assert_eq!(server.wait(DEADLINE).and_then(|status| status.code()), Some(0));
}
