//! A connection fed from outside, as an engine would: what the decoder leaves unread stands in front of the next bytes.
//!
//! Invariant: it renders events to text so that two runs compare equal exactly when a handler could not tell them apart (typed
//! text that arrives in pieces is one text).

#![allow(dead_code)] // each test file uses its own part

use megamux_telnet::{MAX_LINE, Support, Telnet, TelnetEvent};

pub struct Peer {
    pub telnet: Telnet,
    pub answers: Vec<u8>,
    unread: Vec<u8>,
    told: Vec<Told>,
    read: usize,
    answered: usize,
}

enum Told {
    Text(Vec<u8>),
    Other(String),
}

impl Peer {
    pub fn new(support: Support) -> Self {
        Self {
            telnet: Telnet::new(support),
            answers: Vec::new(),
            unread: Vec::new(),
            told: Vec::new(),
            read: 0,
            answered: 0,
        }
    }

    /// A server that has asked for character mode and the window's size; what it said is not in `answers`.
    pub fn asking() -> Self {
        let mut peer = Self::new(Support::SERVER);
        let mut said = Vec::new();
        peer.telnet.will_echo(&mut said).unwrap();
        peer.telnet.will_suppress_go_ahead(&mut said).unwrap();
        peer.telnet.do_naws(&mut said).unwrap();
        assert_eq!(said, b"\xff\xfb\x01\xff\xfb\x03\xff\xfd\x1f");
        peer
    }

    /// Feeds one read. Says whether the connection may go on.
    pub fn feed(&mut self, read: &[u8]) -> bool {
        self.unread.extend_from_slice(read);
        let mut input = &self.unread[..];
        loop {
            let (input_len, answers_len) = (input.len(), self.answers.len());
            let event = self.telnet.next_event(&mut input, &mut self.answers);
            self.read += input_len - input.len();
            self.answered += self.answers.len() - answers_len;
            assert!(self.answered <= self.read, "the answers outgrow the stream");
            match event {
                Ok(Some(event)) => tell(&mut self.told, &event),
                Ok(None) => break,
                Err(error) => {
                    let again = self.telnet.next_event(&mut input, &mut self.answers).map(|_| ());
                    assert_eq!(again, Err(error), "an error stays");
                    self.told.push(Told::Other(format!("{error:?}")));
                    return false;
                }
            }
        }
        let left = input.len();
        assert!(left <= MAX_LINE, "{left} bytes left unread");
        self.unread.drain(..self.unread.len() - left);
        true
    }

    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Everything told so far, in words.
    pub fn told(&self) -> String {
        let words: Vec<String> = self
            .told
            .iter()
            .map(|told| match told {
                Told::Text(text) => format!("text:{}", text.escape_ascii()),
                Told::Other(event) => event.clone(),
            })
            .collect();
        words.join(" ")
    }
}

fn tell(told: &mut Vec<Told>, event: &TelnetEvent<'_>) {
    let other = match event {
        TelnetEvent::Text(more) => {
            assert!(!more.is_empty(), "an empty text");
            match told.last_mut() {
                Some(Told::Text(text)) => text.extend_from_slice(more),
                _ => told.push(Told::Text(more.to_vec())),
            }
            return;
        }
        TelnetEvent::Line(line) => {
            assert!(line.len() <= MAX_LINE);
            format!("line:{}", line.escape_ascii())
        }
        TelnetEvent::Command(command) => format!("{command:?}"),
        TelnetEvent::OptionOn(side, option) => format!("on:{side:?}:{option:?}"),
        TelnetEvent::OptionOff(side, option) => format!("off:{side:?}:{option:?}"),
        TelnetEvent::WindowSize { columns, rows } => format!("window:{columns}x{rows}"),
        other => format!("{other:?}"),
    };
    told.push(Told::Other(other));
}

/// A small generator (xorshift), so that a failure's seed replays it.
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % limit
    }
}
