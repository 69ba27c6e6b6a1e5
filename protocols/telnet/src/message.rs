//! What options' messages mean: how they change the connection, how they are answered, and what is told of them.
//!
//! Owns the decoder's other half, the one behind the bytes: negotiation, subnegotiations, and the requests of ours that have state.
//!
//! Invariant: an answer made here is at most as long as its message, but for the two that the credit lets through; and what is
//! told is a function of the message alone, so that it can be read where it lies.

use crate::charset::{self, Charset, Charsets};
use crate::decode::{Decoder, Flow, State, TelnetError};
use crate::environment;
use crate::event::TelnetEvent;
use crate::gmcp::Gmcp;
use crate::linemode::{self, Characters, Level, LineMode, MAX_TABLE};
use crate::negotiation::{RequestError, Verb, Wish};
use crate::option::{Side, TelnetOption};
use crate::server_status::ServerStatus;
use crate::status::{self, MAX_STATUS, StatusReport};
use crate::terminal;

impl Decoder {
    /// Asks the peer for a change of an option.
    pub(crate) fn want(
        &mut self,
        side: Side,
        wish: Wish,
        option: TelnetOption,
        out: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        self.negotiation.want(Verb { side, wish }, option, out)?;
        self.refresh_flow();
        Ok(())
    }

    pub(crate) fn set_charsets(&mut self, charsets: Charsets) {
        self.charsets = charsets;
    }

    pub(crate) fn is_character_mode(&self) -> bool {
        self.flow == Flow::Keys
    }

    pub(crate) const fn line_mode(&self) -> LineMode {
        self.line_mode
    }

    pub(crate) fn ask_terminal_type(&mut self, out: &mut Vec<u8>) -> bool {
        self.cycle.ask(out)
    }

    pub(crate) fn ask_charset(&mut self, charsets: &[Charset], out: &mut Vec<u8>) -> bool {
        self.charset.ask(charsets, out)
    }

    pub(crate) fn propose_mode(&mut self, mode: LineMode, out: &mut Vec<u8>) -> bool {
        let is_new = self.line_mode.propose(mode, out);
        self.refresh_flow();
        is_new
    }

    pub(crate) fn propose_character(&mut self, function: u8, level: Level, value: u8, out: &mut Vec<u8>) {
        self.characters.propose(function, level, value, out);
    }

    /// Marks a place in our stream. Says whether there was a mark to spare.
    pub(crate) fn mark(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(marks) = self.marks.checked_add(1) else {
            return false;
        };
        self.marks = marks;
        Verb { side: Side::Remote, wish: Wish::On }.say(TelnetOption::TimingMark.code(), out);
        true
    }

    #[inline]
    pub(crate) fn negotiate<'i>(&mut self, verb: Verb, code: u8, out: &mut Vec<u8>) -> Option<TelnetEvent<'i>> {
        self.state = State::DATA;
        if code == TelnetOption::TimingMark.code() {
            return self.timing_mark(verb, out);
        }
        let (option, wish) = self.negotiation.hear(verb, code, out)?;
        match option {
            TelnetOption::TerminalType => self.cycle.reset(),
            // A request is made by the side that has said WILL; what the other side's option does is nothing to it.
            TelnetOption::Charset if verb.side == Side::Local => self.charset = charset::Waiting::No,
            TelnetOption::LineMode => (self.line_mode, self.characters) = (LineMode::NONE, Characters::NONE),
            _ => {}
        }
        self.refresh_flow();
        Some(match wish {
            Wish::On => TelnetEvent::OptionOn(verb.side, option),
            Wish::Off => TelnetEvent::OptionOff(verb.side, option),
        })
    }

    /// RFC 860: no state is turned on, each DO wants a WILL of its own in return, at this place in the stream. WILL and WONT
    /// both mark the place for whoever said DO.
    fn timing_mark<'i>(&mut self, verb: Verb, out: &mut Vec<u8>) -> Option<TelnetEvent<'i>> {
        let code = TelnetOption::TimingMark.code();
        match (verb.side, verb.wish) {
            (Side::Local, Wish::On) => {
                let accepts = self.negotiation.accepts(Side::Local, TelnetOption::TimingMark);
                let wish = if accepts { Wish::On } else { Wish::Off };
                Verb { side: Side::Local, wish }.say(code, out);
                accepts.then_some(TelnetEvent::TimingMarkAsked)
            }
            (Side::Local, Wish::Off) => None,
            (Side::Remote, wish) => match self.marks.checked_sub(1) {
                Some(marks) => {
                    self.marks = marks;
                    Some(TelnetEvent::TimingMark)
                }
                None => {
                    // Offered without having been asked for: refused as any other option.
                    if wish == Wish::On {
                        Verb { side: Side::Remote, wish: Wish::Off }.say(code, out);
                    }
                    None
                }
            },
        }
    }

    /// An option or the mode changed: what is data from here on?
    fn refresh_flow(&mut self) {
        let was = self.flow;
        self.flow = if self.is_on(Side::Remote, TelnetOption::Binary) {
            Flow::Raw
        } else if !self.is_server {
            Flow::Shown
        } else if self.is_on(Side::Remote, TelnetOption::LineMode) {
            // RFC 1184 section 2.2: EDIT alone says who edits, whoever echoes.
            if self.line_mode.contains(LineMode::EDIT) { Flow::Lines } else { Flow::Keys }
        } else if self.is_on(Side::Local, TelnetOption::Echo) && self.is_on(Side::Local, TelnetOption::SuppressGoAhead)
        {
            Flow::Keys
        } else {
            Flow::Lines
        };
        if self.flow != was && matches!(self.state, State::Data { .. }) {
            self.state = State::DATA;
        }
        if self.flow != Flow::Lines {
            self.skipping = false; // what follows are keys, not the rest of a refused line
        }
    }

    pub(crate) fn is_on(&self, side: Side, option: TelnetOption) -> bool {
        self.negotiation.is_on(side, option)
    }

    /// A whole subnegotiation: what it changes and how it is answered. Says whether [`interpret`] is to tell it. One about an
    /// option that is not on, or not in its form, is ignored (RFC 855). `read` bytes of the message are not credited yet.
    ///
    /// Every answer is at most as long as its message, but the two that are let through by the credit; so the credit always
    /// covers what is answered here.
    pub(crate) fn subnegotiated(
        &mut self,
        code: u8,
        parameters: &[u8],
        read: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<TelnetOption>, TelnetError> {
        let Some(option) = TelnetOption::from_code(code) else {
            return Ok(None);
        };
        let (local, remote) = (self.is_on(Side::Local, option), self.is_on(Side::Remote, option));
        let has_credit = |len: usize| usize::from(self.credit) + read >= len;
        let told = match option {
            TelnetOption::TerminalType => match terminal::parse(parameters) {
                Some(terminal::Heard::Asked) => local && self.cycle.asked(),
                Some(heard) => remote && self.cycle.answered(heard, out),
                None => false,
            },
            TelnetOption::WindowSize => remote && parameters.len() == 4,
            TelnetOption::Environment => match environment::parse(parameters) {
                Some(environment::Heard::Told(_)) => remote,
                Some(environment::Heard::Asked(_)) => local,
                None => false,
            },
            TelnetOption::Charset => match charset::parse(parameters, self.charsets) {
                Some(heard) if local || remote => self.charset.hear(heard, self.is_server, out),
                _ => false,
            },
            TelnetOption::LineMode => (local || remote) && self.heard_line_mode(parameters, has_credit(MAX_TABLE), out),
            TelnetOption::Status => match parameters {
                [status::SEND] if local && has_credit(MAX_STATUS) => {
                    status::tell(&self.negotiation, out);
                    false
                }
                [status::IS, ..] => remote,
                _ => false,
            },
            TelnetOption::Gmcp => local || remote,
            TelnetOption::ServerStatus => remote,
            TelnetOption::Compress2 => self.begin_inflating(Side::Remote, option)?,
            TelnetOption::Compress3 => self.begin_inflating(Side::Local, option)?,
            TelnetOption::Binary
            | TelnetOption::Echo
            | TelnetOption::SuppressGoAhead
            | TelnetOption::TimingMark
            | TelnetOption::EndOfRecord => false,
        };
        Ok(told.then_some(option))
    }

    fn heard_line_mode(&mut self, parameters: &[u8], has_credit: bool, out: &mut Vec<u8>) -> bool {
        match linemode::parse(parameters) {
            Some(linemode::Heard::Mode { mode, acknowledged }) => {
                let is_new = self.line_mode.hear(mode, acknowledged, self.is_server, out);
                self.refresh_flow();
                is_new
            }
            Some(linemode::Heard::Characters(heard)) => {
                self.characters.hear(heard, has_credit, out);
                true
            }
            Some(linemode::Heard::ForwardMask(refusal)) => {
                if let Some(refusal) = refusal {
                    linemode::refuse_mask(refusal, out);
                }
                false
            }
            None => false,
        }
    }

    /// The next byte is compressed. What was never agreed to cannot be skipped either: its end is not known. An option we
    /// turned off is another thing: the peer may have begun before it heard of that.
    fn begin_inflating(&mut self, side: Side, option: TelnetOption) -> Result<bool, TelnetError> {
        if self.inflating {
            return Err(TelnetError::NestedCompression);
        }
        if !self.negotiation.may_be_on(side, option) {
            return Err(TelnetError::UnagreedCompression);
        }
        self.inflating = true;
        Ok(true)
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts { charsets: self.charsets, round: self.cycle.round() }
    }
}

/// What of the state an event is made with.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    charsets: Charsets,
    round: u8,
}

/// The event of a subnegotiation that has been found to be in place and in form.
pub(crate) fn interpret<'p>(option: TelnetOption, parameters: &'p [u8], facts: Facts) -> Option<TelnetEvent<'p>> {
    Some(match option {
        TelnetOption::TerminalType => match terminal::parse(parameters)? {
            terminal::Heard::Name(name) => TelnetEvent::TerminalType(name),
            terminal::Heard::Features(features) => TelnetEvent::TerminalFeatures(features),
            terminal::Heard::Asked => TelnetEvent::TerminalTypeAsked { round: facts.round },
        },
        // RFC 1073 section 2: width and height, each with the high byte first.
        TelnetOption::WindowSize => {
            let &[w1, w0, h1, h0] = parameters else { return None };
            TelnetEvent::WindowSize { columns: u16::from_be_bytes([w1, w0]), rows: u16::from_be_bytes([h1, h0]) }
        }
        TelnetOption::Environment => match environment::parse(parameters)? {
            environment::Heard::Told(variables) => TelnetEvent::Environment(variables),
            environment::Heard::Asked(names) => TelnetEvent::EnvironmentAsked(names),
        },
        TelnetOption::Charset => match charset::parse(parameters, facts.charsets)? {
            charset::Heard::Asked(choice) => TelnetEvent::Charset(choice?.0),
            charset::Heard::Accepted(charset) => TelnetEvent::Charset(charset),
            charset::Heard::Rejected => TelnetEvent::CharsetRejected,
            charset::Heard::Table => return None,
        },
        TelnetOption::LineMode => match linemode::parse(parameters)? {
            linemode::Heard::Mode { mode, .. } => TelnetEvent::LineMode(mode),
            linemode::Heard::Characters(characters) => TelnetEvent::SpecialCharacters(characters),
            linemode::Heard::ForwardMask(_) => return None,
        },
        TelnetOption::Status => TelnetEvent::Status(StatusReport(parameters.get(1..)?)),
        TelnetOption::Gmcp => TelnetEvent::Gmcp(Gmcp(parameters)),
        TelnetOption::ServerStatus => TelnetEvent::ServerStatus(ServerStatus(parameters)),
        TelnetOption::Compress2 | TelnetOption::Compress3 => TelnetEvent::CompressionBegan,
        _ => return None,
    })
}
