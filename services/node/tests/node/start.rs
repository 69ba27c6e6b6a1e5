//! Starting: what the banner says, and how each failure ends.

use std::fs;

use rustix::process::Signal;

use crate::server::{Server, command, run, run_command, run_in_shell, scratch};

/// One line on stderr, and the exit code.
#[track_caller]
fn check_fails(args: &[&str], code: i32, expect: &str) {
    let (status, said) = run(args);
    assert_eq!(status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(expect), "{args:?}: {said}");
    if code == 1 {
        assert!(said.starts_with("megamux: ") && !said.contains('\n'), "{args:?}: {said}");
    }
}

#[test]
fn a_build_says_what_it_has() {
    let Some(server) = Server::start(&["--shards", "1", "--pin", "none"]) else {
        return;
    };
    let features = [
        ("telnet", cfg!(feature = "telnet")),
        ("http", cfg!(feature = "http")),
        ("echo", cfg!(feature = "echo")),
        ("proxy", cfg!(feature = "proxy")),
    ];
    let built: Vec<_> = features.iter().filter(|(_, is_built)| *is_built).map(|(name, _)| *name).collect();
    let expect = if built.is_empty() { "the engine alone".to_owned() } else { built.join(" ") };
    assert_eq!(server.banner[0], format!("megamux {} with {expect}", env!("CARGO_PKG_VERSION")));
    for listener in built.iter().filter(|feature| **feature != "proxy") {
        assert_eq!(server.said(listener), "off");
    }
    assert_eq!(server.said("shards"), "1, not pinned");
    let driver = server.said("driver");
    // Where io_uring is refused it is epoll, with the reason.
    assert!(
        driver == "uring, the best there is; all that it needs was tried and works" || driver.starts_with("epoll, ")
    );
    assert!(server.said("limits").contains("RLIMIT_NOFILE"));
    server.signal(Signal::TERM);
    let (status, said) = server.end();
    assert!(status.success(), "{status}: {said}");
}

#[test]
fn masked_capabilities_are_said() {
    let Some(server) = Server::start(&["--caps", "-inc,-msg_ring"]) else {
        return;
    };
    assert_eq!(server.said("masked:"), "inc msg_ring");
    check_fails(&["--caps", "-everything"], 2, "\"-everything\" masks nothing");
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let script = "ulimit -Sn 256; ulimit -Hn 300; exec \"$0\" --telnet off --http off --shards 1";
    let Some(server) = Server::start_in_shell(script) else {
        return;
    };
    let expect = "300 descriptors (RLIMIT_NOFILE, raised from 256): \
                  up to 300 connections per shard, 300 in all";
    assert_eq!(server.said("limits"), expect);
}

#[test]
fn too_few_descriptors_are_said() {
    let (status, said) = run_in_shell("ulimit -n 8; exec \"$0\" --telnet off --http off --shards 1");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.starts_with("megamux: too few descriptors: RLIMIT_NOFILE allows 8, "), "{said}");
}

#[test]
fn mistakes_on_the_command_line_end_with_2() {
    check_fails(&["--http", "localhost:80"], 2, "\"localhost:80\" is a name");
    check_fails(&["--http", "127.0.0.1"], 2, "lacks a port");
    check_fails(&["--shards", "many"], 2, "'--shards <N>'");
    check_fails(&["--shards", "1000000"], 2, "1000000 shards: at most");
    check_fails(&["--drain-timeout", "soon"], 2, "no span of time");
    check_fails(&["--config", "/nowhere/megamux.toml"], 2, "cannot read the configuration /nowhere/megamux.toml");
}

#[test]
fn a_mistake_in_the_file_is_said_with_its_line() {
    let path = scratch("mistake.toml");
    fs::write(&path, "shards = 1\n[http]\nlisten = \"off\"\nport = 80\n").unwrap();
    let expect = format!("megamux: {}:4: unknown key \"port\" in [http]: known are listen,", path.display());
    check_fails(&["--config", path.to_str().unwrap()], 2, &expect);
    fs::remove_file(path).unwrap();
}

#[test]
fn the_command_line_wins_over_the_file() {
    let path = scratch("layers.toml");
    let file = "shards = 2\npin = \"none\"\ntelnet.listen = \"off\"\nhttp.listen = \"off\"\n";
    fs::write(&path, file).unwrap();
    let config = path.to_str().unwrap();
    let Some(server) = Server::start_as_is(&["serve", "--config", config, "--shards", "1"]) else {
        return;
    };
    assert_eq!(server.said("shards"), "1, not pinned");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_data_directory_has_one_owner() {
    let path = scratch("data");
    let dir = path.to_str().unwrap();
    let Some(server) = Server::start(&["--shards", "1", "--data-dir", dir]) else {
        return;
    };
    check_fails(&["--data-dir", dir], 1, "is in use by process ");
    drop(server);
    // The lock went with the process, although it was killed.
    assert!(Server::start(&["--shards", "1", "--data-dir", dir]).is_some());
    let format = fs::read_to_string(path.join("FORMAT")).unwrap();
    assert_eq!(format, "megamux data 1\n");
    check_fails(&["--data-dir", "/dev/null"], 1, "cannot use the data directory /dev/null");
    fs::remove_dir_all(path).unwrap();
}

#[cfg(feature = "echo")]
#[test]
fn a_port_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    if Server::start(&[]).is_none() {
        return;
    }
    for shards in ["1", "2"] {
        let expect = format!("cannot listen on {addr}: Address already in use");
        check_fails(&["--echo", &addr, "--shards", shards], 1, &expect);
    }
}

#[test]
fn what_this_build_lacks_is_said() {
    let features =
        [("telnet", cfg!(feature = "telnet")), ("http", cfg!(feature = "http")), ("echo", cfg!(feature = "echo"))];
    for (name, _) in features.iter().filter(|(_, is_built)| !is_built) {
        check_fails(&[&format!("--{name}"), "127.0.0.1:0"], 2, &format!("this build has no {name}"));
    }
}

/// What a command prints, which must end well.
fn said(args: &[&str]) -> String {
    let output = command().args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn settings_can_be_looked_at_without_starting() {
    let path = scratch("look.toml");
    let file = path.to_str().unwrap();
    fs::write(&path, said(&["config", "default"])).unwrap();
    assert_eq!(said(&["config", "check", file]), format!("{file}: no mistakes\n"));
    fs::write(&path, "shards = 3\n").unwrap();
    let shown = said(&["config", "show", "--config", file, "--pin", "none"]);
    let line =
        |setting: &str| shown.lines().find(|line| line.starts_with(setting)).unwrap_or_else(|| panic!("{shown}"));
    assert!(line("shards = 3").ends_with(&format!("# {file}:1")));
    assert!(line("pin = \"none\"").ends_with("# flag --pin"));
    assert!(line("drain_timeout").ends_with("# default"));
    fs::write(&path, "shard = 3\npin = 1\n").unwrap();
    let (status, said) = run_command(command().args(["config", "check", file]));
    assert_eq!(status.code(), Some(2), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with(&format!("megamux: {file}:1: unknown key \"shard\"")), "{said}");
    assert!(lines[1].starts_with(&format!("megamux: {file}:2: pin: ")), "{said}");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_wrong_mask_in_the_environment_names_the_variable_and_the_option() {
    let (status, said) = run_command(command().env("MEGAMUX_CAPS", "-everything"));
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(
        said.starts_with("megamux: MEGAMUX_CAPS: \"-everything\" masks nothing") && said.contains("--caps"),
        "{said}"
    );
}

#[test]
fn the_log_can_be_json() {
    let args = ["--log-format", "json", "--shards", "1"];
    let Some(server) = Server::start(&args) else { return };
    server.signal(Signal::TERM);
    let (status, said) = server.end();
    assert!(status.success(), "{said}");
    for line in said.lines() {
        assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with('}') && !line.contains('\x1b'), "{line}");
    }
    assert!(said.contains("\"message\":\"drained\""), "{said}");
}

#[test]
fn the_default_data_directory_is_the_systems() {
    let state = scratch("state");
    let args = ["--telnet", "off", "--http", "off", "--shards", "1"];
    for (variable, inside) in [("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "megamux"), ("HOME", ".local/state/megamux")]
    {
        let Some(server) = Server::start_command(command().args(args).env(variable, &state)) else { return };
        let format = state.join(inside).join("FORMAT");
        assert_eq!(fs::read_to_string(&format).unwrap(), "megamux data 1\n", "{variable}");
        drop(server);
        fs::remove_dir_all(&state).unwrap();
    }
}
