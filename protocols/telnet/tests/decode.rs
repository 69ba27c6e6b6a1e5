//! What comes of each message, whole and cut in every way.

mod peer;

use megamux_telnet::{MAX_LINE, MAX_SUBNEGOTIATION, Support, Telnet, TelnetEvent};
use peer::{Peer, Seeded, check_from};

/// Checks a message against a server that has asked for nothing, whole and cut.
#[track_caller]
fn check(input: &[u8], told: &str, answers: &[u8]) {
    check_from(|| Peer::new(Support::SERVER), input, told, answers);
}

/// Checks a message against a server that has asked for character mode and the window's size.
#[track_caller]
fn check_asking(input: &[u8], told: &str, answers: &[u8]) {
    check_from(Peer::asking, input, told, answers);
}

fn repeat(byte: u8, count: usize) -> Vec<u8> {
    vec![byte; count]
}

#[test]
fn lines_end_in_every_way_a_terminal_ends_them() {
    check(b"", "", b"");
    check(b"no end", "", b"");
    check(b"a\r\nb\r\n", "line:a line:b", b"");
    check(b"a\r\0b\r\0", "line:a line:b", b"");
    check(b"a\nb\n", "line:a line:b", b"");
    check(b"a\rb\r", "line:a line:b", b"");
    check(b"\r\n\r\0\n\r", "line: line: line: line:", b"");
    check(b"a\n\rb\n", "line:a line: line:b", b"");
    check(b"a\0b\r\n", "line:a\\x00b", b"");
    check(b"\x1b[31m\xc3\xbc\r\n", "line:\\x1b[31m\\xc3\\xbc", b"");
}

#[test]
fn a_command_stands_anywhere() {
    check(b"\xff\xf1\xff\xf6", "NoOperation AreYouThere", b"");
    check(b"ab\xff\xf6cd\r\n", "AreYouThere line:abcd", b"");
    check(b"\xff\xf4ab\r\n", "InterruptProcess line:ab", b"");
    check(b"ab\r\xff\xf3\ncd\n", "line:ab Break line:cd", b"");
    check(b"ab\r\xff\xff\n", "line:ab line:\\xff", b"");
    check(
        b"\xff\xec\xff\xed\xff\xee\xff\xef\xff\xf2\xff\xf5\xff\xf9",
        "EndOfFile Suspend Abort DataMark AbortOutput GoAhead", // end of record is none without its option
        b"",
    );
}

#[test]
fn a_doubled_iac_is_data() {
    check(b"\xff\xff\r\n", "line:\\xff", b"");
    check(b"a\xff\xffb\xff\xff\xff\xf1c\n", "NoOperation line:a\\xffb\\xffc", b"");
}

#[test]
fn an_unknown_command_is_dropped() {
    check(b"a\xff\x00b\xff\xf0c\xff\xebd\n", "line:abcd", b"");
}

#[test]
fn erasing_works_on_the_line_so_far() {
    check(b"abx\xff\xf7c\n", "EraseCharacter line:abc", b"");
    check(b"a\xc3\xbc\xff\xf7b\n", "EraseCharacter line:ab", b"");
    check(b"gone\xff\xf8kept\n", "EraseLine line:kept", b"");
    check(b"\xff\xf7\xff\xf8a\n", "EraseCharacter EraseLine line:a", b"");
    check(b"first\n\xff\xf8second\n", "line:first EraseLine line:second", b"");
}

#[test]
fn a_line_may_be_just_so_long() {
    let longest = repeat(b'x', MAX_LINE);
    let told = format!("line:{} line:next", longest.escape_ascii());
    check(&[&longest[..], b"\r\nnext\n"].concat(), &told, b"");

    let held = [&longest[1..], b"\xff\xff\r\n"].concat();
    let told = format!("line:{}\\xff", longest[1..].escape_ascii());
    check(&held, &told, b"");
}

#[test]
fn an_overlong_line_is_refused_and_the_session_lives_on() {
    let overlong = repeat(b'x', MAX_LINE + 1);
    check(&[&overlong[..], b"\r\nnext\n"].concat(), "LineTooLong line:next", b"");
    check(&[&overlong[..], b"more and more"].concat(), "LineTooLong", b"");
    // Commands inside the refused line still count, before and after the limit.
    check(
        &[b"x\xff\xf1", &overlong[1..], b"\xff\xf6x\xff\xff\xff\xfd\x63\nnext\n"].concat(),
        "NoOperation LineTooLong AreYouThere line:next",
        b"\xff\xfc\x63",
    );
    check(&[&overlong[1..], b"\xff\xf1\xff\xff\nnext\n"].concat(), "NoOperation LineTooLong line:next", b"");
    check(&[&overlong[1..], b"\xff\xf1xy\nnext\n"].concat(), "NoOperation LineTooLong line:next", b"");
    // Erasing makes room again.
    check(&[&overlong[1..], b"\xff\xf8next\n"].concat(), "EraseLine line:next", b"");
}

#[test]
fn what_is_not_supported_is_refused() {
    check(b"\xff\xfd\x18\xff\xfb\x18", "", b"\xff\xfc\x18\xff\xfe\x18");
    check(b"\xff\xfd\xff\xff\xfb\xff", "", b"\xff\xfc\xff\xff\xfe\xff");
    check(b"\xff\xfd\x1f\xff\xfb\x01", "", b"\xff\xfc\x1f\xff\xfe\x01"); // known, but not on that side
    check(b"\xff\xfe\x18\xff\xfc\x18\xff\xfe\x01\xff\xfc\x1f", "", b""); // off already
}

#[test]
fn what_the_peer_asks_for_and_we_support_is_agreed() {
    check(b"\xff\xfd\x03", "on:Local:SuppressGoAhead", b"\xff\xfb\x03");
    check(b"\xff\xfb\x03", "on:Remote:SuppressGoAhead", b"\xff\xfd\x03");
    check(b"\xff\xfd\x03\xff\xfd\x03", "on:Local:SuppressGoAhead", b"\xff\xfb\x03");
    check(b"\xff\xfb\x1f\xff\xfc\x1f", "on:Remote:WindowSize off:Remote:WindowSize", b"\xff\xfd\x1f\xff\xfe\x1f");
}

#[test]
fn the_window_has_a_size() {
    check_asking(b"\xff\xfb\x1f\xff\xfa\x1f\0\x50\0\x18\xff\xf0", "on:Remote:WindowSize window:80x24", b"");
    check_asking(
        b"\xff\xfb\x1fa\xff\xfa\x1f\x01\xff\xff\0\0\xff\xf0b\n",
        "on:Remote:WindowSize window:511x0 line:ab",
        b"",
    );
    check_asking(
        b"\xff\xfb\x1f\xff\xfa\x1f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0",
        "on:Remote:WindowSize window:65535x65535",
        b"",
    );
}

#[test]
fn a_subnegotiation_out_of_place_or_form_is_ignored() {
    check(b"\xff\xfa\x1f\0\x50\0\x18\xff\xf0a\n", "line:a", b""); // the option is off
    check_asking(b"\xff\xfa\x1f\0\x50\0\x18\xff\xf0a\n", "line:a", b""); // asked for, not yet agreed
    check_asking(b"\xff\xfb\x1f\xff\xfa\x1f\0\x50\0\xff\xf0a\n", "on:Remote:WindowSize line:a", b"");
    check_asking(b"\xff\xfb\x1f\xff\xfa\x1f\0\x50\0\x18\0\xff\xf0a\n", "on:Remote:WindowSize line:a", b"");
    check(b"\xff\xfa\x18\0xterm\r\n\xff\xff\xff\xf0a\n", "line:a", b""); // an unknown option
    check(b"\xff\xfa\xff\xf0a\n", "line:a", b""); // names no option
    check(b"\xff\xfa\x1f\xff\xf0a\n", "line:a", b""); // has no parameters
}

#[test]
fn a_command_ends_a_subnegotiation_that_has_no_end() {
    check_asking(
        b"\xff\xfb\x1f\xff\xfa\x1f\0\x50\xff\xf6\0\x18\xff\xf0a\n",
        "on:Remote:WindowSize AreYouThere line:\\x00\\x18a",
        b"",
    );
    check_asking(
        b"\xff\xfb\x1f\xff\xfa\x1f\0\xff\xfa\x1f\0\x50\0\x18\xff\xf0a\n",
        "on:Remote:WindowSize window:80x24 line:a",
        b"",
    );
}

#[test]
fn a_subnegotiation_without_end_closes() {
    for option in [0x18, 0x1f] {
        let longest = repeat(b'x', MAX_SUBNEGOTIATION);
        let begin = [0xff, 0xfa, option];
        check(&[b"a\n", &begin[..], &longest, b"\xff\xf0b\n"].concat(), "line:a line:b", b"");
        let told = format!("line:a SubnegotiationTooLong {{ option: {option} }}");
        check(&[b"a\n", &begin[..], &longest, b"x\xff\xf0b\n"].concat(), &told, b"");
        check(&[b"a\n", &begin[..], &longest, b"\xff\xff\xff\xf0b\n"].concat(), &told, b"");
    }
}

#[test]
fn character_mode_begins_and_ends_where_the_stream_says() {
    check_asking(
        b"ab\xff\xfd\x01cd\xff\xfd\x03e\r\0f\xff\xf1\xff\xffg\r\n\n",
        "on:Local:Echo on:Local:SuppressGoAhead text:abcde Newline text:f NoOperation text:\\xffg Newline Newline",
        b"",
    );
    check_asking(
        b"\xff\xfd\x01\xff\xfd\x03ab\xff\xfe\x01cd\r\n",
        "on:Local:Echo on:Local:SuppressGoAhead text:ab off:Local:Echo line:cd",
        b"\xff\xfc\x01",
    );
    check_asking(b"\xff\xfe\x01\xff\xfd\x03ab\r\n", "off:Local:Echo on:Local:SuppressGoAhead line:ab", b"");
}

#[test]
fn a_refused_line_ends_where_character_mode_begins() {
    let overlong = repeat(b'x', MAX_LINE + 1);
    check_asking(
        &[&overlong[..], b"\xff\xfd\x01\xff\xfd\x03abc"].concat(),
        "LineTooLong on:Local:Echo on:Local:SuppressGoAhead text:abc",
        b"",
    );
}

#[test]
fn noise_is_the_same_noise_however_it_is_cut() {
    let alphabet = b"ab\r\n\0\xff\xff\xff\xf0\xf1\xf7\xf8\xfa\xfb\xfc\xfd\xfe\x01\x03\x1f\x18";
    for seed in 0..200 {
        let mut random = Seeded::new(1_000 + seed);
        let noise: Vec<u8> = (0..96).map(|_| alphabet[random.below(alphabet.len())]).collect();
        let mut whole = Peer::asking();
        whole.feed(&noise);
        check_asking(&noise, &whole.told(), &whole.answers);
    }
}

#[test]
fn a_line_that_lies_whole_in_the_input_is_not_copied() {
    let input = b"\xff\xf1first\r\nsecond\n\xff\xfathird\xff\xf0fourth\n";
    let mut telnet = Telnet::new(Support::SERVER);
    let (mut rest, mut out, mut lines) = (&input[..], Vec::new(), 0);
    while let Some(event) = telnet.next_event(&mut rest, &mut out).unwrap() {
        if let TelnetEvent::Line(line) = event {
            assert!(input.as_ptr_range().contains(&line.as_ptr()));
            lines += 1;
        }
    }
    assert_eq!(lines, 3);
}

#[test]
fn an_incomplete_line_stays_in_the_input() {
    let mut peer = Peer::new(Support::SERVER);
    peer.feed(b"a\r\nhalf");
    assert_eq!(peer.unread(), b"half");
    peer.feed(b" a line\r");
    assert_eq!((peer.unread(), peer.told().as_str()), (&b""[..], "line:a line:half a line"));
}

#[test]
fn a_caller_may_stop_between_events() {
    let mut telnet = Telnet::new(Support::SERVER);
    let (mut input, mut out) = (&b"a\r\nb\r\n"[..], Vec::new());
    assert_eq!(telnet.next_event(&mut input, &mut out), Ok(Some(TelnetEvent::Line(b"a"))));
    let later = [input, b"c\r\n"].concat();
    let mut input = &later[..];
    assert_eq!(telnet.next_event(&mut input, &mut out), Ok(Some(TelnetEvent::Line(b"b"))));
    assert_eq!(telnet.next_event(&mut input, &mut out), Ok(Some(TelnetEvent::Line(b"c"))));
    assert_eq!(telnet.next_event(&mut input, &mut out), Ok(None));
}
