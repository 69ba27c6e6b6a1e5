//! A request head as a view of the received bytes, nothing copied.
//!
//! Only the decoder makes one, after the head was found whole and valid; the accessors rely on that and judge nothing.

use crate::framing::Framing;

/// One request head. Its body, if any, follows as events of its own.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The method, case-sensitive, known here or not.
    pub method: &'a str,
    /// The target as sent: visible ASCII in one of the forms of RFC 9112 section 3.2.
    pub target: &'a str,
    /// The version of the request.
    pub version: Version,
    /// The headers, in order.
    pub headers: Headers<'a>,
    /// Whether the connection outlives the answer.
    pub keep_alive: bool,
    /// The bytes of the body.
    pub body_bytes: usize,
    /// Whether the client waits for [`crate::CONTINUE`], or a final answer, before it sends its body.
    pub expects_continue: bool,
}

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// What an answer must know of its request: copy it, answer later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    pub(crate) version: Version,
    pub(crate) is_head: bool,
    pub(crate) keep_alive: bool,
}

impl ReplyTo {
    /// For an answer to no request: a refusal, or a request that did not come in time. Closes.
    pub const UNREAD: ReplyTo = ReplyTo { version: Version::Http11, is_head: false, keep_alive: false };

    /// The same, but the connection closes behind the answer (draining, say).
    #[must_use]
    pub const fn closing(mut self) -> Self {
        self.keep_alive = false;
        self
    }

    /// Whether the connection outlives the answer.
    pub const fn keep_alive(&self) -> bool {
        self.keep_alive
    }
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        (method, target, version): (&'a str, &'a str, Version),
        headers: Headers<'a>,
        framing: Framing,
    ) -> Self {
        Self {
            method,
            target,
            version,
            headers,
            keep_alive: framing.keep_alive,
            body_bytes: framing.body_bytes,
            expects_continue: framing.expects_continue,
        }
    }

    /// What an answer to this request must know.
    pub fn reply_to(&self) -> ReplyTo {
        ReplyTo { version: self.version, is_head: self.method == "HEAD", keep_alive: self.keep_alive }
    }

    /// The path of the target without its query, not percent-decoded. `*` for the server as a whole, empty for CONNECT.
    pub fn path(&self) -> &'a str {
        let path_and_query = self.path_and_query();
        let path = path_and_query.split_once('?').map_or(path_and_query, |(path, _)| path);
        // RFC 9110 section 4.2.3: an empty path is "/". CONNECT has no path at all.
        if path.is_empty() && self.method != "CONNECT" { "/" } else { path }
    }

    /// What follows the first `?` of the target.
    pub fn query(&self) -> Option<&'a str> {
        self.path_and_query().split_once('?').map(|(_, query)| query)
    }

    /// Whether the client asks to go on in `protocol` (e.g. "websocket").
    pub fn wants_upgrade(&self, protocol: &str) -> bool {
        // RFC 9110 section 7.8: ignored in HTTP/1.0, and valid only with the connection option.
        self.version >= Version::Http11
            && self.headers.lists("connection", "upgrade")
            && self.headers.lists("upgrade", protocol)
    }

    fn path_and_query(&self) -> &'a str {
        if self.method == "CONNECT" {
            return "";
        }
        match self.target.split_once("://") {
            // RFC 9112 section 3.2.2, absolute-form: the path begins behind the authority.
            Some((_, rest)) if !self.target.starts_with('/') => rest.find(['/', '?']).map_or("", |at| &rest[at..]),
            _ => self.target,
        }
    }
}

/// The header lines of a request.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// Whole lines, each with its CRLF, and the empty one at the end.
    lines: &'a [u8],
}

impl<'a> Headers<'a> {
    pub(crate) fn new(lines: &'a [u8]) -> Self {
        Self { lines }
    }

    /// All headers in order. Names are as sent, so compare them ignoring case; values are without the space around.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut rest = self.lines;
        std::iter::from_fn(move || {
            // A CR stands in a head only as part of a line end.
            let end = rest.iter().position(|&byte| byte == b'\r')?;
            let (line, tail) = rest.split_at(end);
            rest = tail.get(2..).unwrap_or_default();
            let colon = line.iter().position(|&byte| byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            Some((name, trim(&line[colon + 1..])))
        })
    }

    /// The value of the first header of this name.
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all headers of this name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether the comma-separated lists of this name contain `element`, ignoring case.
    pub fn lists(&self, name: &str, element: &str) -> bool {
        self.all(name).flat_map(elements).any(|other| other.eq_ignore_ascii_case(element.as_bytes()))
    }
}

/// The elements of one comma-separated list; empty ones are ignored (RFC 9110 section 5.6.1.2).
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Without the optional whitespace around (RFC 9110 section 5.6.3).
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
