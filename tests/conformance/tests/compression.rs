//! Compressed streams judged by Python's zlib over plain sockets: what the start, the end and a second start look like in
//! whatever packets they come.

use std::net::{Ipv4Addr, SocketAddr};

use megamux_conformance_tests::{End, Judge, Script, Verdict};
use megamux_telnet::{Side, Support, Telnet, TelnetOption};
use serde_json::json;

use Side::Local;

const LINES: usize = 5000;

/// Answers what the judge asks until its verdict.
#[track_caller]
fn verdict(judge: &mut Judge, end: &End) -> Verdict {
    loop {
        let line = judge.line();
        let Some(count) = line.strip_prefix("read ") else {
            return serde_json::from_str(&line).unwrap_or_else(|_| panic!("a verdict: {line}"));
        };
        end.has_read(count.parse().expect("a count"));
        judge.answer("it is read");
    }
}

fn meet(scenario: &str, script: Script) -> Option<(End, Judge)> {
    let end = End::server(Support::FULL_SERVER, script);
    let judge = Judge::plain("zlib_peer.py", &[&scenario, &end.port()])?;
    Some((end, judge))
}

fn meet_as_client(scenario: &[&dyn ToString], script: Script) -> Option<(End, Judge)> {
    let mut judge = Judge::plain("zlib_peer.py", scenario)?;
    let port = judge.line().parse().expect("a port");
    Some((End::client(Support::CLIENT, script, SocketAddr::from((Ipv4Addr::LOCALHOST, port))), judge))
}

fn much(telnet: &Telnet, out: &mut Vec<u8>) {
    // More than fits a read, and not too regular.
    (0..LINES).for_each(|n| telnet.text(format!("{} {n}\n", n * n % 7919), out));
}

#[test]
fn a_clients_stream_is_read_wherever_it_is_cut() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "open" => telnet.turn_on(Local, TelnetOption::Compress3, out).unwrap(),
        "line four" => telnet.text("done\n", out),
        _ => {}
    };
    let Some((end, mut judge)) = meet("from_the_client", script) else { return };
    let matches = verdict(&mut judge, &end)["matches"].as_u64().unwrap();
    assert!(matches > 40, "{matches}");
    let once = ["CompressionBegan", "line one", "CompressionEnded", "line two"];
    let again = ["CompressionBegan", "line three", "CompressionEnded", "line four"];
    let expect = [&["on Local Compress3"][..], &once, &again].concat();
    for _ in 0..matches {
        assert_eq!(end.session().told, expect);
    }
}

#[test]
fn a_servers_stream_is_zlibs_through_its_end_and_a_second_start() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "open" => telnet.turn_on(Local, TelnetOption::Compress2, out).unwrap(),
        "on Local Compress2" => telnet.begin_compression(9, out).unwrap(),
        "line much" => {
            much(telnet, out);
            telnet.text("done\n", out);
        }
        "line end" => {
            telnet.text("done\n", out);
            telnet.end_compression();
        }
        "line again" => {
            telnet.begin_compression(1, out).unwrap();
            telnet.text("done\n", out);
        }
        _ => {}
    };
    let Some((end, mut judge)) = meet("from_the_server", script) else { return };
    let lengths = [json!([LINES, true, 0]), json!([0, false, 1]), json!([0, true, 1]), json!([LINES, true, 1])];
    assert_eq!(verdict(&mut judge, &end)["lengths"], json!(lengths));
}

#[test]
fn both_ways_are_compressed_at_once() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "open" => {
            telnet.turn_on(Local, TelnetOption::Compress2, out).unwrap();
            telnet.turn_on(Local, TelnetOption::Compress3, out).unwrap();
        }
        "on Local Compress2" => telnet.begin_compression(6, out).unwrap(),
        "line who" | "line plain" => telnet.text(format!("{}\ndone\n", heard.words), out),
        _ => {}
    };
    let Some((end, mut judge)) = meet("both_at_once", script) else { return };
    let verdict = verdict(&mut judge, &end);
    assert_eq!(verdict["text"], "line who\r\nline plain\r\n");
    assert_eq!(verdict["inflating"], true);
    let told = ["CompressionBegan", "line who", "line last", "CompressionEnded", "line plain"];
    assert_eq!(end.session().told[2..], told);
}

#[test]
fn what_is_no_agreed_stream_ends_the_connection() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "open" {
            telnet.turn_on(Local, TelnetOption::Compress3, out).unwrap();
        }
    };
    let Some((end, mut judge)) = meet("damaged", script) else { return };
    verdict(&mut judge, &end);
    // The request for it is still open in the first, so that it could yet be agreed to; it is not.
    let last = |end: &End| end.session().told.pop().expect("something was told");
    assert_eq!(last(&end), "error UnagreedCompression");
    assert_eq!(last(&end), "error NestedCompression");
    assert_eq!(last(&end), "error CorruptCompression");
}

#[test]
fn a_client_reads_a_servers_stream_wherever_it_is_cut() {
    let script: Script = |telnet, heard, out| {
        if heard.words == "AreYouThere" {
            telnet.text("read\n", out);
        }
    };
    let once = ["CompressionBegan", "text one", "Newline", "CompressionEnded", "text two", "Newline"];
    let again = ["CompressionBegan", "text three", "Newline", "CompressionEnded", "text four", "AreYouThere"];
    let expect = [&["on Remote Compress2", "text a", "Newline"][..], &once, &again].concat();
    // In single bytes, then in two parts: in and around the start, in the stream, at its end and at the second start.
    for cut in [0, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22, 26, 27, 30, 31] {
        let Some((end, mut judge)) = meet_as_client(&[&"to_the_client", &cut], script) else { return };
        verdict(&mut judge, &end);
        assert_eq!(end.session().told, expect, "cut at {cut}");
    }
}

#[test]
fn a_clients_stream_is_zlibs_through_its_end_and_a_second_start() {
    let script: Script = |telnet, heard, out| match &heard.words[..] {
        "on Remote Compress3" => telnet.begin_compression(6, out).unwrap(),
        "text much" => {
            much(telnet, out);
            telnet.text("done\n", out);
        }
        "text end" => {
            telnet.text("done\n", out);
            telnet.end_compression();
        }
        "text again" => {
            telnet.text("plain\n", out);
            telnet.begin_compression(6, out).unwrap();
            telnet.text("squeezed\ndone\n", out);
        }
        _ => {}
    };
    let Some((end, mut judge)) = meet_as_client(&[&"of_the_client"], script) else { return };
    let verdict = verdict(&mut judge, &end);
    assert_eq!(verdict["lines"], json!([LINES, 0, 2]));
    assert_eq!(verdict["inflating"], json!([true, false, true]));
    assert_eq!(verdict["ends"], 1);
}
