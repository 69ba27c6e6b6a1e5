//! The client's side of each protocol: what a message is, and when its answer is whole.
//!
//! Invariant: whatever the target sends, in pieces of any size, is taken in time linear in it and in constant memory; bytes that
//! cannot be an answer are an error that says which.

use std::sync::LazyLock;

use crate::cli::Protocol;

/// The pattern's period is prime, so that no message size divides it: bytes lost, doubled or swapped do not match.
const PERIOD: usize = 65_521;
/// The longest message.
pub const LONGEST: usize = 1 << 20;
/// Different lines of those that are numbered; whoever tells rounds apart by them divides them evenly.
pub const LINES: usize = 256;
/// Four digits and CR LF.
pub const SHORTEST_LINE: u32 = 6;

static PATTERN: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift64: any fixed sequence without short repeats will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let period: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
    period.iter().copied().cycle().take(PERIOD + LONGEST).collect()
});

/// What a target did that its protocol forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("other bytes came back than were sent")]
    Mismatch,
    #[error("bytes came that nobody asked for: does the target greet (--protocol telnet)?")]
    Unasked,
    #[error("an answer does not end with the line it is for")]
    OtherLine,
    #[error("a line was lost, or came twice or out of order")]
    OutOfOrder,
    #[error("a line without an end")]
    Endless,
}

/// What all connections of a run share.
#[derive(Debug, Clone)]
pub struct Speech {
    protocol: Protocol,
    size: usize,
    /// A whole message, where it is always the same.
    message: Vec<u8>,
    prompt: Vec<u8>,
    /// Numbered lines, if those are sent, each a whole message.
    lines: Vec<Vec<u8>>,
}

impl Speech {
    pub fn new(protocol: Protocol, size: usize, line: &str, prompt: &str) -> Speech {
        let message = match protocol {
            Protocol::Echo => Vec::new(),
            Protocol::Lines => {
                let mut line: Vec<u8> = (b'a'..=b'z').cycle().take(size.saturating_sub(1)).collect();
                line.push(b'\n');
                line
            }
            Protocol::Telnet => format!("{line}\r\n").into_bytes(),
        };
        Speech { protocol, size, message, prompt: prompt.as_bytes().to_vec(), lines: Vec::new() }
    }

    /// Lines of `size` bytes with CR LF, as telnet has them, each of which ends with its number.
    pub fn numbered(size: usize) -> Speech {
        let line = |number: usize| {
            let mut line: Vec<u8> = (b'a'..=b'z').cycle().take(size - SHORTEST_LINE as usize).collect();
            line.extend(format!("{number:04}\r\n").bytes());
            line
        };
        Speech { lines: (0..LINES).map(line).collect(), ..Speech::new(Protocol::Lines, size, "", "") }
    }

    /// Whether the target speaks first, and nothing may be sent before it has.
    pub fn greets(&self) -> bool {
        self.protocol == Protocol::Telnet
    }
}

/// Where one connection stands.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    /// Places in the pattern of the next byte to send and to receive.
    send_at: u32,
    receive_at: u32,
    /// Bytes of an answer that has begun; for telnet, bytes of the prompt that matched.
    partial: u32,
    telnet: Telnet,
    /// The beginning of a numbered line that came in pieces.
    #[expect(clippy::box_collection, reason = "most connections have none, and pay for a pointer only")]
    begun: Option<Box<Vec<u8>>>,
}

/// Where telnet's commands stand: RFC 854.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Telnet {
    #[default]
    Data,
    Iac,
    /// Behind WILL, WONT, DO or DONT.
    Option(u8),
    Subnegotiation,
    SubnegotiationIac,
}

const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;

impl Wire {
    /// The stream of connection `number`, which begins at a place of its own.
    pub fn new(number: u64) -> Wire {
        let at = (number * 7_919 % PERIOD as u64) as u32;
        Wire { send_at: at, receive_at: at, ..Wire::default() }
    }

    /// The next message.
    pub fn message<'a>(&mut self, speech: &'a Speech) -> &'a [u8] {
        if !speech.lines.is_empty() {
            let line = self.send_at as usize % LINES;
            self.send_at = line as u32 + 1;
            return &speech.lines[line];
        }
        if speech.protocol != Protocol::Echo {
            return &speech.message;
        }
        let start = self.send_at as usize;
        self.send_at = ((start + speech.size) % PERIOD) as u32;
        &PATTERN[start..start + speech.size]
    }

    /// Takes bytes of the target, with `pending` answers outstanding: how many of them are whole now. What has to be said
    /// in return (a refused option) is appended to `reply`.
    pub fn receive(
        &mut self,
        speech: &Speech,
        bytes: &[u8],
        pending: u32,
        reply: &mut Vec<u8>,
    ) -> Result<u32, WireError> {
        match speech.protocol {
            Protocol::Echo => self.echoed(speech.size, bytes, pending),
            Protocol::Lines if !speech.lines.is_empty() => self.answered(speech, bytes, pending),
            Protocol::Lines => {
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u32;
                if lines > pending { Err(WireError::Unasked) } else { Ok(lines) }
            }
            Protocol::Telnet => Ok(bytes.iter().filter(|byte| self.telnet(speech, **byte, reply)).count() as u32),
        }
    }

    /// Each answer is a line that ends with the one it is for.
    fn answered(&mut self, speech: &Speech, bytes: &[u8], pending: u32) -> Result<u32, WireError> {
        let mut next = self.receive_at as usize % LINES;
        let mut answers = 0;
        self.lines(speech, bytes, |line| {
            answers += 1;
            let expected = speech.lines[next].trim_ascii_end();
            next = (next + 1) % LINES;
            match line.ends_with(expected) {
                _ if answers > pending => Err(WireError::Unasked),
                true => Ok(()),
                false => Err(WireError::OtherLine),
            }
        })?;
        self.receive_at = next as u32;
        Ok(answers)
    }

    /// Takes bytes of lines that others said: `heard` gets the number of each. The first may be any, as one joins when one
    /// does; from then on none is missed.
    pub fn hear(&mut self, speech: &Speech, bytes: &[u8], mut heard: impl FnMut(usize)) -> Result<(), WireError> {
        // One more than the last; 0 before the first.
        let mut next = self.receive_at as usize;
        self.lines(speech, bytes, |line| {
            let digits = line.last_chunk::<4>().and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            let number: usize = digits.filter(|number| *number < LINES).ok_or(WireError::OtherLine)?;
            if !line.ends_with(speech.lines[number].trim_ascii_end()) {
                return Err(WireError::OtherLine);
            }
            if next > 0 && number != next % LINES {
                return Err(WireError::OutOfOrder);
            }
            next = number + 1;
            heard(number);
            Ok(())
        })?;
        self.receive_at = next as u32;
        Ok(())
    }

    /// Cuts bytes into lines; a beginning without an end is kept.
    fn lines(
        &mut self,
        speech: &Speech,
        mut bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            match self.begun.take() {
                Some(mut begun) => {
                    begun.extend(line);
                    take(begun.trim_ascii_end())?;
                }
                None => take(line.trim_ascii_end())?,
            }
        }
        if !bytes.is_empty() {
            let begun = self.begun.get_or_insert_default();
            begun.extend(bytes);
            // What an answer may have in front of its line.
            if begun.len() > speech.size + 1024 {
                return Err(WireError::Endless);
            }
        }
        Ok(())
    }

    fn echoed(&mut self, size: usize, bytes: &[u8], pending: u32) -> Result<u32, WireError> {
        if self.partial as usize + bytes.len() > pending as usize * size {
            return Err(WireError::Unasked);
        }
        for part in bytes.chunks(PERIOD) {
            let start = self.receive_at as usize;
            if part != &PATTERN[start..start + part.len()] {
                return Err(WireError::Mismatch);
            }
            self.receive_at = ((start + part.len()) % PERIOD) as u32;
        }
        let have = self.partial as usize + bytes.len();
        self.partial = (have % size) as u32;
        Ok((have / size) as u32)
    }

    /// Takes one byte; whether it completes a prompt.
    fn telnet(&mut self, speech: &Speech, byte: u8, reply: &mut Vec<u8>) -> bool {
        self.telnet = match (self.telnet, byte) {
            (Telnet::Data, IAC) => Telnet::Iac,
            (Telnet::Data, _) => return self.prompt(&speech.prompt, byte),
            (Telnet::Iac, IAC) => {
                self.telnet = Telnet::Data;
                return self.prompt(&speech.prompt, byte);
            }
            (Telnet::Iac, DONT | DO | WONT | WILL) => Telnet::Option(byte),
            (Telnet::Iac, SB) => Telnet::Subnegotiation,
            (Telnet::Iac, _) => Telnet::Data,
            (Telnet::Option(asked), option) => {
                // A plain terminal: it does nothing it is asked to, and wants nothing it is offered.
                match asked {
                    DO => reply.extend([IAC, WONT, option]),
                    WILL => reply.extend([IAC, DONT, option]),
                    _ => {}
                }
                Telnet::Data
            }
            (Telnet::Subnegotiation, IAC) => Telnet::SubnegotiationIac,
            (Telnet::Subnegotiation, _) => Telnet::Subnegotiation,
            (Telnet::SubnegotiationIac, SE) => Telnet::Data,
            (Telnet::SubnegotiationIac, _) => Telnet::Subnegotiation,
        };
        false
    }

    /// Prompts are short and do not overlap themselves in any way that matters: a mismatch begins anew.
    fn prompt(&mut self, prompt: &[u8], byte: u8) -> bool {
        let expected = prompt.get(self.partial as usize).copied();
        self.partial = match expected == Some(byte) {
            true => self.partial + 1,
            false => u32::from(prompt.first() == Some(&byte)),
        };
        let whole = self.partial as usize == prompt.len();
        if whole {
            self.partial = 0;
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` cut in two at every place; the same must come of it.
    fn receive(speech: &Speech, wire: &Wire, bytes: &[u8], pending: u32) -> (Result<u32, WireError>, Vec<u8>) {
        let outcomes: Vec<_> = (0..=bytes.len())
            .map(|cut| {
                let (mut wire, mut reply) = (wire.clone(), Vec::new());
                let first = wire.receive(speech, &bytes[..cut], pending, &mut reply);
                let whole = first.and_then(|first| {
                    let second = wire.receive(speech, &bytes[cut..], pending - first, &mut reply)?;
                    Ok(first + second)
                });
                (whole, reply)
            })
            .collect();
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
        outcomes[0].clone()
    }

    #[test]
    fn an_echo_is_the_same_bytes_and_no_more() {
        let speech = Speech::new(Protocol::Echo, 10, "", "");
        let mut wire = Wire::new(3);
        let mut sent = wire.message(&speech).to_vec();
        sent.extend(wire.message(&speech));
        assert_eq!(receive(&speech, &wire, &sent, 2).0, Ok(2));
        assert_eq!(receive(&speech, &wire, &sent[..15], 2).0, Ok(1));
        assert_eq!(receive(&speech, &wire, &sent, 1).0, Err(WireError::Unasked));
        sent[12] ^= 1;
        assert_eq!(receive(&speech, &wire, &sent, 2).0, Err(WireError::Mismatch));
        assert_ne!(Wire::new(4).message(&speech), Wire::new(3).message(&speech));
    }

    #[test]
    fn the_pattern_goes_round() {
        let speech = Speech::new(Protocol::Echo, 16_384, "", "");
        let mut wire = Wire::new(1);
        for _ in 0..9 {
            let message = wire.message(&speech);
            let mut reply = Vec::new();
            assert_eq!(wire.receive(&speech, message, 1, &mut reply), Ok(1));
        }
    }

    #[test]
    fn a_line_is_answered_by_a_line() {
        let speech = Speech::new(Protocol::Lines, 8, "", "");
        let mut wire = Wire::new(0);
        assert_eq!(wire.message(&speech), b"abcdefg\n");
        assert_eq!(receive(&speech, &wire, b"yes\nno\nmay", 3).0, Ok(2));
        assert_eq!(receive(&speech, &wire, b"yes\nno\n", 1).0, Err(WireError::Unasked));
    }

    #[test]
    fn a_numbered_line_is_answered_by_what_ends_with_it() {
        let speech = Speech::numbered(8);
        let mut wire = Wire::default();
        assert_eq!(wire.message(&speech), b"ab0000\r\n");
        assert_eq!(wire.message(&speech), b"ab0001\r\n");
        assert_eq!(receive(&speech, &wire, b"ab0000\r\n7: ab0001\nab00", 3).0, Ok(2));
        assert_eq!(receive(&speech, &wire, b"ab0000\nab0001\n", 1).0, Err(WireError::Unasked));
        assert_eq!(receive(&speech, &wire, b"ab0001\r\n", 2).0, Err(WireError::OtherLine));
        assert_eq!(wire.receive(&speech, &[b'a'; 2000], 2, &mut Vec::new()), Err(WireError::Endless));
    }

    #[test]
    fn who_hears_lines_misses_none_after_the_first() {
        let speech = Speech::numbered(8);
        let hear = |bytes: &[u8]| {
            let (mut wire, mut heard) = (Wire::default(), Vec::new());
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let taken = wire.hear(&speech, first, |number| heard.push(number));
            taken.and_then(|()| wire.hear(&speech, second, |number| heard.push(number))).map(|()| heard)
        };
        assert_eq!(hear(b"9: ab0254\r\n9: ab0255\r\n9: ab0000\r\n"), Ok(vec![254, 255, 0]));
        assert_eq!(hear(b"ab0004\nab0006\n"), Err(WireError::OutOfOrder));
        assert_eq!(hear(b"ab0004\nab0004\n"), Err(WireError::OutOfOrder));
        assert_eq!(hear(b"ab0300\nx\n"), Err(WireError::OtherLine));
    }

    #[test]
    fn telnet_answers_end_with_the_prompt_and_options_are_refused() {
        let speech = Speech::new(Protocol::Telnet, 0, "whoami", "> ");
        let wire = Wire::new(0);
        let greeting =
            [&b"hello\r\n"[..], &[IAC, WILL, 1, IAC, DO, 31, IAC, SB, 24, 1, IAC, IAC, IAC, SE], b">> > "].concat();
        let (whole, reply) = receive(&speech, &wire, &greeting, 9);
        assert_eq!((whole, reply), (Ok(2), vec![IAC, DONT, 1, IAC, WONT, 31]));
        assert_eq!(wire.clone().message(&speech), b"whoami\r\n");
        let refusals = [IAC, WONT, 1, IAC, DONT, 31, IAC, 249];
        assert_eq!(receive(&speech, &wire, &refusals, 9), (Ok(0), vec![]));
    }
}
