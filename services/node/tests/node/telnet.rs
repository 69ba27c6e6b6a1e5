//! The operator's console: that it is there, and that it stays on this machine.

use std::io::{Read, Write};

use rustix::process::Signal;

use crate::server::{Server, run};

#[test]
fn an_operator_is_answered() {
    let Some(server) = Server::start(&["--telnet", "127.0.0.1:0"]) else {
        return;
    };
    let mut stream = server.connect("telnet");
    stream.write_all(b"help\r\n").unwrap();
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while !said.windows(6).any(|bytes| bytes == b"shards") {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&piece[..count]);
    }
    server.signal(Signal::TERM);
    let (status, said) = server.end();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn the_console_stays_on_this_machine_unless_told() {
    let (status, said) = run(&["--telnet", "0.0.0.0:0"]);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.starts_with("megamux: the telnet console is not bound to 0.0.0.0:0: "), "{said}");
    let Some(server) = Server::start(&["--telnet", "0.0.0.0:0", "--insecure"]) else {
        return;
    };
    assert!(server.said("telnet").starts_with("0.0.0.0:"));
}
