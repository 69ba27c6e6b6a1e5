//! What stands between IAC SB and IAC SE (RFC 855), written.
//!
//! Invariant: whatever the parameters hold, what is written is one whole subnegotiation: every byte 255 in it is doubled.

use crate::codes::{IAC, SB, SE};
use crate::option::TelnetOption;

/// A subnegotiation being appended to `out`.
pub(crate) struct Subnegotiation<'o>(&'o mut Vec<u8>);

impl<'o> Subnegotiation<'o> {
    pub(crate) fn of(option: TelnetOption, out: &'o mut Vec<u8>) -> Self {
        out.extend_from_slice(&[IAC, SB, option.code()]);
        Self(out)
    }

    pub(crate) fn byte(self, byte: u8) -> Self {
        self.bytes(&[byte])
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(IAC, rest) {
            let (upto, after) = rest.split_at(at + 1);
            self.0.extend_from_slice(upto);
            self.0.push(IAC);
            rest = after;
        }
        self.0.extend_from_slice(rest);
        self
    }

    pub(crate) fn end(self) {
        self.0.extend_from_slice(&[IAC, SE]);
    }
}
