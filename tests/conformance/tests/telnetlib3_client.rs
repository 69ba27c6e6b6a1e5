//! telnetlib3 as a client of our server's end, option by option: both ends have to hold the same to be so.

use megamux_conformance_tests::{End, Heard, Judge, Script, Session, Verdict};
use megamux_telnet::{
    Charset, Command, Level, LineMode, Side, Support, Telnet, TelnetOption, VariableKind, encode_command,
};
use serde_json::json;

use Side::{Local, Remote};

/// The result of a match; `None` if it was skipped. telnetlib3 must have nothing to complain of.
fn play(scenario: &str, script: Script) -> Option<(Session, Verdict)> {
    let end = End::server(Support::FULL_SERVER, script);
    let mut judge = Judge::start("telnetlib3_client.py", &[&scenario, &end.port()])?;
    let verdict = judge.verdict();
    let session = end.session();
    eprintln!("{session:#?}\n{verdict:#}");
    assert_eq!(verdict["complaints"], json!([]));
    Some((session, verdict))
}

fn done(telnet: &Telnet, out: &mut Vec<u8>) {
    telnet.text("done\r\n", out);
}

fn all_bytes() -> String {
    format!("text {}", Vec::from_iter(0..=u8::MAX).escape_ascii())
}

#[test]
fn echo_and_no_go_ahead_are_character_mode() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => {
            telnet.will_echo(out).unwrap();
            telnet.will_suppress_go_ahead(out).unwrap();
        }
        "on Local SuppressGoAhead" => done(telnet, out),
        "Newline" => telnet.text("heard\n", out),
        _ => {}
    };
    let Some((session, verdict)) = play("echo", script) else { return };
    assert_eq!(session.told, ["on Local Echo", "on Local SuppressGoAhead", "text hi", "Newline"]);
    assert_eq!(session.on, ["Local Echo", "Local SuppressGoAhead"]);
    assert_eq!(verdict["local"], json!([]));
    assert_eq!(verdict["remote"], json!(["ECHO", "SGA"]));
    assert_eq!(verdict["mode"], "kludge");
    assert_eq!(verdict["heard"], "heard\r\n");
}

#[test]
fn every_byte_goes_through_binary_both_ways() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => {
            telnet.turn_on(Local, TelnetOption::Binary, out).unwrap();
            telnet.turn_on(Remote, TelnetOption::Binary, out).unwrap();
        }
        _ => telnet.text(&heard.data, out),
    };
    let Some((session, verdict)) = play("binary", script) else { return };
    assert_eq!(session.told, ["on Local Binary", "on Remote Binary", &all_bytes()]);
    assert_eq!(session.on, ["Local Binary", "Remote Binary"]);
    assert_eq!(verdict["local"], json!(["BINARY"]));
    assert_eq!(verdict["remote"], json!(["BINARY"]));
    assert_eq!(verdict["same"], true);
}

#[test]
fn a_window_is_told_and_told_again() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.do_naws(out).unwrap(),
        "window 65535x24" => done(telnet, out),
        _ => {}
    };
    let Some((session, verdict)) = play("window", script) else { return };
    assert_eq!(session.told, ["on Remote WindowSize", "window 255x511", "window 65535x24"]);
    assert_eq!(session.on, ["Remote WindowSize"]);
    assert_eq!(verdict["local"], json!(["NAWS"]));
}

#[test]
fn all_names_of_a_terminal_are_asked_for() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Remote, TelnetOption::TerminalType, out).unwrap(),
        "on Remote TerminalType" => telnet.ask_terminal_type(out).unwrap(),
        "features 137" => done(telnet, out),
        _ => {}
    };
    let Some((session, verdict)) = play("terminal", script) else { return };
    let told = ["on Remote TerminalType", "terminal MUDLET", "terminal XTERM-256COLOR", "features 137"];
    assert_eq!(session.told, told);
    assert_eq!(session.on, ["Remote TerminalType"]);
    assert_eq!(verdict["local"], json!(["TTYPE"]));
    assert_eq!(verdict["left"], json!([]));
}

#[test]
fn a_terminal_that_repeats_its_name_is_not_asked_again() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Remote, TelnetOption::TerminalType, out).unwrap(),
        "on Remote TerminalType" => telnet.ask_terminal_type(out).unwrap(),
        // Behind the request for the second name.
        "terminal vt100" => telnet.timing_mark(out).unwrap(),
        "TimingMark" => done(telnet, out),
        _ => {}
    };
    let Some((session, _)) = play("terminal_with_one_name", script) else { return };
    assert_eq!(session.told, ["on Remote TerminalType", "terminal vt100", "TimingMark"]);
}

#[test]
fn lines_are_edited_at_the_terminal_with_the_keys_both_agreed_on() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Remote, TelnetOption::LineMode, out).unwrap(),
        "on Remote LineMode" => telnet.propose_line_mode(LineMode::EDIT.and(LineMode::TRAPSIG), out).unwrap(),
        "keys 0=Default 0" => {
            // It has our table, which leaves all keys to it, and now gets one.
            telnet.propose_character(3, Level::Value, 5, out).unwrap();
            telnet.timing_mark(out).unwrap();
        }
        "TimingMark" | "line edited" => done(telnet, out),
        _ => {}
    };
    let Some((session, verdict)) = play("linemode", script) else { return };
    assert_eq!(session.told[..2], ["on Remote LineMode", "keys 0=Default 0"]);
    assert!(session.told[2..].iter().any(|told| told == "keys 3=Value 5!"), "{session:?}");
    assert_eq!(session.told.last().unwrap(), "line edited");
    assert_eq!(session.on, ["Remote LineMode"]);
    assert_eq!(session.line_mode, LineMode::EDIT.and(LineMode::TRAPSIG));
    assert_eq!(verdict["local"], json!(["LINEMODE"]));
    assert_eq!(verdict["mode"], "local");
    assert_eq!(verdict["mask"].as_u64().unwrap() & 3, 3);
    assert_eq!(verdict["interrupt"], json!([2, 5]));
    // RFC 1184 section 2.4: it keeps the keys that we have none for, so that lines can be edited.
    assert_eq!(verdict["erase"], json!([2, 127]));
}

#[test]
fn variables_come_whole_whatever_bytes_they_hold() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Remote, TelnetOption::Environment, out).unwrap(),
        "on Remote Environment" => telnet.ask_environment(&[], out).unwrap(),
        words if words.contains("ODD") => {
            telnet.ask_environment(&[(VariableKind::Known, "USER")], out).unwrap();
        }
        words if words.starts_with("environment") => done(telnet, out),
        _ => {}
    };
    let Some((session, verdict)) = play("environment", script) else { return };
    let told = [
        "on Remote Environment",
        "environment Known USER=o\\'brien, Known ODD=\\x00\\x03 \\x00",
        "environment Known USER=o\\'brien",
    ];
    assert_eq!(session.told, told);
    assert_eq!(session.on, ["Remote Environment"]);
    assert_eq!(verdict["local"], json!(["NEW_ENVIRON"]));
}

#[test]
fn a_character_set_is_agreed_on() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Local, TelnetOption::Charset, out).unwrap(),
        "on Local Charset" => telnet.ask_charset(&[Charset::Latin1, Charset::Utf8], out).unwrap(),
        "charset UTF-8" => done(telnet, out),
        words if words.starts_with("line") => {
            telnet.text([&heard.data[..], b"\n"].concat(), out);
        }
        _ => {}
    };
    let Some((session, verdict)) = play("charset", script) else { return };
    assert_eq!(session.told, ["on Local Charset", "charset UTF-8", "line gr\\xc3\\xbc\\xc3\\x9fe"]);
    assert_eq!(session.on, ["Local Charset"]);
    assert_eq!(verdict["remote"], json!(["CHARSET"]));
    assert_eq!(verdict["encoding"], "UTF-8");
    assert_eq!(verdict["heard"], "grüße\r\n");
}

#[test]
fn of_two_requests_for_a_character_set_the_servers_counts() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Local, TelnetOption::Charset, out).unwrap(),
        "on Local Charset" => telnet.ask_charset(&[Charset::Utf8], out).unwrap(),
        "charset UTF-8" => done(telnet, out),
        _ => {}
    };
    let end = End::server(Support::FULL_SERVER, script);
    let Some(mut judge) = Judge::start("telnetlib3_client.py", &[&"charset_asked_by_both", &end.port()]) else {
        return;
    };
    let verdict = judge.verdict();
    assert_eq!(end.session().told, ["on Local Charset", "charset UTF-8"]);
    assert_eq!(verdict["encoding"], "UTF-8");
    // RFC 2066: the server refuses the client's.
    assert_eq!(verdict["complaints"], json!(["recv IAC SB CHARSET REJECTED IAC SE"]));
}

#[test]
fn a_client_may_ask_for_a_character_set() {
    let Some((session, verdict)) = play("charset_asked_by_the_client", |_, _, _| {}) else { return };
    assert_eq!(session.told, ["on Remote Charset", "charset UTF-8"]);
    assert_eq!(session.on, ["Remote Charset"]);
    assert_eq!(verdict["local"], json!(["CHARSET"]));
    assert_eq!(verdict["encoding"], "utf-8");
}

#[test]
fn both_ends_hold_the_same_options_to_be_on() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => {
            telnet.will_suppress_go_ahead(out).unwrap();
            telnet.do_naws(out).unwrap();
            telnet.turn_on(Remote, TelnetOption::Status, out).unwrap();
        }
        "line more" => telnet.ask_status(out).unwrap(),
        words if words.starts_with("status") => done(telnet, out),
        _ => {}
    };
    let Some((session, verdict)) = play("status", script) else { return };
    // At once when it agrees to tell, and when it is asked: WILL is 31's, DO is 3's.
    let statuses: Vec<_> = session.told.iter().filter(|told| told.starts_with("status")).collect();
    assert_eq!(statuses.len(), 2, "{session:?}");
    for status in statuses {
        assert!(status.contains("Local 3 true") && status.contains("Remote 31 true"), "{status}");
    }
    assert_eq!(session.on, ["Local SuppressGoAhead", "Local Status", "Remote Status", "Remote WindowSize"]);
    assert_eq!(verdict["local"], json!(["NAWS", "STATUS"]));
    assert_eq!(verdict["remote"], json!(["SGA", "STATUS"]));
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
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.timing_mark(out).unwrap(),
        "TimingMark" | "line two" => done(telnet, out),
        _ => {}
    };
    let Some((session, _)) = play("timing_mark", script) else { return };
    assert_eq!(session.told, ["TimingMark", "line one", "TimingMarkAsked", "line two"]);
    assert!(session.on.is_empty(), "{session:?}");
}

#[test]
fn records_end_both_ways() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => {
            telnet.turn_on(Local, TelnetOption::EndOfRecord, out).unwrap();
            telnet.turn_on(Remote, TelnetOption::EndOfRecord, out).unwrap();
        }
        "on Local EndOfRecord" => encode_command(Command::EndOfRecord, out),
        "line record" => done(telnet, out),
        _ => {}
    };
    let Some((session, verdict)) = play("record", script) else { return };
    assert_eq!(session.told, ["on Local EndOfRecord", "on Remote EndOfRecord", "EndOfRecord", "line record"]);
    assert_eq!(session.on, ["Local EndOfRecord", "Remote EndOfRecord"]);
    assert_eq!(verdict["local"], json!(["EOR"]));
    assert_eq!(verdict["remote"], json!(["EOR"]));
}

#[test]
fn what_is_not_supported_is_refused() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "line all" {
            done(telnet, out);
        }
    };
    let end = End::server(Support { local: Support::NONE.local, ..Support::FULL_SERVER }, script);
    let Some(mut judge) = Judge::start("telnetlib3_client.py", &[&"refusals", &end.port()]) else { return };
    let verdict = judge.verdict();
    let session = end.session();
    assert_eq!(session.told, ["line all"]);
    assert!(session.on.is_empty());
    assert_eq!(verdict["local"], json!([]));
    assert_eq!(verdict["remote"], json!([]));
    assert_eq!(verdict["complaints"], json!([]));
    assert_eq!(verdict["pending"], json!([]));
    let refused = verdict["refused"].as_array().unwrap();
    for option in ["XDISPLOC", "TSPEED", "LFLOW", "SNDLOC", "LINEMODE", "ECHO"] {
        assert!(refused.contains(&json!(option)), "{option} in {refused:?}");
    }
}

#[test]
fn plain_commands_are_told_apart() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "line all" {
            done(telnet, out);
        }
    };
    let Some((session, _)) = play("commands", script) else { return };
    let commands = "NoOperation DataMark Break InterruptProcess AbortOutput AreYouThere EraseCharacter EraseLine GoAhead \
        EndOfFile Suspend Abort";
    let expect: Vec<_> = commands.split_whitespace().chain(["line all"]).collect();
    assert_eq!(session.told, expect);
}

#[test]
fn messages_go_beside_the_text_both_ways() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Local, TelnetOption::Gmcp, out).unwrap(),
        words if words.starts_with("gmcp Core.Supports.Set") => {
            telnet.gmcp("Char.Vitals", r#"{"hp": 7, "name": "Zoë"}"#, out).unwrap();
            telnet.gmcp("Core.Ping", "", out).unwrap();
            done(telnet, out);
        }
        _ => {}
    };
    let Some((session, verdict)) = play("gmcp", script) else { return };
    assert_eq!(session.told[0], "on Local Gmcp");
    assert!(session.told[1].starts_with("gmcp Core.Hello {\\\"client\\\""), "{session:?}");
    assert_eq!(session.on, ["Local Gmcp"]);
    assert_eq!(verdict["remote"], json!(["GMCP"]));
    assert_eq!(verdict["told"], json!({"Char.Vitals": {"hp": 7, "name": "Zoë"}, "Core.Ping": null}));
}

#[test]
fn a_server_tells_of_itself() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Local, TelnetOption::ServerStatus, out).unwrap(),
        "on Local ServerStatus" => {
            telnet.server_status(&[("NAME", "megamux"), ("PORT", "23"), ("PORT", "4000")], out).unwrap();
            done(telnet, out);
        }
        _ => {}
    };
    let Some((session, verdict)) = play("server_status", script) else { return };
    assert_eq!(session.on, ["Local ServerStatus"]);
    assert_eq!(verdict["remote"], json!(["MSSP"]));
    assert_eq!(verdict["told"], json!({"NAME": "megamux", "PORT": ["23", "4000"]}));
}

#[test]
fn a_servers_stream_is_compressed_ends_and_is_compressed_again() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Local, TelnetOption::Compress2, out).unwrap(),
        "on Local Compress2" => {
            telnet.text("plain\n", out);
            telnet.begin_compression(6, out).unwrap();
            telnet.text("squeezed\n", out);
        }
        "line end" => {
            telnet.text("last\n", out);
            telnet.end_compression();
        }
        "line again" => {
            telnet.text("between\n", out);
            telnet.begin_compression(9, out).unwrap();
            telnet.text("squeezed again\n", out);
        }
        _ => {}
    };
    let Some((session, verdict)) = play("compressed_by_the_server", script) else { return };
    assert_eq!(session.told, ["on Local Compress2", "line end", "line again"]);
    assert_eq!(session.on, ["Local Compress2"]);
    assert!(session.compressing);
    assert_eq!(verdict["remote"], json!(["MCCP2_COMPRESS"]));
    let lines = ["plain\r\n", "squeezed\r\n", "last\r\n", "between\r\n", "squeezed again\r\n"];
    assert_eq!(verdict["lines"], json!(lines));
    assert_eq!(verdict["inflating"], json!([true, true, false, true, true]));
}

#[test]
fn a_clients_stream_is_compressed_and_ends() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        Heard::OPEN => telnet.turn_on(Local, TelnetOption::Compress3, out).unwrap(),
        "CompressionBegan" | "CompressionEnded" => done(telnet, out),
        _ if heard.words.starts_with("line squeezed") => telnet.text("done\n", out),
        _ => {}
    };
    let Some((session, _)) = play("compressed_by_the_client", script) else { return };
    assert_eq!(session.on, ["Local Compress3"]);
    assert_eq!(session.told[..2], ["on Local Compress3", "CompressionBegan"]);
    assert_eq!(session.told[2..102], vec!["line squeezed"; 100]);
    assert_eq!(session.told[102..], ["CompressionEnded", "line plain"]);
}
