//! What a PROXY header says, independent of the form it came in.
//!
//! Both addresses of a pair are of one family by construction. Values only; nothing here reads or writes the wire.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// A decoded PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The form it came in.
    pub version: Version,
    /// Whose connection this is.
    pub origin: Origin,
}

/// The form of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// Whose connection a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The proxy's own (a health check): the socket's addresses are the true ones. Version 2 only.
    Local,
    /// Relayed, but from whom cannot be said (version 1 UNKNOWN, version 2 UNSPEC): use the socket's addresses.
    Unknown,
    /// Relayed from an IPv4 client.
    Inet {
        /// How the client reached the proxy.
        transport: Transport,
        /// The client.
        source: SocketAddrV4,
        /// What the client connected to.
        destination: SocketAddrV4,
    },
    /// Relayed from an IPv6 client.
    Inet6 {
        /// How the client reached the proxy.
        transport: Transport,
        /// The client. Flow and scope are 0: the header does not carry them.
        source: SocketAddrV6,
        /// What the client connected to.
        destination: SocketAddrV6,
    },
    /// Relayed from a UNIX socket. Its paths name files of another machine, so they are skipped. Version 2 only.
    Unix {
        /// How the client reached the proxy.
        transport: Transport,
    },
}

/// How the client reached the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP, or a UNIX stream socket.
    Stream,
    /// UDP, or a UNIX datagram socket.
    Datagram,
}

impl Header {
    /// The client's address; `None` where the header names none and the socket's own holds.
    pub fn source(&self) -> Option<SocketAddr> {
        match self.origin {
            Origin::Inet { source, .. } => Some(source.into()),
            Origin::Inet6 { source, .. } => Some(source.into()),
            Origin::Local | Origin::Unknown | Origin::Unix { .. } => None,
        }
    }

    /// The address the client connected to; `None` where the header names none and the socket's own holds.
    pub fn destination(&self) -> Option<SocketAddr> {
        match self.origin {
            Origin::Inet { destination, .. } => Some(destination.into()),
            Origin::Inet6 { destination, .. } => Some(destination.into()),
            Origin::Local | Origin::Unknown | Origin::Unix { .. } => None,
        }
    }
}
