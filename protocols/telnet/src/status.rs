//! Which options the two ends hold to be on (RFC 859).
//!
//! Invariant: what is told is read off the negotiation's state, so it is what this end acts on; its length is bounded by
//! [`MAX_STATUS`].

use crate::codes::{DO, DONT, SB, SE, WILL, WONT};
use crate::negotiation::{Negotiation, Verb, Wish};
use crate::option::{Side, TelnetOption};
use crate::subnegotiation::Subnegotiation;

pub(crate) const IS: u8 = 0;
pub(crate) const SEND: u8 = 1;

/// The most bytes of a report: two sides of every option, two bytes each, and what frames them.
pub(crate) const MAX_STATUS: usize = 4 * TelnetOption::COUNT + 6;

/// A peer's report, seen from our end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusReport<'a>(pub(crate) &'a [u8]);

/// What a peer holds about one side of one option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionStatus {
    /// Who performs it, from our view.
    pub side: Side,
    /// The option's code; it need not be known here.
    pub code: u8,
    /// Whether it is on.
    pub on: bool,
}

impl<'a> StatusReport<'a> {
    /// What was reported, in order, without the options' own parameters.
    pub fn iter(self) -> impl Iterator<Item = OptionStatus> + 'a {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                match *rest {
                    [verb @ (WILL | WONT | DO | DONT), code, ref after @ ..] => {
                        rest = after;
                        let Verb { side, wish } = Verb::heard(verb)?;
                        return Some(OptionStatus { side, code, on: wish == Wish::On });
                    }
                    [SB, ref after @ ..] => rest = skip_parameters(after),
                    [_, ref after @ ..] => rest = after,
                    [] => return None,
                }
            }
        })
    }
}

/// Past the SE that ends an option's parameters; a doubled one is data (RFC 859 section 6).
fn skip_parameters(mut rest: &[u8]) -> &[u8] {
    loop {
        match rest {
            [SE, SE, after @ ..] => rest = after,
            [SE, after @ ..] => return after,
            [_, after @ ..] => rest = after,
            [] => return rest,
        }
    }
}

/// Tells the peer which options are on. What is off is not mentioned (RFC 859 section 6).
pub(crate) fn tell(negotiation: &Negotiation, out: &mut Vec<u8>) {
    let mut writing = Subnegotiation::of(TelnetOption::Status, out).byte(IS);
    for option in TelnetOption::ALL {
        for (side, verb) in [(Side::Local, WILL), (Side::Remote, DO)] {
            if negotiation.is_on(side, option) {
                writing = writing.byte(verb).byte(option.code());
            }
        }
    }
    writing.end();
}

pub(crate) fn ask(out: &mut Vec<u8>) {
    Subnegotiation::of(TelnetOption::Status, out).byte(SEND).end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_from_our_view() {
        let status = |side, code, on| OptionStatus { side, code, on };
        let report = [WILL, 1, DO, 31, SB, 24, 0, SE, SE, WILL, SE, WONT, 3, DONT, 99, 7, DO];
        let told: Vec<_> = StatusReport(&report).iter().collect();
        let expect = [
            status(Side::Remote, 1, true),
            status(Side::Local, 31, true),
            status(Side::Remote, 3, false),
            status(Side::Local, 99, false),
        ];
        assert_eq!(told, expect);
    }
}
