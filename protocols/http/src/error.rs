//! Every reason to refuse a request, one variant each, and the status each is answered with.
//!
//! All of them blame the peer. After any of them the connection is answered once and closed: where the next request
//! would begin is not known. They carry no bytes of the peer's, so they are safe to log as they are.

use crate::Status;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The head reached its limit within the request line.
    #[error("request line too long")]
    RequestLineTooLong,
    /// The head reached its limit within the headers.
    #[error("request head too large")]
    HeadTooLarge,
    /// More header lines than the limit.
    #[error("too many headers")]
    TooManyHeaders,
    /// A CR that no LF follows.
    #[error("CR without LF in the request head")]
    BareCr,
    /// An LF that no CR precedes.
    #[error("LF without CR in the request head")]
    BareLf,
    /// A control character other than a tab.
    #[error("control character in the request head")]
    ControlByte,
    /// A header line that begins with a space or tab.
    #[error("folded header line")]
    ObsFold,
    /// Method, target and version are not where they belong.
    #[error("malformed request line")]
    BadRequestLine,
    /// The target is in none of the four forms, or in one the method does not go with.
    #[error("malformed request target")]
    BadTarget,
    /// The major or minor version is not spoken here.
    #[error("HTTP version not supported")]
    UnsupportedVersion,
    /// A header name is not a token directly followed by a colon.
    #[error("malformed header name")]
    BadHeaderName,
    /// A header value contains a byte it must not.
    #[error("malformed header value")]
    BadHeaderValue,
    /// HTTP/1.1 without Host.
    #[error("missing Host header")]
    MissingHost,
    /// More than one Host.
    #[error("duplicate Host header")]
    DuplicateHost,
    /// The value of Host names no host.
    #[error("malformed Host header")]
    BadHost,
    /// Content-Length is not one plain decimal.
    #[error("malformed Content-Length")]
    BadContentLength,
    /// More than one Content-Length, equal or not.
    #[error("duplicate Content-Length")]
    DuplicateContentLength,
    /// Both Content-Length and Transfer-Encoding.
    #[error("both Content-Length and Transfer-Encoding")]
    ConflictingLength,
    /// Transfer-Encoding in a version that has none, or that does not end in chunked.
    #[error("malformed Transfer-Encoding")]
    BadTransferEncoding,
    /// A chunked body.
    #[error("chunked requests are not supported")]
    ChunkedUnsupported,
    /// Content-Length exceeds the limit.
    #[error("request body too large")]
    BodyTooLarge,
}

impl HttpError {
    /// The status to answer with, before closing.
    pub const fn status(self) -> Status {
        use HttpError::*;
        match self {
            // RFC 9112 section 3: "a request-target longer than any URI it wishes to parse MUST" be answered 414.
            RequestLineTooLong => Status::UriTooLong,
            // RFC 6585 section 5.
            HeadTooLarge | TooManyHeaders => Status::RequestHeaderFieldsTooLarge,
            // RFC 9110 section 15.6.6.
            UnsupportedVersion => Status::HttpVersionNotSupported,
            // RFC 9112 section 6.1: a transfer coding not understood is answered 501.
            ChunkedUnsupported => Status::NotImplemented,
            // RFC 9110 section 15.5.14.
            BodyTooLarge => Status::ContentTooLarge,
            BareCr
            | BareLf
            | ControlByte
            | ObsFold
            | BadRequestLine
            | BadTarget
            | BadHeaderName
            | BadHeaderValue
            | MissingHost
            | DuplicateHost
            | BadHost
            | BadContentLength
            | DuplicateContentLength
            | ConflictingLength
            | BadTransferEncoding => Status::BadRequest,
        }
    }
}
