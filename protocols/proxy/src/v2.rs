//! Version 2: binary (section 2.2).
//!
//! ```text
//!  0            12        13           14       16
//!  | signature  | ver|cmd | fam|transp | length | addresses (by family) | TLVs ... |
//!                                                '------- `length` bytes ---------'
//! ```
//!
//! The fixed part is judged byte by byte as it comes, so a wrong header is refused before its length is waited for.
//! Nothing is read outside `16 + length`, and nothing of the addresses before all of it is there.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use crate::{Header, Origin, ProxyError, Status, Transport, Version, crc32c};

/// The constant first bytes.
pub(crate) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
pub(crate) const FIXED_BYTES: usize = 16;
/// Two IPv4 addresses and two ports.
pub(crate) const INET_BYTES: usize = 2 * 4 + 2 * 2;
/// Two IPv6 addresses and two ports.
pub(crate) const INET6_BYTES: usize = 2 * 16 + 2 * 2;
/// Two `sun_path` of 108 bytes.
pub(crate) const UNIX_BYTES: usize = 2 * 108;
/// Type and length of a TLV.
pub(crate) const TLV_PREFIX_BYTES: usize = 3;
/// PP2_TYPE_CRC32C (section 2.2.3).
pub(crate) const TYPE_CRC32C: u8 = 0x03;

/// Decodes the header `input` begins with; [`SIGNATURE`] is known to match as far as both reach.
pub(crate) fn decode(input: &[u8], max_bytes: usize) -> Result<Status, ProxyError> {
    let Some(&version_and_command) = input.get(12) else {
        return Ok(Status::NeedMore);
    };
    let command = command(version_and_command)?;
    let Some(&family_and_transport) = input.get(13) else {
        return Ok(Status::NeedMore);
    };
    let form = match command {
        // "Discard the protocol block including the family which is ignored."
        Command::Local => None,
        Command::Proxy => form(family_and_transport)?,
    };
    let Some(&[high, low]) = input.get(14..FIXED_BYTES) else {
        return Ok(Status::NeedMore);
    };
    let header_bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if header_bytes > max_bytes {
        return Err(ProxyError::HeaderTooLong { bytes: header_bytes, limit: max_bytes });
    }
    if form.is_some_and(|(family, _)| FIXED_BYTES + family.address_bytes() > header_bytes) {
        return Err(ProxyError::AddressTruncated);
    }
    let Some(header) = input.get(..header_bytes) else {
        return Ok(Status::NeedMore);
    };
    let origin = match (command, form) {
        (Command::Local, _) => Origin::Local,
        // "The receiver should ignore address information." Where it ends is not said, so there are no TLVs to find.
        (Command::Proxy, None) => Origin::Unknown,
        (Command::Proxy, Some((family, transport))) => {
            check_tlvs(header, FIXED_BYTES + family.address_bytes())?;
            origin(family, transport, &header[FIXED_BYTES..])
        }
    };
    Ok(Status::Done { consumed: header_bytes, header: Header { version: Version::V2, origin } })
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy,
}

#[derive(Clone, Copy)]
enum Family {
    Inet,
    Inet6,
    Unix,
}

impl Family {
    fn address_bytes(self) -> usize {
        match self {
            Family::Inet => INET_BYTES,
            Family::Inet6 => INET6_BYTES,
            Family::Unix => UNIX_BYTES,
        }
    }
}

fn command(byte: u8) -> Result<Command, ProxyError> {
    // "The receiver must only accept this value."
    if byte >> 4 != 2 {
        return Err(ProxyError::UnsupportedVersion(byte >> 4));
    }
    match byte & 0xf {
        0x0 => Ok(Command::Local),
        0x1 => Ok(Command::Proxy),
        // "Receivers must drop connections presenting unexpected values here."
        other => Err(ProxyError::UnknownCommand(other)),
    }
}

/// Family and transport, `None` when either is unspecified; unassigned values "must be rejected as invalid".
fn form(byte: u8) -> Result<Option<(Family, Transport)>, ProxyError> {
    let family = match byte >> 4 {
        0x0 => None,
        0x1 => Some(Family::Inet),
        0x2 => Some(Family::Inet6),
        0x3 => Some(Family::Unix),
        other => return Err(ProxyError::UnknownFamily(other)),
    };
    let transport = match byte & 0xf {
        0x0 => None,
        0x1 => Some(Transport::Stream),
        0x2 => Some(Transport::Datagram),
        other => return Err(ProxyError::UnknownTransport(other)),
    };
    Ok(family.zip(transport))
}

/// Walks the TLVs from `at` to the end of `header`; all but the checksum are skipped.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), ProxyError> {
    let mut checksum_at = None;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + TLV_PREFIX_BYTES) else {
            return Err(ProxyError::TlvTruncated);
        };
        let value_at = at + TLV_PREFIX_BYTES;
        let value_bytes = usize::from(u16::from_be_bytes([high, low]));
        at = value_at + value_bytes;
        if at > header.len() {
            return Err(ProxyError::TlvTruncated);
        }
        if kind == TYPE_CRC32C {
            if value_bytes != 4 {
                return Err(ProxyError::BadChecksumLength);
            }
            // Which of two would be zeroed for the sum is not defined.
            if checksum_at.replace(value_at).is_some() {
                return Err(ProxyError::DuplicateChecksum);
            }
        }
    }
    match checksum_at {
        // "If it is not [the same], the receiver MUST treat the TCP connection providing the header as invalid."
        Some(at) if crc32c::of_header(header, at).to_be_bytes() != header[at..at + 4] => {
            Err(ProxyError::ChecksumMismatch)
        }
        _ => Ok(()),
    }
}

/// The addresses at the start of `block`, which is known to hold those of `family`.
fn origin(family: Family, transport: Transport, block: &[u8]) -> Origin {
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    match family {
        Family::Inet => {
            let ip = |at| Ipv4Addr::from(take::<4>(block, at));
            Origin::Inet {
                transport,
                source: SocketAddrV4::new(ip(0), port(8)),
                destination: SocketAddrV4::new(ip(4), port(10)),
            }
        }
        Family::Inet6 => {
            let ip = |at| Ipv6Addr::from(take::<16>(block, at));
            Origin::Inet6 {
                transport,
                source: SocketAddrV6::new(ip(0), port(32), 0, 0),
                destination: SocketAddrV6::new(ip(16), port(34), 0, 0),
            }
        }
        Family::Unix => Origin::Unix { transport },
    }
}

fn take<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[at..at + N]);
    bytes
}
