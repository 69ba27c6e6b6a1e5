//! Any bytes as one connection's requests.
//!
//! Oracle: nothing panics, no step takes more than there is, no body exceeds what was announced or allowed, and the
//! same bytes give the same requests, bodies and error whole, byte by byte and at cuts drawn from their own hash.
#![no_main]

use std::hash::{DefaultHasher, Hash, Hasher};

use libfuzzer_sys::fuzz_target;
use megamux_http::{DEFAULT_MAX_BODY_BYTES, Decoded, Decoder, HttpError, MAX_HEAD_BYTES, Response};

fuzz_target!(|input: &[u8]| {
    let whole = feed(input, |_| input.len());
    assert_eq!(feed(input, |end| end + 1), whole);
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    assert_eq!(
        feed(input, |end| {
            end.hash(&mut hasher);
            end + 1 + (hasher.finish() % 40) as usize
        }),
        whole
    );
});

#[derive(Debug, PartialEq)]
struct Outcome {
    /// Every request as text, with all that its view can say.
    requests: Vec<String>,
    bodies: Vec<Vec<u8>>,
    error: Option<HttpError>,
    unread: usize,
}

/// Feeds `input` in pieces, each ending where `next_end` says, given the end of the last.
fn feed(input: &[u8], mut next_end: impl FnMut(usize) -> usize) -> Outcome {
    let mut decoder = Decoder::new();
    let mut outcome = Outcome { requests: vec![], bodies: vec![], error: None, unread: 0 };
    let (mut at, mut end) = (0, 0);
    loop {
        match decoder.decode(&input[at..end]) {
            Ok(Decoded::NeedMore) => {
                assert!(end - at < MAX_HEAD_BYTES);
                if end == input.len() {
                    break;
                }
                end = next_end(end).min(input.len());
            }
            Ok(Decoded::Request { consumed, request }) => {
                at += consumed;
                assert!(request.body_bytes <= DEFAULT_MAX_BODY_BYTES);
                let headers: Vec<_> = request.headers.iter().collect();
                outcome.requests.push(format!(
                    "{request:?} {headers:?} {:?} {:?} {} {:?}",
                    request.path(),
                    request.query(),
                    request.wants_upgrade("websocket"),
                    request.reply_to(),
                ));
                outcome.bodies.push(Vec::with_capacity(request.body_bytes));
            }
            Ok(Decoded::Body { consumed, bytes, remaining }) => {
                at += consumed;
                assert!(consumed == bytes.len() && consumed > 0);
                let body = outcome.bodies.last_mut().unwrap();
                body.extend_from_slice(bytes);
                assert!(body.len() + remaining <= DEFAULT_MAX_BODY_BYTES);
            }
            Ok(Decoded::Finished { consumed }) => at += consumed,
            Err(error) => {
                let mut answer = Vec::new();
                Response::refuse(&mut answer, error);
                assert!(answer.starts_with(b"HTTP/1.1 "));
                outcome.error = Some(error);
                return outcome;
            }
        }
    }
    outcome.unread = input.len() - at;
    outcome
}
