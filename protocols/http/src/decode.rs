//! The decoder of one connection's requests.
//!
//! The caller keeps what was not consumed and calls again with it and more. The decoder remembers only where it is: in a
//! head (how far that was scanned), in a body (how much is left), behind the last request, or refused.

use crate::framing::frame;
use crate::request::{Headers, Version};
use crate::scan::{HeadEnd, Scan};
use crate::{DEFAULT_MAX_BODY_BYTES, HttpError, MAX_HEADERS, Request};

/// Decodes the requests of one connection, pipelined or not.
#[derive(Clone, Debug)]
pub struct Decoder {
    max_body_bytes: usize,
    state: State,
}

/// What the input begins with.
#[derive(Clone, Copy, Debug)]
enum State {
    Head(Scan),
    Body { remaining: usize, keep_alive: bool },
    Finished,
    Refused(HttpError),
}

/// One step. `consumed` bytes are to be taken off the input before the next.
#[derive(Clone, Copy, Debug)]
pub enum Decoded<'a> {
    /// Nothing to tell yet, nothing consumed. Call again with the same bytes and more behind them.
    NeedMore,
    /// A whole head. If it has a body, [`Decoded::Body`] follows until nothing remains.
    Request {
        /// The bytes of the head.
        consumed: usize,
        /// The head.
        request: Request<'a>,
    },
    /// A piece of the body of the last request.
    Body {
        /// The bytes of the piece.
        consumed: usize,
        /// The piece, never empty.
        bytes: &'a [u8],
        /// The bytes of the body still to come; 0 ends the request.
        remaining: usize,
    },
    /// The last request of the connection is past; whatever comes is discarded. Never follows unless a request had
    /// `keep_alive` false.
    Finished {
        /// All of the input.
        consumed: usize,
    },
}

impl Decoder {
    /// A decoder that takes bodies of at most [`DEFAULT_MAX_BODY_BYTES`].
    pub const fn new() -> Self {
        Self::with_max_body_bytes(DEFAULT_MAX_BODY_BYTES)
    }

    /// A decoder that takes bodies of at most `max_body_bytes`.
    pub const fn with_max_body_bytes(max_body_bytes: usize) -> Self {
        Self { max_body_bytes, state: State::Head(Scan::new()) }
    }

    /// Whether the decoder stands between two requests: the idle deadline holds then, the request deadline (answered
    /// with 408) when not.
    pub fn is_idle(&self) -> bool {
        match self.state {
            State::Head(scan) => scan.is_fresh(),
            State::Body { .. } => false,
            State::Finished | State::Refused(_) => true,
        }
    }

    /// Decodes the next step from the start of `input`: what earlier calls did not consume, and whatever came since.
    ///
    /// Never asks for more than [`crate::MAX_HEAD_BYTES`] to be kept.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the request. Answer it ([`crate::Response::refuse`]) and close: every later
    /// call gives the same error.
    ///
    /// # Panics
    ///
    /// If `input` has lost bytes that were not consumed: an error of the caller's.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, HttpError> {
        let result = match &mut self.state {
            State::Head(scan) => match scan.advance(input) {
                Ok(None) => return Ok(Decoded::NeedMore),
                Ok(Some(end)) => self.request(input, end),
                Err(error) => Err(error),
            },
            &mut State::Body { remaining, keep_alive } => return Ok(self.body(input, remaining, keep_alive)),
            State::Finished if input.is_empty() => return Ok(Decoded::NeedMore),
            State::Finished => {
                return Ok(Decoded::Finished { consumed: input.len() });
            }
            State::Refused(error) => return Err(*error),
        };
        if let Err(error) = result {
            self.state = State::Refused(error);
        }
        result
    }

    fn request<'a>(&mut self, input: &'a [u8], end: HeadEnd) -> Result<Decoded<'a>, HttpError> {
        let line = request_line(&input[..end.head_bytes])?;
        check_target(line.0, line.1)?;
        let headers = Headers::new(&input[end.fields_at..end.head_bytes]);
        let framing = frame(line.2, headers, self.max_body_bytes)?;
        self.state = match framing.body_bytes {
            0 => State::after_request(framing.keep_alive),
            remaining => State::Body { remaining, keep_alive: framing.keep_alive },
        };
        Ok(Decoded::Request { consumed: end.head_bytes, request: Request::new(line, headers, framing) })
    }

    fn body<'a>(&mut self, input: &'a [u8], remaining: usize, keep_alive: bool) -> Decoded<'a> {
        let bytes = &input[..input.len().min(remaining)];
        if bytes.is_empty() {
            return Decoded::NeedMore;
        }
        let remaining = remaining - bytes.len();
        self.state = match remaining {
            0 => State::after_request(keep_alive),
            _ => State::Body { remaining, keep_alive },
        };
        Decoded::Body { consumed: bytes.len(), bytes, remaining }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn after_request(keep_alive: bool) -> Self {
        // RFC 9112 section 9.6: behind "close", "the server MUST NOT process any further requests".
        if keep_alive { State::Head(Scan::new()) } else { State::Finished }
    }
}

/// Method, target and version of a whole head, its header lines checked on the way.
fn request_line(head: &[u8]) -> Result<(&str, &str, Version), HttpError> {
    let mut table = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut table);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(head_bytes)) if head_bytes == head.len() => {}
        // Both would mean that httparse and the scan disagree on lines.
        Ok(_) => return Err(HttpError::BadRequestLine),
        Err(error) => return Err(refuse_head(error, head)),
    }
    match (parsed.method, parsed.path, parsed.version) {
        (Some(method), Some(target), Some(1)) => Ok((method, target, Version::Http11)),
        (Some(method), Some(target), Some(0)) => Ok((method, target, Version::Http10)),
        _ => Err(HttpError::BadRequestLine),
    }
}

fn refuse_head(error: httparse::Error, head: &[u8]) -> HttpError {
    match error {
        // RFC 9112 section 5.1: no whitespace between name and colon, and no name that is not a token.
        httparse::Error::HeaderName => HttpError::BadHeaderName,
        httparse::Error::HeaderValue => HttpError::BadHeaderValue,
        httparse::Error::TooManyHeaders => HttpError::TooManyHeaders,
        httparse::Error::Version if names_a_version(head) => HttpError::UnsupportedVersion,
        _ => HttpError::BadRequestLine,
    }
}

/// Whether the third and last word of the request line is a well-formed version (RFC 9112 section 2.3), which is then
/// another than ours.
fn names_a_version(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

/// RFC 9112 section 3.2: one of four forms, two of them for one method each.
fn check_target(method: &str, target: &str) -> Result<(), HttpError> {
    let legal = match method {
        // Section 3.2.3, authority-form: host and port, nothing else.
        "CONNECT" => target
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && !host.contains(['/', '@']) && is_port(port)),
        // Section 3.2.4, asterisk-form.
        "OPTIONS" if target == "*" => true,
        _ => target.starts_with('/') || is_absolute(target),
    };
    // RFC 3986 section 2: a URI is ASCII. httparse lets UTF-8 pass.
    if legal && target.is_ascii() { Ok(()) } else { Err(HttpError::BadTarget) }
}

/// Section 3.2.2, absolute-form.
fn is_absolute(target: &str) -> bool {
    target.split_once("://").is_some_and(|(scheme, rest)| {
        (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
            && !rest.is_empty()
            && !rest.starts_with(['/', '?'])
    })
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}
