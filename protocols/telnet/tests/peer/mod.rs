//! A connection fed from outside, as an engine would: what the decoder leaves unread stands in front of the next bytes.
//!
//! Invariant: it renders events to text so that two runs compare equal exactly when a handler could not tell them apart (typed
//! text that arrives in pieces is one text).

#![allow(dead_code)] // each test file uses its own part

use megamux_telnet::{ANSWER_GRANT, MAX_LINE, MAX_SUBNEGOTIATION, Side, Support, Telnet, TelnetEvent, TelnetOption};

pub struct Peer {
    pub telnet: Telnet,
    pub answers: Vec<u8>,
    unread: Vec<u8>,
    told: Vec<Told>,
    read: usize,
    answered: usize,
    inflates: bool,
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
            inflates: false,
        }
    }

    fn of(telnet: Telnet) -> Self {
        Self { telnet, ..Self::new(Support::NONE) }
    }

    /// A server, or a client, that has these options on and has said and told nothing since.
    pub fn server(options: &[(Side, TelnetOption)]) -> Self {
        Self::of(Telnet::new(Support::FULL_SERVER)).agreed(options)
    }

    pub fn client(options: &[(Side, TelnetOption)]) -> Self {
        Self::of(Telnet::client(Support::CLIENT)).agreed(options)
    }

    fn agreed(mut self, options: &[(Side, TelnetOption)]) -> Self {
        for &(side, option) in options {
            let verb = if side == Side::Local { 0xfd } else { 0xfb };
            assert!(self.feed(&[0xff, verb, option.code()]));
            assert!(self.telnet.is_on(side, option), "{option:?}");
        }
        self.answers.clear();
        self.told.clear();
        self
    }

    /// Lets this end say something, before it hears anything.
    pub fn saying(mut self, say: impl FnOnce(&mut Telnet, &mut Vec<u8>)) -> Self {
        say(&mut self.telnet, &mut Vec::new());
        self
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
            // While inflating, `read` counts the compressed bytes.
            let is_bounded = self.answered <= self.read + usize::from(ANSWER_GRANT);
            assert!(is_bounded || self.inflates, "the answers outgrow the stream");
            match event {
                Ok(Some(event)) => {
                    self.inflates |= event == TelnetEvent::CompressionBegan;
                    tell(&mut self.told, &event);
                }
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
        TelnetEvent::TerminalType(name) => format!("terminal:{}", name.escape_ascii()),
        TelnetEvent::TerminalFeatures(features) => format!("features:{}", features.0),
        TelnetEvent::TerminalTypeAsked { round } => format!("terminal?{round}"),
        TelnetEvent::Environment(variables) => {
            let each = variables.iter().map(|v| format!("{:?}:{:?}={:?}", v.kind, v.name, v.value));
            format!("environment:[{}]", each.collect::<Vec<_>>().join(","))
        }
        TelnetEvent::EnvironmentAsked(names) => {
            let each = names.iter().map(|(kind, name)| format!("{kind:?}:{name:?}"));
            format!("environment?[{}]", each.collect::<Vec<_>>().join(","))
        }
        TelnetEvent::Charset(charset) => format!("charset:{}", charset.name()),
        TelnetEvent::SpecialCharacters(characters) => {
            let each = characters
                .iter()
                .map(|c| format!("{}={:?}/{}{}", c.function, c.level, c.value, if c.acknowledged { "!" } else { "" }));
            format!("keys:[{}]", each.collect::<Vec<_>>().join(","))
        }
        TelnetEvent::Status(report) => {
            let each = report.iter().map(|o| format!("{:?}:{}:{}", o.side, o.code, o.on));
            format!("status:[{}]", each.collect::<Vec<_>>().join(","))
        }
        TelnetEvent::Gmcp(message) => {
            format!("gmcp:{}:{}", message.package().escape_ascii(), message.data().escape_ascii())
        }
        TelnetEvent::ServerStatus(table) => {
            let each = table.iter().map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
            format!("mssp:[{}]", each.collect::<Vec<_>>().join(","))
        }
        TelnetEvent::Inflated => return, // progress, told where reads end
        other => format!("{other:?}"),
    };
    told.push(Told::Other(other));
}

/// Feeds a message to a fresh peer, whole and cut in every way: it must tell and answer the same.
#[track_caller]
pub fn check_from(fresh: impl Fn() -> Peer, input: &[u8], told: &str, answers: &[u8]) {
    let run = |cuts: &[usize]| {
        let mut peer = fresh();
        let mut from = 0;
        for &cut in cuts.iter().chain([&input.len()]) {
            if !peer.feed(&input[from..cut]) {
                break;
            }
            from = cut;
        }
        (peer.told(), peer.answers.escape_ascii().to_string())
    };
    let expect = (told.to_owned(), answers.escape_ascii().to_string());
    assert_eq!(run(&[]), expect, "whole");
    // Long inputs are cut where something may change: near their ends and near the limits.
    let is_near =
        |cut: usize| [0, MAX_LINE, MAX_SUBNEGOTIATION, input.len()].iter().any(|&place| cut.abs_diff(place) < 16);
    for cut in (0..=input.len()).filter(|&cut| input.len() < 512 || is_near(cut)) {
        assert_eq!(run(&[cut]), expect, "cut at {cut}");
    }
    let every: Vec<usize> = (0..input.len()).collect();
    assert_eq!(run(&every), expect, "byte by byte");
    for seed in 0..64 {
        let mut random = Seeded::new(seed);
        let mut cuts: Vec<usize> = (0..random.below(8)).map(|_| random.below(input.len() + 1)).collect();
        cuts.sort_unstable();
        assert_eq!(run(&cuts), expect, "seed {seed}, cuts {cuts:?}");
    }
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
