//! The epoll floor: level triggered, one read of 64 KiB and one write per readiness, no engine in between.
//!
//! Invariant: while a connection has bytes waiting to be written it is not read, so it holds at most one read's worth.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use socket2::Socket;

const EVENTS: usize = 1024;
const READ: usize = 64 << 10;

struct Conn {
    socket: OwnedFd,
    /// Echo that the socket had no room for.
    unsent: Vec<u8>,
}

struct Epoll {
    epoll: OwnedFd,
    listener: Socket,
    /// By descriptor.
    conns: Vec<Option<Conn>>,
    bytes: Vec<u8>,
}

enum Next {
    Keep,
    Close,
}

pub fn run(listener: Socket) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut server =
        Epoll { epoll: epoll::create(CreateFlags::CLOEXEC)?, listener, conns: Vec::new(), bytes: vec![0; READ] };
    let listener = server.listener.as_raw_fd();
    epoll::add(&server.epoll, &server.listener, EventData::new_u64(listener as u64), EventFlags::IN)?;
    let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
    loop {
        let (ready, _) = match epoll::wait(&server.epoll, &mut events, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for event in ready.iter() {
            let fd = event.data.u64() as usize;
            if fd == listener as usize {
                server.accept()?;
            } else {
                server.serve(fd, event.flags)?;
            }
        }
    }
}

impl Epoll {
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
            self.conns[fd] = Some(Conn { socket, unsent: Vec::new() });
        }
    }

    fn serve(&mut self, fd: usize, flags: EventFlags) -> Result<()> {
        let conn = self.conns[fd].as_mut().expect("epoll reports only registered, open descriptors");
        let next = if flags.contains(EventFlags::OUT) {
            conn.flush(&self.epoll, fd)?
        } else {
            conn.echo(&self.epoll, fd, &mut self.bytes)?
        };
        if let Next::Close = next {
            self.conns[fd] = None;
        }
        Ok(())
    }
}

impl Conn {
    fn echo(&mut self, epoll: &OwnedFd, fd: usize, bytes: &mut [u8]) -> Result<Next> {
        let len = match rustix::net::recv(&self.socket, &mut *bytes, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(Next::Close),
            Ok((len, _)) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Next::Keep),
            Err(_) => return Ok(Next::Close),
        };
        let sent = match rustix::net::send(&self.socket, &bytes[..len], SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return Ok(Next::Close),
        };
        if sent < len {
            self.unsent.extend_from_slice(&bytes[sent..len]);
            epoll::modify(epoll, &self.socket, EventData::new_u64(fd as u64), EventFlags::OUT)?;
        }
        Ok(Next::Keep)
    }

    fn flush(&mut self, epoll: &OwnedFd, fd: usize) -> Result<Next> {
        match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
            Ok(sent) => drop(self.unsent.drain(..sent)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Ok(Next::Close),
        }
        if self.unsent.is_empty() {
            epoll::modify(epoll, &self.socket, EventData::new_u64(fd as u64), EventFlags::IN)?;
        }
        Ok(Next::Keep)
    }
}
