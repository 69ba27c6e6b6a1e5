//! A small sans-IO HTTP/1.1 server codec: enough for health checks, metrics and the upgrade to WebSocket.
//!
//! It owns the reading of requests and the writing of responses of one connection (RFC 9112, with the semantics of
//! RFC 9110 that framing needs). The tokens of a head are read by `httparse`; where a head and a body end, and what is
//! too much, is decided here.
//!
//! Invariants:
//! - The events do not depend on how the bytes were cut on their way, and every byte is looked at a bounded number of
//!   times, however few come at once.
//! - What two readers could understand differently is refused, never repaired: bare CR or LF, folded lines, several or
//!   doubtful lengths. A front proxy and this codec cannot disagree on where a request ends.
//! - A refused connection stays refused: the [`Decoder`] repeats its error.
//!
//! What it must not do: read a clock or a socket, hold received bytes, know paths. The caller owns deadlines
//! ([`Decoder::is_idle`] tells which of the idle and the request deadline holds), and routing. Chunked requests are
//! answered 501: nothing here takes an upload, and what is not decoded cannot be decoded wrongly.
//!
//! ```
//! use megamux_http::{Decoded, Decoder, Response, Status};
//!
//! let mut decoder = Decoder::new();
//! let input = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
//! assert!(matches!(decoder.decode(&input[..9]), Ok(Decoded::NeedMore)));
//! let Ok(Decoded::Request { consumed, request }) = decoder.decode(input) else { panic!() };
//! assert_eq!((consumed, request.path()), (input.len(), "/healthz"));
//!
//! let mut out = Vec::new();
//! Response::new(&mut out, request.reply_to(), Status::Ok).header("content-type", "text/plain").body(b"ok\n");
//! assert_eq!(out, b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n");
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod decode;
mod error;
mod framing;
mod limits;
mod request;
mod response;
mod scan;
mod status;

pub use decode::{Decoded, Decoder};
pub use error::HttpError;
pub use limits::{DEFAULT_MAX_BODY_BYTES, MAX_HEAD_BYTES, MAX_HEADERS};
pub use request::{Headers, ReplyTo, Request, Version};
pub use response::{CONTINUE, Response};
pub use status::Status;
