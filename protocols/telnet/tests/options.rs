//! What comes of each option's messages, valid and not, at both ends, whole and cut in every way.

mod peer;

use Side::{Local, Remote};
use megamux_telnet::{
    Charset, Charsets, Level, LineMode, MAX_TERMINAL_TYPES, RequestError, Side, Support, Telnet, TelnetOption,
    VariableKind, terminal_name,
};
use peer::{Peer, check_from};

/// Checks the parameters of a subnegotiation, against a peer that has the option on.
#[track_caller]
fn check(fresh: impl Fn() -> Peer, option: TelnetOption, parameters: &[u8], told: &str, answers: &[u8]) {
    let message = sub(option, parameters);
    let told = if told.is_empty() { "line:after".to_owned() } else { format!("{told} line:after") };
    let told = if is_client(&fresh()) { told.replace("line:after", "text:after Newline") } else { told };
    check_from(&fresh, &[&message[..], b"after\r\n"].concat(), &told, answers);
}

fn is_client(peer: &Peer) -> bool {
    format!("{:?}", peer.telnet).contains("is_server: false")
}

fn sub(option: TelnetOption, parameters: &[u8]) -> Vec<u8> {
    [&[0xff, 0xfa, option.code()], parameters, &[0xff, 0xf0]].concat()
}

#[test]
fn binary_data_comes_as_it_is() {
    let server = || Peer::server(&[(Remote, TelnetOption::Binary)]);
    check_from(server, b"a\r\n\0\r\0\xff\xffb\xff\xf6", "text:a\\r\\n\\x00\\r\\x00\\xffb AreYouThere", b"");
    check_from(server, b"a\r\n\xff\xfc\0b\r\n", "text:a\\r\\n off:Remote:Binary line:b", b"\xff\xfe\0");
    let other_way = || Peer::server(&[(Local, TelnetOption::Binary)]);
    check_from(other_way, b"a\r\n", "line:a", b"");

    let mut out = Vec::new();
    Peer::server(&[(Local, TelnetOption::Binary)]).telnet.text(b"a\r\n\xff", &mut out);
    assert_eq!(out, b"a\r\n\xff\xff");
    out.clear();
    Peer::server(&[]).telnet.text(b"a\n\xff", &mut out);
    assert_eq!(out, b"a\r\n\xff\xff");
}

#[test]
fn a_client_is_shown_text_at_once() {
    let client = || Peer::client(&[]);
    check_from(client, b"login: ", "text:login: ", b"");
    check_from(client, b"a\r\nb\nc", "text:a Newline text:b Newline text:c", b"");
    check_from(client, b"a\r\xff\xff\n", "text:a\\r\\xff Newline", b"");
    check_from(client, b"10%\r\0 20%\rx\r\r\n", "text:10%\\r 20%\\rx\\r Newline", b"");
    check_from(client, b"a\r\xff\xf1\nb\xff\xff", "text:a NoOperation Newline text:b\\xff", b"");
    let binary = || {
        Peer::client(&[]).saying(|telnet, out| {
            telnet.turn_on(Remote, TelnetOption::Binary, out).unwrap();
        })
    };
    check_from(binary, b"a\r\xff\xfb\0\n", "text:a on:Remote:Binary text:\\r\\n", b"");
}

#[test]
fn the_end_of_a_record_counts_while_its_option_is_on() {
    check_from(|| Peer::server(&[(Remote, TelnetOption::EndOfRecord)]), b"a\xff\xef\n", "EndOfRecord line:a", b"");
    check_from(|| Peer::server(&[(Local, TelnetOption::EndOfRecord)]), b"a\xff\xef\n", "line:a", b"");
}

#[test]
fn each_timing_mark_is_answered_in_its_place() {
    let server = || Peer::server(&[]);
    check_from(
        server,
        b"\xff\xfd\x06\xff\xfd\x06\xff\xfe\x06",
        "TimingMarkAsked TimingMarkAsked",
        b"\xff\xfb\x06\xff\xfb\x06",
    );
    check_from(|| Peer::new(Support::NONE), b"\xff\xfd\x06", "", b"\xff\xfc\x06");
    // Answers to no mark: an offer is refused, a refusal is nothing.
    check_from(server, b"\xff\xfb\x06\xff\xfc\x06", "", b"\xff\xfe\x06");
    let marking = || {
        Peer::server(&[]).saying(|telnet, out| {
            telnet.timing_mark(out).unwrap();
            telnet.timing_mark(out).unwrap();
            assert_eq!(out, b"\xff\xfd\x06\xff\xfd\x06");
        })
    };
    check_from(marking, b"\xff\xfb\x06\xff\xfc\x06\xff\xfb\x06", "TimingMark TimingMark", b"\xff\xfe\x06");

    let mut peer = Peer::server(&[]);
    let mut out = Vec::new();
    (0..255).for_each(|_| peer.telnet.timing_mark(&mut out).unwrap());
    assert_eq!(peer.telnet.timing_mark(&mut out), Err(RequestError::AlreadyAsked));
    assert_eq!(peer.telnet.turn_on(Remote, TelnetOption::TimingMark, &mut out), Err(RequestError::AlreadySo));
}

#[test]
fn names_of_the_terminal_are_asked_for_until_they_end() {
    let option = TelnetOption::TerminalType;
    let server = || Peer::server(&[(Remote, option)]);
    let asking = || {
        server().saying(|telnet, out| {
            telnet.ask_terminal_type(out).unwrap();
            assert_eq!(out, b"\xff\xfa\x18\x01\xff\xf0");
            assert_eq!(telnet.ask_terminal_type(out), Err(RequestError::AlreadyAsked));
        })
    };
    let send = sub(option, b"\x01");
    check(asking, option, b"\0XTERM", "terminal:XTERM", &send);
    check(asking, option, b"\0", "terminal:", &send);
    check(asking, option, b"\0MTTS 9", "features:9", b"");
    check(server, option, b"\0XTERM", "", b""); // not asked
    check(asking, option, b"", "", b"");
    check(asking, option, b"\x02x", "", b"");
    check(asking, option, b"\x01", "", b""); // we have no terminal

    let is = |name: &[u8]| sub(option, &[b"\0", name].concat());
    let cycle = [is(b"MUDLET"), is(b"XTERM"), is(b"MTTS 137"), is(b"MTTS 137")].concat();
    check_from(asking, &cycle, "terminal:MUDLET terminal:XTERM features:137", &send.repeat(2));
    let cycle = [is(b"XTERM"), is(b"VT100"), is(b"VT100"), is(b"XTERM")].concat();
    check_from(asking, &cycle, "terminal:XTERM terminal:VT100", &send.repeat(2));
    let endless: Vec<u8> = (b'a'..=b'z').flat_map(|name| is(&[name])).collect();
    let told: Vec<String> = "abcdefgh".chars().map(|name| format!("terminal:{name}")).collect();
    assert_eq!(told.len(), usize::from(MAX_TERMINAL_TYPES));
    check_from(asking, &endless, &told.join(" "), &send.repeat(told.len() - 1));
    // Turned off and on, nothing is being asked.
    let again = [&b"\xff\xfc\x18\xff\xfb\x18"[..], &is(b"XTERM")].concat();
    check_from(asking, &again, "off:Remote:TerminalType on:Remote:TerminalType", b"\xff\xfe\x18\xff\xfd\x18");
}

#[test]
fn a_client_tells_its_terminals_in_turn() {
    let option = TelnetOption::TerminalType;
    let client = || Peer::client(&[(Local, option)]);
    check(client, option, b"\x01", "terminal?0", b"");
    check_from(client, &sub(option, b"\x01").repeat(3), "terminal?0 terminal?1 terminal?2", b"");
    let told: Vec<_> = (0..6).map(|round| terminal_name(&["A", "B"], round)).collect();
    assert_eq!(told, ["A", "B", "B", "A", "B", "B"]);
    assert_eq!(terminal_name(&[], 3), "UNKNOWN");
    let mut out = Vec::new();
    client().telnet.terminal_type("XTERM", &mut out).unwrap();
    assert_eq!(out, b"\xff\xfa\x18\0XTERM\xff\xf0");
}

#[test]
fn a_client_tells_its_window() {
    let mut out = Vec::new();
    Peer::client(&[(Local, TelnetOption::WindowSize)]).telnet.window_size(255, 24, &mut out).unwrap();
    assert_eq!(out, b"\xff\xfa\x1f\0\xff\xff\0\x18\xff\xf0");
}

#[test]
fn the_environment_is_data() {
    let option = TelnetOption::Environment;
    let server = || Peer::server(&[(Remote, option)]);
    check(server, option, b"\0\0USER\x01joe", "environment:[Known:\"USER\"=Some(\"joe\")]", b"");
    check(server, option, b"\x02\x03X\x01\xff\xff\x02\x01", "environment:[User:\"X\"=Some(\"\u{fffd}\u{fffd}\")]", b"");
    check(server, option, b"\0\0USER\x03LANG\x01", "environment:[Known:\"USER\"=None,User:\"LANG\"=Some(\"\")]", b"");
    check(server, option, b"\0", "environment:[]", b"");
    check(server, option, b"\0\x02", "environment:[]", b""); // an ESC with nothing to escape
    check(server, option, b"", "", b"");
    check(server, option, b"\x04\0USER", "", b"");
    check(server, option, b"\x01\0USER", "", b""); // we have no environment
    // What broke telnetd: a user that is an option of login's. Here it is a value like any other.
    check(server, option, b"\0\0USER\x01-f root", "environment:[Known:\"USER\"=Some(\"-f root\")]", b"");
    check(
        server,
        option,
        b"\0\0USER\x01a\x1b]0;x\x07",
        "environment:[Known:\"USER\"=Some(\"a\u{fffd}]0;x\u{fffd}\")]",
        b"",
    );
    check(|| Peer::server(&[]), option, b"\0\0USER\x01joe", "", b"");

    let mut out = Vec::new();
    let names = [(VariableKind::Known, "USER"), (VariableKind::User, "a\x01b")];
    server().telnet.ask_environment(&names, &mut out).unwrap();
    assert_eq!(out, b"\xff\xfa\x27\x01\0USER\x03a\x02\x01b\xff\xf0");
}

#[test]
fn a_client_is_asked_for_its_environment() {
    let option = TelnetOption::Environment;
    let client = || Peer::client(&[(Local, option)]);
    check(client, option, b"\x01", "environment?[]", b"");
    check(client, option, b"\x01\0USER\x03", "environment?[Known:\"USER\",User:\"\"]", b"");
    check(client, option, b"\0\0USER\x01joe", "", b"");
    let mut out = Vec::new();
    let variables = [(VariableKind::Known, "USER", Some("joe")), (VariableKind::User, "X", None)];
    client().telnet.environment(&variables, &mut out).unwrap();
    client().telnet.environment_changed(&variables[1..], &mut out).unwrap();
    assert_eq!(out, b"\xff\xfa\x27\0\0USER\x01joe\x03X\xff\xf0\xff\xfa\x27\x02\x03X\xff\xf0");
}

#[test]
fn a_character_set_is_chosen_from_those_offered() {
    let option = TelnetOption::Charset;
    let server = || Peer::server(&[(Remote, option)]);
    check(server, option, b"\x01;UTF-8;LATIN1", "charset:UTF-8", &sub(option, b"\x02UTF-8"));
    check(server, option, b"\x01 iso-8859-1 utf8", "charset:UTF-8", &sub(option, b"\x02utf8"));
    check(server, option, b"\x01[TTABLE]\x01;UTF-8", "charset:UTF-8", &sub(option, b"\x02UTF-8"));
    for refused in [&b"\x01;LATIN1"[..], b"\x01", b"\x01;", b"\x01[TTABLE]"] {
        check(server, option, refused, "", &sub(option, b"\x03"));
    }
    let latin = || server().saying(|telnet, _| telnet.set_charsets(Charsets::of(&[Charset::Latin1])));
    check(latin, option, b"\x01;UTF-8;LATIN1", "charset:ISO-8859-1", &sub(option, b"\x02LATIN1"));
    check(server, option, b"\x04\x01;A;8;B;8;table", "", &sub(option, b"\x05")); // a translation table
    for ignored in [&b"\x02UTF-8"[..], b"\x03", b"\x05", b"\x06", b"\x07", b"", b"\x09x"] {
        check(server, option, ignored, "", b"");
    }
    check(|| Peer::client(&[]), option, b"\x01;UTF-8", "", b"");
}

#[test]
fn of_two_requests_for_a_character_set_the_servers_counts() {
    let option = TelnetOption::Charset;
    let ask = |telnet: &mut Telnet, out: &mut Vec<u8>| {
        telnet.ask_charset(&[Charset::Utf8, Charset::Ascii], out).unwrap();
        assert_eq!(out, b"\xff\xfa\x2a\x01;UTF-8;US-ASCII\xff\xf0");
        assert_eq!(telnet.ask_charset(&[Charset::Utf8], out), Err(RequestError::AlreadyAsked));
    };
    let server = || Peer::server(&[(Local, option)]).saying(ask);
    let client = || Peer::client(&[(Local, option)]).saying(ask);
    for asking in [&server as &dyn Fn() -> Peer, &client] {
        check(asking, option, b"\x02us-ascii", "charset:US-ASCII", b"");
        check(asking, option, b"\x03", "CharsetRejected", b"");
        check(asking, option, b"\x02KOI8-R", "CharsetRejected", b"");
    }
    let request = sub(option, b"\x01;UTF-8");
    let (accepted, rejected) = (sub(option, b"\x02UTF-8"), sub(option, b"\x03"));
    check_from(server, &[&request[..], &accepted].concat(), "charset:UTF-8", &rejected);
    check_from(client, &[&request[..], &rejected].concat(), "charset:UTF-8", &accepted);
}

#[test]
fn a_request_for_a_character_set_waits_while_its_option_is_on() {
    let option = TelnetOption::Charset;
    let asking =
        || Peer::client(&[(Local, option)]).saying(|telnet, out| telnet.ask_charset(&[Charset::Utf8], out).unwrap());
    let accepted = sub(option, b"\x02UTF-8");
    // The other side's option is another one.
    let input = [&b"\xff\xfb\x2a"[..], &accepted].concat();
    check_from(asking, &input, "on:Remote:Charset charset:UTF-8", b"\xff\xfd\x2a");
    let input = [&b"\xff\xfb\x2a\xff\xfc\x2a"[..], &accepted].concat();
    check_from(asking, &input, "on:Remote:Charset off:Remote:Charset charset:UTF-8", b"\xff\xfd\x2a\xff\xfe\x2a");
    let input = [&b"\xff\xfb\x2a\xff\xfe\x2a"[..], &accepted].concat();
    check_from(asking, &input, "on:Remote:Charset off:Local:Charset", b"\xff\xfd\x2a\xff\xfc\x2a");
    // RFC 2066 section 2: only who has said WILL and heard DO may ask.
    let mut listening = Peer::server(&[(Remote, option)]);
    let asked = listening.telnet.ask_charset(&[Charset::Utf8], &mut Vec::new());
    assert_eq!(asked, Err(RequestError::NotOn));
}

#[test]
fn the_mode_of_lines_is_agreed_on() {
    let option = TelnetOption::LineMode;
    let server = || {
        Peer::server(&[(Remote, option)]).saying(|telnet, out| {
            telnet.propose_line_mode(LineMode::EDIT.and(LineMode::TRAPSIG), out).unwrap();
            assert_eq!(out, b"\xff\xfa\x22\x01\x03\xff\xf0");
        })
    };
    check(server, option, b"\x01\x07", "", b""); // as proposed
    check(server, option, b"\x01\x05", "LineMode(LineMode(1))", b""); // part of it
    check(server, option, b"\x01\x01", "LineMode(LineMode(1))", b"\xff\xfa\x22\x01\x05\xff\xf0"); // the client's wish
    check(server, option, b"\x01\x13", "", b""); // the same, and advice
    check(server, option, b"\x01", "", b"");
    check(server, option, b"\x01\x03\x03", "", b"");
    check(server, option, b"\xfb\x02mask", "", b"\xff\xfa\x22\xfe\x02\xff\xf0"); // FORWARDMASK
    check(server, option, b"\xfc\x02", "", b"");
    check_from(server, b"ab\xff\xf4cd\r\n", "InterruptProcess line:abcd", b"");
    check_from(
        server,
        b"ab\xff\xfa\x22\x01\x06\xff\xf0cd\r\xff\xfc\x22e\r\n",
        "LineMode(LineMode(2)) text:abcd Newline off:Remote:LineMode line:e",
        b"\xff\xfe\x22",
    );

    let client = || Peer::client(&[(Local, option)]);
    check(client, option, b"\x01\x03", "LineMode(LineMode(3))", b"\xff\xfa\x22\x01\x07\xff\xf0");
    check(client, option, b"\x01\x1b", "LineMode(LineMode(3))", b"\xff\xfa\x22\x01\x07\xff\xf0");
    check(client, option, b"\x01\x07", "", b""); // an acknowledgement of nothing
    check(client, option, b"\xfd\x02\xff\xff\x01", "", b"\xff\xfa\x22\xfc\x02\xff\xf0"); // FORWARDMASK
    check(client, option, b"\xfe\x02", "", b"");
}

#[test]
fn special_characters_are_agreed_on() {
    let option = TelnetOption::LineMode;
    let server = || {
        Peer::server(&[(Remote, option)]).saying(|telnet, out| telnet.propose_line_mode(LineMode::EDIT, out).unwrap())
    };
    let slc = |triplets: &[u8]| sub(option, &[b"\x03", triplets].concat());
    check(server, option, b"\x03\x03\x62\x03", "keys:[3=Value/3]", &slc(b"\x03\xe2\x03"));
    check(server, option, b"\x03\x03\x02\xff\xff", "keys:[3=Value/255]", &slc(b"\x03\x82\xff\xff"));
    check(server, option, b"\x03\x03\x82\x03", "keys:[3=Value/3!]", b"");
    check(server, option, b"\x03\x03\x00\x00", "keys:[3=NoSupport/0]", b"");
    check(server, option, b"\x03\xff\xff\x02\x03", "keys:[255=Value/3]", &slc(b"\xff\xff\x00\x00"));
    check(server, option, b"\x03\x03\x02", "keys:[]", b""); // not a whole triplet
    check(server, option, b"\x03", "keys:[]", b"");
    let proposing = || {
        server().saying(|telnet, out| {
            telnet.propose_character(3, Level::Value, 3, out).unwrap();
            assert_eq!(out, b"\xff\xfa\x22\x03\x03\x02\x03\xff\xf0");
        })
    };
    check(proposing, option, b"\x03\x03\x82\x03", "keys:[3=Value/3!]", b"");
    check(proposing, option, b"\x03\x03\x02\x03", "keys:[3=Value/3]", b"");
    check(proposing, option, b"\x03\x03\x02\x04", "keys:[3=Value/4]", &slc(b"\x03\x82\x04"));
    // What is not set is left to the terminal.
    let whole: Vec<u8> = (1..=18)
        .flat_map(|function| [function, if function == 3 { 2 } else { 3 }, if function == 3 { 3 } else { 0 }])
        .collect();
    check(proposing, option, b"\x03\x00\x02\x00", "keys:[0=Value/0]", &slc(&whole));
}

#[test]
fn each_end_tells_which_options_are_on() {
    let option = TelnetOption::Status;
    let server = || Peer::server(&[(Local, option), (Local, TelnetOption::Echo), (Remote, TelnetOption::WindowSize)]);
    check(server, option, b"\x01", "", &sub(option, b"\0\xfb\x01\xfb\x05\xfd\x1f"));
    check(server, option, b"\x01\x01", "", b"");
    check(server, option, b"\0\xfb\x01", "", b""); // the peer does not perform it
    let client = || Peer::client(&[(Remote, option)]);
    check(
        client,
        option,
        b"\0\xfb\x01\xfd\x1f\xfa\x1f\0\xf0\xf0\xf0\xfc\x03",
        "status:[Remote:1:true,Local:31:true,Remote:3:false]",
        b"",
    );
    check(client, option, b"\0", "status:[]", b"");
    check(client, option, b"\x01", "", b"");
    let mut out = Vec::new();
    client().telnet.ask_status(&mut out).unwrap();
    assert_eq!(out, sub(option, b"\x01"));
}

#[test]
fn messages_pass_beside_the_text() {
    let option = TelnetOption::Gmcp;
    for peer in [&(|| Peer::server(&[(Local, option)])) as &dyn Fn() -> Peer, &|| Peer::client(&[(Remote, option)])] {
        check(peer, option, b"Core.Ping", "gmcp:Core.Ping:", b"");
        check(peer, option, b"Core.Hello {\"a\":\"\xff\xff\"}", "gmcp:Core.Hello:{\\\"a\\\":\\\"\\xff\\\"}", b"");
        check(peer, option, b"", "gmcp::", b"");
        let mut out = Vec::new();
        peer().telnet.gmcp("Char.Vitals", "{}", &mut out).unwrap();
        assert_eq!(out, sub(option, b"Char.Vitals {}"));
    }
    check(|| Peer::server(&[]), option, b"Core.Ping", "", b"");
}

#[test]
fn a_server_tells_about_itself() {
    let option = TelnetOption::ServerStatus;
    let client = || Peer::client(&[(Remote, option)]);
    check(client, option, b"\x01NAME\x02megamux\x01PORT\x0223\x0224", "mssp:[NAME=megamux,PORT=23,PORT=24]", b"");
    check(client, option, b"", "mssp:[]", b"");
    check(|| Peer::server(&[(Local, option)]), option, b"\x01NAME\x02x", "", b"");
    let mut out = Vec::new();
    Peer::server(&[(Local, option)]).telnet.server_status(&[("NAME", "megamux")], &mut out).unwrap();
    assert_eq!(out, sub(option, b"\x01NAME\x02megamux"));
}

#[test]
fn nothing_is_said_about_an_option_that_is_off() {
    let mut telnet = Telnet::new(Support::FULL_SERVER);
    let mut out = Vec::new();
    let refused = [
        telnet.ask_terminal_type(&mut out),
        telnet.terminal_type("XTERM", &mut out),
        telnet.window_size(80, 24, &mut out),
        telnet.ask_environment(&[], &mut out),
        telnet.environment(&[], &mut out),
        telnet.environment_changed(&[], &mut out),
        telnet.ask_charset(&[Charset::Utf8], &mut out),
        telnet.propose_line_mode(LineMode::EDIT, &mut out),
        telnet.propose_character(3, Level::Value, 3, &mut out),
        telnet.ask_status(&mut out),
        telnet.gmcp("Core.Ping", "", &mut out),
        telnet.server_status(&[], &mut out),
        telnet.begin_compression(6, &mut out),
    ];
    assert!(refused.iter().all(|result| *result == Err(RequestError::NotOn)));
    assert_eq!(out, b"");
}
