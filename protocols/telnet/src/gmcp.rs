//! Messages beside the text (GMCP): a package's name and, behind a space, JSON.
//!
//! Must not: parse the JSON.

use crate::option::TelnetOption;
use crate::subnegotiation::Subnegotiation;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gmcp<'a>(pub(crate) &'a [u8]);

impl<'a> Gmcp<'a> {
    /// The package and message, such as `Core.Hello`.
    #[must_use]
    pub fn package(self) -> &'a [u8] {
        self.split().0
    }

    /// The data, empty if there is none. It is meant to be JSON in UTF-8, and may be anything.
    #[must_use]
    pub fn data(self) -> &'a [u8] {
        self.split().1
    }

    fn split(self) -> (&'a [u8], &'a [u8]) {
        match memchr::memchr(b' ', self.0) {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (self.0, b""),
        }
    }
}

pub(crate) fn tell(package: &str, data: &str, out: &mut Vec<u8>) {
    let writing = Subnegotiation::of(TelnetOption::Gmcp, out).bytes(package.as_bytes());
    let writing = if data.is_empty() { writing } else { writing.byte(b' ').bytes(data.as_bytes()) };
    writing.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_package_and_data() {
        let check = |message: &[u8], package: &[u8], data: &[u8]| {
            assert_eq!((Gmcp(message).package(), Gmcp(message).data()), (package, data));
        };
        check(b"Core.Ping", b"Core.Ping", b"");
        check(b"Core.Hello {\"client\": \"x\"}", b"Core.Hello", b"{\"client\": \"x\"}");
        check(b"A ", b"A", b"");
        check(b"", b"", b"");
    }
}
