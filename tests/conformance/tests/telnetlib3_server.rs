//! telnetlib3 as the server of our client's end, option by option: both ends have to hold the same to be so.

use std::net::{Ipv4Addr, SocketAddr};

use megamux_conformance_tests::{End, Judge, Script, Session, Verdict};
use megamux_telnet::{Charset, Command, Level, LineMode, Support, VariableKind, encode_command, terminal_name};
use serde_json::json;

use VariableKind::{Known, User};

/// The result of a match; `None` if it was skipped. telnetlib3 must have nothing to complain of.
fn play(scenario: &str, script: Script) -> Option<(Session, Verdict)> {
    let mut judge = Judge::start("telnetlib3_server.py", &[&scenario])?;
    let port = judge.line().parse().expect("a port");
    let end = End::client(Support::CLIENT, script, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let verdict = judge.verdict();
    let session = end.session();
    eprintln!("{session:#?}\n{verdict:#}");
    assert_eq!(verdict["complaints"], json!([]));
    Some((session, verdict))
}

#[test]
fn a_server_echoes_and_a_prompt_is_shown_at_once() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "Newline" {
            telnet.text("heard\n", out);
        }
    };
    let Some((session, verdict)) = play("echo", script) else { return };
    assert_eq!(session.told, ["on Remote Echo", "on Remote SuppressGoAhead", "text login: hi", "Newline"]);
    assert_eq!(session.on, ["Remote Echo", "Remote SuppressGoAhead"]);
    assert_eq!(verdict["local"], json!(["ECHO", "SGA"]));
    assert_eq!(verdict["mode"], "kludge");
    assert_eq!(verdict["heard"], "heard\r\n");
}

#[test]
fn every_byte_goes_through_binary_both_ways() {
    let Some((session, verdict)) = play("binary", |telnet, heard, out| telnet.text(&heard.data, out)) else {
        return;
    };
    let every = format!("text {}", Vec::from_iter(0..=u8::MAX).escape_ascii());
    assert_eq!(session.told, ["on Remote Binary", "on Local Binary", &every]);
    assert_eq!(session.on, ["Local Binary", "Remote Binary"]);
    assert_eq!(verdict["local"], json!(["BINARY"]));
    assert_eq!(verdict["remote"], json!(["BINARY"]));
    assert_eq!(verdict["same"], true);
}

#[test]
fn a_window_is_told_and_told_again() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "on Local WindowSize" => telnet.window_size(255, 511, out).unwrap(),
        "Newline" => telnet.window_size(65535, 24, out).unwrap(),
        _ => {}
    };
    let Some((session, verdict)) = play("window", script) else { return };
    assert_eq!(session.on, ["Local WindowSize"]);
    assert_eq!(verdict["remote"], json!(["NAWS"]));
    assert_eq!(verdict["sizes"], json!([[511, 255], [24, 65535]]));
}

#[test]
fn names_of_the_terminal_are_told_in_turn_and_from_the_first_again() {
    let script: Script = |telnet, heard, out| {
        if let Some(round) = heard.words.strip_prefix("terminal? ") {
            telnet.terminal_type(terminal_name(&["xterm", "vt100"], round.parse().unwrap()), out).unwrap();
        }
    };
    let Some((session, verdict)) = play("terminal", script) else { return };
    assert_eq!(session.told.len(), 6);
    assert_eq!(session.on, ["Local TerminalType"]);
    assert_eq!(verdict["remote"], json!(["TTYPE"]));
    assert_eq!(verdict["names"], json!(["xterm", "vt100", "vt100", "xterm", "vt100"]));
}

#[test]
fn a_server_sets_the_line_mode_and_a_client_its_keys() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "LineMode(LineMode(3))" => {
            telnet.propose_character(3, Level::Value, 5, out).unwrap();
            telnet.timing_mark(out).unwrap();
        }
        "TimingMark" => telnet.text("edited\n", out),
        _ => {}
    };
    let Some((session, verdict)) = play("linemode", script) else { return };
    assert_eq!(session.on, ["Local LineMode"]);
    assert_eq!(session.line_mode, LineMode::EDIT.and(LineMode::TRAPSIG));
    assert!(session.told.contains(&"keys 3=Value 5!".to_owned()), "{session:?}");
    assert_eq!(verdict["remote"], json!(["LINEMODE"]));
    assert_eq!(verdict["mask"].as_u64().unwrap() & 3, 3);
    assert_eq!(verdict["ack"], true);
    assert_eq!(verdict["line"], "edited\r\n");
    assert_eq!(verdict["interrupt"], json!([true, 5]));
}

#[test]
fn variables_are_told_when_asked_for_and_when_they_change() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "Newline" => telnet.environment_changed(&[(User, "ODD", Some("a\u{1b}[2J"))], out).unwrap(),
        words if words.starts_with("environment?") => {
            // telnetlib3 takes VAR and USERVAR out of their escape, and neither VALUE nor ESC.
            let variables = [(Known, "USER", Some("o'brien")), (Known, "DISPLAY", None), (User, "ODD", Some("\0\x03"))];
            telnet.environment(&variables, out).unwrap();
        }
        _ => {}
    };
    let Some((session, verdict)) = play("environment", script) else { return };
    assert_eq!(session.told[0], "on Local Environment");
    assert_eq!(session.told[1], "environment? Known USER, Known DISPLAY, Known , User ");
    assert_eq!(session.on, ["Local Environment"]);
    assert_eq!(verdict["remote"], json!(["NEW_ENVIRON"]));
    let told = json!([{"USER": "o'brien", "DISPLAY": "", "ODD": "\0\x03"}, {"ODD": "a\u{1b}[2J"}]);
    assert_eq!(verdict["told"], told);
}

#[test]
fn a_character_set_is_agreed_on() {
    let Some((session, verdict)) = play("charset", |_, _, _| {}) else { return };
    assert_eq!(session.told, ["on Local Charset", "on Remote Charset", "charset UTF-8"]);
    assert_eq!(session.on, ["Local Charset", "Remote Charset"]);
    assert_eq!(verdict["name"], "UTF-8");
}

#[test]
fn a_client_may_ask_for_a_character_set() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "on Local Charset" => telnet.ask_charset(&[Charset::Utf8, Charset::Ascii], out).unwrap(),
        "charset US-ASCII" => telnet.text("agreed\n", out),
        _ => {}
    };
    let Some((session, verdict)) = play("charset_asked_by_the_client", script) else { return };
    assert_eq!(session.told, ["on Local Charset", "on Remote Charset", "charset US-ASCII"]);
    assert_eq!(verdict["offered"], json!(["UTF-8", "US-ASCII"]));
    assert_eq!(verdict["encoding"], "US-ASCII");
    assert_eq!(verdict["line"], "agreed\r\n");
}

#[test]
fn of_two_requests_for_a_character_set_the_servers_counts() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "on Local Charset" {
            // The server asks as soon as it hears that it may.
            telnet.ask_charset(&[Charset::Ascii], out).unwrap();
        }
    };
    let mut judge = match Judge::start("telnetlib3_server.py", &[&"charset"]) {
        Some(judge) => judge,
        None => return,
    };
    let port = judge.line().parse().expect("a port");
    let end = End::client(Support::CLIENT, script, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert_eq!(judge.verdict()["name"], "UTF-8");
    assert_eq!(end.session().told, ["on Local Charset", "on Remote Charset", "charset UTF-8"]);
}

#[test]
fn both_ends_hold_the_same_options_to_be_on() {
    let script: Script = |telnet, heard, out| {
        if heard.words.starts_with("status") {
            telnet.text("told\n", out);
        }
    };
    let Some((session, verdict)) = play("status", script) else { return };
    assert_eq!(session.on, ["Local Status", "Local WindowSize", "Remote SuppressGoAhead", "Remote Status"]);
    let told = session.told.last().unwrap();
    assert!(told.contains("Local 31 true") && told.contains("Remote 3 true"), "{told}");
    assert_eq!(verdict["local"], json!(["SGA", "STATUS"]));
    assert_eq!(verdict["remote"], json!(["NAWS", "STATUS"]));
    let statuses = verdict["statuses"].as_array().unwrap();
    assert!(!statuses.is_empty());
    for status in statuses {
        let status = status.as_str().unwrap();
        assert!(status.starts_with("STATUS agreed:"), "{status}");
        assert!(status.contains("NAWS") && status.contains("SGA"), "{status}");
    }
}

#[test]
fn marks_are_answered_in_their_place_both_ways() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "TimingMarkAsked" {
            telnet.text("two\n", out);
            telnet.timing_mark(out).unwrap();
        }
    };
    let Some((session, verdict)) = play("timing_mark", script) else { return };
    assert_eq!(session.told, ["text one", "Newline", "TimingMarkAsked", "TimingMark"]);
    assert_eq!((&verdict["answer"], &verdict["asked"]), (&json!("fb"), &json!("fd")));
    assert_eq!(verdict["line"], "two\r\n");
}

#[test]
fn records_end_both_ways() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "EndOfRecord" {
            encode_command(Command::EndOfRecord, out);
            telnet.text("heard\n", out);
        }
    };
    let Some((session, verdict)) = play("record", script) else { return };
    assert_eq!(session.told, ["on Remote EndOfRecord", "on Local EndOfRecord", "text record", "EndOfRecord"]);
    assert_eq!(session.on, ["Local EndOfRecord", "Remote EndOfRecord"]);
    assert_eq!(verdict["line"], "heard\r\n");
}

#[test]
fn what_is_not_supported_is_refused() {
    let Some((session, verdict)) = play("refusals", |_, _, _| {}) else { return };
    assert_eq!(session.told, ["TimingMarkAsked"]);
    assert!(session.on.is_empty());
    assert_eq!(verdict["remote"], json!([]));
    assert_eq!(verdict["pending"], json!([]));
    let refused = verdict["refused"].as_array().unwrap();
    for option in ["XDISPLOC", "TSPEED", "LFLOW", "SNDLOC", "ECHO"] {
        assert!(refused.contains(&json!(option)), "{option} in {refused:?}");
    }
}

#[test]
fn messages_go_beside_the_text_both_ways() {
    let script: Script = |telnet, heard, out| {
        if heard.words.starts_with("gmcp Char.Vitals") {
            telnet.gmcp("Core.Hello", r#"{"client": "megamux"}"#, out).unwrap();
            telnet.gmcp("Core.Ping", "", out).unwrap();
        }
    };
    let Some((session, verdict)) = play("gmcp", script) else { return };
    assert_eq!(session.told, ["on Remote Gmcp", r#"gmcp Char.Vitals {\"hp\":7}"#]);
    assert_eq!(verdict["local"], json!(["GMCP"]));
    assert_eq!(verdict["told"], json!([["Core.Hello", {"client": "megamux"}], ["Core.Ping", null]]));
}

#[test]
fn a_server_tells_of_itself() {
    let script: Script = |telnet, heard, out| {
        if heard.words.starts_with("server status") {
            telnet.text("read\n", out);
        }
    };
    let Some((session, _)) = play("server_status", script) else { return };
    assert_eq!(session.told, ["on Remote ServerStatus", "server status NAME=telnetlib3, PORT=23, PORT=4000"]);
}

#[test]
fn a_servers_stream_is_compressed_ends_and_is_compressed_again() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "text last" {
            telnet.text("read\n", out);
        }
    };
    let Some((session, _)) = play("compressed_by_the_server", script) else { return };
    let squeezed = || ["text squeezed", "Newline"].repeat(100);
    let once = [&["text plain", "Newline", "CompressionBegan"][..], &squeezed(), &["CompressionEnded"]].concat();
    let expect = [&["on Remote Compress2"][..], &once, &once, &["text last", "Newline"]].concat();
    assert_eq!(session.told, expect);
    assert_eq!(session.on, ["Remote Compress2"]);
}

#[test]
fn a_clients_stream_is_compressed_and_ends() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "on Remote Compress3" => telnet.begin_compression(6, out).unwrap(),
        "text squeeze" => telnet.text("squeezed\n", out),
        "text end" => {
            telnet.text("last\n", out);
            telnet.end_compression();
        }
        "text plain" => telnet.text("plain\n", out),
        _ => {}
    };
    let Some((session, verdict)) = play("compressed_by_the_client", script) else { return };
    assert_eq!(session.on, ["Remote Compress3"]);
    assert!(!session.compressing);
    assert_eq!(verdict["local"], json!(["MCCP3_COMPRESS"]));
    assert_eq!(verdict["lines"], json!(["squeezed\r\n", "last\r\n", "plain\r\n"]));
    assert_eq!(verdict["inflating"], json!([true, false, false]));
}
