//! Binding an address once per shard.
//!
//! Invariant: a port that somebody else has is an error, also when the shards share it among themselves. Listeners come
//! back in shard order, which is their order in the kernel's group.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Addr, Balance, SocketOptions};

/// Binds and listens, `count` times; a port 0 is chosen once, for all.
///
/// TCP listeners form a reuse-port group; of a Unix socket there is one, whatever `count` is. The address is the one bound.
pub(crate) fn bind_listeners(
    addr: &Addr,
    options: &SocketOptions,
    count: usize,
    balance: Balance,
) -> io::Result<(Vec<OwnedFd>, Addr)> {
    match addr {
        Addr::Unix(path) => Ok((vec![listen_unix(path, options)?], addr.clone())),
        Addr::Tcp(addr) => {
            let shared = count > 1 || options.reuse_port;
            let addr = reserve(*addr, Type::STREAM, count > 1, options)?;
            let mut listeners = Vec::with_capacity(count);
            for _ in 0..count {
                listeners.push(listen_tcp(addr, options, shared)?);
            }
            let bound = match listeners.first() {
                Some(first) if count > 1 => {
                    balance.apply(first, count)?;
                    addr
                }
                Some(first) => local_addr(first)?,
                None => addr,
            };
            Ok((listeners.into_iter().map(OwnedFd::from).collect(), Addr::Tcp(bound)))
        }
    }
}

/// Binds UDP sockets, `count` times, likewise. The kernel spreads peers over them by a hash of their address, so that
/// one peer's datagrams meet one shard.
pub(crate) fn bind_datagrams(
    addr: SocketAddr,
    options: &SocketOptions,
    count: usize,
    balance: Balance,
) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    let shared = count > 1 || options.reuse_port;
    let addr = reserve(addr, Type::DGRAM, count > 1, options)?;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
        socket.set_reuse_port(shared)?;
        options.apply_buffers(&socket)?;
        socket.bind(&addr.into())?;
        sockets.push(socket);
    }
    let bound = match sockets.first() {
        Some(first) if count > 1 => {
            balance.apply(first, count)?;
            addr
        }
        Some(first) => local_addr(first)?,
        None => addr,
    };
    Ok((sockets.into_iter().map(OwnedFd::from).collect(), bound))
}

/// Binds a shared address alone for a moment: it settles port 0, and it fails if the port is taken, which a member of
/// a reuse-port group would not notice if the taker belongs to the same user.
fn reserve(addr: SocketAddr, kind: Type, several: bool, options: &SocketOptions) -> io::Result<SocketAddr> {
    if !several || (options.reuse_port && addr.port() != 0) {
        return Ok(addr);
    }
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    // For UDP this option would itself share the port.
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.bind(&addr.into())?;
    local_addr(&socket)
}

fn listen_tcp(addr: SocketAddr, options: &SocketOptions, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // Connections of a process before this one may still be closing; they do not stand in the way of a restart.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    options.apply_buffers(&socket)?;
    options.apply_tcp(&socket)?;
    socket.bind(&addr.into())?;
    socket.listen(options.backlog())?;
    Ok(socket)
}

fn listen_unix(path: &Path, options: &SocketOptions) -> io::Result<OwnedFd> {
    let addr = SockAddr::unix(path)?;
    remove_stale(path, &addr)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    options.apply_buffers(&socket)?;
    socket.bind(&addr)?;
    socket.listen(options.backlog())?;
    Ok(socket.into())
}

/// Removes the socket file of a process that is gone: nobody answers there. Anything else in the way stays, and makes
/// the bind fail with EADDRINUSE.
fn remove_stale(path: &Path, addr: &SockAddr) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Ok(());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full backlog must not make us wait; it answers EAGAIN, which is alive.
    probe.set_nonblocking(true)?;
    match probe.connect(addr) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    let addr = socket.local_addr()?.as_socket();
    addr.ok_or_else(|| io::Error::other("a socket bound to an IP address has another"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::net::Keepalive;
    use std::time::Duration;

    fn any_port() -> Addr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn bind(addr: &Addr, count: usize) -> io::Result<(Vec<Socket>, Addr)> {
        let (listeners, addr) = bind_listeners(addr, &SocketOptions::default(), count, Balance::ReusePortHash)?;
        Ok((listeners.into_iter().map(Socket::from).collect(), addr))
    }

    fn socket_addr(addr: &Addr) -> SocketAddr {
        match addr {
            Addr::Tcp(addr) => *addr,
            Addr::Unix(path) => panic!("{path:?}"),
        }
    }

    /// A directory of its own, removed in the end.
    struct Directory(std::path::PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("megamux-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn socket(&self) -> Addr {
            Addr::Unix(self.0.join("socket"))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn port_0_is_one_port_for_all_shards() {
        for count in [1, 4] {
            let (listeners, addr) = bind(&any_port(), count).unwrap();
            assert_eq!(listeners.len(), count);
            for listener in &listeners {
                assert_eq!(listener.local_addr().unwrap().as_socket(), Some(socket_addr(&addr)));
            }
            assert_ne!(socket_addr(&addr).port(), 0);
        }
    }

    #[test]
    fn a_busy_port_is_an_error_for_one_shard_and_for_many() {
        for first in [1, 2] {
            let (_listeners, addr) = bind(&any_port(), first).unwrap();
            for second in [1, 2] {
                let error = bind(&addr, second).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{first} then {second}");
            }
        }
    }

    #[test]
    fn a_port_is_shared_with_another_process_on_request() {
        let options = SocketOptions { reuse_port: true, ..SocketOptions::default() };
        let hash = Balance::ReusePortHash;
        let (_first, addr) = bind_listeners(&any_port(), &options, 2, hash).unwrap();
        bind_listeners(&addr, &options, 1, hash).unwrap();
        bind_listeners(&addr, &options, 2, hash).unwrap();
    }

    #[test]
    fn a_restart_does_not_wait_for_closing_connections() {
        let (listeners, addr) = bind(&any_port(), 2).unwrap();
        let client = TcpStream::connect(socket_addr(&addr)).unwrap();
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        let accepted = loop {
            if let Some(accepted) = listeners.iter().find_map(|listener| listener.accept().ok()) {
                break accepted;
            }
        };
        // The side that closes first keeps the port in TIME_WAIT.
        drop(accepted);
        drop(listeners);
        drop(client);
        bind(&addr, 2).unwrap();
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let keepalive = Keepalive { idle: Duration::from_secs(7), interval: Duration::from_secs(3), count: 2 };
        let options =
            SocketOptions { keepalive: Some(keepalive), recv_buffer: Some(64 * 1024), ..SocketOptions::default() };
        let (listeners, addr) = bind_listeners(&any_port(), &options, 1, Balance::ReusePortHash).unwrap();
        let listener = Socket::from(listeners.into_iter().next().unwrap());
        let _client = TcpStream::connect(socket_addr(&addr)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), keepalive.idle);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), keepalive.count);
        // The kernel doubles what it is asked for, for its bookkeeping.
        assert_eq!(accepted.recv_buffer_size().unwrap(), 128 * 1024);
    }

    #[test]
    fn a_group_can_be_balanced_by_the_receiving_cpu() {
        let (listeners, addr) =
            bind_listeners(&any_port(), &SocketOptions::default(), 4, Balance::ReceivingCpu).unwrap();
        let listeners: Vec<_> = listeners.into_iter().map(Socket::from).collect();
        let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(socket_addr(&addr)).unwrap()).collect();
        let mut accepted = 0;
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            accepted += std::iter::from_fn(|| listener.accept().ok()).count();
        }
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn a_dead_processs_socket_file_is_replaced_and_a_live_ones_is_not() {
        let directory = Directory::new("stale");
        let addr = directory.socket();
        let Addr::Unix(path) = &addr else { unreachable!() };
        drop(UnixListener::bind(path).unwrap());
        assert!(path.exists());
        let (listeners, bound) = bind(&addr, 3).unwrap();
        assert_eq!((listeners.len(), &bound), (1, &addr), "one for all");
        assert_eq!(bind(&addr, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);

        let mut client = UnixStream::connect(path).unwrap();
        // The second bind knocked first.
        listeners[0].accept().unwrap();
        let (mut accepted, _) = listeners[0].accept().unwrap();
        accepted.write_all(b"here").unwrap();
        let mut text = [0; 4];
        client.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"here");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = Directory::new("file");
        let addr = directory.socket();
        let Addr::Unix(path) = &addr else { unreachable!() };
        std::fs::write(path, "precious").unwrap();
        assert_eq!(bind(&addr, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(path).unwrap(), b"precious");
    }

    #[test]
    fn datagram_sockets_share_a_port_and_notice_a_busy_one() {
        let options = SocketOptions::default();
        let bind = |addr, count| bind_datagrams(addr, &options, count, Balance::ReusePortHash);
        for first in [1, 3] {
            let (sockets, addr) = bind("127.0.0.1:0".parse().unwrap(), first).unwrap();
            assert_eq!(sockets.len(), first);
            for second in [1, 2] {
                assert_eq!(bind(addr, second).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            }
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            assert_eq!(client.send_to(b"hello", addr).unwrap(), 5);
        }
    }
}
