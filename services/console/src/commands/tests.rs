//! The table by itself: what lines lead to.

use super::*;

const ROOT: View<'static> = View { role: Role::Admin, directory: "", columns: 80 };

fn table(registered: &[(&str, &str)]) -> Commands {
    let commands = Commands::default();
    for &(directory, name) in registered {
        let command = RegisterCommand::new(directory, name, "Does it.\nAt length.").unwrap();
        commands.register(&command).unwrap();
    }
    commands
}

fn within(directory: &str) -> View<'_> {
    View { directory, ..ROOT }
}

#[test]
fn a_line_enters_the_command_with_the_most_words() {
    let commands = table(&[("", "rooms"), ("rooms", "ban"), ("rooms/ban", "list"), ("rooms", "r-*")]);
    let check = |here: &str, line: &str, directory: &str, name: &str, arguments: &str| {
        let Lookup::Command(entered) = commands.lookup(line, within(here)) else { panic!("{line:?}") };
        let found = (&*entered.directory, &*entered.name, &*entered.arguments);
        assert_eq!(found, (directory, name, arguments), "{line:?}");
    };
    check("", "rooms", "", "rooms", "");
    check("", "  rooms   lobby  x ", "", "rooms", "lobby  x");
    check("", "rooms\tban bob", "rooms", "ban", "bob");
    check("", "rooms ban  list", "rooms/ban", "list", "");
    check("", "rooms ban listing", "rooms", "ban", "listing");
    check("", "rooms/ban/list x", "rooms/ban", "list", "x");
    check("", "/rooms/ban bob", "rooms", "ban", "bob");
    check("", "rooms ban ../x", "rooms", "ban", "../x");
    check("", "rooms r-7 x", "rooms", "r-*", "r-7 x");
    check("rooms", "ban bob", "rooms", "ban", "bob");
    check("rooms/ban", "list", "rooms/ban", "list", "");
    check("rooms/ban", "../ban bob", "rooms", "ban", "bob");
    check("rooms/ban", "conns list", "conns", "list", "");
    check("rooms/ban", "help x", "", "help", "x");
    check("conns", "/quit", "", "quit", "");
    assert_eq!(commands.lookup(" \t ", ROOT), Lookup::Blank);
}

#[test]
fn paths_lead_through_the_tree() {
    let commands = table(&[("rooms/admin", "ban")]);
    let go = |here: &str, line: &str| match commands.lookup(line, within(here)) {
        Lookup::Go(path) => path,
        other => panic!("{line:?}: {other:?}"),
    };
    assert_eq!(go("rooms/admin", ".."), "rooms");
    assert_eq!(go("rooms/admin", "../.."), "");
    assert_eq!(go("rooms", "/"), "");
    assert_eq!(go("", ".."), "");
    assert_eq!(go("conns", "/rooms/admin"), "rooms/admin");
    let check = |here: &str, path: &str, expect: Result<&str, &str>| {
        let found = commands.directory(path, within(here));
        assert_eq!(found.as_deref().map_err(|said| said.as_str()), expect, "{path:?}");
    };
    check("", "rooms", Ok("rooms"));
    check("rooms", "admin", Ok("rooms/admin"));
    check("rooms", "../conns", Ok("conns"));
    check("rooms", "", Ok("rooms"));
    check("", "attic", Err("no such directory: attic\n"));
    check("", "conns/list", Err("no such directory: conns/list\n"));
    check("", &"x/".repeat(3000), Err(&format!("no such directory: {}...\n", "x/".repeat(20))));
}

#[test]
fn a_directory_lists_its_commands() {
    let Lookup::Directory(list) = table(&[]).lookup("conns", ROOT) else { panic!() };
    let names: Vec<_> = list.lines().map(|line| &line[2..12]).collect();
    assert_eq!(names, ["conns find", "conns kick", "conns list", "conns show"]);
    assert!(matches!(table(&[]).lookup("conn", ROOT), Lookup::Unknown(_)));
    let commands = table(&[("rooms/admin", "ban"), ("rooms/admin", "mute"), ("rooms", "all")]);
    assert_eq!(commands.list("rooms", ROOT), "  admin/\n  all     Does it.\n");
    assert_eq!(commands.list("", within("rooms/admin")), "  ban   Does it.\n  mute  Does it.\n");
}

#[test]
fn the_nearest_command_is_suggested() {
    let commands = table(&[("rooms/admin", "ban")]);
    let check = |here: &str, line: &str, expect: &str| {
        let Lookup::Unknown(said) = commands.lookup(line, within(here)) else { panic!("{line:?}") };
        assert_eq!(said.lines().last(), Some(expect), "{line:?}");
    };
    check("", "shard", "did you mean: shards?");
    check("", "hlep", "did you mean: help?");
    check("", "conns lst --limit 3", "did you mean: conns list?");
    check("", "con list", "did you mean: conns list?");
    check("", "conns/lst", "did you mean: conns list?");
    check("", "rooms admn", "did you mean: rooms admin?");
    check("rooms/admin", "bam", "did you mean: ban?");
    check("", "xyzzy", "try: help");
    check("", &"x".repeat(4096), "try: help");
    check("", &"x ".repeat(2048), "try: help");
}

#[test]
fn what_was_typed_is_shown_harmlessly() {
    let Lookup::Unknown(said) = table(&[]).lookup("\x1b]0;owned\x07", ROOT) else { panic!() };
    assert!(!said.contains(['\x1b', '\x07']), "{said:?}");
}

#[test]
fn built_in_commands_stay_and_the_table_is_bounded() {
    let commands = Commands::default();
    let command = |name: &str| RegisterCommand::new("", name, "").unwrap();
    assert_eq!(commands.register(&command("help")), Err(Refused::BuiltIn));
    let room = MAX_COMMANDS - BUILTINS.len();
    for number in 0..room {
        assert_eq!(commands.register(&command(&format!("c{number}"))), Ok(()));
    }
    assert_eq!(commands.register(&command("more")), Err(Refused::TooMany));
    assert_eq!(commands.register(&command("c0")), Ok(()), "known already");
}

#[test]
fn help_tells_of_everything_a_directory_or_a_command() {
    let commands = table(&[("rooms/admin", "ban")]);
    assert!(commands.help("", ROOT).contains("\n  rooms admin ban   Does it.\n"), "{}", commands.help("", ROOT));
    assert_eq!(commands.help("rooms", ROOT), "  rooms admin ban  Does it.\n");
    assert_eq!(commands.help("", within("rooms")), "  rooms admin ban  Does it.\n");
    let ban = "rooms admin ban\n  Does it.\n  At length.\n  For operators and above.\n";
    assert_eq!(commands.help(" rooms  admin ban", ROOT), ban);
    assert_eq!(commands.help("admin/ban", within("rooms")), ban);
    assert!(commands.help("rooms admin bam", ROOT).contains("did you mean: rooms admin ban?"));
    let narrow = commands.help("", View { columns: 44, ..ROOT });
    assert!(narrow.lines().all(|line| line.chars().count() <= 44), "{narrow}");
}

#[test]
fn a_role_sees_what_it_may_enter() {
    let roles = [("/conns".to_owned(), Role::Admin), ("conns/list".to_owned(), Role::Viewer)];
    let commands = Commands::with_roles(roles.into());
    let viewer = View { role: Role::Viewer, ..ROOT };
    assert_eq!(commands.help("conns", viewer).lines().count(), 1);
    assert!(!commands.help("", viewer).contains("conns kick"));
    assert!(commands.help("", ROOT).contains("conns kick"));
    let Lookup::Command(kick) = commands.lookup("conns kick 1", viewer) else { panic!() };
    assert_eq!(kick.role, Role::Admin);
    let Lookup::Unknown(said) = commands.lookup("conns kik 1", viewer) else { panic!() };
    assert!(!said.contains("kick?"), "{said}");
    assert_eq!(commands.complete("conns k", viewer), Completed::Words(6, vec![]));
}

#[test]
fn roles_follow_the_list_and_fall_back_to_the_commands_own() {
    let roster = Roster::default();
    let commands = Commands::with_roster(roster.clone());
    let role = |line: &str| match commands.lookup(line, ROOT) {
        Lookup::Command(entered) => entered.role,
        other => panic!("{other:?}"),
    };
    assert_eq!(role("stats"), Role::Viewer);
    let roles = [("stats".to_owned(), Role::Admin)].into();
    roster.replace(Operators { roles, ..Operators::default() });
    assert_eq!(role("stats"), Role::Admin);
    roster.replace(Operators::default());
    assert_eq!(role("stats"), Role::Viewer);
}

#[test]
fn names_are_completed_in_the_tree() {
    let commands = table(&[("rooms/admin", "ban"), ("rooms", "all"), ("rooms", "x-*")]);
    let check = |here: &str, line: &str, from: usize, expect: &[&str]| {
        let Completed::Words(at, words) = commands.complete(line, within(here)) else { panic!("{line:?}") };
        assert_eq!((at, &words[..]), (from, &expect.iter().map(|&w| w.to_owned()).collect::<Vec<_>>()[..]), "{line:?}");
    };
    check("", "ro", 0, &["rooms/"]);
    check("", "sh", 0, &["shards "]);
    check("", "rooms ", 6, &["admin/", "all "]);
    check("", "rooms/", 6, &["admin/", "all "]);
    check("", "  rooms a", 8, &["admin/", "all "]);
    check("", "/rooms/admin/b", 13, &["ban "]);
    check("rooms", "a", 0, &["admin/", "all "]);
    check("rooms", "../con", 3, &["conns/"]);
    check("rooms", "hel", 0, &["help "]);
    check("", "nonsense x", 9, &[]);
    check("", "rooms all x", 10, &[]);
    assert_eq!(commands.directories("ro", ROOT), (0, vec!["rooms/".to_owned()]));
    assert_eq!(commands.directories("rooms/a", ROOT), (6, vec!["admin/".to_owned()]));
}

#[test]
fn arguments_are_completed_by_who_knows_them() {
    let commands = Commands::default();
    let command = |name| RegisterCommand::new("im", name, "").unwrap();
    commands.register(&command("kind").completed_by(["chat", "channel", "bot"]).unwrap()).unwrap();
    commands.register(&command("user").completed_when_asked()).unwrap();
    let argument = |from, before: &str, word: &str| Argument { from, before: before.to_owned(), word: word.to_owned() };
    assert_eq!(
        commands.complete("im kind ch", ROOT),
        Completed::Words(8, vec!["chat ".to_owned(), "channel ".to_owned()])
    );
    assert_eq!(
        commands.complete("im user -v an", ROOT),
        Completed::Service("im".to_owned(), "user".to_owned(), argument(11, "-v", "an"))
    );
    assert_eq!(commands.complete("conns kick ", ROOT), Completed::Builtin(Builtin::ConnsKick, argument(11, "", "")));
}
