//! What a hostile peer can make a connection cost.

mod peer;

use megamux_telnet::{MAX_LINE, MAX_SUBNEGOTIATION, Support, Telnet};
use peer::Peer;

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Telnet>() <= 48, "{} bytes", size_of::<Telnet>());
}

#[test]
fn a_flood_of_every_request_for_every_option_leaves_no_state() {
    let mut peer = Peer::new(Support::NONE);
    let mut flood = Vec::new();
    for option in 0..=u8::MAX {
        for verb in 0xfb..=0xfe {
            flood.extend_from_slice(&[0xff, verb, option]);
        }
    }
    for _ in 0..10 {
        peer.answers.clear();
        assert!(peer.feed(&flood));
        assert_eq!(peer.answers.len(), flood.len() / 2, "WILL and DO are refused, WONT and DONT ignored");
    }
    assert_eq!(peer.told(), "");
    assert!(format!("{:?}", peer.telnet).contains("held: Held(None)"));
}

#[test]
fn nothing_is_held_once_nothing_is_incomplete() {
    let mut peer = Peer::asking();
    for read in [
        &b"ab\xff\xf1"[..],
        b"cd\r\nhalf",
        b"\xff\xff a line\n\xff\xfb\x1f\xff\xfa\x1f\0\x50",
        b"\0\x18\xff\xf0",
        b"gone\xff\xf8",
        b"ab\xff\xfd\x01\xff\xfd\x03",
    ] {
        peer.feed(read);
    }
    assert_eq!(peer.unread(), b"");
    assert!(format!("{:?}", peer.telnet).contains("held: Held(None)"), "{:?}", peer.telnet);
}

#[test]
fn endless_input_of_each_kind_stays_within_the_limits() {
    let kinds: [&[u8]; 7] =
        [b"x", b"\xff\xff", b"\xff\xf1", b"x\xff\xf1", b"\xff\xfa\x18x\xff\xf0", b"\xff\xfa\x1fx\xff\xf1", b"\r\0"];
    for kind in kinds {
        let mut peer = Peer::asking();
        let read = kind.repeat(1_000);
        for _ in 0..100 {
            assert!(peer.feed(&read));
            assert!(peer.unread().len() <= MAX_LINE);
            peer.answers.clear();
        }
    }
}

#[test]
fn a_subnegotiation_without_end_is_an_error_wherever_it_is_cut() {
    for read_len in [1, 7, 1_024, 65_536] {
        let mut peer = Peer::new(Support::SERVER);
        peer.feed(b"\xff\xfa\x1f");
        let read = vec![0; read_len];
        let mut taken = 0;
        while peer.feed(&read) {
            taken += read_len;
            assert!(taken <= MAX_SUBNEGOTIATION);
        }
        assert!(taken + read_len > MAX_SUBNEGOTIATION);
    }
}

/// A slow sender makes each read rescan nothing: a line that arrives byte by byte, whose unread part is presented again each
/// time, takes as many looks as it has bytes. Shown by planting a line feed where the decoder has already been.
#[test]
fn what_was_searched_is_not_searched_again() {
    let mut telnet = Telnet::new(Support::SERVER);
    let mut out = Vec::new();
    assert_eq!(telnet.next_event(&mut &b"searched"[..], &mut out), Ok(None));
    assert_eq!(telnet.next_event(&mut &b"sea\nched on"[..], &mut out), Ok(None));
}
