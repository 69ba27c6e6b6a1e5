//! SIGHUP: what it changes, what it cannot, and that a bad file changes nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::server::{PATIENCE, Server, free_addr, scratch};

/// A server with a file that can be rewritten.
struct Configured {
    path: PathBuf,
    server: Server,
}

impl Configured {
    fn start(name: &str, text: &str) -> Option<Configured> {
        let path = scratch(name);
        fs::write(&path, with_rest_off(text)).unwrap();
        let server = Server::start_as_is(&["--config", path.to_str().unwrap(), "--shards", "2"])?;
        Some(Configured { path, server })
    }

    /// Rewrites the file, has it read, and waits for the line that ends that.
    fn reload(&self, text: &str, end: &str) -> Vec<String> {
        fs::write(&self.path, with_rest_off(text)).unwrap();
        self.server.signal(Signal::HUP);
        self.server.lines_up_to(end)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn with_rest_off(text: &str) -> String {
    format!("data_dir = \"none\"\ntelnet.listen = \"off\"\nhttp.listen = \"off\"\n{text}")
}

fn echoes(addr: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    echo(&mut stream);
    stream
}

fn echo(stream: &mut TcpStream) {
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

#[track_caller]
fn says(lines: &[String], text: &str) {
    assert!(lines.iter().any(|line| line.contains(text)), "no {text:?} in {lines:#?}");
}

#[test]
fn listeners_come_and_go_and_connections_stay() {
    let (first, second) = (free_addr(), free_addr());
    let Some(server) = Configured::start("come.toml", &format!("[echo]\nlisten = \"{first}\"\n")) else { return };
    let mut old = echoes(&first);
    let said = server.reload(&format!("[echo]\nlisten = \"{second}\"\n"), "reloaded");
    says(&said, &format!("echo no longer listens on {first}"));
    says(&said, &format!("echo listens on {second}"));
    echoes(&second);
    echo(&mut old);
    server.server.await_refusal(&first);
    // One more beside it, then it alone.
    let entry = format!("[[listen]]\nprotocol = \"echo\"\nname = \"more\"\nlisten = \"{first}\"\n");
    let said = server.reload(&format!("[echo]\nlisten = \"{second}\"\n{entry}"), "reloaded");
    says(&said, &format!("more listens on {first}"));
    assert!(!said.iter().any(|line| line.contains(&second)), "what stays is not touched: {said:#?}");
    echoes(&first);
    server.reload(&entry, "reloaded");
    server.server.await_refusal(&second);
    echoes(&first);
}

#[test]
fn a_listener_takes_its_own_address_over_with_other_limits() {
    let addr = free_addr();
    let listen = format!("[echo]\nlisten = \"{addr}\"\n");
    let Some(server) = Configured::start("own.toml", &listen) else { return };
    let mut old = echoes(&addr);
    let said = server.reload(&format!("{listen}max_connections = 1\n"), "reloaded");
    says(&said, &format!("echo listens on {addr}"));
    echo(&mut old);
    let _one = echoes(&addr);
    // The second one is over the cap: accepted and closed.
    let mut two = TcpStream::connect(&addr).unwrap();
    two.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(two.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let (addr, other) = (free_addr(), free_addr());
    let listen = format!("[echo]\nlisten = \"{addr}\"\n");
    let Some(server) = Configured::start("bad.toml", &listen) else { return };
    let path = server.path.display().to_string();
    let said = server.reload(&format!("[echo]\nlisten = \"{other}\"\nlisten_on = 1\n"), "unknown key");
    says(&said, &format!("reload refused, nothing changed: {path}:6: unknown key \"listen_on\""));
    // A file that reads well, with an address that is taken, is as bad.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let entry = format!("[[listen]]\nprotocol = \"echo\"\nlisten = \"{taken}\"\n");
    let said = server.reload(&format!("[echo]\nlisten = \"{other}\"\n{entry}"), "reload refused");
    says(&said, &format!("nothing changed: cannot listen on {taken}: Address already in use"));
    echoes(&addr);
    server.server.await_refusal(&other);
    // Right again.
    server.reload(&listen, "reloaded");
    echoes(&addr);
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_holds_at_once() {
    let addr = free_addr();
    let listen = format!("[echo]\nlisten = \"{addr}\"\n");
    let Some(server) = Configured::start("fixed.toml", &listen) else { return };
    let text =
        format!("pin = \"none\"\nlimits.connections = 5\ndrain_timeout = \"1s\"\nlog.format = \"json\"\n{listen}");
    let said = server.reload(&text, "reloaded");
    for key in ["pin", "limits.connections"] {
        let line = said.iter().find(|line| line.contains(&format!("\"key\":\"{key}\"")));
        assert!(line.is_some_and(|line| line.contains("this cannot change without a restart")), "{key}: {said:#?}");
    }
    for key in ["drain_timeout", "log.format"] {
        says(&said, &format!("\"message\":\"reload: changed\",\"key\":\"{key}\""));
    }
    // Said again as long as it differs from what runs, and no more when it does not.
    let said = server.reload(&format!("pin = \"none\"\n{listen}"), "reloaded");
    says(&said, "this cannot change without a restart");
    let said = server.reload(&listen, "reloaded");
    assert!(!said.iter().any(|line| line.contains("restart")), "{said:#?}");
}
