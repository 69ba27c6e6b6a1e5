//! Agreeing on a character set (RFC 2066).
//!
//! Owns the closed list of sets and who is waiting for whose answer. Invariants: every REQUEST is answered at once and by no
//! more bytes than it has; an answer to no request is ignored; of two requests that cross, the server's counts. Translation
//! tables are refused.

use crate::option::TelnetOption;
use crate::subnegotiation::Subnegotiation;

const REQUEST: u8 = 1;
const ACCEPTED: u8 = 2;
const REJECTED: u8 = 3;
const TTABLE_IS: u8 = 4;
const TTABLE_REJECTED: u8 = 5;

/// A character set this crate can agree to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Charset {
    /// UTF-8.
    Utf8,
    /// US-ASCII.
    Ascii,
    /// ISO 8859-1.
    Latin1,
}

impl Charset {
    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Ascii => "US-ASCII",
            Self::Latin1 => "ISO-8859-1",
        }
    }

    /// The set of that name or one of its usual aliases, in any case.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let is = |names: &[&str]| names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name));
        if is(&["UTF-8", "UTF8"]) {
            Some(Self::Utf8)
        } else if is(&["US-ASCII", "ASCII", "ANSI_X3.4-1968"]) {
            Some(Self::Ascii)
        } else if is(&["ISO-8859-1", "ISO_8859-1", "ISO8859-1", "LATIN1"]) {
            Some(Self::Latin1)
        } else {
            None
        }
    }
}

/// A set of character sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charsets(u8);

impl Charsets {
    /// The set of exactly `charsets`.
    #[must_use]
    pub const fn of(charsets: &[Charset]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < charsets.len() {
            bits |= 1 << charsets[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Whether `charset` is in the set.
    #[must_use]
    pub const fn contains(self, charset: Charset) -> bool {
        self.0 & (1 << charset as u8) != 0
    }
}

/// Whose answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Waiting {
    #[default]
    No,
    /// We asked.
    Asked,
    /// We asked, and answered a request of the server's since, which counts: ours will be rejected.
    Overtaken,
}

/// What a message about the character set says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard<'p> {
    /// The first offer we take, if we take one, as the peer spelled it.
    Asked(Option<(Charset, &'p [u8])>),
    Accepted(Charset),
    Rejected,
    Table,
}

pub(crate) fn parse(parameters: &[u8], accepted: Charsets) -> Option<Heard<'_>> {
    match parameters {
        [REQUEST, offers @ ..] => Some(Heard::Asked(choose(offers, accepted))),
        [ACCEPTED, name @ ..] => Some(Charset::from_name(name).map_or(Heard::Rejected, Heard::Accepted)),
        [REJECTED] => Some(Heard::Rejected),
        [TTABLE_IS, ..] => Some(Heard::Table),
        // Answers about tables, which we never send.
        _ => None,
    }
}

/// The first of the peer's offers that we take: it lists them in the order of its liking (RFC 2066 section 2).
fn choose(offers: &[u8], accepted: Charsets) -> Option<(Charset, &[u8])> {
    // A table may be offered beside the names; its version is one byte. The RFC spells it both ways.
    let table = offers.strip_prefix(b"[TTABLE]").or_else(|| offers.strip_prefix(b"[TTABLE ]"));
    let offers = table.map_or(offers, |rest| rest.get(1..).unwrap_or_default());
    let (&separator, names) = offers.split_first()?;
    names.split(|&byte| byte == separator).find_map(|name| {
        let charset = Charset::from_name(name).filter(|&charset| accepted.contains(charset))?;
        Some((charset, name))
    })
}

impl Waiting {
    /// Takes a message and answers it. Says whether the caller is told what it says.
    pub(crate) fn hear(&mut self, heard: Heard<'_>, is_server: bool, out: &mut Vec<u8>) -> bool {
        match heard {
            Heard::Asked(_) if *self == Self::Asked && is_server => {
                // RFC 2066 section 2: of requests that cross, the server refuses the client's, and the client answers the
                // server's.
                answer(REJECTED, b"", out);
                false
            }
            Heard::Asked(choice) => {
                if *self == Self::Asked {
                    *self = Self::Overtaken;
                }
                match choice {
                    Some((_, name)) => answer(ACCEPTED, name, out),
                    None => answer(REJECTED, b"", out),
                }
                choice.is_some()
            }
            Heard::Accepted(_) => std::mem::take(self) != Self::No,
            Heard::Rejected => std::mem::take(self) == Self::Asked,
            Heard::Table => {
                answer(TTABLE_REJECTED, b"", out);
                false
            }
        }
    }

    /// Asks for one of `charsets`. Says whether no answer was awaited already.
    pub(crate) fn ask(&mut self, charsets: &[Charset], out: &mut Vec<u8>) -> bool {
        if *self != Self::No {
            return false;
        }
        *self = Self::Asked;
        let mut writing = Subnegotiation::of(TelnetOption::Charset, out).byte(REQUEST);
        for charset in charsets {
            writing = writing.byte(b';').bytes(charset.name().as_bytes());
        }
        writing.end();
        true
    }
}

fn answer(what: u8, name: &[u8], out: &mut Vec<u8>) {
    Subnegotiation::of(TelnetOption::Charset, out).byte(what).bytes(name).end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_set() {
        for charset in [Charset::Utf8, Charset::Ascii, Charset::Latin1] {
            assert_eq!(Charset::from_name(charset.name().to_lowercase().as_bytes()), Some(charset));
        }
        assert_eq!(Charset::from_name(b""), None);
        assert_eq!(Charset::from_name(b"UTF-8 "), None);
    }

    #[test]
    fn the_first_offer_we_take_is_chosen() {
        let check = |offers: &[u8], expect: Option<&[u8]>| {
            let accepted = Charsets::of(&[Charset::Utf8, Charset::Ascii]);
            assert_eq!(choose(offers, accepted).map(|(_, name)| name), expect, "{}", offers.escape_ascii());
        };
        check(b";UTF-8", Some(b"UTF-8"));
        check(b" LATIN1 ascii utf8", Some(b"ascii"));
        check(b";LATIN1", None);
        check(b"[TTABLE]\x01;UTF-8", Some(b"UTF-8"));
        check(b"[TTABLE ]\x01;UTF-8", Some(b"UTF-8"));
        check(b"[TTABLE]", None);
        check(b"[UTF-8", Some(b"UTF-8"));
        check(b"", None);
        check(b";", None);
    }
}
