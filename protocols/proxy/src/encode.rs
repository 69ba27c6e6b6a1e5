//! Encoder for both forms: what a proxy, a load generator or a test writes in front of its first byte.
//!
//! Whatever it writes, the decoder of this crate takes (given its limit). On an error nothing is written.

use crate::{Origin, Transport, crc32c, v2};

/// One type-length-value of a version 2 header; types are listed in section 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The type, e.g. 0x02 for the authority (host name) the client asked for. Not 0x03: see [`Checksum`].
    pub kind: u8,
    /// The value, at most 65,535 bytes.
    pub value: &'a [u8],
}

/// Whether a version 2 header carries its CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// No checksum.
    Omit,
    /// A CRC32C TLV behind all others.
    Append,
}

/// Why a version 2 header could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Addresses and TLVs exceed the 65,535 bytes the length field can say.
    #[error("version 2 addresses and TLVs exceed 65535 bytes")]
    TooLong,
}

/// Appends a version 1 line to `out`.
///
/// Version 1 knows TCP only, and no LOCAL: every other origin is written as UNKNOWN, as section 2.1 asks.
pub fn encode_v1(origin: &Origin, out: &mut Vec<u8>) {
    let line = match origin {
        Origin::Inet { transport: Transport::Stream, source, destination } => {
            format!("PROXY TCP4 {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
        }
        Origin::Inet6 { transport: Transport::Stream, source, destination } => {
            format!("PROXY TCP6 {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
        }
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    };
    out.extend_from_slice(line.as_bytes());
}

/// Appends a version 2 header to `out`. The paths of a UNIX origin are written empty.
///
/// # Errors
///
/// [`EncodeError::TooLong`], with nothing written.
pub fn encode_v2(origin: &Origin, tlvs: &[Tlv<'_>], checksum: Checksum, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let checksum_bytes = match checksum {
        Checksum::Omit => 0,
        Checksum::Append => v2::TLV_PREFIX_BYTES + 4,
    };
    let tlv_bytes: usize = tlvs.iter().map(|tlv| v2::TLV_PREFIX_BYTES + tlv.value.len()).sum();
    let block_bytes = address_bytes(origin) + tlv_bytes + checksum_bytes;
    let length = u16::try_from(block_bytes).map_err(|_| EncodeError::TooLong)?;

    let start = out.len();
    out.reserve(v2::FIXED_BYTES + block_bytes);
    out.extend_from_slice(v2::SIGNATURE);
    out.extend_from_slice(&[command(origin), form(origin)]);
    out.extend_from_slice(&length.to_be_bytes());
    write_addresses(origin, out);
    for tlv in tlvs {
        write_tlv(tlv, out);
    }
    if checksum == Checksum::Append {
        // "Initialize the checksum field to '0's", sum the whole header, fill it in (section 2.2.3).
        write_tlv(&Tlv { kind: v2::TYPE_CRC32C, value: &[0; 4] }, out);
        let header = &mut out[start..];
        let at = header.len() - 4;
        let sum = crc32c::of_header(header, at);
        header[at..].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(())
}

fn command(origin: &Origin) -> u8 {
    match origin {
        Origin::Local => 0x20,
        Origin::Unknown | Origin::Inet { .. } | Origin::Inet6 { .. } | Origin::Unix { .. } => 0x21,
    }
}

fn form(origin: &Origin) -> u8 {
    let (family, transport) = match origin {
        Origin::Local | Origin::Unknown => return 0,
        Origin::Inet { transport, .. } => (0x10, transport),
        Origin::Inet6 { transport, .. } => (0x20, transport),
        Origin::Unix { transport } => (0x30, transport),
    };
    match transport {
        Transport::Stream => family | 0x1,
        Transport::Datagram => family | 0x2,
    }
}

fn address_bytes(origin: &Origin) -> usize {
    match origin {
        Origin::Local | Origin::Unknown => 0,
        Origin::Inet { .. } => v2::INET_BYTES,
        Origin::Inet6 { .. } => v2::INET6_BYTES,
        Origin::Unix { .. } => v2::UNIX_BYTES,
    }
}

fn write_addresses(origin: &Origin, out: &mut Vec<u8>) {
    match origin {
        Origin::Local | Origin::Unknown => {}
        Origin::Inet { source, destination, .. } => {
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
        Origin::Inet6 { source, destination, .. } => {
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
        Origin::Unix { .. } => out.resize(out.len() + v2::UNIX_BYTES, 0),
    }
}

/// The caller has checked that everything fits 65,535 bytes, so each value does.
fn write_tlv(tlv: &Tlv<'_>, out: &mut Vec<u8>) {
    out.push(tlv.kind);
    out.extend_from_slice(&(tlv.value.len() as u16).to_be_bytes());
    out.extend_from_slice(tlv.value);
}
