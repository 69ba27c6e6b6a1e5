//! Any bytes, cut anywhere, give either end the events and answers the same bytes give whole, within every bound.
//!
//! Layout of the input: one byte that seeds the cuts, one that says which end hears (see [`End`]), then what the peer sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use megamux_telnet::{ANSWER_GRANT, Charset, MAX_LINE, Side, Support, Telnet, TelnetError, TelnetEvent, TelnetOption};

fuzz_target!(|data: &[u8]| {
    let [seed, end, stream @ ..] = data else {
        return;
    };
    let end = End(*end);
    let whole = decode(end, stream, |_| stream.len());
    let mut cut = u32::from(*seed) | 1;
    let parts = decode(end, stream, |left| {
        cut ^= cut << 13;
        cut ^= cut >> 17;
        cut ^= cut << 5;
        1 + cut as usize % left.min(1 + usize::from(*seed))
    });
    // How much of a compressed stream is told before a bomb or damage is found depends on how far each read inflates.
    if !whole.is_spoiled && !parts.is_spoiled {
        assert_eq!(whole, parts);
    }
    assert!(whole.inflates || whole.answers.len() <= stream.len() + usize::from(ANSWER_GRANT));
});

/// What more events show, fewer do too, and a compressed stream can make very many.
const MAX_EVENTS: usize = 1_000;

/// Who hears: bit 0 a client, bit 1 with every option on, bit 2 with a question of each kind open.
#[derive(Clone, Copy)]
struct End(u8);

impl End {
    fn telnet(self) -> Telnet {
        let (support, mut telnet) = match self.0 & 1 {
            0 => (Support::FULL_SERVER, Telnet::new(Support::FULL_SERVER)),
            _ => (Support::CLIENT, Telnet::client(Support::CLIENT)),
        };
        let mut out = Vec::new();
        telnet.will_echo(&mut out).expect("nothing was asked");
        telnet.will_suppress_go_ahead(&mut out).expect("nothing was asked");
        if self.0 & 2 != 0 {
            let options = TelnetOption::ALL.into_iter();
            for option in options.filter(|option| !matches!(option, TelnetOption::Binary | TelnetOption::TimingMark)) {
                for (set, verb) in [(support.local, 0xfd), (support.remote, 0xfb)] {
                    if set.contains(option) {
                        let agreement = [0xff, verb, option.code()];
                        telnet.next_event(&mut &agreement[..], &mut out).expect("an agreement");
                    }
                }
            }
        }
        if self.0 & 4 != 0 {
            let _ = telnet.ask_terminal_type(&mut out);
            let _ = telnet.ask_charset(&[Charset::Utf8], &mut out);
            let _ = telnet.timing_mark(&mut out);
            let _ = telnet.turn_off(Side::Local, TelnetOption::Status, &mut out);
        }
        telnet
    }
}

#[derive(Debug, Default, PartialEq)]
struct Decoded {
    events: Vec<String>,
    text: Vec<u8>,
    answers: Vec<u8>,
    inflates: bool,
    is_spoiled: bool,
}

impl Decoded {
    /// Text that arrives in pieces is one text, and progress is none.
    fn tell(&mut self, event: &TelnetEvent<'_>) {
        match event {
            TelnetEvent::Text(more) => return self.text.extend_from_slice(more),
            TelnetEvent::Inflated => return,
            TelnetEvent::CompressionBegan => self.inflates = true,
            TelnetEvent::Environment(variables) => {
                variables.iter().for_each(|variable| drop(format!("{variable:?}")));
            }
            TelnetEvent::EnvironmentAsked(names) => names.iter().for_each(|name| drop(format!("{name:?}"))),
            TelnetEvent::SpecialCharacters(characters) => assert!(characters.iter().count() <= 6_000),
            TelnetEvent::Status(report) => assert!(report.iter().count() <= 10_000),
            TelnetEvent::ServerStatus(table) => assert!(table.iter().count() <= 20_000),
            TelnetEvent::Gmcp(message) => assert!(message.package().len() + message.data().len() <= 20_000),
            _ => {}
        }
        self.end_text();
        self.events.push(format!("{event:?}"));
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.events.push(format!("{text:?}"));
        }
    }
}

/// Decodes `stream` in reads of the length that `next_len` gives for what is left.
fn decode(end: End, stream: &[u8], mut next_len: impl FnMut(usize) -> usize) -> Decoded {
    let mut decoded = Decoded::default();
    let mut telnet = end.telnet();
    let (mut read, mut unread) = (0, 0);
    while read < stream.len() {
        read += next_len(stream.len() - read);
        let mut input = &stream[unread..read];
        loop {
            match telnet.next_event(&mut input, &mut decoded.answers) {
                Ok(Some(event)) => {
                    decoded.tell(&event);
                    if decoded.events.len() == MAX_EVENTS {
                        return decoded;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    decoded.end_text();
                    decoded.is_spoiled = matches!(error, TelnetError::InflateBomb | TelnetError::CorruptCompression);
                    decoded.events.push(error.to_string());
                    return decoded;
                }
            }
        }
        assert!(input.len() <= MAX_LINE);
        assert!(telnet.heap_bytes() <= 160 * 1024);
        unread = read - input.len();
    }
    decoded.end_text();
    decoded
}
