//! Every legal form and every malformed one, by table, each at every cut.
//!
//! `check` feeds an input whole and cut at every byte and asserts one answer for all, so no table needs to repeat it.

use megamux_proxy::{
    Checksum, Decoder, EncodeError, Header, MAX_V1_BYTES, Origin, ProxyError, Status, Tlv, Transport, Version,
    encode_v1, encode_v2,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn inet(transport: Transport, source: &str, destination: &str) -> Origin {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Origin::Inet { transport, source, destination }
}

fn inet6(transport: Transport, source: &str, destination: &str) -> Origin {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Origin::Inet6 { transport, source, destination }
}

/// Decodes as a connection would: ever longer prefixes, until an answer.
fn decode_growing(decoder: &Decoder, input: &[u8], steps: impl Iterator<Item = usize>) -> Result<Status, ProxyError> {
    for len in steps {
        match decoder.decode(&input[..len]) {
            Ok(Status::NeedMore) => {}
            answer => return answer,
        }
    }
    decoder.decode(input)
}

#[track_caller]
fn check_with(decoder: &Decoder, input: &[u8], expect: Result<Status, ProxyError>) {
    let shown = input.escape_ascii();
    assert_eq!(decoder.decode(input), expect, "whole: {shown}");
    assert_eq!(decode_growing(decoder, input, 0..input.len()), expect, "byte by byte: {shown}");
    for cut in 0..input.len() {
        assert_eq!(decode_growing(decoder, input, [cut].into_iter()), expect, "cut at {cut}: {shown}");
    }
}

#[track_caller]
fn check(input: &[u8], expect: Result<Status, ProxyError>) {
    check_with(&Decoder::new(), input, expect);
}

#[track_caller]
fn accepts(header: &[u8], version: Version, origin: Origin) {
    let expect = Ok(Status::Done { consumed: header.len(), header: Header { version, origin } });
    check(header, expect);
    // What follows belongs to the client, even where it looks like another header.
    check(&[header, b"PROXY \r\n\r\n\0".as_slice()].concat(), expect);
}

#[track_caller]
fn refuses(input: &[u8], error: ProxyError) {
    check(input, Err(error));
}

/// A version 2 header of the given bytes 13 and 14 and block, its length right.
fn v2(command: u8, form: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, form], &length, block].concat()
}

#[test]
fn v1_takes_every_legal_line() {
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let v6_line = format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n");
    let unknown_line = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
    assert_eq!(unknown_line.len(), MAX_V1_BYTES);
    let tcp = Transport::Stream;
    let table: &[(&[u8], Origin)] = &[
        (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", inet(tcp, "192.168.0.1:56324", "192.168.0.11:443")),
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            inet(tcp, "255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", inet(tcp, "0.0.0.0:0", "0.0.0.0:0")),
        (b"PROXY TCP6 ::1 2001:DB8::2 1 2\r\n", inet6(tcp, "[::1]:1", "[2001:db8::2]:2")),
        (b"PROXY TCP6 ::ffff:192.0.2.1 :: 1 2\r\n", inet6(tcp, "[::ffff:192.0.2.1]:1", "[::]:2")),
        (v6_line.as_bytes(), inet6(tcp, &format!("[{longest}]:65535"), &format!("[{longest}]:65535"))),
        (b"PROXY UNKNOWN\r\n", Origin::Unknown),
        (b"PROXY UNKNOWN \r\n", Origin::Unknown),
        (b"PROXY UNKNOWN what \xff\0ever\r\n", Origin::Unknown),
        (unknown_line.as_bytes(), Origin::Unknown),
    ];
    for (line, origin) in table {
        accepts(line, Version::V1, *origin);
    }
}

#[test]
fn v1_names_what_is_wrong_with_a_line() {
    use ProxyError::*;
    let table: &[(&[u8], ProxyError)] = &[
        (b"PROXY \r\n", UnknownProtocol),
        (b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", UnknownProtocol),
        (b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", UnknownProtocol),
        (b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", UnknownProtocol),
        (b"PROXY TCP4\t1.2.3.4 5.6.7.8 1 2\r\n", UnknownProtocol),
        (b"PROXY UNKNOWNS\r\n", UnknownProtocol),
        (b"PROXY TCP4\r\n", MissingField),
        (b"PROXY TCP4 1.2.3.4\r\n", MissingField),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8\r\n", MissingField),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", MissingField),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", ExtraField),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", ExtraField),
        (b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", BadSource),
        (b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", BadSource),
        (b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", BadSource),
        (b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n", BadSource),
        (b"PROXY TCP4 1.2.3.\xff 5.6.7.8 1 2\r\n", BadSource),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", BadSource),
        (b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", BadSource),
        (b"PROXY TCP6 1::2::3 ::1 1 2\r\n", BadSource),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", BadSource),
        (b"PROXY TCP6 [::1] ::1 1 2\r\n", BadSource),
        (b"PROXY TCP4 1.2.3.4 host 1 2\r\n", BadDestination),
        (b"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", BadDestination),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", BadSourcePort),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", BadSourcePort),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", BadSourcePort),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8  1 2\r\n", BadSourcePort),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 -2\r\n", BadDestinationPort),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 00\r\n", BadDestinationPort),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", BareLf),
        (b"PROXY UNKNOWN\n\r\n", BareLf),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rGET", BareCr),
        (b"PROXY UNKNOWN\r\r\n", BareCr),
    ];
    for (line, error) in table {
        refuses(line, *error);
    }
}

#[test]
fn v1_ends_within_107_bytes() {
    let line = |filler: usize| [b"PROXY UNKNOWN ".as_slice(), &vec![b'x'; filler], b"\r\n"].concat();
    accepts(&line(MAX_V1_BYTES - 16), Version::V1, Origin::Unknown);
    refuses(&line(MAX_V1_BYTES - 15), ProxyError::LineTooLong); // the CR is byte 107
    refuses(&line(MAX_V1_BYTES - 14), ProxyError::LineTooLong);
    refuses(&line(100_000), ProxyError::LineTooLong);
    assert_eq!(Decoder::new().decode(&line(1000)[..MAX_V1_BYTES - 1]), Ok(Status::NeedMore));
}

#[test]
fn anything_else_is_refused_at_its_first_differing_byte() {
    for prefix in [b"PROXY ".as_slice(), SIGNATURE] {
        for at in 0..prefix.len() {
            assert_eq!(Decoder::new().decode(&prefix[..at]), Ok(Status::NeedMore));
            let mut other = prefix[..=at].to_vec();
            other[at] ^= 0x20;
            refuses(&other, ProxyError::NotProxy);
        }
    }
    for stranger in [b"GET / HTTP/1.1\r\n".as_slice(), b"\x16\x03\x01", b"proxy TCP4", b"\0", b"PROXY\r\n"] {
        refuses(stranger, ProxyError::NotProxy);
    }
}

#[test]
fn v2_takes_every_legal_form() {
    let (tcp, udp) = (Transport::Stream, Transport::Datagram);
    let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x01, 0xbb];
    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[33] = 80;
    v6[35] = 81;
    let tlvs = b"\x02\0\x0bexample.com\x04\0\0\xe0\0\x01x";
    let with_tlvs = [v4.as_slice(), tlvs].concat();
    let v4_of = |transport| inet(transport, "192.0.2.1:56324", "192.0.2.2:443");
    let v6_of = |transport| inet6(transport, "[::1]:80", "[::2]:81");
    let unix = [b'/'; 216];
    let table: &[(u8, u8, &[u8], Origin)] = &[
        (0x21, 0x11, &v4, v4_of(tcp)),
        (0x21, 0x12, &v4, v4_of(udp)),
        (0x21, 0x21, &v6, v6_of(tcp)),
        (0x21, 0x22, &v6, v6_of(udp)),
        (0x21, 0x31, &unix, Origin::Unix { transport: tcp }),
        (0x21, 0x32, &unix, Origin::Unix { transport: udp }),
        (0x21, 0x11, &with_tlvs, v4_of(tcp)),
        // Unspecified family or transport: the block is skipped, whatever it is.
        (0x21, 0x00, b"", Origin::Unknown),
        (0x21, 0x00, b"\xff\xff", Origin::Unknown),
        (0x21, 0x01, b"", Origin::Unknown),
        (0x21, 0x10, b"\x03\x00", Origin::Unknown),
        // LOCAL: the block and even the family are ignored, the length is not.
        (0x20, 0x00, b"", Origin::Local),
        (0x20, 0x11, &v4, Origin::Local),
        (0x20, 0x11, b"short", Origin::Local),
        (0x20, 0xff, b"any", Origin::Local),
    ];
    for (command, form, block, origin) in table {
        accepts(&v2(*command, *form, block), Version::V2, *origin);
    }
}

#[test]
fn v2_names_what_is_wrong_with_a_header() {
    use ProxyError::*;
    let v4_and = |tlvs: &[u8]| [&[0; 12], tlvs].concat();
    let good_sum: &[u8] = b"\x03\0\x04\0\0\0\0";
    let table: &[(u8, u8, Vec<u8>, ProxyError)] = &[
        (0x11, 0x11, vec![], UnsupportedVersion(1)),
        (0x31, 0x11, vec![], UnsupportedVersion(3)),
        (0x01, 0x11, vec![], UnsupportedVersion(0)),
        (0x22, 0x11, vec![], UnknownCommand(2)),
        (0x2f, 0x11, vec![], UnknownCommand(15)),
        (0x21, 0x41, vec![], UnknownFamily(4)),
        (0x21, 0xf3, vec![], UnknownFamily(15)),
        (0x21, 0x13, vec![], UnknownTransport(3)),
        (0x21, 0x0f, vec![], UnknownTransport(15)),
        (0x21, 0x11, vec![], AddressTruncated),
        (0x21, 0x11, vec![0; 11], AddressTruncated),
        (0x21, 0x22, vec![0; 35], AddressTruncated),
        (0x21, 0x31, vec![0; 215], AddressTruncated),
        (0x21, 0x11, v4_and(b"\x04"), TlvTruncated),
        (0x21, 0x11, v4_and(b"\x04\0"), TlvTruncated),
        (0x21, 0x11, v4_and(b"\x04\0\x01"), TlvTruncated),
        (0x21, 0x11, v4_and(b"\x04\xff\xff"), TlvTruncated),
        (0x21, 0x11, v4_and(b"\x03\0\x03abc"), BadChecksumLength),
        (0x21, 0x11, v4_and(b"\x03\0\0"), BadChecksumLength),
        (0x21, 0x11, v4_and(good_sum), ChecksumMismatch),
        (0x21, 0x11, v4_and(&[good_sum, good_sum].concat()), DuplicateChecksum),
    ];
    for (command, form, block, error) in table {
        refuses(&v2(*command, *form, block), *error);
    }
}

#[test]
fn v2_is_bounded_by_the_limit_before_its_bytes_are_awaited() {
    let decoder = Decoder::with_max_v2_bytes(16 + 20);
    let fits = v2(0x20, 0, &[0; 20]);
    let header = Header { version: Version::V2, origin: Origin::Local };
    check_with(&decoder, &fits, Ok(Status::Done { consumed: 36, header }));
    let over = v2(0x20, 0, &[0; 21]);
    let error = Err(ProxyError::HeaderTooLong { bytes: 37, limit: 36 });
    check_with(&decoder, &over, error);
    assert_eq!(decoder.decode(&over[..16]), error);
}

#[test]
fn v2_checksum_covers_every_byte() {
    let origin = inet(Transport::Stream, "192.0.2.1:56324", "192.0.2.2:443");
    let mut wire = Vec::new();
    let tlv = Tlv { kind: 0x02, value: b"example.com" };
    encode_v2(&origin, &[tlv], Checksum::Append, &mut wire).unwrap();
    accepts(&wire, Version::V2, origin);
    // From the addresses on, as a flip before may make it a header whose block is ignored, and without the byte that
    // makes the last TLV a checksum.
    let kind_at = wire.len() - 7;
    for at in (16..wire.len()).filter(|&at| at != kind_at) {
        let mut torn = wire.clone();
        torn[at] ^= 1;
        assert!(Decoder::new().decode(&torn).is_err(), "flipped byte {at}");
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let (tcp, udp) = (Transport::Stream, Transport::Datagram);
    let origins = [
        Origin::Local,
        Origin::Unknown,
        inet(tcp, "192.0.2.1:1", "192.0.2.2:65535"),
        inet(udp, "192.0.2.1:1", "192.0.2.2:65535"),
        inet6(tcp, "[2001:db8::1]:1", "[::ffff:192.0.2.2]:65535"),
        inet6(udp, "[2001:db8::1]:1", "[2001:db8::2]:65535"),
        Origin::Unix { transport: tcp },
        Origin::Unix { transport: udp },
    ];
    for origin in origins {
        let mut line = Vec::new();
        encode_v1(&origin, &mut line);
        let text_can_say_it = matches!(
            origin,
            Origin::Inet { transport: Transport::Stream, .. } | Origin::Inet6 { transport: Transport::Stream, .. }
        );
        accepts(&line, Version::V1, if text_can_say_it { origin } else { Origin::Unknown });

        for checksum in [Checksum::Omit, Checksum::Append] {
            let mut wire = Vec::new();
            encode_v2(&origin, &[Tlv { kind: 0xe0, value: b"private" }], checksum, &mut wire).unwrap();
            accepts(&wire, Version::V2, origin);
        }
    }
}

#[test]
fn a_header_too_long_to_say_is_not_written() {
    let mut out = b"kept".to_vec();
    let value = vec![0; 65_535];
    let tlv = Tlv { kind: 0xe0, value: &value };
    assert_eq!(encode_v2(&Origin::Local, &[tlv], Checksum::Omit, &mut out), Err(EncodeError::TooLong));
    assert_eq!(out, b"kept");
    let tlv = Tlv { kind: 0xe0, value: &value[..65_532] };
    encode_v2(&Origin::Local, &[tlv], Checksum::Omit, &mut out).unwrap();
    let decoder = Decoder::with_max_v2_bytes(usize::MAX);
    assert!(matches!(decoder.decode(&out[4..]), Ok(Status::Done { consumed: 65_551, .. })));
}
