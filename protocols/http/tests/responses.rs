//! Responses, byte for byte: what a request and a status make of the same answer.

use megamux_http::{Decoded, Decoder, HttpError, ReplyTo, Response, Status};

fn reply_to(head: &str) -> ReplyTo {
    let mut decoder = Decoder::new();
    match decoder.decode(format!("{head}\r\n\r\n").as_bytes()) {
        Ok(Decoded::Request { request, .. }) => request.reply_to(),
        other => panic!("{head}: {other:?}"),
    }
}

#[track_caller]
fn check(head: &str, status: Status, expect: &str) {
    let mut out = b"before|".to_vec();
    Response::new(&mut out, reply_to(head), status).header("x", "y").body(b"body");
    assert_eq!(String::from_utf8(out).unwrap(), format!("before|{expect}"), "{head}");
}

#[test]
fn the_connection_is_said_where_it_is_not_the_default() {
    let (ok, end) = ("HTTP/1.1 200 OK\r\n", "x: y\r\ncontent-length: 4\r\n\r\nbody");
    check("GET / HTTP/1.1\r\nHost: a", Status::Ok, &format!("{ok}{end}"));
    check("GET / HTTP/1.1\r\nHost: a\r\nConnection: close", Status::Ok, &format!("{ok}connection: close\r\n{end}"));
    check("GET / HTTP/1.0", Status::Ok, &format!("{ok}connection: close\r\n{end}"));
    check("GET / HTTP/1.0\r\nConnection: keep-alive", Status::Ok, &format!("{ok}connection: keep-alive\r\n{end}"));
}

#[test]
fn bodies_are_left_out_where_there_can_be_none() {
    check(
        "HEAD / HTTP/1.1\r\nHost: a",
        Status::NotFound,
        "HTTP/1.1 404 Not Found\r\nx: y\r\ncontent-length: 4\r\n\r\n",
    );
    check("GET / HTTP/1.1\r\nHost: a", Status::NoContent, "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n");
    check("GET / HTTP/1.1\r\nHost: a", Status::NotModified, "HTTP/1.1 304 Not Modified\r\nx: y\r\n\r\n");
}

#[test]
fn a_draining_server_closes_behind_the_answer() {
    let to = reply_to("GET / HTTP/1.1\r\nHost: a");
    assert!(to.keep_alive() && !to.closing().keep_alive());
    let mut out = Vec::new();
    Response::new(&mut out, to.closing(), Status::Ok).empty();
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn a_switch_names_its_protocol_and_has_no_body() {
    let mut out = Vec::new();
    Response::switching(&mut out, "websocket").header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").empty();
    let expect = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expect);
}

#[test]
fn a_refusal_says_why_and_closes() {
    let mut out = Vec::new();
    Response::refuse(&mut out, HttpError::ConflictingLength);
    let expect = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
        content-length: 42\r\n\r\nboth Content-Length and Transfer-Encoding\n";
    assert_eq!(String::from_utf8(out).unwrap(), expect);
}

#[test]
fn a_value_stays_in_its_line() {
    let mut out = Vec::new();
    Response::new(&mut out, ReplyTo::UNREAD, Status::Found).header("location", "/\r\nset-cookie: a=b\0\x7f\tc").empty();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("\r\nlocation: /  set-cookie: a=b  \tc\r\n"), "{text}");
}

#[test]
#[should_panic(expected = "not a token")]
fn a_bad_name_is_the_programs_error() {
    Response::new(&mut Vec::new(), ReplyTo::UNREAD, Status::Ok).header("a b", "").empty();
}

#[test]
#[should_panic(expected = "the encoder's to write")]
fn framing_is_the_encoders() {
    Response::new(&mut Vec::new(), ReplyTo::UNREAD, Status::Ok).header("Content-Length", "9").empty();
}
