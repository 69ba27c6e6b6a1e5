//! Options of stream sockets. Set on a listener, they are inherited by what it accepts.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

/// What a socket is set to before it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Send small segments at once (TCP_NODELAY). Without it, an answer longer than one segment can wait 40 ms for
    /// the peer's delayed acknowledgement.
    pub nodelay: bool,
    /// Probe silent TCP connections.
    pub keepalive: Option<Keepalive>,
    /// SO_RCVBUF in bytes; `None` leaves it to the kernel, which then adapts it.
    pub recv_buffer: Option<usize>,
    /// SO_SNDBUF in bytes; `None` leaves it to the kernel, which then adapts it.
    pub send_buffer: Option<usize>,
    /// Connections that may wait to be accepted; the kernel bounds it by `net.core.somaxconn`.
    pub backlog: u32,
    /// Share the port with other processes of the same user that do the same, instead of refusing to start.
    pub reuse_port: bool,
}

/// When to probe a silent peer, and when to give it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds, at least one.
    pub idle: Duration,
    /// Between probes; whole seconds, at least one.
    pub interval: Duration,
    /// Unanswered probes before the connection counts as dead.
    pub count: u32,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            nodelay: true,
            keepalive: None,
            recv_buffer: None,
            send_buffer: None,
            backlog: 4096,
            reuse_port: false,
        }
    }
}

impl SocketOptions {
    /// The backlog as the kernel takes it.
    pub(super) fn backlog(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }

    /// Sets what any stream socket takes. Buffer sizes count for the window that TCP offers, so before listening.
    pub(crate) fn apply_buffers(&self, socket: &Socket) -> io::Result<()> {
        if let Some(size) = self.recv_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(size)?;
        }
        Ok(())
    }

    /// Sets what TCP takes.
    pub(crate) fn apply_tcp(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_nodelay(self.nodelay)?;
        let Some(keepalive) = &self.keepalive else {
            return Ok(());
        };
        let seconds = |time: Duration| time.max(Duration::from_secs(1));
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(seconds(keepalive.idle))
                .with_interval(seconds(keepalive.interval))
                .with_retries(keepalive.count),
        )
    }
}

/// Has the next bind choose the address only; the port is chosen at the connect.
pub(crate) fn bind_address_alone(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the kernel reads one int, which lives across the call.
    let set = unsafe {
        let on = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, on, len)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
