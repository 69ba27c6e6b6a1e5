//! The telnet front: bytes to lines and keys on the way in, text to bytes on the way out.
//!
//! Owns a connection's decoder and its count of unanswered lines. Invariants: an event is decoded only when there is room
//! for it (a permit, and a place among [`TYPE_AHEAD`] or [`MAX_AHEAD`]), so none is dropped; what is left unread while there is
//! room is shorter than one line.
//!
//! We offer to echo and to suppress go-ahead: a client that takes both is edited for, key by key ([`Front`]); one that
//! refuses either, or says nothing at all, edits by itself and sends lines.
//!
//! Must not: interpret a line.

use std::time::Duration;

use megamux_engine::{CloseReason, ConnInfo, Cx, Handler, RecvBuf, TimerKey};
use megamux_telnet::{
    Command, LineMode, OptionSet, Side, Support, Telnet, TelnetEvent, TelnetOption, TerminalFeatures,
};

use crate::console::Console;
use crate::event::{ConsoleIn, ConsoleOut, TYPE_AHEAD, mark};
use crate::front::terminal::Ability;
use crate::front::{Front, MAX_AHEAD};

/// What a peer may turn on and off by itself. A client that offers line mode (RFC 1184) wants to edit by itself. Nothing of its
/// environment is asked for: it would be data at best.
const SUPPORT: Support = Support {
    local: OptionSet::of(&[
        TelnetOption::Echo,
        TelnetOption::SuppressGoAhead,
        TelnetOption::Status,
        TelnetOption::TimingMark,
    ]),
    remote: OptionSet::of(&[
        TelnetOption::SuppressGoAhead,
        TelnetOption::TerminalType,
        TelnetOption::WindowSize,
        TelnetOption::LineMode,
    ]),
};

/// Memory kept for encoding between events, in bytes: a screenful with room to spare.
const SCRATCH: usize = 16 * 1024;

/// Bytes queued for a peer that make repeated output pointless: it does not read what it has.
const BEHIND: usize = 64 * 1024;

/// When to look whether the peer has read, if output was dropped because it did not.
const CAUGHT_UP: TimerKey = TimerKey(1);
const CAUGHT_UP_AFTER: Duration = Duration::from_millis(500);

/// When to look for room again, if there was none to tell the console of a key. It is hundreds of events behind then.
const RETRY: TimerKey = TimerKey(0);
const RETRY_AFTER: Duration = Duration::from_millis(10);

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
    front: Front,
    /// Lines sent to the console and not answered yet.
    unanswered: u8,
    /// Reading is paused until there is room for more.
    paused: bool,
    /// The client went to line mode, and we stopped to echo with it.
    echo_withdrawn: bool,
    /// We offered to echo so that the client does not, for the time of a password.
    hiding: bool,
    /// Lines of repeated output that were dropped and not told of yet.
    dropped: u32,
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

    /// Decodes and does what the keys ask for, as long as there is room for what comes of it.
    fn advance(
        &mut self,
        cx: &mut Cx<'_, Console>,
        conn: &mut TelnetConn,
        input: &mut &[u8],
    ) -> Result<(), CloseReason> {
        loop {
            let Some(permit) = cx.try_reserve() else {
                // Bytes that are left unread come again by themselves, keys that wait do not.
                cx.set_timer(RETRY, RETRY_AFTER);
                return Ok(());
            };
            let event = match conn.step(&mut self.out) {
                Some(event) => Some(event),
                None if conn.is_full() => {
                    conn.paused = true;
                    cx.pause_read();
                    return Ok(());
                }
                None => {
                    let before = input.len();
                    let event = conn.decode(input, &mut self.out)?;
                    if event.is_none() && input.len() == before {
                        return Ok(());
                    }
                    event
                }
            };
            if let Some(event) = event {
                permit.send(event);
            }
        }
    }
}

impl TelnetConn {
    /// What the typed keys ask the console for.
    fn step(&mut self, out: &mut Vec<u8>) -> Option<ConsoleIn> {
        if !self.telnet.is_character_mode() {
            return None;
        }
        let event = self.front.step(out)?;
        self.count(&event);
        Some(event)
    }

    /// Whether nothing more may be read before the console has answered.
    fn is_full(&self) -> bool {
        if self.telnet.is_character_mode() { self.front.room() == 0 } else { self.unanswered >= TYPE_AHEAD }
    }

    fn count(&mut self, event: &ConsoleIn) {
        if matches!(event, ConsoleIn::Line(_) | ConsoleIn::LineTooLong | ConsoleIn::Complete(_)) {
            self.unanswered += 1;
        }
    }

    /// Takes one event from the input; gives what the console has to hear of it.
    fn decode(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<ConsoleIn>, CloseReason> {
        let TelnetConn { telnet, front, echo_withdrawn, hiding, .. } = self;
        let was_character_mode = telnet.is_character_mode();
        // Keys are taken as far as there is room for them; lines have their bound in the decoder.
        let most = if was_character_mode { front.room().min(input.len()) } else { input.len() };
        let mut window = &input[..most];
        let decoded = telnet.next_event(&mut window, out).map_err(|_| CloseReason::ProtocolError);
        *input = &input[most - window.len()..];
        let Some(decoded) = decoded? else {
            return Ok(None);
        };
        let event = match decoded {
            TelnetEvent::Line(line) => {
                let line = String::from_utf8_lossy(line).into_owned();
                if *hiding {
                    // Nobody has echoed the line's end.
                    front.terminal.write("\n", out);
                }
                front.entered(&line);
                ConsoleIn::Line(line)
            }
            TelnetEvent::LineTooLong => ConsoleIn::LineTooLong,
            TelnetEvent::Text(typed) => {
                front.typed(typed);
                return Ok(None);
            }
            TelnetEvent::Newline => {
                front.typed(b"\r");
                return Ok(None);
            }
            TelnetEvent::WindowSize { columns, rows } => {
                front.terminal.columns = columns;
                front.terminal.rows = rows;
                ConsoleIn::WindowSize { columns, rows }
            }
            TelnetEvent::TerminalType(name) => {
                front.terminal.is_called(name);
                return Ok(None);
            }
            TelnetEvent::TerminalFeatures(features) => {
                front.terminal.ability = able(features);
                return Ok(None);
            }
            TelnetEvent::OptionOn(side, option) => {
                turned_on(telnet, side, option, echo_withdrawn, out);
                return Ok(None);
            }
            TelnetEvent::Command(command) => match front.command(command, was_character_mode, out) {
                Some(event) => event,
                None => return Ok(None),
            },
            // Whatever else it was may have ended character mode.
            other => {
                let edits = match other {
                    TelnetEvent::OptionOff(Side::Local, TelnetOption::SuppressGoAhead) => Some(true),
                    TelnetEvent::LineMode(mode) => Some(mode.contains(LineMode::EDIT)),
                    TelnetEvent::OptionOff(Side::Remote, TelnetOption::LineMode) => Some(false),
                    _ => None,
                };
                match edits {
                    // Whoever edits by itself echoes by itself, or nobody would.
                    Some(true) if !*hiding => {
                        *echo_withdrawn |= telnet.turn_off(Side::Local, TelnetOption::Echo, out).is_ok();
                    }
                    Some(false) => echo_again(telnet, echo_withdrawn, out),
                    _ => {}
                }
                if was_character_mode && !telnet.is_character_mode() {
                    front.leave_character_mode(out);
                }
                return Ok(None);
            }
        };
        self.count(&event);
        Ok(Some(event))
    }

    /// Shows something the console says.
    fn show(&mut self, event: ConsoleOut, out: &mut Vec<u8>) {
        if matches!(event, ConsoleOut::Answered { .. } | ConsoleOut::Completions(_)) {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        if self.telnet.is_character_mode() {
            self.front.show(event, out)
        } else {
            self.front.print(event, out)
        }
        self.hide(out);
    }

    /// A client that edits by itself echoes by itself as well, unless we say that we do: so that is offered while a password is
    /// asked for (RFC 857). A client that takes it goes to character mode or stays in line mode; both are fine.
    fn hide(&mut self, out: &mut Vec<u8>) {
        let asked = self.front.asks_for_password();
        if asked && !self.hiding {
            self.hiding =
                !self.telnet.is_character_mode() && self.telnet.turn_on(Side::Local, TelnetOption::Echo, out).is_ok();
        } else if self.hiding && !asked && self.front.asks() {
            self.hiding = false;
            let was_character_mode = self.telnet.is_character_mode();
            // It fails where the client has ended it already.
            let _ = self.telnet.turn_off(Side::Local, TelnetOption::Echo, out);
            if was_character_mode && !self.telnet.is_character_mode() {
                self.front.leave_character_mode(out);
            }
        }
    }

    /// What is said with the next output of what was dropped.
    fn dropped(&mut self) -> String {
        match std::mem::take(&mut self.dropped) {
            0 => String::new(),
            count => format!("{}[{count} lines dropped: they were not read]{}\n", mark::FAINT, mark::PLAIN),
        }
    }

    /// The same with what was dropped before it.
    fn with_dropped(&mut self, event: ConsoleOut) -> ConsoleOut {
        match event {
            ConsoleOut::Live(text) => ConsoleOut::Live(self.dropped() + &text),
            ConsoleOut::Screen(text) => ConsoleOut::Screen(text + &self.dropped()),
            ConsoleOut::Answered { text, prompt } => ConsoleOut::Answered { text: self.dropped() + &text, prompt },
            other => other,
        }
    }
}

/// The lines of output that may be left out.
fn repeated(event: &ConsoleOut) -> u32 {
    match event {
        ConsoleOut::Live(text) | ConsoleOut::Screen(text) => u32::try_from(text.lines().count()).unwrap_or(u32::MAX),
        _ => 0,
    }
}

/// The peer agreed to an option, or asked for it.
fn turned_on(telnet: &mut Telnet, side: Side, option: TelnetOption, echo_withdrawn: &mut bool, out: &mut Vec<u8>) {
    // None of these can fail: the option they need is on, and was not before.
    let _ = match (side, option) {
        (Side::Local, TelnetOption::SuppressGoAhead) => {
            echo_again(telnet, echo_withdrawn, out);
            Ok(())
        }
        (Side::Remote, TelnetOption::TerminalType) => telnet.ask_terminal_type(out),
        (Side::Remote, TelnetOption::LineMode) => {
            // Whoever edits by itself echoes by itself, or nobody would.
            *echo_withdrawn |= telnet.turn_off(Side::Local, TelnetOption::Echo, out).is_ok();
            telnet.propose_line_mode(LineMode::EDIT.and(LineMode::TRAPSIG), out)
        }
        _ => Ok(()),
    };
}

/// Back from line mode, by whichever of its two ways: the echo that was withdrawn is offered again.
fn echo_again(telnet: &mut Telnet, echo_withdrawn: &mut bool, out: &mut Vec<u8>) {
    let in_line_mode =
        telnet.is_on(Side::Remote, TelnetOption::LineMode) && telnet.line_mode().contains(LineMode::EDIT);
    if telnet.is_on(Side::Local, TelnetOption::SuppressGoAhead) && !in_line_mode && std::mem::take(echo_withdrawn) {
        // It cannot fail: it is off, or it would not have been withdrawn.
        let _ = telnet.will_echo(out);
    }
}

fn able(features: TerminalFeatures) -> Ability {
    if features.contains(TerminalFeatures::SCREEN_READER) {
        // What is repainted is read out again.
        return Ability::Plain;
    }
    match (features.contains(TerminalFeatures::VT100), features.contains(TerminalFeatures::ANSI)) {
        (true, true) => Ability::Colours,
        (true, false) => Ability::Moves,
        _ => Ability::Plain,
    }
}

impl Front {
    /// A telnet command; gives what the console has to hear of it.
    fn command(&mut self, command: Command, character_mode: bool, out: &mut Vec<u8>) -> Option<ConsoleIn> {
        match command {
            // RFC 854: IP "suspends, interrupts, aborts or terminates"; BRK and ABORT ask for no less.
            _ if command.is_interrupt() => {
                if !character_mode {
                    return Some(ConsoleIn::Interrupt);
                }
                self.interrupt();
            }
            Command::EndOfFile => return Some(ConsoleIn::End),
            // RFC 854: "some visible (i.e., printable) evidence", at once, whatever runs.
            Command::AreYouThere => self.say_yes(character_mode, out),
            // In line mode the decoder has erased by itself.
            Command::EraseCharacter if character_mode => self.typed(b"\x7f"),
            Command::EraseLine if character_mode => self.typed(b"\x15"),
            _ => {}
        }
        None
    }
}

impl Handler for TelnetHandler {
    type Service = Console;
    type Conn = TelnetConn;

    fn on_open(&mut self, cx: &mut Cx<'_, Console>, _: &ConnInfo) -> Result<TelnetConn, CloseReason> {
        let mut telnet = Telnet::new(SUPPORT);
        // On a new connection every option is off, so the requests are always made.
        let _ = telnet.will_echo(&mut self.out);
        let _ = telnet.will_suppress_go_ahead(&mut self.out);
        let _ = telnet.do_naws(&mut self.out);
        let _ = telnet.turn_on(Side::Remote, TelnetOption::TerminalType, &mut self.out);
        self.flush(cx);
        Ok(TelnetConn {
            telnet,
            front: Front::default(),
            unanswered: 0,
            paused: false,
            echo_withdrawn: false,
            hiding: false,
            dropped: 0,
        })
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, Console>,
        conn: &mut TelnetConn,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        let mut input: &[u8] = data;
        let outcome = self.advance(cx, conn, &mut input);
        let taken = data.len() - input.len();
        self.flush(cx);
        outcome?;
        data.consume(taken);
        Ok(())
    }

    fn on_event(
        &mut self,
        cx: &mut Cx<'_, Console>,
        conn: &mut TelnetConn,
        event: ConsoleOut,
    ) -> Result<(), CloseReason> {
        let lines = repeated(&event);
        if lines > 0 && cx.queued_bytes() > BEHIND {
            conn.dropped = conn.dropped.saturating_add(lines);
            cx.set_timer(CAUGHT_UP, CAUGHT_UP_AFTER);
            return Ok(());
        }
        let event = conn.with_dropped(event);
        conn.show(event, &mut self.out);
        // What was typed meanwhile.
        self.advance(cx, conn, &mut &[][..])?;
        self.flush(cx);
        if conn.paused && !conn.is_full() {
            conn.paused = false;
            cx.resume_read();
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Console>, conn: &mut TelnetConn, key: TimerKey) -> Result<(), CloseReason> {
        if key == CAUGHT_UP && conn.dropped > 0 {
            if cx.queued_bytes() > BEHIND {
                cx.set_timer(CAUGHT_UP, CAUGHT_UP_AFTER);
                return Ok(());
            }
            let said = conn.dropped();
            conn.show(ConsoleOut::Live(said), &mut self.out);
        }
        self.advance(cx, conn, &mut &[][..])?;
        self.flush(cx);
        Ok(())
    }

    /// The peer may well wait for the answers to what it sent, in character mode even for lines that are yet to be entered.
    /// Without room to tell the console of the end (it is hundreds of events behind), the peer gets what is answered by now.
    fn on_read_closed(&mut self, cx: &mut Cx<'_, Console>, conn: &mut TelnetConn) -> Result<(), CloseReason> {
        if conn.telnet.is_character_mode() {
            conn.front.no_more_keys(&mut self.out);
            self.advance(cx, conn, &mut &[][..])?;
            self.flush(cx);
            return Ok(());
        }
        let permit = cx.try_reserve().ok_or(CloseReason::PeerClosed)?;
        permit.send(ConsoleIn::End);
        Ok(())
    }
}

const _: () = assert!(MAX_AHEAD > 0, "there is room for a key at least");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_told_with_the_next_output() {
        let mut conn = TelnetConn {
            telnet: Telnet::new(SUPPORT),
            front: Front::default(),
            unanswered: 0,
            paused: false,
            echo_withdrawn: false,
            hiding: false,
            dropped: 0,
        };
        let prompt = crate::event::Prompt::Nothing;
        for (event, expect) in [
            (ConsoleOut::Live("a\nb\n".into()), 2),
            (ConsoleOut::Screen("a\n".into()), 1),
            (ConsoleOut::Answered { text: "a\n".into(), prompt }, 0),
        ] {
            assert_eq!(repeated(&event), expect);
            conn.dropped = 3;
            let told = format!("{:?}", conn.with_dropped(event.clone()));
            assert!(told.contains("[3 lines dropped: they were not read]"), "{told}");
            assert_eq!(conn.with_dropped(event.clone()), event, "it is told once");
        }
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<TelnetConn>() <= 112, "{} bytes", size_of::<TelnetConn>());
    }
}
