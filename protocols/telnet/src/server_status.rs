//! What a server tells crawlers about itself (MSSP): a table of names and values.
//!
//! Invariant: a name or value written holds none of the bytes that would part it (NUL, VAR, VAL, IAC), so a table survives its
//! bytes.

use crate::codes::{IAC, NUL};
use crate::option::TelnetOption;
use crate::subnegotiation::Subnegotiation;

const VAR: u8 = 1;
const VAL: u8 = 2;

/// A server's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerStatus<'a>(pub(crate) &'a [u8]);

impl<'a> ServerStatus<'a> {
    /// Names and values in the order they were told; a name with several values stands once for each.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (mut rest, mut name) = (self.0, None);
        std::iter::from_fn(move || {
            loop {
                let (&tag, after) = rest.split_first()?;
                let (field, after) = after.split_at(memchr::memchr2(VAR, VAL, after).unwrap_or(after.len()));
                rest = after;
                match (tag, name) {
                    (VAR, _) => name = Some(field),
                    (VAL, Some(name)) => return Some((name, field)),
                    // What stands in front of the first name means nothing.
                    _ => {}
                }
            }
        })
    }
}

pub(crate) fn tell(table: &[(&str, &str)], out: &mut Vec<u8>) {
    let mut writing = Subnegotiation::of(TelnetOption::ServerStatus, out);
    for (name, value) in table {
        writing = put(put(writing, VAR, name), VAL, value);
    }
    writing.end();
}

fn put<'o>(writing: Subnegotiation<'o>, tag: u8, text: &str) -> Subnegotiation<'o> {
    let is_plain = |byte: &u8| ![NUL, VAR, VAL, IAC].contains(byte);
    text.bytes().filter(is_plain).fold(writing.byte(tag), Subnegotiation::byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_survives_its_bytes() {
        let mut out = Vec::new();
        tell(&[("NAME", "a\0\x01\x02b"), ("PORT", "23"), ("PORT", "")], &mut out);
        let table: Vec<_> = ServerStatus(&out[3..out.len() - 2]).iter().collect();
        assert_eq!(table, [(&b"NAME"[..], &b"ab"[..]), (b"PORT", b"23"), (b"PORT", b"")]);
    }

    #[test]
    fn a_name_may_have_several_values_or_none() {
        let table = |wire| ServerStatus(wire).iter().collect::<Vec<_>>();
        assert_eq!(table(b"\x01PORT\x0223\x024000\x01X"), [(&b"PORT"[..], &b"23"[..]), (b"PORT", b"4000")]);
        assert_eq!(table(b"noise\x02stray\x01A\x02b"), [(&b"A"[..], &b"b"[..])]);
        assert!(table(b"").is_empty());
    }
}
