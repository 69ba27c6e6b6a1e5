//! One connection's decoder: from received bytes to events. What options' messages mean is in the file `message`.
//!
//! Owns where in the stream the connection stands, its options' states, and whatever of a line or subnegotiation cannot be
//! left in the input.
//!
//! Invariants:
//!
//! - A plain line not yet complete stays in the input, and how far it was searched is remembered. Only text around an IAC is
//!   held here: commands in the middle of a line take effect at once, so the input cannot keep them.
//! - Nothing is held between reads but what is incomplete.
//! - In character mode no line is held.
//!
//! Must not: act on options beyond the stream itself (echoing, paging) or allocate for a subnegotiation nobody reads.

use crate::charset::{self, Charset, Charsets};
use crate::codes::{CR, IAC, LF, NUL, SB, SE};
use crate::event::{Command, TelnetEvent};
use crate::held::Held;
use crate::linemode::{Characters, LineMode, MAX_TABLE};
use crate::message::interpret;
use crate::negotiation::{Negotiation, Verb};
use crate::option::{Side, Support, TelnetOption};
use crate::status::MAX_STATUS;
use crate::terminal::Cycle;
use memchr::{memchr, memchr3};
use thiserror::Error;

/// The longest line in bytes, without its end. It is what a terminal driver takes (`MAX_CANON` and its kin), and it is all
/// that [`Telnet::next_event`](crate::Telnet::next_event) ever leaves unread.
pub const MAX_LINE: usize = 4 * 1024;

/// The most bytes between a subnegotiation's option and its end. What real peers send (environments, terminal types) is
/// below 1 KiB; libtelnet draws the same line.
pub const MAX_SUBNEGOTIATION: usize = 16 * 1024;

const _: () = assert!(MAX_LINE < u16::MAX as usize, "the searched part of a line is counted in a u16");
const _: () = assert!(MAX_SUBNEGOTIATION < u16::MAX as usize, "parameters are counted in a u16");

/// What a peer may be answered beyond what it sent, over the whole connection, in bytes: reports of all options and tables of
/// special characters are longer than the requests for them.
pub const ANSWER_GRANT: u16 = 1024;

const _: () = assert!(ANSWER_GRANT as usize > 4 * (MAX_STATUS + MAX_TABLE), "whoever asks a few times is answered");

/// From bytes to events, and to answers.
#[derive(Debug)]
pub(crate) struct Decoder {
    held: Held,
    pub(crate) line_mode: LineMode,
    pub(crate) characters: Characters,
    pub(crate) negotiation: Negotiation,
    pub(crate) state: State,
    pub(crate) cycle: Cycle,
    /// How many bytes the peer may still be answered: [`ANSWER_GRANT`] and what it sent, less what it was answered.
    pub(crate) credit: u16,
    /// Our timing marks that are not answered.
    pub(crate) marks: u8,
    pub(crate) charset: charset::Waiting,
    pub(crate) charsets: Charsets,
    pub(crate) flow: Flow,
    pub(crate) is_server: bool,
    /// The last data byte was a CR: an LF or NUL that follows belongs to it.
    after_cr: bool,
    /// The line was refused and is dropped up to its end.
    pub(crate) skipping: bool,
    /// What is held and has been told, and goes with the next call.
    told: Told,
    /// What follows from the peer is compressed.
    pub(crate) inflating: bool,
}

/// How data becomes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// [`TelnetEvent::Line`]: what a user types, edited at the terminal.
    Lines,
    /// [`TelnetEvent::Text`] and [`TelnetEvent::Newline`], an end of line told at its CR: what a user types, key by key.
    Keys,
    /// The same, a CR alone being text: what a server shows.
    Shown,
    /// [`TelnetEvent::Text`] alone: binary data.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Line,
    Parameters(TelnetOption),
}

/// Why the connection cannot go on. Each is the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TelnetError {
    /// A subnegotiation went past [`MAX_SUBNEGOTIATION`] bytes without an end.
    #[error("a subnegotiation of option {option} goes past {MAX_SUBNEGOTIATION} bytes")]
    SubnegotiationTooLong {
        /// The code of the option it is about.
        option: u8,
    },
    /// Compression was begun without having been agreed to: nothing that follows can be read.
    #[error("compression was begun without agreement")]
    UnagreedCompression,
    /// Compression was begun inside a compressed stream.
    #[error("compression was begun twice")]
    NestedCompression,
    /// A compressed stream is not zlib's.
    #[error("a compressed stream is corrupt")]
    CorruptCompression,
    /// A compressed stream becomes more than [`MAX_INFLATE_RATIO`](crate::MAX_INFLATE_RATIO) times longer.
    #[error("a compressed stream becomes too long")]
    InflateBomb,
}

/// What the next byte is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    /// Data or IAC. The first `searched` bytes of the input are known to hold only plain data of one line.
    Data { searched: u16 },
    /// The byte after IAC.
    Iac,
    /// The option of a WILL, WONT, DO or DONT.
    Verb(Verb),
    /// The option of a subnegotiation.
    SubOption,
    /// Parameters, `len` of them so far.
    Sub { option: u8, len: u16 },
    /// The byte after IAC among parameters.
    SubIac { option: u8, len: u16 },
}

impl State {
    pub(crate) const DATA: Self = Self::Data { searched: 0 };
}

/// What came of looking for data. Events are made of it where they are returned: an event that is handed from function to
/// function is copied in pieces that the processor cannot forward, which costs more than finding the line. The inlining of
/// what returns events is for the same reason.
enum Data<'i> {
    Again,
    Starved,
    Line(&'i [u8]),
    HeldLine,
    LineTooLong,
    Text(&'i [u8]),
    Newline,
}

impl Decoder {
    pub(crate) const fn new(support: Support, is_server: bool) -> Self {
        Self {
            held: Held::NOTHING,
            line_mode: LineMode::NONE,
            characters: Characters::NONE,
            negotiation: Negotiation::new(support),
            state: State::DATA,
            cycle: Cycle::NEW,
            credit: ANSWER_GRANT,
            marks: 0,
            charset: charset::Waiting::No,
            charsets: Charsets::of(&[Charset::Utf8, Charset::Ascii]),
            flow: if is_server { Flow::Lines } else { Flow::Shown },
            is_server,
            after_cr: false,
            skipping: false,
            told: Told::Nothing,
            inflating: false,
        }
    }

    /// See [`Telnet::next_event`](crate::Telnet::next_event).
    #[inline]
    pub(crate) fn next_event<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<TelnetEvent<'s>>, TelnetError> {
        match std::mem::replace(&mut self.told, Told::Nothing) {
            Told::Nothing => {}
            Told::Line => self.held.clear_line(),
            Told::Parameters(_) => self.held.clear_parameters(),
        }
        if self.flow != Flow::Lines && !self.held.line().is_empty() {
            // Typed before character mode began, and never to be a line now.
            self.told = Told::Line;
            return Ok(Some(TelnetEvent::Text(self.held.line())));
        }
        while let Some(&byte) = input.first() {
            if byte == IAC && matches!(self.state, State::Data { .. }) {
                // Plain commands and doubled IACs that lie whole in the input need none of the states below.
                match **input {
                    [_, IAC, ..] if self.flow == Flow::Lines => {
                        let has_room = self.escaped_run(input);
                        if has_room {
                            continue;
                        }
                    }
                    [_, IAC, ..] if self.is_server => {
                        let all = *input;
                        *input = &all[2..];
                        self.credit(2);
                        self.after_cr = false;
                        return Ok(Some(TelnetEvent::Text(&all[1..2])));
                    }
                    [_, code, ..] => {
                        if let Some(command) = Command::from_code(code).filter(|&c| c != Command::EndOfRecord) {
                            *input = &input[2..];
                            self.credit(2);
                            self.erase(command);
                            return Ok(Some(TelnetEvent::Command(command)));
                        }
                    }
                    _ => {}
                }
            }
            let before = input.len();
            let State::Data { searched } = self.state else {
                let answered = out.len();
                let event = self.control(byte, input, out)?;
                self.credit(before - input.len());
                // At most what was just read and ANSWER_GRANT: see `subnegotiated`.
                self.credit = self.credit.saturating_sub((out.len() - answered) as u16);
                if event.is_some() {
                    return Ok(event);
                }
                if let Told::Parameters(option) = self.told {
                    return Ok(interpret(option, self.held.parameters(), self.facts()));
                }
                continue;
            };
            let data = self.data(usize::from(searched), byte, input);
            self.credit(before - input.len());
            match data {
                Data::Again => {}
                Data::Starved => break,
                Data::Line(line) => return Ok(Some(TelnetEvent::Line(line))),
                Data::HeldLine => {
                    self.told = Told::Line;
                    return Ok(Some(TelnetEvent::Line(self.held.line())));
                }
                Data::LineTooLong => return Ok(Some(TelnetEvent::LineTooLong)),
                Data::Text(text) => return Ok(Some(TelnetEvent::Text(text))),
                Data::Newline => return Ok(Some(TelnetEvent::Newline)),
            }
        }
        self.held.release();
        Ok(None)
    }

    /// Bytes allocated beyond the struct.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.held.heap_bytes() + self.characters.heap_bytes()
    }

    /// Takes over what a compressed stream left of a line.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            // Only a line is ever left unread; a command that began in the stream goes on behind it.
            self.state = State::DATA;
            self.hold_line(rest);
        }
    }

    #[inline]
    fn credit(&mut self, read: usize) {
        self.credit = self.credit.saturating_add(u16::try_from(read).unwrap_or(u16::MAX));
    }

    #[inline]
    fn data<'i>(&mut self, searched: usize, first: u8, input: &mut &'i [u8]) -> Data<'i> {
        if first == IAC {
            // Searching for what is already found costs more than all the rest of a command.
            *input = &input[1..];
            self.state = State::Iac;
            return Data::Again;
        }
        if self.flow == Flow::Shown {
            return self.shown(first, input);
        }
        if self.after_cr {
            // CR LF and CR NUL are one end of line (RFC 854, RFC 1123 section 3.3.1), told at the CR. A command between the
            // two bytes is not data and parts nothing.
            self.after_cr = false;
            if !self.is_server {
                return Data::Text(b"\r"); // shown before binary began, and not told yet
            }
            if first == LF || first == NUL {
                *input = &input[1..];
                return Data::Again;
            }
        }
        match self.flow {
            Flow::Lines => self.line(searched, input),
            Flow::Raw => raw(input),
            Flow::Keys | Flow::Shown => self.typed(input),
        }
    }

    /// What a server shows: CR LF ends a line, CR NUL is a CR (RFC 854), and nobody waits for a line to end.
    #[inline]
    fn shown<'i>(&mut self, first: u8, input: &mut &'i [u8]) -> Data<'i> {
        let all = *input;
        if self.after_cr {
            self.after_cr = false;
            if first == LF {
                *input = &all[1..];
                return Data::Newline;
            }
            if first == NUL {
                *input = &all[1..];
            }
            return Data::Text(b"\r");
        }
        if first == CR {
            *input = &all[1..];
            self.after_cr = true;
            return Data::Again;
        }
        self.typed(input)
    }

    #[inline]
    fn line<'i>(&mut self, searched: usize, input: &mut &'i [u8]) -> Data<'i> {
        let all = *input;
        let searched = searched.min(all.len());
        let end = memchr3(CR, LF, IAC, &all[searched..]).map(|at| searched + at);
        let (run, rest) = all.split_at(end.unwrap_or(all.len()));
        let held_len = self.held.line().len();

        if !self.skipping && held_len + run.len() > MAX_LINE {
            self.refuse_line();
            *input = rest;
            return Data::LineTooLong;
        }
        let Some((&end, after)) = rest.split_first() else {
            if self.skipping || held_len > 0 {
                self.hold_line(run);
                *input = rest;
            } else {
                // At most MAX_LINE, refused above.
                self.state = State::Data { searched: run.len() as u16 };
            }
            return Data::Starved;
        };
        self.state = State::DATA;
        if end == IAC {
            self.hold_line(run);
            *input = rest;
            return Data::Again;
        }
        self.after_cr = end == CR;
        *input = after;
        if self.skipping {
            self.skipping = false;
            Data::Again
        } else if held_len > 0 {
            self.hold_line(run);
            Data::HeldLine
        } else {
            Data::Line(run)
        }
    }

    /// Keys. A CR stands in front only where it ends a line.
    #[inline]
    fn typed<'i>(&mut self, input: &mut &'i [u8]) -> Data<'i> {
        let all = *input;
        let (run, rest) = all.split_at(memchr3(CR, LF, IAC, all).unwrap_or(all.len()));
        if !run.is_empty() {
            *input = rest;
            return Data::Text(run);
        }
        *input = &all[1..];
        self.after_cr = all[0] == CR;
        Data::Newline
    }

    /// Takes some of what follows an IAC.
    #[inline]
    fn control<'i>(
        &mut self,
        byte: u8,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<TelnetEvent<'i>>, TelnetError> {
        let (here, after) = input.split_at(1);
        match self.state {
            State::Data { .. } => {}
            State::Iac => {
                *input = after;
                return Ok(self.command(here));
            }
            State::Verb(verb) => {
                *input = after;
                return Ok(self.negotiate(verb, byte, out));
            }
            State::SubOption => {
                *input = after;
                // IAC cannot be an option here: it begins the end of a subnegotiation that names none.
                self.state = if byte == IAC { State::Iac } else { State::Sub { option: byte, len: 0 } };
            }
            State::Sub { option, len } => return self.parameters(option, len, input, out),
            State::SubIac { option, len } => return self.parameters_iac(option, len, byte, input, out),
        }
        Ok(None)
    }

    /// The byte after IAC.
    #[inline]
    fn command<'i>(&mut self, here: &'i [u8]) -> Option<TelnetEvent<'i>> {
        self.state = State::DATA;
        match here[0] {
            SB => self.state = State::SubOption,
            IAC => return self.escaped(here),
            byte => {
                if let Some(verb) = Verb::heard(byte) {
                    self.state = State::Verb(verb);
                } else if let Some(command) = Command::from_code(byte) {
                    self.erase(command);
                    // RFC 885 section 2: without the option it is a NOP.
                    let is_told =
                        command != Command::EndOfRecord || self.is_on(Side::Remote, TelnetOption::EndOfRecord);
                    return is_told.then_some(TelnetEvent::Command(command));
                }
                // Else not a command of any RFC, or SE that ends nothing: dropped, and data goes on.
            }
        }
        None
    }

    /// Takes doubled IACs in the middle of a line, as many as stand in a row. Says whether there was room for any.
    fn escaped_run(&mut self, input: &mut &[u8]) -> bool {
        let room = if self.skipping { usize::MAX } else { MAX_LINE - self.held.line().len() };
        let count = input.chunks_exact(2).take(room).take_while(|pair| **pair == [IAC, IAC]).count();
        *input = &input[2 * count..];
        self.credit(2 * count);
        if count > 0 {
            self.after_cr = false;
            self.state = State::DATA;
            if !self.skipping {
                self.held.add_iacs_to_line(count);
            }
        }
        count > 0
    }

    /// IAC IAC: one data byte 255.
    fn escaped<'i>(&mut self, byte: &'i [u8]) -> Option<TelnetEvent<'i>> {
        let after_cr = std::mem::take(&mut self.after_cr);
        if self.flow != Flow::Lines {
            return Some(TelnetEvent::Text(if after_cr && !self.is_server { b"\r\xff" } else { byte }));
        }
        if !self.skipping && self.held.line().len() == MAX_LINE {
            self.refuse_line();
            return Some(TelnetEvent::LineTooLong);
        }
        self.hold_line(byte);
        None
    }

    fn parameters<'i>(
        &mut self,
        option: u8,
        len: u16,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<TelnetEvent<'i>>, TelnetError> {
        let all = *input;
        let (run, rest) = all.split_at(memchr(IAC, all).unwrap_or(all.len()));
        let after = Self::longer(option, len, run.len())?;
        if let (0, [_, SE, rest @ ..]) = (len, rest) {
            let told = self.subnegotiated(option, run, run.len() + 2, out)?;
            self.state = State::DATA;
            *input = rest;
            return Ok(told.and_then(|option| interpret(option, run, self.facts())));
        }
        self.hold_parameters(option, run);
        self.state = State::Sub { option, len: after };
        *input = rest;
        if let Some((_, rest)) = rest.split_first() {
            *input = rest;
            self.state = State::SubIac { option, len: after };
        }
        Ok(None)
    }

    fn parameters_iac<'i>(
        &mut self,
        option: u8,
        len: u16,
        byte: u8,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<TelnetEvent<'i>>, TelnetError> {
        match byte {
            IAC => {
                let len = Self::longer(option, len, 1)?;
                self.hold_parameters(option, &[IAC]);
                self.state = State::Sub { option, len };
                *input = &input[1..];
            }
            SE => {
                let parameters = self.held.take_parameters();
                let told = self.subnegotiated(option, &parameters, 1, out);
                self.held.put_parameters(parameters);
                match told? {
                    Some(option) => self.told = Told::Parameters(option),
                    None => self.held.clear_parameters(),
                }
                self.state = State::DATA;
                *input = &input[1..];
            }
            // No RFC gives this a meaning. The subnegotiation never ended, so it is dropped, and the command stands.
            _ => {
                self.held.clear_parameters();
                self.state = State::Iac;
            }
        }
        Ok(None)
    }

    fn longer(option: u8, len: u16, by: usize) -> Result<u16, TelnetError> {
        let len = usize::from(len) + by;
        if len > MAX_SUBNEGOTIATION {
            return Err(TelnetError::SubnegotiationTooLong { option });
        }
        Ok(len as u16)
    }

    /// EC and EL undo what stands in the line so far (RFC 854). In character mode there is no line here to undo.
    fn erase(&mut self, command: Command) {
        match command {
            Command::EraseCharacter => self.held.erase_character(),
            Command::EraseLine => self.held.clear_line(),
            _ => {}
        }
    }

    fn hold_line(&mut self, run: &[u8]) {
        if !self.skipping {
            self.held.add_to_line(run);
        }
    }

    fn hold_parameters(&mut self, option: u8, run: &[u8]) {
        if TelnetOption::from_code(option).is_some() {
            self.held.add_to_parameters(run);
        }
    }

    fn refuse_line(&mut self) {
        self.state = State::DATA;
        self.skipping = true;
        self.held.clear_line();
    }
}

#[inline]
fn raw<'i>(input: &mut &'i [u8]) -> Data<'i> {
    let (run, rest) = input.split_at(memchr(IAC, input).unwrap_or(input.len()));
    *input = rest;
    Data::Text(run)
}
