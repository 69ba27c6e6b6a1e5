//! The console's events survive their bytes, and nothing else passes for them.

use megamux_event::{DecodeError, Event};
use megamux_telnet::console::{
    CommandEntered, MAX_DIRECTORY, MAX_HELP, MAX_NAME, RegisterCommand, RegisterError, Reply, ReplyStatus,
};
use std::fmt::Debug;

#[track_caller]
fn check<E: Event + PartialEq + Debug>(event: E, bytes: &[u8]) {
    let mut encoded = Vec::new();
    event.encode(&mut encoded);
    assert_eq!(encoded.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    for cut in 0..encoded.len() {
        assert_eq!(E::decode(&encoded[..cut]), Err(DecodeError::Truncated), "cut at {cut}");
    }
    assert_eq!(E::decode(&encoded), Ok(event));
    encoded.push(0);
    assert_eq!(E::decode(&encoded), Err(DecodeError::Trailing { left: 1 }));
}

fn entered() -> CommandEntered {
    CommandEntered {
        session: 0x0102,
        request: 3,
        directory: "conns".to_owned(),
        name: "kick".to_owned(),
        arguments: "17  now".to_owned(),
    }
}

#[test]
fn events_survive_their_bytes() {
    check(
        RegisterCommand::new("conns", "kick", "Close a connection.").unwrap(),
        b"\x05\0\0\0conns\x04\0\0\0kick\x13\0\0\0Close a connection.",
    );
    check(entered(), b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\x05\0\0\0conns\x04\0\0\0kick\x07\0\0\x0017  now");
    for (tag, status) in [ReplyStatus::More, ReplyStatus::Done, ReplyStatus::Failed].into_iter().enumerate() {
        let mut bytes = b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\x00\x03\0\0\0ok\n".to_vec();
        bytes[12] = tag as u8;
        check(entered().reply("ok\n", status), &bytes);
    }
}

#[test]
fn ids_are_distinct_and_of_one_family() {
    assert_eq!([RegisterCommand::ID, CommandEntered::ID, Reply::ID], [0x0001_0001, 0x0001_0002, 0x0001_0003]);
}

#[test]
fn an_unknown_status_is_refused() {
    let mut bytes = Vec::new();
    entered().reply("", ReplyStatus::Done).encode(&mut bytes);
    bytes[12] = 3;
    assert_eq!(Reply::decode(&bytes), Err(DecodeError::UnknownTag { tag: 3 }));
}

#[test]
fn a_command_has_a_plain_path_name_and_help() {
    let new = |directory: &str, name: &str, help: &str| RegisterCommand::new(directory, name, help).map(|_| ());
    assert_eq!(new("", "who", ""), Ok(()));
    assert_eq!(new("rooms/admin", "kick-all_2", "Summary.\nMore, with ü."), Ok(()));
    assert_eq!(new(&"d".repeat(MAX_DIRECTORY), &"n".repeat(MAX_NAME), &"h".repeat(MAX_HELP)), Ok(()));
    for directory in ["/", "/a", "a/", "a//b", "a b", "..", "a\n", "ü", &"d".repeat(MAX_DIRECTORY + 1)] {
        assert_eq!(new(directory, "who", ""), Err(RegisterError::Directory), "{directory:?}");
    }
    for name in ["", "a b", "a/b", "\x1b[2J", &"n".repeat(MAX_NAME + 1)] {
        assert_eq!(new("", name, ""), Err(RegisterError::Name), "{name:?}");
    }
    for help in ["\x1b[2J", "a\r\nb", "\u{9b}2J", &"h".repeat(MAX_HELP + 1)] {
        assert_eq!(new("", "who", help), Err(RegisterError::Help), "{help:?}");
    }
}

#[test]
fn a_decoded_command_is_checked_like_a_made_one() {
    let bytes = b"\0\0\0\0\x03\0\0\0a b\0\0\0\0";
    assert_eq!(RegisterCommand::decode(bytes), Err(DecodeError::Refused { reason: "not a command's name" }));
}

#[test]
fn a_service_knows_its_command_and_takes_the_arguments_apart() {
    let kick = RegisterCommand::new("conns", "kick", "").unwrap();
    let elsewhere = RegisterCommand::new("rooms", "kick", "").unwrap();
    assert!(entered().is(&kick) && !entered().is(&elsewhere));
    assert_eq!(entered().words().collect::<Vec<_>>(), ["17", "now"]);
}
