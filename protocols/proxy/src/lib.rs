//! Sans-IO PROXY protocol header decoder and encoder, versions 1 and 2.
//!
//! A load balancer that relays a connection puts one PROXY header in front of its first byte, to say whose connection it
//! is. This crate owns the form of that header (HAProxy's `proxy-protocol.txt`; section numbers in the code are its
//! sections) and nothing else: it reads no socket and no clock.
//!
//! The invariant: a header is either whole and exact, or refused with the first thing that is wrong with it, and the
//! answer does not depend on how the bytes were cut on their way.
//!
//! What it must not do, and leaves to its caller:
//! - It does not guess. Section 2 forbids to accept connections with and without the header on one endpoint; a
//!   connection whose first bytes are not a header is refused ([`ProxyError::NotProxy`]) at the first differing byte.
//! - It decides no trust. Only listeners reachable by trusted proxies alone may read this header.
//! - It owns no deadline. Whoever feeds it closes a connection whose header is not [`Status::Done`] in time (section 2
//!   asks for at least 3 s, to cover one TCP retransmission).
//!
//! ```
//! use megamux_proxy::{Decoder, Status};
//!
//! let decoder = Decoder::new();
//! let wire = b"PROXY TCP4 192.0.2.1 192.0.2.11 56324 443\r\nGET / HTTP/1.1\r\n";
//! assert_eq!(decoder.decode(&wire[..20]), Ok(Status::NeedMore));
//! let Ok(Status::Done { consumed, header }) = decoder.decode(wire) else { panic!() };
//! assert_eq!(header.source(), Some("192.0.2.1:56324".parse().unwrap()));
//! assert_eq!(&wire[consumed..], b"GET / HTTP/1.1\r\n");
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod crc32c;
mod encode;
mod error;
mod header;
mod v1;
mod v2;

pub use encode::{Checksum, EncodeError, Tlv, encode_v1, encode_v2};
pub use error::ProxyError;
pub use header::{Header, Origin, Transport, Version};

/// The longest version 1 line in bytes, CRLF included: "PROXY UNKNOWN" with two full IPv6 addresses and two five-digit
/// ports (section 2.1).
pub const MAX_V1_BYTES: usize = 107;

/// The longest whole version 2 header a [`Decoder`] takes unless told otherwise, in bytes, TLVs included.
///
/// The format allows 16 + 65,535. 4 KiB holds the addresses (at most 216 bytes), a TLS block with a full subject name,
/// an authority of 255 bytes and the private TLVs cloud providers add, and is what one connection may pin before it
/// has said who it is.
pub const DEFAULT_MAX_V2_BYTES: usize = 4096;

const _: () = assert!(DEFAULT_MAX_V2_BYTES > v2::FIXED_BYTES + v2::UNIX_BYTES);
const _: () = assert!(DEFAULT_MAX_V2_BYTES <= v2::FIXED_BYTES + u16::MAX as usize);

/// Decodes the one PROXY header a connection begins with.
///
/// It holds only its limit: a header is at most a few kilobytes and nothing of it is examined twice but its first
/// bytes, so what came before is not worth remembering. One decoder serves any number of connections.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    max_v2_bytes: usize,
}

/// What the bytes received so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every byte so far fits a header that is not whole yet. Call again with the same bytes and more behind them.
    NeedMore,
    /// The header is whole.
    Done {
        /// The bytes of the header; what the client sent begins right behind them.
        consumed: usize,
        /// What the header says.
        header: Header,
    },
}

impl Decoder {
    /// A decoder with the default limit, [`DEFAULT_MAX_V2_BYTES`].
    pub const fn new() -> Self {
        Self { max_v2_bytes: DEFAULT_MAX_V2_BYTES }
    }

    /// A decoder that takes version 2 headers of at most `max_v2_bytes` bytes in all, TLVs included.
    pub const fn with_max_v2_bytes(max_v2_bytes: usize) -> Self {
        Self { max_v2_bytes }
    }

    /// Decodes the header at the start of `input`: all bytes received so far, from the first of the connection.
    ///
    /// Never asks for more than [`MAX_V1_BYTES`] (version 1) or its limit (version 2).
    ///
    /// # Errors
    ///
    /// The first thing that is not as the protocol has it. No error goes away with more bytes: the connection must be
    /// closed (section 2.1, "abort the connection").
    pub fn decode(&self, input: &[u8]) -> Result<Status, ProxyError> {
        // The two prefixes differ in their first byte, so at most one can still match.
        if starts_alike(input, v1::PREFIX) {
            if input.len() < v1::PREFIX.len() { Ok(Status::NeedMore) } else { v1::decode(input) }
        } else if starts_alike(input, v2::SIGNATURE) {
            v2::decode(input, self.max_v2_bytes)
        } else {
            Err(ProxyError::NotProxy)
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether `input` and `prefix` agree as far as both reach.
fn starts_alike(input: &[u8], prefix: &[u8]) -> bool {
    input.iter().zip(prefix).all(|(a, b)| a == b)
}
