//! One scrape: an HTTP request over TCP or a Unix socket, bounded in time and size.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How long the server may take for any single step.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read: 255 shards have about 2 MiB of figures.
const MOST: u64 = 32 << 20;
/// More header fields than our server ever sends.
const HEADERS: usize = 32;

/// Where the figures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("cannot connect to {source_addr}: {error} (is the server running, and its http listener there?)")]
    Connect { source_addr: Source, error: io::Error },
    #[error("{source_addr} does not answer: {error}")]
    Read { source_addr: Source, error: io::Error },
    #[error("{0} does not speak HTTP")]
    NotHttp(Source),
    #[error("{source_addr} answers /metrics with status {status}")]
    Status { source_addr: Source, status: u16 },
    #[error("{0} sends more than {MOST} bytes of figures")]
    TooLarge(Source),
    #[error("these are not the figures of a megamux server")]
    NotMegamux,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path belongs behind unix:".into()),
            Some(path) => Ok(Source::Unix(path.into())),
            None => text.parse().map(Source::Tcp).map_err(|_| "give 127.0.0.1:8080, [::1]:8080 or unix:/path".into()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Tcp(addr) => write!(f, "{addr}"),
            Source::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Source {
    /// The text of `/metrics`.
    pub fn fetch(&self) -> Result<String, FetchError> {
        let connected = match self {
            Source::Tcp(addr) => TcpStream::connect_timeout(addr, PATIENCE).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream) as Box<dyn ReadWrite>)
            }),
            Source::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream) as Box<dyn ReadWrite>)
            }),
        };
        let mut stream = connected.map_err(|error| FetchError::Connect { source_addr: self.clone(), error })?;
        let answer = self.ask(&mut *stream).map_err(|error| FetchError::Read { source_addr: self.clone(), error })?;
        self.body(answer)
    }

    /// The whole answer: the server closes after it, since it is asked to.
    fn ask(&self, stream: &mut dyn ReadWrite) -> io::Result<Vec<u8>> {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: megamux\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(MOST + 1).read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn body(&self, answer: Vec<u8>) -> Result<String, FetchError> {
        if answer.len() as u64 > MOST {
            return Err(FetchError::TooLarge(self.clone()));
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        match (head.parse(&answer), head.code) {
            (Ok(httparse::Status::Complete(body)), Some(200)) => {
                String::from_utf8(answer[body..].to_vec()).map_err(|_| FetchError::NotMegamux)
            }
            (Ok(httparse::Status::Complete(_)), Some(status)) => {
                Err(FetchError::Status { source_addr: self.clone(), status })
            }
            _ => Err(FetchError::NotHttp(self.clone())),
        }
    }
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_addresses_or_paths() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(text.parse::<Source>().ok().map(|source| source.to_string()).as_deref(), expect, "{text}");
        };
        check("127.0.0.1:8080", Some("127.0.0.1:8080"));
        check("[::1]:80", Some("[::1]:80"));
        check("unix:/run/m.sock", Some("unix:/run/m.sock"));
        check("unix:", None);
        check("localhost:80", None);
        check("127.0.0.1", None);
    }

    #[test]
    fn answers_are_taken_or_explained() {
        let check = |answer: &str, expect: Result<&str, &str>| {
            let source = Source::Unix("/s".into());
            let got = source.body(answer.as_bytes().to_vec()).map_err(|error| error.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), expect, "{answer:?}");
        };
        check("HTTP/1.1 200 OK\r\nA: b\r\n\r\nfigures", Ok("figures"));
        check("HTTP/1.1 404 Not Found\r\n\r\n", Err("unix:/s answers /metrics with status 404"));
        check("220 mail.example ESMTP\r\n", Err("unix:/s does not speak HTTP"));
        check("", Err("unix:/s does not speak HTTP"));
    }
}
