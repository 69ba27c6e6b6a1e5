//! Any bytes as the start of a proxied connection.
//!
//! Oracle: nothing panics, no header is awaited beyond the limits, every cut of the same bytes gives the same answer, and
//! what was decoded survives encoding and decoding again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megamux_proxy::{
    Checksum, DEFAULT_MAX_V2_BYTES, Decoder, Header, ProxyError, Status, Version, encode_v1, encode_v2,
};

fuzz_target!(|input: &[u8]| {
    let decoder = Decoder::new();
    let whole = decoder.decode(input);
    assert_eq!(byte_by_byte(&decoder, input), whole);
    match whole {
        Ok(Status::NeedMore) => assert!(input.len() < DEFAULT_MAX_V2_BYTES),
        Ok(Status::Done { consumed, header }) => {
            assert!(consumed <= input.len());
            survives(&decoder, header);
        }
        Err(_) => {}
    }
});

fn byte_by_byte(decoder: &Decoder, input: &[u8]) -> Result<Status, ProxyError> {
    for len in 0..input.len().min(DEFAULT_MAX_V2_BYTES) {
        match decoder.decode(&input[..len]) {
            Ok(Status::NeedMore) => {}
            answer => return answer,
        }
    }
    decoder.decode(input)
}

fn survives(decoder: &Decoder, header: Header) {
    let mut wire = Vec::new();
    match header.version {
        Version::V1 => encode_v1(&header.origin, &mut wire),
        Version::V2 => encode_v2(&header.origin, &[], Checksum::Append, &mut wire).unwrap(),
    }
    assert_eq!(decoder.decode(&wire), Ok(Status::Done { consumed: wire.len(), header }));
}
