//! Whatever a server and a client ask of each other, in any order and with any delays, both keep the bounds, neither finds
//! fault with the other, and they fall silent in agreement.
//!
//! Layout of the input: a list of operations, one byte each, some followed by operands.
//!
//! | low 4 bits | operation (even: the server's, odd: the client's) |
//! | --- | --- |
//! | 0, 1 | turns an option on; the next byte: 15 options, bit 7 whose side |
//! | 2, 3 | turns it off |
//! | 4, 5 | bytes arrive: as many as the upper bits say |
//! | 6, 7 | sends as many bytes of text, taken from the input |
//! | 8, 9 | asks or tells what the upper bits say |
//! | 10, 11 | begins compression |
//! | 12, 13 | ends it |
//! | 14, 15 | everything arrives |

#![no_main]

use libfuzzer_sys::fuzz_target;
use megamux_telnet::{
    ANSWER_GRANT, Charset, Level, LineMode, OptionSet, RequestError, Side, Support, Telnet, TelnetEvent, TelnetOption,
    VariableKind,
};
use std::collections::VecDeque;

fuzz_target!(|data: &[u8]| {
    let everything = OptionSet::of(&TelnetOption::ALL);
    let everything = Support { local: everything, remote: everything };
    let mut pair = Pair { ends: [End::new(Telnet::new(everything)), End::new(Telnet::client(Support::CLIENT))] };
    let mut operations = data.iter().copied();
    while let Some(operation) = operations.next() {
        let end = usize::from(operation & 1);
        let count = usize::from(operation >> 4) + 1;
        match operation & 0xe {
            0 | 2 => pair.request(end, operation & 2 == 0, operations.next().unwrap_or(0)),
            4 => pair.deliver(end, count),
            6 => {
                let text: Vec<u8> = operations.by_ref().take(count).collect();
                pair.say(end, |telnet, out| {
                    telnet.text(&text, out);
                    assert!(out.len() <= 2 * text.len());
                });
            }
            8 => pair.ask(end, operation >> 4),
            10 => pair.say(end, |telnet, out| drop(telnet.begin_compression(1, out))),
            12 => pair.say(end, |telnet, _| telnet.end_compression()),
            _ => pair.deliver(end, usize::MAX),
        }
    }
    pair.settle();
});

struct Pair {
    ends: [End; 2],
}

struct End {
    telnet: Telnet,
    arriving: VecDeque<u8>,
    unread: Vec<u8>,
}

impl End {
    fn new(telnet: Telnet) -> Self {
        Self { telnet, arriving: VecDeque::new(), unread: Vec::new() }
    }
}

impl Pair {
    /// Lets an end say something, which leaves it as it would leave a handler: sealed.
    fn say(&mut self, end: usize, say: impl FnOnce(&mut Telnet, &mut Vec<u8>)) {
        let (telnet, mut out) = (&mut self.ends[end].telnet, Vec::new());
        say(telnet, &mut out);
        telnet.seal(&mut out);
        self.ends[1 - end].arriving.extend(out);
    }

    fn request(&mut self, end: usize, on: bool, operand: u8) {
        let side = if operand & 0x80 == 0 { Side::Local } else { Side::Remote };
        let option = TelnetOption::ALL[usize::from(operand & 0x7f) % TelnetOption::ALL.len()];
        self.say(end, |telnet, out| {
            let asked = if on { telnet.turn_on(side, option, out) } else { telnet.turn_off(side, option, out) };
            assert!(out.len() == 3 || out.is_empty());
            assert!(asked.is_ok() || out.is_empty());
        });
    }

    fn ask(&mut self, end: usize, what: u8) {
        self.say(end, |telnet, out| {
            let asked: Result<(), RequestError> = match what {
                0 => telnet.ask_terminal_type(out),
                1 => telnet.ask_environment(&[(VariableKind::Known, "USER")], out),
                2 => telnet.ask_charset(&[Charset::Utf8, Charset::Ascii], out),
                3 => telnet.ask_charset(&[Charset::Latin1], out),
                4 => telnet.propose_line_mode(LineMode::EDIT.and(LineMode::TRAPSIG), out),
                5 => telnet.propose_line_mode(LineMode::NONE, out),
                6 => telnet.propose_character(3, Level::Value, 3, out),
                7 => telnet.propose_character(0, Level::Value, 0, out),
                8 => telnet.propose_character(4, Level::Default, 255, out),
                9 => telnet.ask_status(out),
                10 => telnet.timing_mark(out),
                11 => telnet.gmcp("Core.Ping", "{}", out),
                12 => telnet.server_status(&[("NAME", "x")], out),
                13 => telnet.window_size(255, 0, out),
                14 => telnet.environment_changed(&[(VariableKind::User, "A", Some("\u{1}"))], out),
                _ => telnet.propose_line_mode(LineMode::TRAPSIG, out),
            };
            assert!(asked.is_ok() || out.is_empty());
        });
    }

    fn deliver(&mut self, end: usize, count: usize) {
        let End { telnet, arriving, unread } = &mut self.ends[end];
        let count = count.min(arriving.len());
        unread.extend(arriving.drain(..count));
        let (mut input, mut out, mut told) = (&unread[..], Vec::new(), Vec::new());
        let mut inflates = false;
        while let Some(event) = telnet.next_event(&mut input, &mut out).expect("the other end keeps the rules") {
            match event {
                // Escaped text can never pass for a command.
                TelnetEvent::Command(command) => panic!("{command:?}"),
                TelnetEvent::WindowSize { columns, rows } => assert_eq!((columns, rows), (255, 0)),
                TelnetEvent::TerminalTypeAsked { round } => telnet
                    .terminal_type(megamux_telnet::terminal_name(&["A", "B"], round), &mut told)
                    .expect("the option is on when it is asked for"),
                TelnetEvent::EnvironmentAsked(names) => {
                    assert!(names.contains(VariableKind::Known, "USER"));
                    telnet
                        .environment(&[(VariableKind::Known, "USER", Some("joe"))], &mut told)
                        .expect("the option is on when it is asked for");
                }
                TelnetEvent::Inflated | TelnetEvent::CompressionBegan => inflates = true,
                _ => {}
            }
        }
        let left = input.len();
        assert!(inflates || out.len() <= unread.len() - left + usize::from(ANSWER_GRANT) + 3);
        unread.drain(..unread.len() - left);
        out.append(&mut told);
        telnet.seal(&mut out);
        self.ends[1 - end].arriving.extend(out);
    }

    fn settle(&mut self) {
        let mut rounds = 0;
        while self.ends.iter().any(|end| !end.arriving.is_empty()) {
            self.deliver(0, usize::MAX);
            self.deliver(1, usize::MAX);
            rounds += 1;
            assert!(rounds < 64, "the two ends keep each other talking");
        }
        let [server, client] = &self.ends;
        for option in TelnetOption::ALL {
            assert_eq!(server.telnet.is_on(Side::Local, option), client.telnet.is_on(Side::Remote, option));
            assert_eq!(server.telnet.is_on(Side::Remote, option), client.telnet.is_on(Side::Local, option));
        }
    }
}
