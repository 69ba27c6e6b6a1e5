//! What a hostile peer can make a connection cost.

mod peer;

use megamux_telnet::{
    ANSWER_GRANT, Charset, LineMode, MAX_LINE, MAX_SUBNEGOTIATION, Side, Support, Telnet, TelnetEvent, TelnetOption,
};
use peer::{Peer, Seeded, check_from};
use std::collections::VecDeque;

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Telnet>() <= 64, "{} bytes", size_of::<Telnet>());
}

/// Every option settled that a terminal or a MUD client settles at its start, and its name, size, environment and character
/// set told.
#[test]
fn a_settled_connection_holds_nothing_more() {
    let mut peer = Peer::new(Support::FULL_SERVER);
    peer.feed(b"\xff\xfd\x01\xff\xfd\x03\xff\xfb\x03\xff\xfb\x1f\xff\xfb\x18\xff\xfd\x2a\xff\xfb\x27\xff\xfd\xc9");
    let mut out = Vec::new();
    peer.telnet.ask_terminal_type(&mut out).unwrap();
    peer.telnet.ask_charset(&[Charset::Utf8], &mut out).unwrap();
    peer.telnet.ask_environment(&[], &mut out).unwrap();
    peer.feed(b"\xff\xfa\x1f\0\x50\0\x18\xff\xf0\xff\xfa\x18\0XTERM\xff\xf0\xff\xfa\x18\0MTTS 137\xff\xf0");
    for byte in
        b"\xff\xfa\x27\0\0USER\x01joe\xff\xf0\xff\xfa\x2a\x02UTF-8\xff\xf0\xff\xfa\xc9Core.Hello {}\xff\xf0who\r\n"
    {
        peer.feed(&[*byte]);
    }
    assert!(peer.told().ends_with("charset:UTF-8 gmcp:Core.Hello:{} text:who Newline"), "{}", peer.told());
    assert_eq!(peer.telnet.heap_bytes(), 0);
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
    assert_eq!(peer.telnet.heap_bytes(), 0);
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
    assert_eq!(peer.telnet.heap_bytes(), 0);
}

/// Both ends of every option on, so that every message means something.
fn all_on(server: bool) -> Peer {
    let support = if server { Support::FULL_SERVER } else { Support::CLIENT };
    let is_plain = |option: &TelnetOption| !matches!(option, TelnetOption::TimingMark | TelnetOption::Binary);
    let local = TelnetOption::ALL.into_iter().filter(|&option| support.local.contains(option)).filter(is_plain);
    let remote = TelnetOption::ALL.into_iter().filter(|&option| support.remote.contains(option)).filter(is_plain);
    let options: Vec<_> = local.map(|o| (Side::Local, o)).chain(remote.map(|o| (Side::Remote, o))).collect();
    if server { Peer::server(&options) } else { Peer::client(&options) }
}

/// The answers are bounded by the stream and a grant: every feed checks it.
#[test]
fn endless_input_of_each_kind_stays_within_the_limits() {
    let kinds: [&[u8]; 20] = [
        b"x",
        b"\xff\xff",
        b"\xff\xf1",
        b"x\xff\xf1",
        b"\xff\xfa\x18x\xff\xf0",
        b"\xff\xfa\x1fx\xff\xf1",
        b"\r\0",
        b"\xff\xfd\x06",             // a timing mark
        b"\xff\xfb\x18\xff\xfc\x18", // on and off
        b"\xff\xfd\x01\xff\xfe\x01",
        b"\xff\xfa\x05\x01\xff\xf0",             // all options
        b"\xff\xfa\x22\x03\x00\x02\x00\xff\xf0", // all special characters
        b"\xff\xfa\x22\x03\x03\x02\x03\x03\x02\x04\xff\xf0",
        b"\xff\xfa\x22\x03\xff\xff\x02\xff\xff\xff\xf0",
        b"\xff\xfa\x22\x01\x01\xff\xf0\xff\xfa\x22\x01\x02\xff\xf0",
        b"\xff\xfa\x22\xfd\x02\xff\xf0",
        b"\xff\xfa\x2a\x01\xff\xf0", // an offer of no character set
        b"\xff\xfa\x2a\x01;UTF-8\xff\xf0",
        b"\xff\xfa\x18\0\xff\xf0\xff\xfa\x18\x01\xff\xf0",
        b"\xff\xfa\x27\0\0\xff\xf0\xff\xfa\x27\x01\xff\xf0",
    ];
    for kind in kinds {
        for fresh in [&Peer::asking as &dyn Fn() -> Peer, &|| all_on(true), &|| all_on(false)] {
            let mut peer = fresh();
            let read = kind.repeat(1_000);
            for _ in 0..20 {
                assert!(peer.feed(&read));
                assert!(peer.unread().len() <= MAX_LINE);
                assert!(
                    peer.telnet.heap_bytes() <= 2 * MAX_LINE + 256,
                    "{} bytes after {}",
                    peer.telnet.heap_bytes(),
                    kind.escape_ascii()
                );
                peer.answers.clear();
            }
        }
    }
}

#[test]
fn long_answers_end_with_the_grant_and_come_back_with_the_stream() {
    for request in [&b"\xff\xfa\x05\x01\xff\xf0"[..], b"\xff\xfa\x22\x03\0\x02\0\xff\xf0"] {
        let mut peer = all_on(true);
        peer.feed(request);
        let answer_len = peer.answers.len();
        assert!(answer_len > 2 * request.len());
        peer.answers.clear();
        peer.feed(&request.repeat(1_000));
        assert!(peer.answers.len() <= 1_000 * request.len() + usize::from(ANSWER_GRANT));
        peer.answers.clear();
        peer.feed(&vec![b'x'; 4_096]);
        peer.feed(request);
        assert_eq!(peer.answers.len(), answer_len);
    }
}

/// The longest reply there is: thousands of keys in one message, each of which is answered.
#[test]
fn a_message_full_of_special_characters_is_answered_in_full() {
    let count = MAX_SUBNEGOTIATION / 3 - 1;
    let triplets: Vec<u8> = (0..count).flat_map(|at| [1 + (at % 254) as u8, 2, (at % 251) as u8]).collect();
    let mut peer = all_on(true);
    peer.feed(&[b"\xff\xfa\x22\x03", &triplets[..], b"\xff\xf0"].concat());
    assert_eq!(peer.answers.len(), triplets.len() + 6);
    assert!(peer.telnet.heap_bytes() <= 64, "{} bytes", peer.telnet.heap_bytes());
}

/// However much there is to answer, each request gets its answer: nothing here has a fixed size to overflow or to be full.
#[test]
fn no_answer_is_dropped_when_there_are_many() {
    let mut peer = all_on(true);
    let requests = b"\xff\xfd\x63\xff\xfb\x63".repeat(100_000);
    assert!(peer.feed(&requests));
    assert_eq!(peer.answers, b"\xff\xfc\x63\xff\xfe\x63".repeat(100_000));
}

#[test]
fn noise_in_every_option_is_the_same_noise_however_it_is_cut() {
    let pieces: Vec<&[u8]> = vec![
        b"\xff",
        b"\xff\xfa",
        b"\xff\xf0",
        b"\xff\xf0",
        b"\xff\xf0",
        b"\x18\0",
        b"\x18\x01",
        b"\x1f\0\x50\0\x18",
        b"\x22\x01",
        b"\x22\x03",
        b"\x22\xfd\x02",
        b"\x03\x02\x03",
        b"\0\x02\0",
        b"\x27\0",
        b"\x27\x01",
        b"\0A\x01b",
        b"\x2a\x01;UTF-8",
        b"\x2a\x02UTF-8",
        b"\x2a\x03",
        b"\x05\x01",
        b"\x05\0\xfb\x01",
        b"\xc9A {}",
        b"\x46\x01a\x02b",
        b"\xff\xfb",
        b"\xff\xfd",
        b"\xff\xfc",
        b"\xff\xfe",
        b"\x06",
        b"\x01",
        b"\x03",
        b"\0",
        b"\x22",
        b"text",
        b"\r\n",
        b"\r",
        b"\xff\xff",
        b"\xff\xf4",
        b"\xff\xef",
        b"MTTS 5",
        b"\xff\xfa\x22\x01",
    ];
    for seed in 0..300 {
        let mut random = Seeded::new(77_000 + seed);
        let noise: Vec<u8> = (0..40).flat_map(|_| pieces[random.below(pieces.len())]).copied().collect();
        let fresh = || {
            all_on(seed % 2 == 0).saying(|telnet, out| {
                let _ = telnet.ask_terminal_type(out);
                let _ = telnet.ask_charset(&[Charset::Utf8], out);
                let _ = telnet.timing_mark(out);
            })
        };
        let mut whole = fresh();
        whole.feed(&noise);
        let (told, answers) = (whole.told(), whole.answers);
        check_from(fresh, &noise, &told, &answers);
    }
}

/// Two of our own machines, whatever either asks for, and with any parameters put into the stream between them, never keep
/// each other talking.
#[test]
fn whatever_was_said_two_ends_fall_silent() {
    let begins: [&[u8]; 7] = [
        b"\xff\xfa\x22\x01",
        b"\xff\xfa\x22\x03",
        b"\xff\xfa\x2a",
        b"\xff\xfa\x18",
        b"\xff\xfa\x05",
        b"\xff\xfa\x27",
        b"\xff\xfa\x22",
    ];
    for seed in 0..1_000 {
        let mut random = Seeded::new(seed);
        let mut ends = [all_on(true).telnet, all_on(random.below(2) == 0).telnet];
        let mut towards = [VecDeque::new(), VecDeque::new()];
        for _ in 0..20 {
            let at = random.below(2);
            if random.below(4) > 0 {
                towards[at].extend(begins[random.below(begins.len())]);
                towards[at].extend((0..random.below(8)).map(|_| [0, 1, 2, 3, 31, 0x82, 0xfb, 0xfd][random.below(8)]));
                towards[at].extend([0xff, 0xf0]);
                continue;
            }
            let (mut out, option) = (Vec::new(), TelnetOption::ALL[random.below(TelnetOption::ALL.len())]);
            let side = [Side::Local, Side::Remote][random.below(2)];
            let _ = match random.below(5) {
                0 => ends[at].turn_on(side, option, &mut out),
                1 => ends[at].turn_off(side, option, &mut out),
                2 => ends[at].propose_line_mode(LineMode::EDIT, &mut out),
                3 => ends[at].ask_charset(&[Charset::Ascii], &mut out),
                _ => ends[at].ask_terminal_type(&mut out),
            };
            towards[1 - at].extend(out);
        }
        let mut steps = 0;
        while towards.iter().any(|bytes| !bytes.is_empty()) {
            for at in 0..2 {
                let bytes: Vec<u8> = towards[at].drain(..).collect();
                let (mut input, mut out) = (&bytes[..], Vec::new());
                while let Some(event) = ends[at].next_event(&mut input, &mut out).expect("none compresses") {
                    // A client that answers what it is asked.
                    if let TelnetEvent::TerminalTypeAsked { .. } = event {
                        let _ = ends[at].terminal_type("XTERM", &mut out);
                    }
                }
                towards[1 - at].extend(out);
            }
            steps += 1;
            assert!(steps < 100, "seed {seed}: the two ends keep each other talking");
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
