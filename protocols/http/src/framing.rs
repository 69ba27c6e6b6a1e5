//! What the headers say about the message itself: its length, its host, and whether the connection goes on.
//!
//! This is where request smuggling is stopped (RFC 9112 sections 6.3 and 11.2). The rule throughout: if a reader in
//! front of this one could take another length, the request is refused.

use crate::HttpError;
use crate::request::{Headers, Version, elements};

/// The message around a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    pub(crate) body_bytes: usize,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
}

/// Judges the headers that frame a request.
pub(crate) fn frame(version: Version, headers: Headers<'_>, max_body_bytes: usize) -> Result<Framing, HttpError> {
    check_host(version, headers)?;
    let body_bytes = body_bytes(version, headers)?;
    if body_bytes > max_body_bytes {
        return Err(HttpError::BodyTooLarge);
    }
    Ok(Framing {
        body_bytes,
        keep_alive: keep_alive(version, headers),
        // RFC 9110 section 10.1.1: ignored in HTTP/1.0 and where there is no body to wait for.
        expects_continue: version >= Version::Http11 && body_bytes > 0 && headers.lists("expect", "100-continue"),
    })
}

/// RFC 9112 section 3.2: 400 to "any HTTP/1.1 request message that lacks a Host header field and to any request message
/// that contains more than one Host header field line or a Host header field with an invalid field value".
fn check_host(version: Version, headers: Headers<'_>) -> Result<(), HttpError> {
    let mut hosts = headers.all("host");
    match hosts.next() {
        None if version >= Version::Http11 => return Err(HttpError::MissingHost),
        Some(host) if !host.iter().all(|&byte| is_host_byte(byte)) => {
            return Err(HttpError::BadHost);
        }
        _ => {}
    }
    if hosts.next().is_some() { Err(HttpError::DuplicateHost) } else { Ok(()) }
}

/// RFC 3986 section 3.2: what a host, a bracketed address and a port are made of. No user: RFC 9110 section 4.2.4.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// RFC 9112 section 6.3, for a request.
fn body_bytes(version: Version, headers: Headers<'_>) -> Result<usize, HttpError> {
    let mut lengths = headers.all("content-length");
    let length = lengths.next();
    if headers.first("transfer-encoding").is_some() {
        return Err(refuse_transfer_encoding(version, headers, length));
    }
    // Item 5 lets equal duplicates pass; RFC 9110 section 8.6 lets them be rejected.
    if lengths.next().is_some() {
        return Err(HttpError::DuplicateContentLength);
    }
    // Item 7: a request without either has no body.
    length.map_or(Ok(0), content_length)
}

/// Every way a transfer coding is refused, the doubtful ones first.
fn refuse_transfer_encoding(version: Version, headers: Headers<'_>, length: Option<&[u8]>) -> HttpError {
    // Section 6.1: in HTTP/1.0 "the framing is faulty".
    if version < Version::Http11 {
        return HttpError::BadTransferEncoding;
    }
    // Item 3: "ought to be handled as an error".
    if length.is_some() {
        return HttpError::ConflictingLength;
    }
    // Item 4: chunked not being the final coding, "the server MUST respond with the 400 (Bad Request) status code".
    match headers.all("transfer-encoding").flat_map(elements).last() {
        Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => HttpError::ChunkedUnsupported,
        _ => HttpError::BadTransferEncoding,
    }
}

/// RFC 9110 section 8.6: one or more digits, "preventing parsing errors due to integer conversion overflows".
fn content_length(value: &[u8]) -> Result<usize, HttpError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::BadContentLength);
    }
    value
        .iter()
        .try_fold(0usize, |sum, digit| sum.checked_mul(10)?.checked_add(usize::from(digit - b'0')))
        .ok_or(HttpError::BodyTooLarge)
}

/// RFC 9112 section 9.3, in its order.
fn keep_alive(version: Version, headers: Headers<'_>) -> bool {
    if headers.lists("connection", "close") {
        return false;
    }
    version >= Version::Http11 || headers.lists("connection", "keep-alive")
}
