//! Any bytes, cut anywhere, give the events and answers the same bytes give whole.
//!
//! Layout of the input: one byte that seeds the cuts, then what the peer sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use megamux_telnet::{MAX_LINE, Support, Telnet, TelnetEvent};

fuzz_target!(|data: &[u8]| {
    let Some((&seed, stream)) = data.split_first() else {
        return;
    };
    let whole = decode(stream, |_| stream.len());
    let mut cut = u32::from(seed) | 1;
    let parts = decode(stream, |left| {
        cut ^= cut << 13;
        cut ^= cut >> 17;
        cut ^= cut << 5;
        1 + cut as usize % left.min(1 + usize::from(seed))
    });
    assert_eq!(whole, parts);
    assert!(whole.answers.len() <= stream.len());
});

#[derive(Debug, Default, PartialEq)]
struct Decoded {
    events: Vec<String>,
    text: Vec<u8>,
    answers: Vec<u8>,
}

impl Decoded {
    /// Text that arrives in pieces is one text.
    fn tell(&mut self, event: &TelnetEvent<'_>) {
        if let TelnetEvent::Text(more) = event {
            self.text.extend_from_slice(more);
            return;
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
fn decode(stream: &[u8], mut next_len: impl FnMut(usize) -> usize) -> Decoded {
    let mut decoded = Decoded::default();
    let mut telnet = Telnet::new(Support::SERVER);
    telnet.will_echo(&mut Vec::new()).expect("nothing was asked");
    telnet.will_suppress_go_ahead(&mut Vec::new()).expect("nothing was asked");
    let (mut read, mut unread) = (0, 0);
    while read < stream.len() {
        read += next_len(stream.len() - read);
        let mut input = &stream[unread..read];
        loop {
            match telnet.next_event(&mut input, &mut decoded.answers) {
                Ok(Some(event)) => decoded.tell(&event),
                Ok(None) => break,
                Err(error) => {
                    decoded.end_text();
                    decoded.events.push(error.to_string());
                    return decoded;
                }
            }
        }
        assert!(input.len() <= MAX_LINE);
        unread = read - input.len();
    }
    decoded.end_text();
    decoded
}
