//! The bytes of the key-value protocol: requests are decoded, replies are encoded. No I/O, no clock.
//!
//! ```text
//! GET key\n                 ->  VALUE length\n bytes \n   or   NONE\n
//! SET key length\n bytes \n ->  OK\n                      or   FULL\n
//! DEL key\n                 ->  OK\n                      or   NONE\n
//! anything else            ->  ERROR what\n              and the end
//! ```
//!
//! Keys are visible ASCII, values are any bytes. Requests may be pipelined; replies come in their order.
//! Invariant: what [`decode`] answers depends on the bytes alone, never on how they were cut on their way, and a request
//! that is not whole yet is [`None`] without being looked at beyond its first line.

use std::fmt;
use std::io::Write;
use std::ops::Range;

use bytes::Bytes;

/// Bytes of a key.
pub const MAX_KEY: usize = 250;
/// Bytes of a value.
pub const MAX_VALUE: usize = 64 * 1024;
/// Bytes of a first line: a verb, a key, a length, the spaces between and the end.
const MAX_LINE: usize = 3 + 1 + MAX_KEY + 1 + 5 + 1;
/// Bytes of a request.
pub const MAX_REQUEST: usize = MAX_LINE + MAX_VALUE + 1;
/// Bytes of a reply.
pub const MAX_REPLY: usize = "VALUE 65536\n".len() + MAX_VALUE + 1;

const _: () = assert!(MAX_VALUE < 100_000, "a length has five digits");

/// What a client asks for. `B` is what its parts are: ranges of the decoded bytes, or the bytes themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<B> {
    /// The value of `key`.
    Get {
        /// Visible ASCII.
        key: B,
    },
    /// `key` has this value from now on.
    Set {
        /// Visible ASCII.
        key: B,
        /// Any bytes.
        value: B,
    },
    /// `key` has no value any more.
    Del {
        /// Visible ASCII.
        key: B,
    },
}

impl<B> Request<B> {
    /// The same request with its parts put another way.
    pub fn map<C>(self, mut part: impl FnMut(B) -> C) -> Request<C> {
        match self {
            Request::Get { key } => Request::Get { key: part(key) },
            Request::Set { key, value } => Request::Set { key: part(key), value: part(value) },
            Request::Del { key } => Request::Del { key: part(key) },
        }
    }
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The key's value.
    Value(Bytes),
    /// The key has no value.
    Missing,
    /// Done.
    Ok,
    /// There is no room for more.
    Full,
}

/// How a client broke the protocol. There is no way to find the next request after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A first line without an end.
    LineTooLong,
    /// Neither GET nor SET nor DEL, or the wrong number of words.
    UnknownRequest,
    /// A key that is empty, too long, or not visible ASCII.
    BadKey,
    /// A length that is no number, or too large.
    BadLength,
    /// A value that goes on after its length.
    ValueTooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::LineTooLong => "line too long",
            Error::UnknownRequest => "unknown request",
            Error::BadKey => "bad key",
            Error::BadLength => "bad length",
            Error::ValueTooLong => "value longer than its length",
        })
    }
}

impl std::error::Error for Error {}

/// A request, as ranges of the bytes it was decoded from, and how many of them it took.
pub type Decoded = (Request<Range<usize>>, usize);

/// The request at the front of `bytes`; `None` if more are needed.
///
/// # Errors
///
/// The bytes are no request, and no more bytes will make them one.
pub fn decode(bytes: &[u8]) -> Result<Option<Decoded>, Error> {
    let looked_at = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = looked_at.iter().position(|byte| *byte == b'\n') else {
        return if looked_at.len() < MAX_LINE { Ok(None) } else { Err(Error::LineTooLong) };
    };
    let mut words = bytes[..end].split(|byte| *byte == b' ');
    let (verb, key, length) = (words.next(), words.next(), words.next());
    let (Some(verb), Some(key), None) = (verb, key, words.next()) else {
        return Err(Error::UnknownRequest);
    };
    let key_range = verb.len() + 1..verb.len() + 1 + key.len();
    let request = match (verb, length) {
        (b"GET", None) => Request::Get { key: key_range },
        (b"DEL", None) => Request::Del { key: key_range },
        (b"SET", Some(length)) => {
            let value = end + 1..end + 1 + parse_length(length)?;
            Request::Set { key: key_range, value }
        }
        _ => return Err(Error::UnknownRequest),
    };
    if key.is_empty() || key.len() > MAX_KEY || !key.iter().all(u8::is_ascii_graphic) {
        return Err(Error::BadKey);
    }
    let Request::Set { value, .. } = &request else {
        return Ok(Some((request, end + 1)));
    };
    match bytes.get(value.end) {
        None => Ok(None),
        Some(b'\n') => {
            let len = value.end + 1;
            Ok(Some((request, len)))
        }
        Some(_) => Err(Error::ValueTooLong),
    }
}

/// Digits only: `usize`'s own parser would take a sign.
fn parse_length(digits: &[u8]) -> Result<usize, Error> {
    if !(1..=5).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Error::BadLength);
    }
    let length = digits.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    if length > MAX_VALUE {
        return Err(Error::BadLength);
    }
    Ok(length)
}

/// Appends the bytes of a reply. A value's own bytes are not among them: they follow, and then [`VALUE_END`], so that
/// whoever sends them need not copy them.
pub fn encode(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Value(value) => {
            // Writing to a `Vec` cannot fail.
            let _ = writeln!(out, "VALUE {}", value.len());
        }
        Reply::Missing => out.extend_from_slice(b"NONE\n"),
        Reply::Ok => out.extend_from_slice(b"OK\n"),
        Reply::Full => out.extend_from_slice(b"FULL\n"),
    }
}

/// What stands behind a value's bytes.
pub const VALUE_END: &[u8] = b"\n";

#[cfg(test)]
mod tests {
    use super::*;

    type Requests = Result<Vec<Request<Vec<u8>>>, (Vec<Request<Vec<u8>>>, Error)>;

    /// Decodes bytes that arrive in pieces, as a connection does: what is left of one comes in front of the next.
    fn decode_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Requests, usize) {
        let mut unread = Vec::new();
        let mut requests = Vec::new();
        for piece in pieces {
            unread.extend_from_slice(piece);
            loop {
                match decode(&unread) {
                    Ok(Some((request, len))) => {
                        requests.push(request.map(|part| unread[part].to_vec()));
                        unread.drain(..len);
                    }
                    Ok(None) => break,
                    Err(error) => return (Err((requests, error)), unread.len()),
                }
            }
            assert!(unread.len() < MAX_REQUEST, "a request of the largest size is whole");
        }
        (Ok(requests), unread.len())
    }

    fn get(key: &str) -> Request<Vec<u8>> {
        Request::Get { key: key.into() }
    }

    fn del(key: &str) -> Request<Vec<u8>> {
        Request::Del { key: key.into() }
    }

    fn set(key: &str, value: &[u8]) -> Request<Vec<u8>> {
        Request::Set { key: key.into(), value: value.into() }
    }

    /// Decodes `bytes` cut at every place, and byte by byte.
    #[track_caller]
    fn check(bytes: &[u8], expect: Requests) {
        assert_eq!(decode_pieces([bytes]).0, expect);
        for cut in 1..bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(decode_pieces([front, back]).0, expect, "cut at {cut}");
        }
        assert_eq!(decode_pieces(bytes.chunks(1)).0, expect, "byte by byte");
    }

    #[test]
    fn requests_are_the_same_however_they_are_cut() {
        check(b"GET a\n", Ok(vec![get("a")]));
        check(b"DEL key-1\n", Ok(vec![del("key-1")]));
        check(b"SET a 5\nhello\n", Ok(vec![set("a", b"hello")]));
        check(b"SET a 0\n\n", Ok(vec![set("a", b"")]));
        check(b"SET a 00004\n\n\0\xff \n", Ok(vec![set("a", b"\n\0\xff ")]));
        check(b"SET a 6\nGET b\n\nGET b\n", Ok(vec![set("a", b"GET b\n"), get("b")]));
        check(b"GET a\nDEL b\nGET c\n", Ok(vec![get("a"), del("b"), get("c")]));
    }

    #[test]
    fn what_is_not_whole_waits() {
        for part in [&b""[..], b"G", b"GET a", b"SET a 5\n", b"SET a 5\nhello"] {
            assert_eq!(decode_pieces([part]), (Ok(vec![]), part.len()));
        }
    }

    #[test]
    fn mistakes_are_the_same_however_they_are_cut() {
        let wrong = |error| Err((vec![], error));
        check(b"\n", wrong(Error::UnknownRequest));
        check(b"PUT a\n", wrong(Error::UnknownRequest));
        check(b"get a\n", wrong(Error::UnknownRequest));
        check(b"GET\n", wrong(Error::UnknownRequest));
        check(b"GET a b\n", wrong(Error::UnknownRequest));
        check(b"SET a\n", wrong(Error::UnknownRequest));
        check(b"SET a 1 2\n", wrong(Error::UnknownRequest));
        check(b"GET \n", wrong(Error::BadKey));
        check(b"GET a\r\n", wrong(Error::BadKey));
        check(b"GET \xc3\xa4\n", wrong(Error::BadKey));
        check(b"SET a \n", wrong(Error::BadLength));
        check(b"SET a -1\n", wrong(Error::BadLength));
        check(b"SET a +1\n", wrong(Error::BadLength));
        check(b"SET a 65537\n", wrong(Error::BadLength));
        check(b"SET a 000001\n", wrong(Error::BadLength));
        check(b"SET a 18446744073709551617\n", wrong(Error::BadLength));
        check(b"SET a 2\nabc\n", wrong(Error::ValueTooLong));
        check(b"GET a\nPUT b\nGET c\n", Err((vec![get("a")], Error::UnknownRequest)));
    }

    #[test]
    fn the_largest_request_is_whole_and_a_longer_one_is_refused() {
        let key = "k".repeat(MAX_KEY);
        let value = vec![b'v'; MAX_VALUE];
        let request = [format!("SET {key} {MAX_VALUE}\n").as_bytes(), &value, b"\n"].concat();
        assert_eq!(request.len(), MAX_REQUEST);
        assert_eq!(decode_pieces([&request[..]]).0, Ok(vec![set(&key, &value)]));
        check(format!("GET {key}\n").as_bytes(), Ok(vec![get(&key)]));
        check(format!("GET {key}k\n").as_bytes(), Err((vec![], Error::BadKey)));
        check(&[b'x'; MAX_LINE + 100], Err((vec![], Error::LineTooLong)));
    }

    #[test]
    fn long_streams_are_the_same_in_random_pieces() {
        let mut random = 1_u32;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % below
        };
        let mut stream = Vec::new();
        let mut expect = Vec::new();
        for number in 0..200 {
            let key = format!("key-{}", number % 7);
            let value: Vec<u8> = (0..next(50)).map(|_| next(256) as u8).collect();
            let (bytes, request) = match next(3) {
                0 => (format!("GET {key}\n").into_bytes(), get(&key)),
                1 => (format!("DEL {key}\n").into_bytes(), del(&key)),
                _ => {
                    let head = format!("SET {key} {}\n", value.len());
                    ([head.as_bytes(), &value, b"\n"].concat(), set(&key, &value))
                }
            };
            stream.extend(bytes);
            expect.push(request);
        }
        for _ in 0..50 {
            let mut rest = &stream[..];
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + next(rest.len().min(100)));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(decode_pieces(pieces), (Ok(expect.clone()), 0));
        }
    }

    #[test]
    fn no_reply_is_longer_than_the_bound() {
        let mut out = Vec::new();
        encode(&Reply::Value(vec![0; MAX_VALUE].into()), &mut out);
        assert_eq!(out.len() + MAX_VALUE + VALUE_END.len(), MAX_REPLY);
    }
}
