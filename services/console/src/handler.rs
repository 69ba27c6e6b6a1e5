//! The telnet front: bytes to lines on the way in, text to bytes on the way out.
//!
//! Owns a connection's decoder and its count of unanswered lines. Invariants: an event is decoded only when there is room
//! for it (a permit, and a place among [`TYPE_AHEAD`]), so none is dropped; what is left unread while there is room for lines
//! is shorter than one line. The terminal edits and echoes by itself (line mode): we never offer to echo.
//!
//! Must not: interpret a line.

use megamux_engine::{CloseReason, ConnInfo, Cx, Handler, RecvBuf};
use megamux_telnet::{Command, OptionSet, Side, Support, Telnet, TelnetEvent, TelnetOption, encode_text};

use crate::console::Console;
use crate::event::{ConsoleIn, ConsoleOut, TYPE_AHEAD};

/// What a peer may turn on by itself: it may tell its window's size. Asking us to echo is refused, it would take line editing
/// off its terminal (RFC 857, 858).
const SUPPORT: Support = Support { local: OptionSet::of(&[]), remote: OptionSet::of(&[TelnetOption::WindowSize]) };

/// Memory kept for encoding between events, in bytes: a screenful with room to spare.
const SCRATCH: usize = 16 * 1024;

/// The telnet front of a [`Console`], one per listener and shard.
#[derive(Debug, Default)]
pub struct TelnetHandler {
    /// Bytes on their way to a peer; empty between calls.
    out: Vec<u8>,
}

/// What is kept per connection.
#[derive(Debug)]
pub struct TelnetConn {
    telnet: Telnet,
    /// Lines sent to the console and not answered yet.
    unanswered: u8,
}

impl TelnetHandler {
    /// A front without connections.
    #[must_use]
    pub fn new() -> TelnetHandler {
        TelnetHandler::default()
    }

    fn flush(&mut self, cx: &mut Cx<'_, Console>) {
        if !self.out.is_empty() {
            cx.send(&self.out);
            self.out.clear();
            self.out.shrink_to(SCRATCH);
        }
    }

    /// Decodes as long as there is room for what comes of it. Returns how many bytes were read.
    fn decode(&mut self, cx: &mut Cx<'_, Console>, conn: &mut TelnetConn, data: &[u8]) -> Result<usize, CloseReason> {
        let mut input = data;
        while conn.unanswered < TYPE_AHEAD {
            let Some(permit) = cx.try_reserve() else {
                break;
            };
            let event = conn.telnet.next_event(&mut input, &mut self.out);
            let Some(event) = event.map_err(|_| CloseReason::ProtocolError)? else {
                break;
            };
            match event {
                TelnetEvent::Line(line) => {
                    conn.unanswered += 1;
                    permit.send(ConsoleIn::Line(String::from_utf8_lossy(line).into_owned()));
                }
                TelnetEvent::LineTooLong => {
                    conn.unanswered += 1;
                    permit.send(ConsoleIn::LineTooLong);
                }
                TelnetEvent::WindowSize { columns, rows } => {
                    permit.send(ConsoleIn::WindowSize { columns, rows });
                }
                TelnetEvent::Command(command) => match command {
                    // RFC 854: IP "suspends, interrupts, aborts or terminates"; BRK and ABORT ask for no less.
                    Command::InterruptProcess | Command::Break | Command::Abort => {
                        permit.send(ConsoleIn::Interrupt);
                    }
                    Command::EndOfFile => permit.send(ConsoleIn::End),
                    // RFC 854: "some visible (i.e., printable) evidence", at once, whatever runs.
                    Command::AreYouThere => encode_text("\n[yes]\n", &mut self.out),
                    _ => {}
                },
                // Options change nothing here, and without echo there is no character mode.
                _ => {}
            }
        }
        if conn.unanswered == TYPE_AHEAD {
            cx.pause_read();
        }
        Ok(data.len() - input.len())
    }
}

impl Handler for TelnetHandler {
    type Service = Console;
    type Conn = TelnetConn;

    fn on_open(&mut self, cx: &mut Cx<'_, Console>, _: &ConnInfo) -> Result<TelnetConn, CloseReason> {
        let mut telnet = Telnet::new(SUPPORT);
        // On a new connection every option is off, so the request is always made.
        let _ = telnet.turn_on(Side::Remote, TelnetOption::WindowSize, &mut self.out);
        self.flush(cx);
        Ok(TelnetConn { telnet, unanswered: 0 })
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, Console>,
        conn: &mut TelnetConn,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        let outcome = self.decode(cx, conn, data);
        self.flush(cx);
        data.consume(outcome?);
        Ok(())
    }

    fn on_event(
        &mut self,
        cx: &mut Cx<'_, Console>,
        conn: &mut TelnetConn,
        event: ConsoleOut,
    ) -> Result<(), CloseReason> {
        match event {
            ConsoleOut::Text(text) => encode_text(text, &mut self.out),
            ConsoleOut::Answered(text) => {
                encode_text(text, &mut self.out);
                if conn.unanswered == TYPE_AHEAD {
                    cx.resume_read();
                }
                conn.unanswered = conn.unanswered.saturating_sub(1);
            }
        }
        self.flush(cx);
        Ok(())
    }

    /// The peer may well wait for the answers to what it sent. Without room to tell the console of the end (it is hundreds of
    /// events behind), the peer gets what is answered by now.
    fn on_read_closed(&mut self, cx: &mut Cx<'_, Console>, _: &mut TelnetConn) -> Result<(), CloseReason> {
        let permit = cx.try_reserve().ok_or(CloseReason::PeerClosed)?;
        permit.send(ConsoleIn::End);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<TelnetConn>() <= 32, "{} bytes", size_of::<TelnetConn>());
    }
}
