//! Every way a PROXY header can be wrong, one variant each.
//!
//! All of them blame the peer (the proxy, or someone who pretends to be one) and end its connection. They carry no
//! bytes of the peer's, so they are safe to log as they are.

/// Why a PROXY header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The first bytes are neither a version 1 nor a version 2 header.
    #[error("the connection does not begin with a PROXY header")]
    NotProxy,

    /// Version 1: no CRLF within the longest legal line.
    #[error("version 1 line is longer than 107 bytes")]
    LineTooLong,
    /// Version 1: a CR that no LF follows.
    #[error("version 1 line contains a CR without LF")]
    BareCr,
    /// Version 1: an LF that no CR precedes.
    #[error("version 1 line contains an LF without CR")]
    BareLf,
    /// Version 1: the protocol is none of TCP4, TCP6 and UNKNOWN.
    #[error("version 1 protocol is none of TCP4, TCP6, UNKNOWN")]
    UnknownProtocol,
    /// Version 1: the line ends before its last field.
    #[error("version 1 line lacks a field")]
    MissingField,
    /// Version 1: something stands behind the last field.
    #[error("version 1 line has too many fields")]
    ExtraField,
    /// Version 1: the source is not an address of the announced family.
    #[error("version 1 source address is malformed")]
    BadSource,
    /// Version 1: the destination is not an address of the announced family.
    #[error("version 1 destination address is malformed")]
    BadDestination,
    /// Version 1: the source port is no plain decimal of 0 to 65535.
    #[error("version 1 source port is malformed")]
    BadSourcePort,
    /// Version 1: the destination port is no plain decimal of 0 to 65535.
    #[error("version 1 destination port is malformed")]
    BadDestinationPort,

    /// Version 2 signature with another version number behind it.
    #[error("PROXY protocol version {0} is not supported")]
    UnsupportedVersion(u8),
    /// Version 2: the command is neither LOCAL nor PROXY.
    #[error("version 2 command {0:#x} is not assigned")]
    UnknownCommand(u8),
    /// Version 2: the address family is not assigned.
    #[error("version 2 address family {0:#x} is not assigned")]
    UnknownFamily(u8),
    /// Version 2: the transport protocol is not assigned.
    #[error("version 2 transport {0:#x} is not assigned")]
    UnknownTransport(u8),
    /// Version 2: the announced header is longer than the decoder's limit.
    #[error("version 2 header of {bytes} bytes exceeds the limit of {limit}")]
    HeaderTooLong {
        /// The whole header, as announced.
        bytes: usize,
        /// The decoder's limit.
        limit: usize,
    },
    /// Version 2: the announced length cannot hold the addresses of the family.
    #[error("version 2 header is too short for its address family")]
    AddressTruncated,
    /// Version 2: a TLV reaches beyond the end of the header.
    #[error("version 2 TLV reaches beyond the header")]
    TlvTruncated,
    /// Version 2: the value of a CRC32C TLV is not 4 bytes long.
    #[error("version 2 checksum is not 4 bytes long")]
    BadChecksumLength,
    /// Version 2: more than one CRC32C TLV.
    #[error("version 2 header has more than one checksum")]
    DuplicateChecksum,
    /// Version 2: the header's CRC32C is not the one it announces.
    #[error("version 2 checksum does not match")]
    ChecksumMismatch,
}
