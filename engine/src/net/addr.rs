//! Addresses as users write them: `127.0.0.1:2323`, `[::1]:7000`, `unix:/run/megamux.sock`.
//!
//! Names are not resolved: that blocks, and may answer something else tomorrow.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use socket2::SockAddr;

/// The longest path that fits `sockaddr_un`, with its closing zero.
const LONGEST_PATH: usize = 107;

/// Where an endpoint listens or dials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Addr {
    /// TCP (or, for datagrams, UDP) over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket in the file system.
    Unix(PathBuf),
}

/// Why a text is no [`Addr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddrError {
    /// Neither `ip:port` nor `unix:path`.
    #[error("{0:?} is no address: give 127.0.0.1:7000, [::1]:7000 or unix:/path")]
    Malformed(String),
    /// A host name.
    #[error("{0:?} is a name, and names are not resolved: give its IP address")]
    Name(String),
    /// An IP address alone.
    #[error("{0:?} lacks a port")]
    PortMissing(String),
    /// The port is no number up to 65535.
    #[error("{0:?} has no valid port")]
    PortInvalid(String),
    /// `unix:` and nothing behind it.
    #[error("the path of a Unix socket is empty")]
    PathEmpty,
    /// The kernel takes 107 bytes.
    #[error("the path of a Unix socket has {0} bytes, and at most 107 fit")]
    PathTooLong(usize),
}

impl Addr {
    /// The address as the kernel takes it.
    ///
    /// # Errors
    ///
    /// A Unix path that is too long or holds a zero byte.
    pub(crate) fn to_sock_addr(&self) -> io::Result<SockAddr> {
        match self {
            Addr::Tcp(addr) => Ok((*addr).into()),
            Addr::Unix(path) => SockAddr::unix(path),
        }
    }
}

impl FromStr for Addr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Addr, AddrError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.as_os_str().as_bytes().len() {
                0 => Err(AddrError::PathEmpty),
                length if length > LONGEST_PATH => Err(AddrError::PathTooLong(length)),
                _ => Ok(Addr::Unix(path)),
            };
        }
        text.parse().map(Addr::Tcp).map_err(|_| explain(text))
    }
}

/// Says what is wrong with a text that is no `ip:port`.
fn explain(text: &str) -> AddrError {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return AddrError::PortMissing(text.into());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return AddrError::Malformed(text.into());
    };
    let numeric = format!("{host}:0").parse::<SocketAddr>().is_ok();
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if numeric {
        AddrError::PortInvalid(text.into())
    } else if port.parse::<u16>().is_ok() && host.contains(|c: char| c.is_ascii_alphabetic()) && host.chars().all(name)
    {
        AddrError::Name(text.into())
    } else {
        AddrError::Malformed(text.into())
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Addr {
        Addr::Tcp(addr)
    }
}

/// The form that parses back (unless a path is no UTF-8).
impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Tcp(addr) => write!(f, "{addr}"),
            Addr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<&str, AddrError>) {
        let parsed = text.parse::<Addr>();
        assert_eq!(parsed.map(|addr| addr.to_string()), expect.map(str::to_owned));
    }

    #[test]
    fn addresses_parse_and_print() {
        check("127.0.0.1:2323", Ok("127.0.0.1:2323"));
        check("[::1]:7000", Ok("[::1]:7000"));
        check("[fe80::1%3]:7000", Ok("[fe80::1%3]:7000"));
        check("unix:/run/a b", Ok("unix:/run/a b"));
        check("unix:relative", Ok("unix:relative"));
    }

    #[test]
    fn each_mistake_has_its_error() {
        use AddrError::*;
        check("localhost:80", Err(Name("localhost:80".into())));
        check("127.0.0.1", Err(PortMissing("127.0.0.1".into())));
        check("::1", Err(PortMissing("::1".into())));
        check("[::1]", Err(PortMissing("[::1]".into())));
        check("127.0.0.1:", Err(PortInvalid("127.0.0.1:".into())));
        check("127.0.0.1:65536", Err(PortInvalid("127.0.0.1:65536".into())));
        check("1.2.3:80", Err(Malformed("1.2.3:80".into())));
        check("", Err(Malformed("".into())));
        check("tcp://x", Err(Malformed("tcp://x".into())));
        check("unix:", Err(PathEmpty));
        check(&format!("unix:{}", "x".repeat(108)), Err(PathTooLong(108)));
        assert!(format!("unix:{}", "x".repeat(107)).parse::<Addr>().is_ok());
    }
}
