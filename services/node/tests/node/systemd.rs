//! Under a service manager: what it is told, sockets that it passes, and the watchdog. The test plays the manager.

#[cfg(any(feature = "echo", feature = "http"))]
use std::io::{Read, Write};
use std::net::TcpListener;
#[cfg(feature = "echo")]
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
#[cfg(feature = "http")]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::server::{PATIENCE, Server, command, run_command, scratch};

/// The manager's end of NOTIFY_SOCKET.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(name: &str) -> Manager {
        let path = scratch(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path }
    }

    /// The next message, as its lines.
    #[track_caller]
    fn hears(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let len = self.socket.recv(&mut message).expect("a message in time");
        String::from_utf8_lossy(&message[..len]).lines().map(str::to_owned).collect()
    }

    /// Waits for a message with this line in it.
    #[track_caller]
    fn hears_of(&self, line: &str) -> Vec<String> {
        loop {
            let message = self.hears();
            if message.iter().any(|said| said == line) {
                return message;
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = command();
        command.env("NOTIFY_SOCKET", &self.path);
        command
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

const QUIET: [&str; 10] = ["--telnet", "off", "--http", "off", "--echo", "off", "--data-dir", "none", "--shards", "1"];

#[test]
fn it_is_told_when_the_server_is_ready_reloads_and_stops() {
    let manager = Manager::new("notify");
    let Some(server) = Server::start_command(manager.command().args(QUIET)) else { return };
    let ready = manager.hears();
    assert_eq!(ready, ["READY=1", "STATUS=serving, no listeners"]);
    server.signal(Signal::HUP);
    let reloading = manager.hears();
    assert_eq!(reloading[0], "RELOADING=1");
    let since = reloading[1].strip_prefix("MONOTONIC_USEC=").and_then(|time| time.parse::<u64>().ok());
    assert!(since.is_some_and(|time| time > 0), "{reloading:?}");
    assert_eq!(manager.hears()[0], "READY=1");
    server.signal(Signal::TERM);
    let stopping = manager.hears();
    assert_eq!(stopping[0], "STOPPING=1");
    assert!(stopping[1].starts_with("STATUS=draining"), "{stopping:?}");
    assert!(server.end().0.success());
}

#[test]
fn the_status_tells_a_refused_reload() {
    let manager = Manager::new("refused");
    let path = scratch("refused.toml");
    std::fs::write(&path, "").unwrap();
    let Some(server) = Server::start_command(manager.command().args(QUIET).arg("--config").arg(&path)) else { return };
    manager.hears_of("READY=1");
    std::fs::write(&path, "nonsense").unwrap();
    server.signal(Signal::HUP);
    let told = manager.hears_of("READY=1");
    assert!(told[1].ends_with("the last reload was refused, see the log"), "{told:?}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_watchdog_is_fed_while_the_shards_turn() {
    let manager = Manager::new("watchdog");
    let mut command = manager.command();
    let Some(server) = Server::start_command(command.env("WATCHDOG_USEC", "20000").args(QUIET)) else { return };
    for _ in 0..5 {
        manager.hears_of("WATCHDOG=1");
    }
    drop(server);
}

/// A server that is passed one socket, by this name. A shell puts the descriptor where it belongs and tells whose it is.
fn with_socket(socket: impl Into<OwnedFd>, name: &str, args: &[&str]) -> Command {
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_megamux")]).args(args);
    shell.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name).stdin(Stdio::from(socket.into()));
    shell
}

#[cfg(feature = "echo")]
#[test]
fn a_passed_socket_is_served_by_the_protocol_of_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // Whoever connects before the server runs is answered by it.
    let mut early = TcpStream::connect(addr).unwrap();
    let mut args = QUIET;
    args[9] = "2";
    let Some(server) = Server::start_command(&mut with_socket(listener, "echo-public", &args)) else { return };
    assert_eq!(server.said("echo-public"), addr.to_string());
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    early.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    early.read_exact(&mut back).unwrap();
    // A reload leaves it alone.
    server.signal(Signal::HUP);
    let said = server.lines_up_to("reloaded");
    assert!(!said.iter().any(|line| line.contains("listens")), "{said:?}");
    assert!(TcpStream::connect(addr).is_ok());
    server.signal(Signal::TERM);
    assert!(server.end().0.success());
}

#[cfg(feature = "http")]
#[test]
fn a_unix_socket_may_be_passed_too() {
    let path = scratch("passed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let Some(server) = Server::start_command(&mut with_socket(listener, "http", &QUIET)) else { return };
    assert_eq!(server.said("http"), format!("unix:{}", path.display()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_be_listened_on_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (status, said) = run_command(&mut with_socket(listener, "smtp", &QUIET));
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("by the name \"smtp\", which is no listener"), "{said}");
    let file = std::fs::File::open("/dev/null").unwrap();
    let (status, said) = run_command(&mut with_socket(file, "echo", &QUIET));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cannot use the socket that was passed as \"echo\""), "{said}");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = command();
    command.args(QUIET).env("LISTEN_FDS", "1").env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "smtp");
    assert!(Server::start_command(&mut command).is_none_or(|server| server.said("shards").starts_with('1')));
    drop(listener);
}

#[test]
fn a_manager_that_does_not_read_holds_up_nothing() {
    let manager = Manager::new("deaf");
    let mut command = manager.command();
    // Hundreds of words a second, and nobody takes one.
    let Some(server) = Server::start_command(command.env("WATCHDOG_USEC", "2000").args(QUIET)) else { return };
    for _ in 0..20 {
        server.signal(Signal::HUP);
        server.wait_for("reloaded");
    }
    server.signal(Signal::TERM);
    assert!(server.end().0.success());
}
