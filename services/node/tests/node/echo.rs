//! The echo service, with and without the PROXY protocol in front of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use crate::server::{PATIENCE, Server, scratch};

const ECHO: [&str; 2] = ["--echo", "127.0.0.1:0"];

#[track_caller]
fn check_echoes(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

/// Everything until the end; a reset is an end, too.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
    }
    bytes
}

#[test]
fn what_comes_goes_back_until_the_peer_has_enough() {
    let Some(server) = Server::start(&ECHO) else {
        return;
    };
    let mut stream = server.connect("echo");
    check_echoes(&mut stream, b"hello");
    check_echoes(&mut stream, &[0, 255, 13, 10]);
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), b"last words");
}

#[test]
fn a_peer_that_writes_and_reads_at_once_gets_every_byte() {
    let Some(server) = Server::start(&ECHO) else {
        return;
    };
    let mut stream = server.connect("echo");
    let sent: Vec<u8> = (0..8_000_000u32).map(|place| (place ^ place >> 8 ^ place >> 16) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let to_send = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&to_send).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let back = rest(&mut stream);
    writing.join().unwrap();
    assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
}

#[test]
fn a_unix_socket_does_as_well() {
    let path = scratch("echo.sock");
    let addr = format!("unix:{}", path.display());
    let Some(server) = Server::start(&["--echo", &addr]) else {
        return;
    };
    assert_eq!(server.said("echo"), addr);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    drop(server);
    std::fs::remove_file(path).unwrap();
}

#[cfg(feature = "proxy")]
mod behind_proxy {
    use super::*;

    const BEHIND: [&str; 4] = ["--echo", "127.0.0.1:0", "--proxy-protocol", "echo"];
    const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 7\r\n";
    /// The same in version 2: signature, PROXY over IPv4 stream, 12 bytes of addresses.
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x03\xe8\0\x07";

    #[test]
    fn the_header_is_not_echoed() {
        let Some(server) = Server::start(&BEHIND) else {
            return;
        };
        assert!(server.said("echo").ends_with(" behind the PROXY protocol"));
        for header in [V1, V2] {
            let mut stream = server.connect("echo");
            stream.write_all(&[header, b"hello"].concat()).unwrap();
            let mut back = [0; 5];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"hello");
            check_echoes(&mut stream, b"and on");
        }
    }

    #[test]
    fn the_header_may_come_in_pieces() {
        let Some(server) = Server::start(&BEHIND) else {
            return;
        };
        let mut stream = server.connect("echo");
        stream.set_nodelay(true).unwrap();
        for byte in [V2, b"hello"].concat() {
            stream.write_all(&[byte]).unwrap();
        }
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
    }

    #[test]
    fn a_connection_without_header_is_refused() {
        let Some(server) = Server::start(&BEHIND) else {
            return;
        };
        let mut stream = server.connect("echo");
        stream.write_all(b"hello").unwrap();
        assert_eq!(rest(&mut stream), b"");
    }
}
