//! Where a server listens and how a client reaches it, over TCP or a Unix socket.
//!
//! Invariant: every TCP socket made here, on either side, has TCP_NODELAY; without it 16 KiB echoes stall for 40 ms.
//! Accepted sockets inherit it from the listener. Knows nothing of who serves.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::wire;

/// Of every server; the kernel bounds it by `net.core.somaxconn`, which is 4096 by default.
pub const BACKLOG: u32 = 65_535;

/// Connections one source address carries: far below the ~28,000 ephemeral ports, where the port search stays cheap.
const CONNECTIONS_PER_SOURCE: usize = 5_000;

#[derive(Clone, Debug)]
pub enum Endpoint {
    /// How many listeners share the port, by SO_REUSEPORT if there is more than one: shards of a process, or processes.
    Tcp(SocketAddr, usize),
    Unix(PathBuf),
}

impl Endpoint {
    /// A loopback port nobody listens on, below the ephemeral range so that no client's own port can take it.
    pub fn free_tcp_port(random: u64) -> io::Result<Self> {
        const FIRST: u64 = 20_000;
        const COUNT: u64 = 12_000;
        for attempt in 0..COUNT {
            let port = (FIRST + (random + attempt) % COUNT) as u16;
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            if TcpListener::bind(address).is_ok() {
                return Ok(Self::Tcp(address.into(), 1));
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free loopback port between 20000 and 31999"))
    }

    pub fn unix_in_temp(tag: &str) -> Self {
        let name = format!("megamux-compare-{}-{tag}.sock", std::process::id());
        Self::Unix(std::env::temp_dir().join(name))
    }

    /// The same place for `listeners` that share it; a Unix socket has one.
    pub fn shared_by(self, listeners: usize) -> Self {
        match self {
            Self::Tcp(address, _) => Self::Tcp(address, listeners),
            unix => unix,
        }
    }

    pub fn listeners(&self) -> usize {
        match self {
            &Self::Tcp(_, listeners) => listeners,
            Self::Unix(_) => 1,
        }
    }

    /// How many sockets listen here, of all processes. `network` is the `/proc/PID/net` of one.
    pub fn count_listening(&self, network: impl AsRef<Path>) -> io::Result<usize> {
        let Self::Tcp(address, _) = self else {
            return Ok(1);
        };
        // `sl local_address rem_address st ...`, in hexadecimal; state 0A is LISTEN. Those come first, and the others may
        // be hundreds of thousands.
        let mut count = 0;
        let port = format!(":{:04X}", address.port());
        for line in BufReader::new(File::open(network.as_ref().join("tcp"))?).lines().skip(1) {
            let line = line?;
            let mut fields = line.split_ascii_whitespace().skip(1);
            let here = fields.next().is_some_and(|local| local.ends_with(&port));
            if fields.nth(1) != Some("0A") {
                break;
            }
            count += usize::from(here);
        }
        Ok(count)
    }

    /// A listening socket, blocking.
    pub fn listen(&self) -> io::Result<Socket> {
        let socket = match self {
            &Self::Tcp(_, listeners) => {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.set_reuse_port(listeners > 1)?;
                socket.set_tcp_nodelay(true)?;
                socket
            }
            Self::Unix(path) => {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                Socket::new(Domain::UNIX, Type::STREAM, None)?
            }
        };
        socket.bind(&self.address()?)?;
        socket.listen(BACKLOG as i32)?;
        Ok(socket)
    }

    /// Connects the client's `index`th connection, blocking. Over TCP, sources spread over addresses, and
    /// closing resets: no TIME_WAIT is left behind to pollute what is measured next.
    pub fn connect(&self, index: usize) -> io::Result<Socket> {
        let socket = self.client_socket(index)?;
        socket.connect_timeout(&self.address()?, Duration::from_secs(5))?;
        Ok(socket)
    }

    /// A client socket ready to connect.
    pub fn client_socket(&self, index: usize) -> io::Result<Socket> {
        let Self::Tcp(..) = self else {
            return Socket::new(Domain::UNIX, Type::STREAM, None);
        };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
        let source = index / CONNECTIONS_PER_SOURCE;
        if source > 0 {
            let address = Ipv4Addr::new(self.client_net(), 0, 0, 1 + source as u8);
            socket.bind(&SocketAddrV4::new(address, 0).into())?;
        }
        Ok(socket)
    }

    /// The first byte of the addresses that clients may connect from.
    pub fn client_net(&self) -> u8 {
        match self {
            Self::Tcp(address, _) if !address.ip().is_loopback() => wire::CLIENTS,
            _ => 127,
        }
    }

    pub fn address(&self) -> io::Result<SockAddr> {
        match self {
            Self::Tcp(address, _) => Ok((*address).into()),
            Self::Unix(path) => SockAddr::unix(path),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address, _) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_a_shared_port_are_counted_and_connections_are_not() {
        let endpoint = Endpoint::free_tcp_port(99).expect("a port").shared_by(2);
        assert_eq!(endpoint.count_listening("/proc/net").expect("a count"), 0);
        let listeners = [endpoint.listen().expect("a listener"), endpoint.listen().expect("another")];
        let _connection = endpoint.connect(0).expect("a connection");
        assert_eq!(endpoint.count_listening("/proc/net").expect("a count"), listeners.len());
    }
}
