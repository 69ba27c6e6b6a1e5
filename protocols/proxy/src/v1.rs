//! Version 1: one line of text (section 2.1).
//!
//! The line is found first and taken apart after, never the other way round, so no cut can make a shorter address of a
//! longer one. Must not look beyond [`MAX_V1_BYTES`].

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use crate::{Header, MAX_V1_BYTES, Origin, ProxyError, Status, Transport, Version};

/// What every line begins with.
pub(crate) const PREFIX: &[u8] = b"PROXY ";

/// Decodes the line `input` begins with; [`PREFIX`] is known to match.
pub(crate) fn decode(input: &[u8]) -> Result<Status, ProxyError> {
    let Some(line_bytes) = line_end(input)? else {
        return Ok(Status::NeedMore);
    };
    let origin = parse(&input[PREFIX.len()..line_bytes])?;
    Ok(Status::Done { consumed: line_bytes + 2, header: Header { version: Version::V1, origin } })
}

/// The bytes before the CRLF, or `None` while it may still come.
fn line_end(input: &[u8]) -> Result<Option<usize>, ProxyError> {
    // "If the CRLF sequence is not found in the first 107 characters, the receiver should declare the line invalid."
    let window = &input[..input.len().min(MAX_V1_BYTES)];
    let found = window.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    match found {
        // "The receiver must not tolerate a single CR or LF character to end the line."
        Some(at) if window[at] == b'\n' => Err(ProxyError::BareLf),
        Some(at) if window.get(at + 1) == Some(&b'\n') => Ok(Some(at)),
        Some(at) if at + 1 < window.len() => Err(ProxyError::BareCr),
        _ if window.len() == MAX_V1_BYTES => Err(ProxyError::LineTooLong),
        _ => Ok(None),
    }
}

/// Parses what stands between [`PREFIX`] and CRLF.
fn parse(line: &[u8]) -> Result<Origin, ProxyError> {
    // "Exactly one space" between fields: two make an empty field, which parses as nothing below.
    let mut fields = line.split(|&byte| byte == b' ');
    match fields.next() {
        Some(b"TCP4") => {
            let (source, destination) = endpoints::<Ipv4Addr>(fields)?;
            Ok(Origin::Inet {
                transport: Transport::Stream,
                source: SocketAddrV4::new(source.0, source.1),
                destination: SocketAddrV4::new(destination.0, destination.1),
            })
        }
        Some(b"TCP6") => {
            let (source, destination) = endpoints::<Ipv6Addr>(fields)?;
            Ok(Origin::Inet6 {
                transport: Transport::Stream,
                source: SocketAddrV6::new(source.0, source.1, 0, 0),
                destination: SocketAddrV6::new(destination.0, destination.1, 0, 0),
            })
        }
        // "The receiver must ignore anything presented before the CRLF."
        Some(b"UNKNOWN") => Ok(Origin::Unknown),
        _ => Err(ProxyError::UnknownProtocol),
    }
}

type Endpoint<A> = (A, u16);

/// The last four fields, in the order of the line: two addresses, then two ports.
fn endpoints<'a, A: FromStr>(
    mut fields: impl Iterator<Item = &'a [u8]>,
) -> Result<(Endpoint<A>, Endpoint<A>), ProxyError> {
    let mut next = || fields.next().ok_or(ProxyError::MissingField);
    let source = address(next()?).ok_or(ProxyError::BadSource)?;
    let destination = address(next()?).ok_or(ProxyError::BadDestination)?;
    let source_port = port(next()?).ok_or(ProxyError::BadSourcePort)?;
    let destination_port = port(next()?).ok_or(ProxyError::BadDestinationPort)?;
    match fields.next() {
        None => Ok(((source, source_port), (destination, destination_port))),
        Some(_) => Err(ProxyError::ExtraField),
    }
}

/// The standard library's parsers are as strict as the protocol: four decimal numbers without leading zeros, or groups
/// of hex digits with at most one "::". They also take the "::ffff:192.0.2.1" that `inet_ntop`, and so every sender in
/// the field, writes for a mapped address.
fn address<A: FromStr>(field: &[u8]) -> Option<A> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// A decimal of 0 to 65535, "heading zeroes are not permitted"; `u16::from_str` would take them, and a "+".
fn port(field: &[u8]) -> Option<u16> {
    match field {
        [b'0'] => Some(0),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => address(field),
        _ => None,
    }
}
