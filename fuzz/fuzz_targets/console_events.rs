//! The events of the console, as bytes from another process: decoding never panics, and what decodes encodes to the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use megamux_event::Event;
use megamux_telnet::console::{CommandEntered, CompletionOffered, CompletionWanted, Notice, RegisterCommand, Reply};

fuzz_target!(|input: &[u8]| {
    round_trip::<RegisterCommand>(input);
    round_trip::<CommandEntered>(input);
    round_trip::<Reply>(input);
    round_trip::<CompletionWanted>(input);
    round_trip::<CompletionOffered>(input);
    round_trip::<Notice>(input);
});

fn round_trip<E: Event>(input: &[u8]) {
    if let Ok(event) = E::decode(input) {
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        assert_eq!(bytes, input, "one event, two encodings");
    }
}
