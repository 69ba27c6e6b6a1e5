//! The console's events survive their bytes, and nothing else passes for them.

use megamux_event::{DecodeError, Event};
use megamux_telnet::console::{
    CommandEntered, Completion, CompletionOffered, CompletionWanted, MAX_DIRECTORY, MAX_HELP, MAX_NAME, MAX_WORDS,
    Notice, RegisterCommand, RegisterError, Reply, ReplyStatus, Role,
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
        user: "ann".to_owned(),
    }
}

fn wanted() -> CompletionWanted {
    CompletionWanted {
        session: 0x0102,
        request: 3,
        directory: "conns".to_owned(),
        name: "kick".to_owned(),
        before: "--now".to_owned(),
        word: "1".to_owned(),
    }
}

#[test]
fn events_survive_their_bytes() {
    check(
        RegisterCommand::new("conns", "kick", "Close a connection.").unwrap(),
        b"\x05\0\0\0conns\x04\0\0\0kick\x13\0\0\0Close a connection.\x01\0",
    );
    let command = || RegisterCommand::new("", "go", "").unwrap().for_role(Role::Admin);
    check(command().completed_when_asked(), b"\0\0\0\0\x02\0\0\0go\0\0\0\0\x02\x02");
    check(
        command().completed_by(["a", "b"]).unwrap(),
        b"\0\0\0\0\x02\0\0\0go\0\0\0\0\x02\x01\x02\0\x01\0\0\0a\x01\0\0\0b",
    );
    check(entered(), b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\x05\0\0\0conns\x04\0\0\0kick\x07\0\0\x0017  now\x03\0\0\0ann");
    check(wanted(), b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\x05\0\0\0conns\x04\0\0\0kick\x05\0\0\0--now\x01\0\0\x001");
    check(wanted().offer(["17", "2", "1 8"]), b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\x01\0\x02\0\0\x0017");
    check(Notice { topic: "im".to_owned(), text: "up".to_owned() }, b"\x02\0\0\0im\x02\0\0\0up");
    for (tag, status) in [ReplyStatus::More, ReplyStatus::Done, ReplyStatus::Failed].into_iter().enumerate() {
        let mut bytes = b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\x00\x03\0\0\0ok\n".to_vec();
        bytes[12] = tag as u8;
        check(entered().reply("ok\n", status), &bytes);
    }
}

#[test]
fn ids_are_distinct_and_of_one_family() {
    let ids =
        [RegisterCommand::ID, CommandEntered::ID, Reply::ID, CompletionWanted::ID, CompletionOffered::ID, Notice::ID];
    assert!(ids.into_iter().eq(0x0001_0001..=0x0001_0006), "{ids:x?}");
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
    assert_eq!((new("", "*", ""), new("", "room-*", "")), (Ok(()), Ok(())));
    for name in ["", "a b", "a/b", "**", "a*b*", "\x1b[2J", &"n".repeat(MAX_NAME + 1)] {
        assert_eq!(new("", name, ""), Err(RegisterError::Name), "{name:?}");
    }
    for help in ["\x1b[2J", "a\r\nb", "\u{9b}2J", &"h".repeat(MAX_HELP + 1)] {
        assert_eq!(new("", "who", help), Err(RegisterError::Help), "{help:?}");
    }
}

#[test]
fn a_decoded_command_is_checked_like_a_made_one() {
    let bytes = b"\0\0\0\0\x03\0\0\0a b\0\0\0\0\0\0";
    assert_eq!(RegisterCommand::decode(bytes), Err(DecodeError::Refused { reason: "not a command's name" }));
}

#[test]
fn a_service_knows_its_command_and_takes_the_arguments_apart() {
    let kick = RegisterCommand::new("conns", "kick", "").unwrap();
    let elsewhere = RegisterCommand::new("rooms", "kick", "").unwrap();
    assert!(entered().is(&kick) && !entered().is(&elsewhere));
    assert_eq!(entered().words().collect::<Vec<_>>(), ["17", "now"]);
}

#[test]
fn words_for_completion_are_plain_and_bounded() {
    let command = || RegisterCommand::new("", "go", "").unwrap();
    for word in ["", "a b", "\x1b[2J", &"x".repeat(129)] {
        assert_eq!(command().completed_by([word]), Err(RegisterError::Words), "{word:?}");
    }
    let many = (0..=MAX_WORDS).map(|number| number.to_string());
    assert_eq!(command().completed_by(many.clone()), Err(RegisterError::Words));
    let some = command().completed_by(many.take(MAX_WORDS)).unwrap();
    assert!(matches!(some.completion(), Completion::Words(words) if words.len() == MAX_WORDS));
    let all = CompletionWanted { word: String::new(), ..wanted() }.offer((0..1000).map(|number| number.to_string()));
    assert_eq!(all.words().len(), MAX_WORDS);
}

#[test]
fn roles_are_read_as_they_are_written() {
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        assert_eq!(role.to_string().parse(), Ok(role));
    }
    assert!("root".parse::<Role>().is_err());
    assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
}
