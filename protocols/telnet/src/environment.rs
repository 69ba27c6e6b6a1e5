//! Variables of the user's environment (RFC 1572).
//!
//! Owns reading and writing them. Invariant: names and values are borrowed data with no way to be run: nothing here builds a
//! command line, an argument or a process environment of them, and what a caller makes of them is to be treated as anything
//! else a stranger types.

use crate::option::TelnetOption;
use crate::subnegotiation::Subnegotiation;
use std::fmt;

const IS: u8 = 0;
const SEND: u8 = 1;
const INFO: u8 = 2;

const VAR: u8 = 0;
const VALUE: u8 = 1;
const ESC: u8 = 2;
const USERVAR: u8 = 3;

/// Who gave a variable its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VariableKind {
    /// VAR: one of the names RFC 1572 section 6 lists, such as `USER` and `DISPLAY`.
    Known,
    /// USERVAR: any other.
    User,
}

impl VariableKind {
    const fn code(self) -> u8 {
        match self {
            Self::Known => VAR,
            Self::User => USERVAR,
        }
    }
}

/// One variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Whether its name is one of those RFC 1572 lists.
    pub kind: VariableKind,
    /// The name.
    pub name: Escaped<'a>,
    /// The value; without one the variable is not defined (RFC 1572 section 3).
    pub value: Option<Escaped<'a>>,
}

/// Bytes of a name or a value, as they are when ESC is taken out of them.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(&'a [u8]);

impl<'a> Escaped<'a> {
    /// The bytes. They may be anything.
    pub fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        let mut wire = self.0.iter().copied();
        std::iter::from_fn(move || match wire.next()? {
            // RFC 1572 section 2: the byte after ESC stands for itself.
            ESC => wire.next(),
            byte => Some(byte),
        })
    }

    /// The text, with U+FFFD for what is not UTF-8 and for control characters, so that it can be logged and shown.
    #[must_use]
    pub fn to_text(self) -> String {
        let bytes: Vec<u8> = self.bytes().collect();
        let safe = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        String::from_utf8_lossy(&bytes).chars().map(safe).collect()
    }
}

impl PartialEq for Escaped<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes().eq(other.bytes())
    }
}

impl Eq for Escaped<'_> {}

impl PartialEq<[u8]> for Escaped<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        self.bytes().eq(other.iter().copied())
    }
}

impl PartialEq<str> for Escaped<'_> {
    fn eq(&self, other: &str) -> bool {
        *self == *other.as_bytes()
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_text(), f)
    }
}

/// The variables of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variables<'a>(&'a [u8]);

impl<'a> Variables<'a> {
    /// The variables in the order they were told. A later one of the same name replaces an earlier one.
    pub fn iter(self) -> impl Iterator<Item = Variable<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || next_variable(&mut rest))
    }
}

/// The variables the peer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedVariables<'a>(&'a [u8]);

impl<'a> AskedVariables<'a> {
    /// The names asked for, in order. An empty name asks for all variables of its kind; no name at all for all variables
    /// (RFC 1572 section 3).
    pub fn iter(self) -> impl Iterator<Item = (VariableKind, Escaped<'a>)> {
        Variables(self.0).iter().map(|variable| (variable.kind, variable.name))
    }

    /// Whether a variable is asked for.
    #[must_use]
    pub fn contains(self, kind: VariableKind, name: &str) -> bool {
        let mut names = self.iter().peekable();
        names.peek().is_none() || names.any(|(asked, of)| asked == kind && (of == *"" || of == *name))
    }
}

fn next_variable<'a>(rest: &mut &'a [u8]) -> Option<Variable<'a>> {
    loop {
        let (&tag, after) = rest.split_first()?;
        let (name, after) = split_field(after);
        *rest = after;
        let kind = match tag {
            VAR => VariableKind::Known,
            USERVAR => VariableKind::User,
            // A value without a name, or no form at all: passed over.
            _ => continue,
        };
        let mut value = None;
        if let [VALUE, after @ ..] = *rest {
            let (field, after) = split_field(after);
            (value, *rest) = (Some(Escaped(field)), after);
        }
        return Some(Variable { kind, name: Escaped(name), value });
    }
}

/// Splits before the next tag that no ESC stands in front of.
fn split_field(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            VAR | VALUE | USERVAR => break,
            ESC => at += 2,
            _ => at += 1,
        }
    }
    bytes.split_at(at.min(bytes.len()))
}

/// What a message about the environment says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Heard<'p> {
    Told(Variables<'p>),
    Asked(AskedVariables<'p>),
}

pub(crate) fn parse(parameters: &[u8]) -> Option<Heard<'_>> {
    match parameters {
        [IS | INFO, rest @ ..] => Some(Heard::Told(Variables(rest))),
        [SEND, rest @ ..] => Some(Heard::Asked(AskedVariables(rest))),
        _ => None,
    }
}

/// Asks for variables; for all of them if `names` is empty.
pub(crate) fn ask(names: &[(VariableKind, &str)], out: &mut Vec<u8>) {
    let mut writing = Subnegotiation::of(TelnetOption::Environment, out).byte(SEND);
    for (kind, name) in names {
        writing = put(writing.byte(kind.code()), name.as_bytes());
    }
    writing.end();
}

/// Tells variables: asked for (IS), or changed since (INFO).
pub(crate) fn tell(asked: bool, variables: &[(VariableKind, &str, Option<&str>)], out: &mut Vec<u8>) {
    let mut writing = Subnegotiation::of(TelnetOption::Environment, out).byte(if asked { IS } else { INFO });
    for (kind, name, value) in variables {
        writing = put(writing.byte(kind.code()), name.as_bytes());
        if let Some(value) = value {
            writing = put(writing.byte(VALUE), value.as_bytes());
        }
    }
    writing.end();
}

fn put<'o>(mut writing: Subnegotiation<'o>, bytes: &[u8]) -> Subnegotiation<'o> {
    for &byte in bytes {
        if matches!(byte, VAR | VALUE | ESC | USERVAR) {
            writing = writing.byte(ESC);
        }
        writing = writing.byte(byte);
    }
    writing
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told<'a> = (VariableKind, &'a [u8], Option<&'a [u8]>);

    fn check(wire: &[u8], expect: &[Told<'_>]) {
        let told: Vec<_> = Variables(wire)
            .iter()
            .map(|v| (v.kind, v.name.bytes().collect::<Vec<_>>(), v.value.map(|v| v.bytes().collect::<Vec<_>>())))
            .collect();
        let expect: Vec<_> =
            expect.iter().map(|(kind, name, value)| (*kind, name.to_vec(), value.map(<[u8]>::to_vec))).collect();
        assert_eq!(told, expect, "{}", wire.escape_ascii());
    }

    #[test]
    fn variables_are_taken_apart() {
        use VariableKind::{Known, User};
        check(b"", &[]);
        check(b"\0USER\x01joe", &[(Known, b"USER", Some(b"joe"))]);
        check(
            b"\0USER\x01joe\x03A\x01\x03B",
            &[(Known, b"USER", Some(b"joe")), (User, b"A", Some(b"")), (User, b"B", None)],
        );
        check(b"\x03A\x02\x01B\x01x\x02\x02y\x02\x03", &[(User, b"A\x01B", Some(b"x\x02y\x03"))]);
        check(b"\x01stray\0A\x01x\x01again\0B", &[(Known, b"A", Some(b"x")), (Known, b"B", None)]);
        check(b"noise\0A", &[(Known, b"A", None)]);
        check(b"\0A\x02", &[(Known, b"A", None)]);
    }

    #[test]
    fn what_is_told_is_what_is_read() {
        let odd = "a\0b\x01c\x02d\x03e\u{ff}";
        let mut out = Vec::new();
        tell(true, &[(VariableKind::User, odd, Some(odd)), (VariableKind::Known, "USER", None)], &mut out);
        let parameters = &out[3..out.len() - 2];
        let Some(Heard::Told(variables)) = parse(parameters) else { panic!("{parameters:?}") };
        let told: Vec<_> = variables.iter().collect();
        assert_eq!(told.len(), 2);
        assert!(told[0].name == *odd && told[0].value.is_some_and(|value| value == *odd));
        assert!(told[1].name == *"USER" && told[1].value.is_none());
    }

    #[test]
    fn asking_for_nothing_is_asking_for_all() {
        let contains = |wire: &[u8], name| AskedVariables(wire).contains(VariableKind::User, name);
        assert!(contains(b"", "A"));
        assert!(contains(b"\x03", "A"));
        assert!(contains(b"\0USER\x03A", "A"));
        assert!(!contains(b"\0A", "A"));
        assert!(!contains(b"\x03B", "A"));
    }

    #[test]
    fn text_is_safe_to_show() {
        assert_eq!(
            Escaped(b"-f\x02\x01root\x1b[2J\xff\xc2\x9b").to_text(),
            "-f\u{fffd}root\u{fffd}[2J\u{fffd}\u{fffd}"
        );
    }
}
