//! One connection's decoder: from received bytes to events.
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

use crate::codes::{CR, IAC, LF, NUL, SB, SE};
use crate::event::{Command, TelnetEvent};
use crate::held::Held;
use crate::negotiation::{Negotiation, RequestError, Verb, Wish};
use crate::option::{Side, Support, TelnetOption};
use memchr::{memchr, memchr3};
use thiserror::Error;

/// The longest line in bytes, without its end. It is what a terminal driver takes (`MAX_CANON` and its kin), and it is all
/// that [`Telnet::next_event`] ever leaves unread.
pub const MAX_LINE: usize = 4 * 1024;

/// The most bytes between a subnegotiation's option and its end. What real peers send (environments, terminal types) is
/// below 1 KiB; libtelnet draws the same line.
pub const MAX_SUBNEGOTIATION: usize = 16 * 1024;

const _: () = assert!(MAX_LINE < u16::MAX as usize, "the searched part of a line is counted in a u16");
const _: () = assert!(MAX_SUBNEGOTIATION < u16::MAX as usize, "parameters are counted in a u16");

/// One end of a telnet connection.
///
/// ```
/// use megamux_telnet::{Support, Telnet, TelnetEvent};
///
/// let mut telnet = Telnet::new(Support::SERVER);
/// let mut answers = Vec::new();
/// let mut input = &b"who\r\n\xff\xfd\x63half a li"[..];
///
/// assert_eq!(telnet.next_event(&mut input, &mut answers), Ok(Some(TelnetEvent::Line(b"who"))));
/// assert_eq!(telnet.next_event(&mut input, &mut answers), Ok(None));
/// assert_eq!(answers, b"\xff\xfc\x63"); // DO of an unknown option: WONT
/// assert_eq!(input, b"half a li"); // to stand in front of the next bytes
/// ```
#[derive(Debug)]
pub struct Telnet {
    held: Held,
    negotiation: Negotiation,
    state: State,
    /// The last data byte was a CR: an LF or NUL that follows belongs to it.
    after_cr: bool,
    /// The line was refused and is dropped up to its end.
    skipping: bool,
    /// The held line has been told and goes with the next call.
    told: bool,
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
}

/// What the next byte is.
#[derive(Debug, Clone, Copy)]
enum State {
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
    const DATA: Self = Self::Data { searched: 0 };
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

impl Telnet {
    /// A connection as it begins: every option off, nothing said. `support` is what the peer may turn on.
    #[must_use]
    pub const fn new(support: Support) -> Self {
        Self {
            held: Held::NOTHING,
            negotiation: Negotiation::new(support),
            state: State::DATA,
            after_cr: false,
            skipping: false,
            told: false,
        }
    }

    /// Decodes up to the next event, moves `input` past what it read, and appends to `out` what the peer must be answered.
    ///
    /// To be called until it gives `None`; what is then left of `input`, never more than [`MAX_LINE`] bytes, is to stand in
    /// front of the bytes of the next call. A caller without room for an event may stop earlier and leave the whole rest
    /// of the input in front in the same way.
    ///
    /// Over a connection `out` grows by at most the number of bytes read: an answer is three bytes long and takes a message
    /// of three bytes. A request to turn an option on that is refused is answered each time it is repeated; a message that
    /// asks for what is already so is not answered (RFC 1143 section 7).
    ///
    /// # Errors
    ///
    /// The connection is to be closed. Calling again with the same input gives the same error.
    pub fn next_event<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<TelnetEvent<'s>>, TelnetError> {
        if self.told {
            self.told = false;
            self.held.clear_line();
        }
        if !self.held.line().is_empty() && self.is_character_mode() {
            // Typed before character mode began, and never to be a line now.
            self.told = true;
            return Ok(Some(TelnetEvent::Text(self.held.line())));
        }
        while let Some(&byte) = input.first() {
            let State::Data { searched } = self.state else {
                match self.control(byte, input, out)? {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            };
            match self.data(usize::from(searched), byte, input) {
                Data::Again => {}
                Data::Starved => break,
                Data::Line(line) => return Ok(Some(TelnetEvent::Line(line))),
                Data::HeldLine => {
                    self.told = true;
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

    /// Asks that the option be on: WILL for our side, DO for the peer's. It is on once [`TelnetEvent::OptionOn`] says so.
    ///
    /// # Errors
    ///
    /// Nothing was asked, because nothing needs to be.
    pub fn turn_on(&mut self, side: Side, option: TelnetOption, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.negotiation.want(Verb { side, wish: Wish::On }, option, out)
    }

    /// Demands that the option be off: WONT for our side, DONT for the peer's. It has no effect from here on, and
    /// [`TelnetEvent::OptionOff`] tells when the peer knows.
    ///
    /// # Errors
    ///
    /// Nothing was asked, because nothing needs to be.
    pub fn turn_off(&mut self, side: Side, option: TelnetOption, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.negotiation.want(Verb { side, wish: Wish::Off }, option, out)
    }

    /// Offers to echo. With [`will_suppress_go_ahead`](Self::will_suppress_go_ahead) it asks for character mode.
    pub fn will_echo(&mut self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.turn_on(Side::Local, TelnetOption::Echo, out)
    }

    /// Offers to send without go-ahead.
    pub fn will_suppress_go_ahead(&mut self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.turn_on(Side::Local, TelnetOption::SuppressGoAhead, out)
    }

    /// Asks for the size of the peer's window, now and whenever it changes.
    pub fn do_naws(&mut self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.turn_on(Side::Remote, TelnetOption::WindowSize, out)
    }

    /// Whether the option is in effect on that side.
    #[must_use]
    pub fn is_on(&self, side: Side, option: TelnetOption) -> bool {
        self.negotiation.is_on(side, option)
    }

    /// Whether the peer sends each character as it is typed and we echo it: both of RFC 857 and RFC 858 are on. Then
    /// [`TelnetEvent::Text`] and [`TelnetEvent::Newline`] stand in for [`TelnetEvent::Line`].
    #[must_use]
    pub fn is_character_mode(&self) -> bool {
        self.is_on(Side::Local, TelnetOption::Echo) && self.is_on(Side::Local, TelnetOption::SuppressGoAhead)
    }

    #[inline]
    fn data<'i>(&mut self, searched: usize, first: u8, input: &mut &'i [u8]) -> Data<'i> {
        if first == IAC {
            // Searching for what is already found costs more than all the rest of a command.
            *input = &input[1..];
            self.state = State::Iac;
            return Data::Again;
        }
        if self.after_cr {
            // CR LF and CR NUL are one end of line (RFC 854, RFC 1123 section 3.3.1), told at the CR. A command between the
            // two bytes is not data and parts nothing.
            self.after_cr = false;
            if first == LF || first == NUL {
                *input = &input[1..];
                return Data::Again;
            }
        }
        if self.is_character_mode() { self.typed(input) } else { self.line(searched, input) }
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
            State::Sub { option, len } => return self.parameters(option, len, input),
            State::SubIac { option, len } => return self.parameters_iac(option, len, byte, input),
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
                    return Some(TelnetEvent::Command(command));
                }
                // Else not a command of any RFC, or SE that ends nothing: dropped, and data goes on.
            }
        }
        None
    }

    /// IAC IAC: one data byte 255.
    fn escaped<'i>(&mut self, byte: &'i [u8]) -> Option<TelnetEvent<'i>> {
        self.after_cr = false;
        if self.is_character_mode() {
            return Some(TelnetEvent::Text(byte));
        }
        if !self.skipping && self.held.line().len() == MAX_LINE {
            self.refuse_line();
            return Some(TelnetEvent::LineTooLong);
        }
        self.hold_line(byte);
        None
    }

    #[inline]
    fn negotiate<'i>(&mut self, verb: Verb, code: u8, out: &mut Vec<u8>) -> Option<TelnetEvent<'i>> {
        self.state = State::DATA;
        let (option, wish) = self.negotiation.hear(verb, code, out)?;
        if self.is_character_mode() {
            self.skipping = false; // what follows are keys, not the rest of a refused line
        }
        Some(match wish {
            Wish::On => TelnetEvent::OptionOn(verb.side, option),
            Wish::Off => TelnetEvent::OptionOff(verb.side, option),
        })
    }

    fn parameters<'i>(
        &mut self,
        option: u8,
        len: u16,
        input: &mut &'i [u8],
    ) -> Result<Option<TelnetEvent<'i>>, TelnetError> {
        let all = *input;
        let (run, rest) = all.split_at(memchr(IAC, all).unwrap_or(all.len()));
        let after = Self::longer(option, len, run.len())?;
        if let (0, [_, SE, rest @ ..]) = (len, rest) {
            self.state = State::DATA;
            *input = rest;
            return Ok(self.subnegotiated(option, run));
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
    ) -> Result<Option<TelnetEvent<'i>>, TelnetError> {
        match byte {
            IAC => {
                let len = Self::longer(option, len, 1)?;
                self.hold_parameters(option, &[IAC]);
                self.state = State::Sub { option, len };
                *input = &input[1..];
                Ok(None)
            }
            SE => {
                let step = self.subnegotiated(option, self.held.parameters());
                self.held.clear_parameters();
                self.state = State::DATA;
                *input = &input[1..];
                Ok(step)
            }
            // No RFC gives this a meaning. The subnegotiation never ended, so it is dropped, and the command stands.
            _ => {
                self.held.clear_parameters();
                self.state = State::Iac;
                Ok(None)
            }
        }
    }

    fn longer(option: u8, len: u16, by: usize) -> Result<u16, TelnetError> {
        let len = usize::from(len) + by;
        if len > MAX_SUBNEGOTIATION {
            return Err(TelnetError::SubnegotiationTooLong { option });
        }
        Ok(len as u16)
    }

    /// A whole subnegotiation. One about an option that is not on, or not in its form, is ignored (RFC 855).
    fn subnegotiated<'i>(&self, option: u8, parameters: &[u8]) -> Option<TelnetEvent<'i>> {
        match (TelnetOption::from_code(option), parameters) {
            // RFC 1073 section 2: width and height, each with the high byte first.
            (Some(TelnetOption::WindowSize), &[w1, w0, h1, h0])
                if self.is_on(Side::Remote, TelnetOption::WindowSize) =>
            {
                Some(TelnetEvent::WindowSize {
                    columns: u16::from_be_bytes([w1, w0]),
                    rows: u16::from_be_bytes([h1, h0]),
                })
            }
            _ => None,
        }
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
