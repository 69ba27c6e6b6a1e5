//! The fan-out floor: one send() per connection in a loop, behind epoll, no engine in between.
//!
//! Invariant: every connection gets whole messages. It trusts its peers to read: a socket without room for a message is
//! closed.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use socket2::Socket;

use super::MESSAGE;

const EVENTS: usize = 1024;
const READ: usize = 64 << 10;

struct Conn {
    socket: OwnedFd,
    /// The head of a message.
    partial: Vec<u8>,
}

struct Room {
    epoll: OwnedFd,
    listener: Socket,
    /// By descriptor.
    conns: Vec<Option<Conn>>,
    bytes: Vec<u8>,
}

pub fn run(listener: Socket) -> Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let door = listener.as_raw_fd() as u64;
    epoll::add(&epoll, &listener, EventData::new_u64(door), EventFlags::IN)?;
    let mut room = Room { epoll, listener, conns: Vec::new(), bytes: vec![0; READ] };
    let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
    loop {
        let (ready, _) = match epoll::wait(&room.epoll, &mut events, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for event in ready.iter() {
            match event.data.u64() {
                fd if fd == door => room.accept()?,
                fd => room.receive(fd as usize),
            }
        }
    }
}

impl Room {
    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match rustix::net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            let fd = socket.as_raw_fd() as usize;
            epoll::add(&self.epoll, &socket, EventData::new_u64(fd as u64), EventFlags::IN)?;
            if self.conns.len() <= fd {
                self.conns.resize_with(fd + 1, || None);
            }
            self.conns[fd] = Some(Conn { socket, partial: Vec::new() });
        }
    }

    fn receive(&mut self, fd: usize) {
        // A send to it may have failed since epoll reported it.
        let Some(conn) = &mut self.conns[fd] else { return };
        let len = match rustix::net::recv(&conn.socket, &mut *self.bytes, RecvFlags::empty()) {
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok((len @ 1.., _)) => len,
            _ => {
                self.conns[fd] = None;
                return;
            }
        };
        let mut received = std::mem::take(&mut conn.partial);
        received.extend_from_slice(&self.bytes[..len]);
        let messages = received.chunks_exact(MESSAGE);
        conn.partial.extend_from_slice(messages.remainder());
        for message in messages {
            self.send_to_all(message);
        }
    }

    fn send_to_all(&mut self, message: &[u8]) {
        for conn in &mut self.conns {
            let sent = conn.as_ref().map(|conn| rustix::net::send(&conn.socket, message, SendFlags::NOSIGNAL));
            if sent.is_some_and(|sent| sent != Ok(MESSAGE)) {
                *conn = None;
            }
        }
    }
}
