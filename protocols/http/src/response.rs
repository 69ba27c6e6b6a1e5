//! The encoder of responses, straight into the caller's buffer.
//!
//! It owns what frames a response (Content-Length, Connection, and whether there is a body), so an answer cannot
//! contradict its request; callers own every other header, Date included (RFC 9110 section 6.6.1 asks it of servers with
//! a clock; there is none here). No value can break out of its line.

use std::io::Write as _;

use crate::scan::is_token_byte;
use crate::{HttpError, ReplyTo, Status, Version};

/// The interim answer to a request that [expects](crate::Request::expects_continue) it; the final one follows.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A response being written. Ends with [`Response::body`] or [`Response::empty`]; dropped before, it is cut off.
#[derive(Debug)]
#[must_use = "a response ends with body() or empty()"]
pub struct Response<'o> {
    out: &'o mut Vec<u8>,
    content: Content,
}

/// What follows the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    LengthAndBody,
    Length,
    Nothing,
}

impl<'o> Response<'o> {
    /// Begins the final response to a request, appending to `out`.
    pub fn new(out: &'o mut Vec<u8>, to: ReplyTo, status: Status) -> Self {
        let content = match status {
            // RFC 9110 sections 8.6, 15.3.5 and 15.4.5: neither has a body, the first must not have a length.
            Status::NoContent | Status::NotModified => Content::Nothing,
            // RFC 9110 section 9.3.2: HEAD is answered as GET, without the body.
            _ if to.is_head => Content::Length,
            _ => Content::LengthAndBody,
        };
        // RFC 9110 section 2.5: the version is the server's own, whatever that of the request.
        write(out, format_args!("HTTP/1.1 {} {}\r\n", status.code(), status.reason()));
        // RFC 9112 section 9.3: persistence is the default of 1.1 and must be said in 1.0. Section 9.6: the end is said.
        match (to.version, to.keep_alive) {
            (_, false) => out.extend_from_slice(b"connection: close\r\n"),
            (Version::Http10, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (Version::Http11, true) => {}
        }
        Self { out, content }
    }

    /// Begins a 101 to a request that [wants](crate::Request::wants_upgrade) `protocol`. Behind it the connection speaks
    /// that, from the first byte not consumed.
    pub fn switching(out: &'o mut Vec<u8>, protocol: &'static str) -> Self {
        // RFC 9110 section 7.8: both are required.
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n");
        Self { out, content: Content::Nothing }.header("upgrade", protocol)
    }

    /// Writes the whole answer to a refused request. Close behind it.
    pub fn refuse(out: &'o mut Vec<u8>, error: HttpError) {
        let response = Self::new(out, ReplyTo::UNREAD, error.status());
        let mut line = error.to_string();
        line.push('\n');
        response.header("content-type", "text/plain").body(line.as_bytes());
    }

    /// Adds a header. Bytes a value must not contain become spaces, so a value may come from anywhere.
    ///
    /// # Panics
    ///
    /// If `name` is not a token, or is one of the headers this encoder writes itself: an error of the program's.
    pub fn header(self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        assert!(!name.is_empty() && name.bytes().all(is_token_byte), "header name {name:?} is not a token");
        let framing = ["connection", "content-length", "transfer-encoding"];
        assert!(!framing.iter().any(|own| name.eq_ignore_ascii_case(own)), "{name} is the encoder's to write");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        // RFC 9110 section 5.5: CR, LF and NUL are replaced by SP; other CTLs are as invalid.
        self.out.extend(value.as_ref().iter().map(|&byte| match byte {
            0..=8 | 10..=31 | 127 => b' ',
            other => other,
        }));
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Ends the response with `body`, which is left out where the request or the status allows none.
    pub fn body(self, body: &[u8]) {
        if self.content != Content::Nothing {
            write(self.out, format_args!("content-length: {}\r\n", body.len()));
        }
        self.out.extend_from_slice(b"\r\n");
        if self.content == Content::LengthAndBody {
            self.out.extend_from_slice(body);
        }
    }

    /// Ends the response without a body.
    pub fn empty(self) {
        self.body(b"");
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A Vec takes every write.
    let _ = out.write_fmt(text);
}
