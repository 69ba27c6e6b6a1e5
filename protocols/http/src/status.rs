//! The status codes a server of this size answers with, and their names (RFC 9110 section 15).
//!
//! 1xx is missing by intent: it is not an answer, see [`crate::CONTINUE`] and [`crate::Response::switching`].

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal,)*) => {
        /// A final response status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Status {
            $(#[doc = concat!($code, " ", $reason)] $name = $code,)*
        }

        impl Status {
            /// The three-digit code.
            pub const fn code(self) -> u16 {
                self as u16
            }

            /// The reason phrase.
            pub const fn reason(self) -> &'static str {
                match self {
                    $(Status::$name => $reason,)*
                }
            }
        }
    };
}

statuses! {
    Ok = 200 "OK",
    Created = 201 "Created",
    Accepted = 202 "Accepted",
    NoContent = 204 "No Content",
    Found = 302 "Found",
    NotModified = 304 "Not Modified",
    BadRequest = 400 "Bad Request",
    Unauthorized = 401 "Unauthorized",
    Forbidden = 403 "Forbidden",
    NotFound = 404 "Not Found",
    MethodNotAllowed = 405 "Method Not Allowed",
    RequestTimeout = 408 "Request Timeout",
    ContentTooLarge = 413 "Content Too Large",
    UriTooLong = 414 "URI Too Long",
    UpgradeRequired = 426 "Upgrade Required",
    TooManyRequests = 429 "Too Many Requests",
    RequestHeaderFieldsTooLarge = 431 "Request Header Fields Too Large",
    InternalServerError = 500 "Internal Server Error",
    NotImplemented = 501 "Not Implemented",
    ServiceUnavailable = 503 "Service Unavailable",
    HttpVersionNotSupported = 505 "HTTP Version Not Supported",
}
