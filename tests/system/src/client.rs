//! Clients on plain sockets: this file owns how tests connect, exchange bytes and leave.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use crate::wait::{DEADLINE, wait_for};

/// A connection whose reads and writes have a deadline.
#[track_caller]
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, DEADLINE).expect("the server accepts");
    prepare(&stream);
    stream
}

/// Many connections, asked for all at once.
#[track_caller]
pub fn connect_all(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..count).map(|_| begin_connect(addr)).collect();
    for stream in &streams {
        wait_for(stream, PollFlags::OUT, DEADLINE).expect("the server accepts in time");
        match sockopt::socket_error(stream).expect("a socket") {
            // Accepted, and sent away at once: whoever uses it will see.
            Ok(()) | Err(Errno::CONNRESET) => {}
            Err(error) => panic!("the server does not accept: {error}"),
        }
        stream.set_nonblocking(false).expect("a socket");
        prepare(stream);
    }
    streams
}

/// A connection that is asked for, on a socket that does not wait.
pub(crate) fn begin_connect(addr: SocketAddr) -> TcpStream {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None).expect("a descriptor");
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => TcpStream::from(socket),
        Err(error) => panic!("no connection begins: {error}"),
    }
}

pub(crate) fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).expect("a TCP option");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
}

/// Sends a message and takes its echo.
pub fn echo<S: Read + Write>(stream: &mut S, message: &[u8]) -> io::Result<()> {
    stream.write_all(message)?;
    let mut back = vec![0; message.len()];
    stream.read_exact(&mut back)?;
    assert!(back == message, "other bytes came back");
    Ok(())
}

/// Ends a connection by RST: without TIME_WAIT here, and without anything in order for the server.
pub fn reset(stream: TcpStream) {
    // A connection that is gone already has no option to set.
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By FIN.
    InOrder,
    /// By RST.
    Reset,
}

/// Reads until the connection ends; says what came and how it ended.
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Ended) {
    let mut bytes = Vec::new();
    let ended = match stream.read_to_end(&mut bytes) {
        Ok(_) => Ended::InOrder,
        Err(error) if is_end(&error) => Ended::Reset,
        Err(error) => panic!("the connection does not end: {error}"),
    };
    (bytes, ended)
}

/// Whether an error says that the other side is gone.
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// Whether a connection that nothing is expected on stands.
pub fn is_open(stream: &TcpStream) -> bool {
    wait_for(stream, PollFlags::IN, Duration::ZERO).is_none()
}

/// Whether a connection is reset within a while, whatever there is to read on it.
pub fn ends_within(stream: &TcpStream, most: Duration) -> bool {
    // An error is always told of, asked for or not.
    wait_for(stream, PollFlags::empty(), most).is_some()
}

/// Waits a while for the server to answer or to end the connection.
pub fn await_reaction(stream: &TcpStream, most: Duration) {
    wait_for(stream, PollFlags::IN, most);
}
