//! Any mix of requests of ours and bytes of a peer's keeps the bounds, and two ends that keep the rules agree in the end.
//!
//! Layout of the input: a list of operations, one byte each, some followed by their operand.
//!
//! | low 3 bits | operation |
//! | --- | --- |
//! | 0, 1 | the left end turns an option on, off |
//! | 2, 3 | the right end turns an option on, off |
//! | 4, 5 | bytes arrive at the left, the right end: as many as the upper bits say |
//! | 6, 7 | the left, the right end sends so many bytes of text, taken from the input, plain and doubled where IAC |

#![no_main]

use libfuzzer_sys::fuzz_target;
use megamux_telnet::{OptionSet, Side, Support, Telnet, TelnetEvent, TelnetOption, encode_text};
use std::collections::VecDeque;

const ALL: &[TelnetOption] = &[TelnetOption::Echo, TelnetOption::SuppressGoAhead, TelnetOption::WindowSize];

fuzz_target!(|data: &[u8]| {
    let everything = Support { local: OptionSet::of(ALL), remote: OptionSet::of(ALL) };
    let mut pair = Pair { ends: [End::new(everything), End::new(Support::SERVER)], requests: 0, negotiated: 0 };
    let mut operations = data.iter().copied();
    while let Some(operation) = operations.next() {
        let end = usize::from(operation >> 1 & 1);
        let count = usize::from(operation >> 3) + 1;
        match operation & 7 {
            0..=3 => pair.request(end, operation),
            4 | 5 => pair.deliver(usize::from(operation & 1), count),
            _ => {
                let text: Vec<u8> = operations.by_ref().take(count).collect();
                pair.type_text(usize::from(operation & 1), &text);
            }
        }
    }
    pair.settle();
});

struct Pair {
    ends: [End; 2],
    requests: usize,
    negotiated: usize,
}

struct End {
    telnet: Telnet,
    arriving: VecDeque<u8>,
    unread: Vec<u8>,
}

impl End {
    fn new(support: Support) -> Self {
        Self { telnet: Telnet::new(support), arriving: VecDeque::new(), unread: Vec::new() }
    }
}

impl Pair {
    fn request(&mut self, end: usize, operation: u8) {
        let side = if operation & 8 == 0 { Side::Local } else { Side::Remote };
        let option = ALL[usize::from(operation >> 4) % ALL.len()];
        let mut out = Vec::new();
        let telnet = &mut self.ends[end].telnet;
        let asked = if operation & 1 == 0 {
            telnet.turn_on(side, option, &mut out)
        } else {
            telnet.turn_off(side, option, &mut out)
        };
        assert!(out.len() == 3 || out.is_empty());
        assert!(asked.is_ok() || out.is_empty());
        self.requests += usize::from(asked.is_ok());
        self.negotiated += out.len();
        self.ends[1 - end].arriving.extend(out);
    }

    fn type_text(&mut self, end: usize, text: &[u8]) {
        let mut out = Vec::new();
        encode_text(text, &mut out);
        assert!(out.len() <= 2 * text.len());
        self.ends[1 - end].arriving.extend(out);
    }

    fn deliver(&mut self, end: usize, count: usize) {
        let End { telnet, arriving, unread } = &mut self.ends[end];
        let count = count.min(arriving.len());
        unread.extend(arriving.drain(..count));
        let (mut input, mut out) = (&unread[..], Vec::new());
        while let Some(event) = telnet.next_event(&mut input, &mut out).expect("the other end keeps the rules") {
            // Escaped text can never pass for a command.
            assert!(!matches!(event, TelnetEvent::Command(_) | TelnetEvent::WindowSize { .. }));
        }
        let left = input.len();
        unread.drain(..unread.len() - left);
        self.negotiated += out.len();
        self.ends[1 - end].arriving.extend(out);
    }

    fn settle(&mut self) {
        while self.ends.iter().any(|end| !end.arriving.is_empty()) {
            self.deliver(0, usize::MAX);
            self.deliver(1, usize::MAX);
            assert!(self.negotiated <= 6 * self.requests, "one message and one answer for each request");
        }
        let [left, right] = &self.ends;
        for &option in ALL {
            assert_eq!(left.telnet.is_on(Side::Local, option), right.telnet.is_on(Side::Remote, option));
            assert_eq!(left.telnet.is_on(Side::Remote, option), right.telnet.is_on(Side::Local, option));
        }
    }
}
