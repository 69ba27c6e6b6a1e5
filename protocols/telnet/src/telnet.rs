//! One end of a connection: the decoder, the requests we make, and the compressed streams around both.
//!
//! Owns which request is legal when. Invariant: a subnegotiation is sent only while its option is on (RFC 855), so a peer never
//! gets one it did not agree to.
//!
//! Must not: look at bytes (the decoder does).

use crate::charset::{Charset, Charsets};
use crate::codes::IAC;
use crate::compress::{Inflow, Outflow};
use crate::decode::{Decoder, TelnetError};
use crate::environment::{self, VariableKind};
use crate::event::TelnetEvent;
use crate::linemode::{Level, LineMode};
use crate::negotiation::{RequestError, Wish};
use crate::option::{Side, Support, TelnetOption};
use crate::subnegotiation::Subnegotiation;
use crate::{encode_text, gmcp, server_status, status, terminal};

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
    decoder: Decoder,
    /// Only while something is compressed.
    streams: Option<Box<Streams>>,
}

#[derive(Debug, Default)]
struct Streams {
    inflow: Option<Inflow>,
    outflow: Option<Outflow>,
}

impl Telnet {
    /// A server's end of a connection as it begins: every option off, nothing said. `support` is what the peer may turn on.
    #[must_use]
    pub const fn new(support: Support) -> Self {
        Self { decoder: Decoder::new(support, true), streams: None }
    }

    /// A client's end. What the server shows is told as [`TelnetEvent::Text`] and [`TelnetEvent::Newline`]: nobody waits
    /// for a prompt's line to end.
    #[must_use]
    pub const fn client(support: Support) -> Self {
        Self { decoder: Decoder::new(support, false), streams: None }
    }

    /// Decodes up to the next event, moves `input` past what it read, and appends to `out` what the peer must be answered.
    ///
    /// To be called until it gives `None`; what is then left of `input`, never more than [`MAX_LINE`](crate::MAX_LINE) bytes,
    /// is to stand in front of the bytes of the next call. A caller without room for an event may stop earlier and leave the
    /// whole rest of the input in front in the same way.
    ///
    /// Over a connection `out` grows here by at most the number of bytes read (after inflating) and
    /// [`ANSWER_GRANT`](crate::ANSWER_GRANT). No answer is ever dropped for want of room. A request to turn an option on that
    /// is refused is answered each time it is repeated; a message that asks for what is already so is not answered (RFC
    /// 1143 section 7).
    ///
    /// # Errors
    ///
    /// The connection is to be closed. Calling again with the same input gives the same error.
    #[inline]
    pub fn next_event<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<TelnetEvent<'s>>, TelnetError> {
        if self.decoder.inflating { self.next_inflated(input, out) } else { self.decoder.next_event(input, out) }
    }

    /// The same for a compressed stream. One step is inflated per call at most, so one call's work is bounded.
    fn next_inflated<'s, 'i: 's>(
        &'s mut self,
        wire: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<TelnetEvent<'s>>, TelnetError> {
        if self.refill(wire)? {
            return Ok(Some(TelnetEvent::CompressionEnded));
        }
        let Some(inflow) = self.streams.as_mut().and_then(|streams| streams.inflow.as_mut()) else {
            return Ok(None);
        };
        let is_more = inflow.has_more(wire.len());
        let Inflow { plain, at, starved, .. } = inflow;
        let mut rest = &plain[*at..];
        let event = self.decoder.next_event(&mut rest, out)?;
        *at = plain.len() - rest.len();
        *starved = event.is_none();
        Ok(event.or(is_more.then_some(TelnetEvent::Inflated)))
    }

    /// Inflates if the decoder waits for that. Says whether the stream has ended, and then it is gone.
    fn refill(&mut self, wire: &mut &[u8]) -> Result<bool, TelnetError> {
        let inflow = self.streams.get_or_insert_default().inflow.get_or_insert_with(Inflow::new);
        if !inflow.starved {
            return Ok(false);
        }
        if !inflow.ended() {
            inflow.fill(wire)?;
            return Ok(false);
        }
        self.decoder.keep(&inflow.plain[inflow.at..]);
        self.decoder.inflating = false;
        if let Some(streams) = &mut self.streams {
            streams.inflow = None;
        }
        self.drop_idle_streams();
        Ok(true)
    }

    /// What the peer may turn on from here on. What is on stays on.
    pub fn set_support(&mut self, support: Support) {
        self.decoder.negotiation.set_support(support);
    }

    /// The character sets we agree to when the peer asks: UTF-8 and US-ASCII, unless this says otherwise.
    pub fn set_charsets(&mut self, charsets: Charsets) {
        self.decoder.set_charsets(charsets);
    }

    /// Asks that the option be on: WILL for our side, DO for the peer's. It is on once [`TelnetEvent::OptionOn`] says so.
    ///
    /// # Errors
    ///
    /// Nothing was asked, because nothing needs to be.
    pub fn turn_on(&mut self, side: Side, option: TelnetOption, out: &mut Vec<u8>) -> Result<(), RequestError> {
        match option {
            // It is never on: see `timing_mark`.
            TelnetOption::TimingMark => Err(RequestError::AlreadySo),
            _ => self.decoder.want(side, Wish::On, option, out),
        }
    }

    /// Demands that the option be off: WONT for our side, DONT for the peer's. It has no effect from here on, and
    /// [`TelnetEvent::OptionOff`] tells when the peer knows.
    ///
    /// # Errors
    ///
    /// Nothing was asked, because nothing needs to be.
    pub fn turn_off(&mut self, side: Side, option: TelnetOption, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.decoder.want(side, Wish::Off, option, out)
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
        self.decoder.negotiation.is_on(side, option)
    }

    /// Whether the peer sends each character as it is typed: both of RFC 857 and RFC 858 are on here, or line mode (RFC 1184) is
    /// on there without [`LineMode::EDIT`]. Then [`TelnetEvent::Text`] and [`TelnetEvent::Newline`] stand in for
    /// [`TelnetEvent::Line`].
    #[must_use]
    pub fn is_character_mode(&self) -> bool {
        self.decoder.is_character_mode()
    }

    /// Appends text: as [`encode_text`] does, or while we send binary (RFC 856) with nothing changed but an IAC doubled.
    pub fn text(&self, text: impl AsRef<[u8]>, out: &mut Vec<u8>) {
        if !self.is_on(Side::Local, TelnetOption::Binary) {
            return encode_text(text, out);
        }
        let mut rest = text.as_ref();
        while let Some(at) = memchr::memchr(IAC, rest) {
            out.extend_from_slice(&rest[..=at]);
            out.push(IAC);
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }

    /// Asks for the names of the peer's terminal, one after the other: [`TelnetEvent::TerminalType`].
    ///
    /// # Errors
    ///
    /// The option is not on at the peer, or the names are being asked for.
    pub fn ask_terminal_type(&mut self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need(Side::Remote, TelnetOption::TerminalType)?;
        self.decoder.ask_terminal_type(out).then_some(()).ok_or(RequestError::AlreadyAsked)
    }

    /// Answers [`TelnetEvent::TerminalTypeAsked`]. A client tells its names in order of liking, the last one twice, and
    /// then begins anew (RFC 1091 section 4): [`terminal_name`](crate::terminal_name) picks it.
    ///
    /// # Errors
    ///
    /// The option is not on here.
    pub fn terminal_type(&mut self, name: &str, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need(Side::Local, TelnetOption::TerminalType)?;
        terminal::tell(name, out);
        Ok(())
    }

    /// Tells the size of our window.
    ///
    /// # Errors
    ///
    /// The option is not on here.
    pub fn window_size(&mut self, columns: u16, rows: u16, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need(Side::Local, TelnetOption::WindowSize)?;
        let (columns, rows) = (columns.to_be_bytes(), rows.to_be_bytes());
        Subnegotiation::of(TelnetOption::WindowSize, out).bytes(&columns).bytes(&rows).end();
        Ok(())
    }

    /// Asks for variables of the user's environment; for all of them if `names` is empty.
    ///
    /// # Errors
    ///
    /// The option is not on at the peer.
    pub fn ask_environment(&mut self, names: &[(VariableKind, &str)], out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need(Side::Remote, TelnetOption::Environment)?;
        environment::ask(names, out);
        Ok(())
    }

    /// Answers [`TelnetEvent::EnvironmentAsked`]. A name without a value is told to be undefined.
    ///
    /// # Errors
    ///
    /// The option is not on here.
    pub fn environment(
        &mut self,
        variables: &[(VariableKind, &str, Option<&str>)],
        out: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        self.need(Side::Local, TelnetOption::Environment)?;
        environment::tell(true, variables, out);
        Ok(())
    }

    /// Tells that variables have changed since (INFO).
    ///
    /// # Errors
    ///
    /// The option is not on here.
    pub fn environment_changed(
        &mut self,
        variables: &[(VariableKind, &str, Option<&str>)],
        out: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        self.need(Side::Local, TelnetOption::Environment)?;
        environment::tell(false, variables, out);
        Ok(())
    }

    /// Asks for one of `charsets`, the best first: [`TelnetEvent::Charset`] or [`TelnetEvent::CharsetRejected`]. If the peer
    /// is the server and asks at the same time, its request counts and this one is not told of.
    ///
    /// # Errors
    ///
    /// The option is not on here (RFC 2066 section 2: who asks has said WILL and heard DO), or a request is not answered yet.
    pub fn ask_charset(&mut self, charsets: &[Charset], out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need(Side::Local, TelnetOption::Charset)?;
        self.decoder.ask_charset(charsets, out).then_some(()).ok_or(RequestError::AlreadyAsked)
    }

    /// Proposes how lines are edited at the terminal, whose end has the option on.
    ///
    /// # Errors
    ///
    /// The option is on on neither side, or that is the mode.
    pub fn propose_line_mode(&mut self, mode: LineMode, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need_either(TelnetOption::LineMode)?;
        self.decoder.propose_mode(mode, out).then_some(()).ok_or(RequestError::AlreadySo)
    }

    /// The mode last proposed or agreed to. Meaningful while [`TelnetOption::LineMode`] is on.
    #[must_use]
    pub fn line_mode(&self) -> LineMode {
        self.decoder.line_mode()
    }

    /// Proposes which key does a function of RFC 1184 section 5.6; function 0 asks for all.
    ///
    /// # Errors
    ///
    /// The option is on on neither side.
    pub fn propose_character(
        &mut self,
        function: u8,
        level: Level,
        value: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        self.need_either(TelnetOption::LineMode)?;
        self.decoder.propose_character(function, level, value, out);
        Ok(())
    }

    /// Asks which options the peer holds to be on: [`TelnetEvent::Status`].
    ///
    /// # Errors
    ///
    /// The option is not on at the peer.
    pub fn ask_status(&mut self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need(Side::Remote, TelnetOption::Status)?;
        status::ask(out);
        Ok(())
    }

    /// Marks this place in our stream (RFC 860): [`TelnetEvent::TimingMark`] tells when the peer has read up to it. Any
    /// telnet answers, whether it knows the option or not.
    ///
    /// # Errors
    ///
    /// 255 marks are not answered yet.
    pub fn timing_mark(&mut self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.decoder.mark(out).then_some(()).ok_or(RequestError::AlreadyAsked)
    }

    /// Sends a message beside the text; `data` is JSON or empty.
    ///
    /// # Errors
    ///
    /// The option is on on neither side.
    pub fn gmcp(&mut self, package: &str, data: &str, out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need_either(TelnetOption::Gmcp)?;
        gmcp::tell(package, data, out);
        Ok(())
    }

    /// Tells about this server: names and values as MSSP lists them.
    ///
    /// # Errors
    ///
    /// The option is not on here.
    pub fn server_status(&mut self, table: &[(&str, &str)], out: &mut Vec<u8>) -> Result<(), RequestError> {
        self.need(Side::Local, TelnetOption::ServerStatus)?;
        server_status::tell(table, out);
        Ok(())
    }

    /// Compresses everything that is appended to `out` from here on: a server's by MCCP2, a client's by MCCP3. It costs some
    /// 300 KiB from the first [`seal`](Self::seal) on, so the option being on is no reason to call it: the caller counts its
    /// compressed connections and begins while there is room. `level` is zlib's, 1 to 9.
    ///
    /// # Errors
    ///
    /// The option is not on, or compression runs.
    pub fn begin_compression(&mut self, level: u32, out: &mut Vec<u8>) -> Result<(), RequestError> {
        let option = self.compresses_by().ok_or(RequestError::NotOn)?;
        if self.is_compressing() {
            return Err(RequestError::AlreadySo);
        }
        Subnegotiation::of(option, out).end();
        self.streams.get_or_insert_default().outflow = Some(Outflow::new(level, out.len()));
        Ok(())
    }

    /// Ends our compressed stream with the next [`seal`](Self::seal), and gives its memory back. The option stays on, and
    /// compression may begin again. Turning the option off ends it too.
    pub fn end_compression(&mut self) {
        if let Some(outflow) = self.outflow() {
            outflow.ending = true;
        }
    }

    /// Whether what we send is compressed.
    #[must_use]
    pub fn is_compressing(&self) -> bool {
        self.streams.as_ref().is_some_and(|streams| streams.outflow.is_some())
    }

    /// Makes `out`, everything that was appended to it since the last call, what goes on the wire. To be called before it is sent,
    /// by whoever ever calls [`begin_compression`](Self::begin_compression); it does nothing while nothing is compressed.
    pub fn seal(&mut self, out: &mut Vec<u8>) {
        let is_on = self.compresses_by().is_some();
        let Some(outflow) = self.outflow() else {
            return;
        };
        outflow.ending |= !is_on;
        outflow.seal(out);
        if outflow.ending {
            if let Some(streams) = &mut self.streams {
                streams.outflow = None;
            }
            self.drop_idle_streams();
        }
    }

    /// Bytes allocated beyond `size_of::<Telnet>()`: what is incomplete, special characters that were set, and (as their
    /// states were measured once) compressed streams.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let streams = self.streams.as_ref().map_or(0, |streams| {
            let inflow = streams.inflow.as_ref().map_or(0, Inflow::heap_bytes);
            let outflow = streams.outflow.as_ref().map_or(0, Outflow::heap_bytes);
            size_of::<Streams>() + inflow + outflow
        });
        self.decoder.heap_bytes() + streams
    }

    /// The option by which we may compress: a server says WILL to both, and MCCP3 is for what the client sends.
    fn compresses_by(&self) -> Option<TelnetOption> {
        if self.is_on(Side::Local, TelnetOption::Compress2) {
            Some(TelnetOption::Compress2)
        } else if self.is_on(Side::Remote, TelnetOption::Compress3) {
            Some(TelnetOption::Compress3)
        } else {
            None
        }
    }

    fn outflow(&mut self) -> Option<&mut Outflow> {
        self.streams.as_mut()?.outflow.as_mut()
    }

    fn drop_idle_streams(&mut self) {
        self.streams = self.streams.take().filter(|streams| streams.inflow.is_some() || streams.outflow.is_some());
    }

    fn need(&self, side: Side, option: TelnetOption) -> Result<(), RequestError> {
        self.is_on(side, option).then_some(()).ok_or(RequestError::NotOn)
    }

    fn need_either(&self, option: TelnetOption) -> Result<(), RequestError> {
        self.need(Side::Local, option).or_else(|_| self.need(Side::Remote, option))
    }
}
