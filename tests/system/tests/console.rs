//! The operator's console, judged by other people's telnet clients and by a raw one at every split.

use std::io::Write;

use megamux_system_tests::{
    Caps, Directory, Ended, Options, Program, Server, Typed, connect, echo, read_to_end, scenarios, wait_until,
};

const PROMPT: &str = "megamux> ";
const MORE: &str = "--more--";

/// "right", hashed as cheaply as argon2 allows.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$P3OLBQw3O3GiY9hpX8wpK8qO6gQccIdDXnlkdzKceqU";

scenarios! {
    debian_telnet_operates_the_server
    plink_operates_the_server_over_telnet
    plink_operates_the_server_over_a_raw_connection
    debian_telnet_edits_completes_and_pages
    plink_edits_completes_and_pages
    debian_telnet_goes_to_line_mode_and_back
    debian_telnet_is_let_in_with_the_right_password
    debian_telnet_does_not_echo_a_password_in_line_mode
    negotiation_is_the_same_at_every_split
}

fn debian_telnet_operates_the_server(caps: Caps) {
    let Some(server) = start(caps) else { return };
    let Some(program) = Program::telnet(server.addr("telnet")) else {
        return;
    };
    operates_the_server(program, server);
}

fn plink_operates_the_server_over_telnet(caps: Caps) {
    let Some(server) = start(caps) else { return };
    let Some(program) = Program::plink("-telnet", server.addr("telnet")) else {
        return;
    };
    operates_the_server(program, server);
}

fn plink_operates_the_server_over_a_raw_connection(caps: Caps) {
    let Some(server) = start(caps) else { return };
    let Some(program) = Program::plink("-raw", server.addr("telnet")) else {
        return;
    };
    operates_the_server(program, server);
}

/// What an operator does in a session.
fn operates_the_server(mut program: Program, mut server: Server) {
    program.expect(PROMPT);
    let help = ask(&mut program, "help");
    for command in ["conns list", "conns kick", "shards", "stats", "quit"] {
        assert!(help.contains(command), "{command} in {help:?}");
    }

    let shards = ask(&mut program, "shards");
    assert!(shards.contains("buffers"), "{shards:?}");

    // Somebody else is found by the address, and sent away.
    let mut other = connect(server.echo());
    echo(&mut other, b"hello").expect("it is served");
    let list = ask(&mut program, "conns list");
    let peer = other.local_addr().expect("it is connected").to_string();
    let row = list.lines().find(|line| line.contains(&peer));
    let row = row.unwrap_or_else(|| panic!("{peer} in {list:?}"));
    let id = row.split_whitespace().next().expect("a row has an id");
    let kicked = ask(&mut program, &format!("conns kick {id}"));
    assert!(kicked.contains(&format!("kicked {id}")), "{kicked:?}");
    assert_eq!(read_to_end(&mut other), (Vec::new(), Ended::InOrder));

    program.type_line("quit");
    program.expect("good-bye");
    program.ends();
    drop(other);
    server.is_well();
}

/// Enters a line; all that is shown up to the next prompt, page by page.
fn ask(program: &mut Program, line: &str) -> String {
    program.type_line(line);
    let mut said = String::new();
    loop {
        let (found, text) = program.expect_any(&[PROMPT, MORE]);
        said += &text;
        if found == PROMPT {
            return said;
        }
        program.type_keys(" ");
    }
}

fn debian_telnet_edits_completes_and_pages(caps: Caps) {
    let Some(server) = start(caps) else { return };
    let Some(program) = Program::telnet_on(server.addr("telnet"), "xterm", (70, 10)) else {
        return;
    };
    edits_completes_and_pages(program, server);
}

fn plink_edits_completes_and_pages(caps: Caps) {
    let Some(server) = start(caps) else { return };
    let Some(program) = Program::plink_on(server.addr("telnet"), (70, 10)) else {
        return;
    };
    edits_completes_and_pages(program, server);
}

/// What an operator does on a terminal that sends each key; it has 70 columns and 10 rows.
fn edits_completes_and_pages(mut program: Program, mut server: Server) {
    program.expect(PROMPT);
    // The Tab key: a word that is the only one, and then those that may follow.
    program.type_keys("con\tli\t");
    program.expect("conns/list ");
    program.type_keys("\r");
    program.expect("1 connections");
    program.expect(PROMPT);
    program.type_keys("listeners \t");
    program.expect("pause");
    program.expect("resume");
    program.expect("listeners ");

    // Ctrl-C forgets the line, the arrow brings back the one before.
    program.type_keys("\x03");
    program.expect("^C");
    program.expect(PROMPT);
    program.type_keys("\x1b[A");
    program.expect("conns/list");
    program.type_keys("\x15help");
    program.expect("help");
    program.type_keys("\r");

    // Ten rows are a page of nine.
    let page = program.expect(MORE);
    assert_eq!(page.lines().count(), 1 + 9 + 1, "{page:?}");
    program.type_keys(" ");
    program.expect(MORE);
    program.type_keys("q");
    program.expect(PROMPT);
    // Keys may overtake the news of another size.
    program.resize((70, 7));
    wait_until("a page has six rows", || {
        program.type_keys("help\r");
        let page = program.expect(MORE);
        program.type_keys("q");
        program.expect(PROMPT);
        page.lines().count() == 1 + 6 + 1
    });

    // What goes on ends with Ctrl-C, as with any key.
    program.type_keys("watch -n 1 whoami\r");
    program.expect("nobody asks");
    program.expect("nobody asks");
    program.type_keys("\x03");
    program.expect(PROMPT);
    program.type_keys("quit\r");
    program.expect("good-bye");
    program.ends();
    server.is_well();
}

fn debian_telnet_goes_to_line_mode_and_back(caps: Caps) {
    let Some(mut server) = start(caps) else { return };
    let Some(mut program) = Program::telnet_on(server.addr("telnet"), "xterm", (70, 10)) else {
        return;
    };
    program.expect(PROMPT);
    // Its own prompt, behind the escape key.
    program.type_keys("\x1d");
    program.expect("telnet>");
    program.type_keys("mode line\n");
    program.waits_until_telnet_takes(Typed::Lines);
    program.type_keys("help quit\n");
    program.expect("Ends this session.");
    program.expect(PROMPT);
    // Its terminal takes the key back before the line is sent.
    program.type_keys("whoamx\x7fi\n");
    program.expect("nobody asks");
    program.expect(PROMPT);

    program.type_keys("\x1d");
    program.expect("telnet>");
    program.type_keys("mode character\n");
    program.waits_until_telnet_takes(Typed::Keys);
    program.type_keys("con\tli\t");
    program.expect("conns/list ");
    program.type_keys("\x15quit\r");
    program.expect("good-bye");
    program.ends();
    server.is_well();
}

fn debian_telnet_is_let_in_with_the_right_password(caps: Caps) {
    let Some((mut server, _directory)) = start_with_operators(caps) else { return };
    let Some(mut program) = Program::telnet_on(server.addr("telnet"), "xterm", (70, 24)) else {
        return;
    };
    program.expect("login: ");
    program.type_keys("ann\r");
    program.expect("password: ");
    program.type_keys("wrong\r");
    let said = program.expect("login incorrect");
    assert!(!said.contains("wrong"), "a password is not shown: {said:?}");
    program.expect("login: ");
    program.type_keys("ann\r");
    program.expect("password: ");
    program.type_keys("right\r");
    let said = program.expect("welcome ann, operator");
    assert!(!said.contains("right"), "a password is not shown: {said:?}");
    program.expect(PROMPT);
    program.type_keys("whoami\r");
    program.expect("ann, operator, on connection");
    program.expect(PROMPT);
    program.type_keys("listeners drain telnet\r");
    program.expect("drain is for admins and above");
    program.type_keys("quit\r");
    program.expect("good-bye");
    program.ends();
    server.is_well();
}

fn debian_telnet_does_not_echo_a_password_in_line_mode(caps: Caps) {
    let Some((mut server, _directory)) = start_with_operators(caps) else { return };
    let Some(mut program) = Program::telnet_on(server.addr("telnet"), "xterm", (70, 24)) else {
        return;
    };
    program.expect("login: ");
    program.type_keys("\x1d");
    program.expect("telnet> ");
    program.type_keys("mode line\r");
    program.waits_until_telnet_takes(Typed::Lines);
    program.type_keys("ann\r");
    program.expect("password: ");
    program.waits_until_typing_shows(false);
    program.type_keys("right\r");
    let said = program.expect("welcome ann, operator");
    assert!(!said.contains("right"), "a password is not shown: {said:?}");
    program.expect(PROMPT);
    program.waits_until_typing_shows(true);
    program.type_keys("whoami\r");
    program.expect("ann, operator, on connection");
    program.expect(PROMPT);
    program.type_keys("quit\r");
    program.expect("good-bye");
    program.ends();
    server.is_well();
}

fn negotiation_is_the_same_at_every_split(caps: Caps) {
    let Some(mut server) = start(caps) else {
        return;
    };
    const SAID: &[u8] = b"\
        \xff\xfb\x1f\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0\
        \xff\xfd\x01\xff\xfb\x18\xff\xfe\x03\xff\xf1\
        help quit\xff\xff\r\n\xff\xfa\x18\x00xterm\xff\xf0\
        help \xff\xf9quit\r\0\r\nquit\r\n";
    let whole = session(&server, &[SAID]);
    assert!(whole.text.ends_with("good-bye\r\n"), "{whole:?}");
    assert_eq!(whole.text.matches("Ends this session.").count(), 1);
    assert!(whole.commands.contains(&vec![255, 253, 31]), "{whole:?}");
    // It goes on without "go ahead", so it edits by itself, and so nobody echoes for it.
    assert!(whole.commands.contains(&vec![255, 252, 1]), "{whole:?}");
    assert!(whole.commands.contains(&vec![255, 250, 24, 1, 255, 240]), "{whole:?}");
    for at in 1..SAID.len() {
        let (first, last) = SAID.split_at(at);
        assert_eq!(session(&server, &[first, last]), whole, "split at {at}");
    }
    server.is_well();
}

/// What the server said in a session: text, and telnet commands in their order. How the two mix is a matter of time.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    text: String,
    commands: Vec<Vec<u8>>,
}

/// A session in which the server sees each part by itself.
fn session(server: &Server, parts: &[&[u8]]) -> Said {
    let mut stream = connect(server.addr("telnet"));
    let mut metrics = server.metrics();
    for part in parts {
        stream.write_all(part).expect("the server reads");
        // Whatever is answered after this was asked after the part had come.
        metrics.figures();
    }
    let (bytes, ended) = read_to_end(&mut stream);
    assert_eq!(ended, Ended::InOrder);
    split(&bytes)
}

fn split(bytes: &[u8]) -> Said {
    let mut said = Said { text: String::new(), commands: Vec::new() };
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let length = match (byte, after.first()) {
            (255, Some(251..=254)) => 3,
            (255, Some(250)) => rest.windows(2).position(|pair| pair == [255, 240]).map_or(2, |at| at + 2),
            (255, _) => 2,
            _ => {
                said.text.push(char::from(byte));
                rest = after;
                continue;
            }
        };
        let (command, after) = rest.split_at(length);
        said.commands.push(command.to_vec());
        rest = after;
    }
    said
}

fn start(caps: Caps) -> Option<Server> {
    Options::new(caps).set("telnet", "127.0.0.1:0").start()
}

/// One that knows Ann, an operator, and what it reads that from.
fn start_with_operators(caps: Caps) -> Option<(Server, Directory)> {
    let directory = Directory::new();
    let operators = directory.path("operators");
    let config = directory.path("megamux.toml");
    std::fs::write(&operators, format!("user ann operator {HASH}\n")).expect("the directory is ours");
    std::fs::write(&config, format!("console.operators = {operators:?}\n")).expect("the directory is ours");
    let server = Options::new(caps).set("telnet", "127.0.0.1:0").set("config", config.display()).start()?;
    Some((server, directory))
}
