//! A tool's connection to a server's HTTP listener: one request after the other, over TCP or a Unix socket, bounded in time and size.
//!
//! Invariant: an answer that did not come in time is still the next one to be taken.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long the server may take for any single step, unless the caller wants to know about less.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read of one answer: 255 shards have about 2 MiB of figures.
const MOST: usize = 32 << 20;
/// More header fields than our server ever sends.
const HEADERS: usize = 32;

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {at}: {error} (is the server running, and its http listener there?)")]
    Connect { at: Source, error: io::Error },
    #[error("{at} does not answer: {error}")]
    Read { at: Source, error: io::Error },
    #[error("{at} has closed the connection: the server has ended")]
    Closed { at: Source },
    #[error("{at} does not answer within {within:?}: the shard that was asked is stalled")]
    Silent { at: Source, within: Duration },
    #[error("{0} does not speak HTTP")]
    NotHttp(Source),
    #[error("{at} answers {path} with status {status}: {body}")]
    Status { at: Source, path: String, status: u16, body: String },
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path belongs behind unix:".into()),
            Some(path) => Ok(Source::Unix(path.into())),
            None => resolve(text).map(Source::Tcp).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => {
                    "give 127.0.0.1:8080, [::1]:8080 or unix:/path, or a name with its port".into()
                }
                _ => error.to_string(),
            }),
        }
    }
}

/// What an address with a port means, or a name with one: of several addresses the first of IPv4, as loopback is what most want.
/// [`io::ErrorKind::InvalidInput`] if it is neither.
pub fn resolve(text: &str) -> io::Result<SocketAddr> {
    let found: Vec<SocketAddr> = text.to_socket_addrs()?.collect();
    let chosen = found.iter().find(|addr| addr.is_ipv4()).or(found.first()).copied();
    chosen.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Tcp(addr) => write!(f, "{addr}"),
            Source::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An open connection.
pub struct Client {
    at: Source,
    stream: Box<dyn Stream>,
    inbox: Vec<u8>,
    /// The path that was asked for last, for messages.
    asked: String,
}

trait Stream: Read + Write + Send {
    fn patience(&self, most: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn patience(&self, most: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(most))
    }
}

impl Stream for UnixStream {
    fn patience(&self, most: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(most))
    }
}

impl Client {
    pub fn connect(at: &Source) -> Result<Client, ClientError> {
        let stream = match at {
            Source::Tcp(addr) => TcpStream::connect_timeout(addr, PATIENCE).and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
            Source::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
        };
        let stream = stream.map_err(|error| ClientError::Connect { at: at.clone(), error })?;
        Ok(Client { at: at.clone(), stream, inbox: Vec::new(), asked: String::new() })
    }

    /// Where it leads.
    pub fn at(&self) -> &Source {
        &self.at
    }

    /// Asks and waits for the answer.
    pub fn get(&mut self, path: &str) -> Result<String, ClientError> {
        self.ask(path)?;
        let silent = ClientError::Silent { at: self.at.clone(), within: PATIENCE };
        self.answer(PATIENCE)?.ok_or(silent)
    }

    /// Asks; [`Client::answer`] is to follow.
    pub fn ask(&mut self, path: &str) -> Result<(), ClientError> {
        path.clone_into(&mut self.asked);
        let request = format!("GET {path} HTTP/1.1\r\nHost: megamux\r\n\r\n");
        self.stream.write_all(request.as_bytes()).map_err(|error| self.broken(error))
    }

    /// The answer to the last request, `None` if it is not there within this time.
    pub fn answer(&mut self, within: Duration) -> Result<Option<String>, ClientError> {
        let deadline = Instant::now() + within;
        let mut chunk = vec![0; 64 * 1024];
        loop {
            if let Some((status, body)) = self.take()? {
                if status == 200 {
                    return Ok(Some(body));
                }
                let (at, path, body) = (self.at.clone(), self.asked.clone(), body.trim().to_owned());
                return Err(ClientError::Status { at, path, status, body });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.patience(left).map_err(|error| self.broken(error))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed { at: self.at.clone() }),
                Ok(count) => self.inbox.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn broken(&self, error: io::Error) -> ClientError {
        ClientError::Read { at: self.at.clone(), error }
    }

    /// A whole answer out of what has come.
    fn take(&mut self) -> Result<Option<(u16, String)>, ClientError> {
        let taken = whole(&self.inbox).map_err(|()| ClientError::NotHttp(self.at.clone()))?;
        Ok(taken.map(|(end, status, body)| {
            self.inbox.drain(..end);
            (status, body)
        }))
    }
}

/// Where the first answer ends, its status and its body; our server says how long every body is.
fn whole(bytes: &[u8]) -> Result<Option<(usize, u16, String)>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(begin) = head.parse(bytes).map_err(|_| ())? else {
        return if bytes.len() > MOST { Err(()) } else { Ok(None) };
    };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length")).ok_or(())?;
    let length: usize = std::str::from_utf8(length.value).ok().and_then(|length| length.parse().ok()).ok_or(())?;
    if length > MOST {
        return Err(());
    }
    let body = bytes.get(begin..begin + length);
    Ok(body.map(|body| (begin + length, head.code.unwrap_or(0), String::from_utf8_lossy(body).into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_addresses_or_paths() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(text.parse::<Source>().ok().map(|source| source.to_string()).as_deref(), expect, "{text}");
        };
        check("127.0.0.1:8080", Some("127.0.0.1:8080"));
        check("unix:/run/m.sock", Some("unix:/run/m.sock"));
        check("unix:", None);
        check("[::1]:80", Some("[::1]:80"));
        check("localhost:80", Some("127.0.0.1:80"));
        check("localhost", None);
        check("8080", None);
    }

    #[test]
    fn answers_are_taken_when_they_are_whole() {
        let two = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabHTTP/1.1";
        assert_eq!(whole(two.as_bytes()), Ok(Some((two.len() - 8, 200, "ab".into()))));
        for cut in 0..two.len() - 8 {
            assert_eq!(whole(&two.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        for wrong in ["220 mail.example ESMTP\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            assert_eq!(whole(wrong.as_bytes()), Err(()), "{wrong}");
        }
    }
}
