//! Ending: the first signal drains, the second kills.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::server::Server;

/// Writes and never reads, until nothing moves any more: what is owed to this peer cannot be sent.
fn clog(server: &Server) -> TcpStream {
    let mut stream = server.connect("echo");
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let block = [0; 64 * 1024];
    loop {
        match stream.write(&block) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return stream;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_signal_drains() {
    for signal in [Signal::TERM, Signal::INT] {
        let Some(server) = Server::start(&["--echo", "127.0.0.1:0"]) else {
            return;
        };
        let mut stream = server.connect("echo");
        stream.write_all(b"owed").unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        server.signal(signal);
        assert_eq!(stream.read(&mut back).unwrap(), 0, "an orderly end");
        let (status, said) = server.end();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.ends_with("drained"), "{said}");
    }
}

#[test]
fn what_cannot_be_sent_is_given_up_at_the_deadline() {
    let args = ["--echo", "127.0.0.1:0", "--drain-timeout", "200ms"];
    let Some(server) = Server::start(&args) else {
        return;
    };
    let clogged = clog(&server);
    server.signal(Signal::TERM);
    let (status, said) = server.end();
    assert_eq!(status.code(), Some(0), "{said}");
    drop(clogged);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let Some(server) = Server::start(&["--echo", "127.0.0.1:0", "--drain-timeout", "10m"]) else {
            return;
        };
        let clogged = clog(&server);
        server.signal(Signal::TERM);
        server.wait_for("SIGTERM: draining");
        server.signal(second);
        let (status, said) = server.end();
        assert_eq!(status.signal(), Some(second.as_raw()), "{said}");
        drop(clogged);
    }
}
