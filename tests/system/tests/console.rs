//! The operator's console, judged by other people's telnet clients and by a raw one at every split.

use std::io::Write;

use megamux_system_tests::{Caps, Ended, Options, Program, Server, connect, echo, read_to_end, scenarios};

const PROMPT: &str = "megamux> ";

scenarios! {
    debian_telnet_operates_the_server
    plink_operates_the_server_over_telnet
    plink_operates_the_server_over_a_raw_connection
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
    program.type_line("help");
    let help = program.expect(PROMPT);
    for command in ["conns list", "conns kick", "shards", "stats", "quit"] {
        assert!(help.contains(command), "{command} in {help:?}");
    }

    program.type_line("shards");
    let shards = program.expect(PROMPT);
    assert!(shards.contains("buffers"), "{shards:?}");

    // Somebody else is found by the address, and sent away.
    let mut other = connect(server.echo());
    echo(&mut other, b"hello").expect("it is served");
    program.type_line("conns list");
    let list = program.expect(PROMPT);
    let peer = other.local_addr().expect("it is connected").to_string();
    let row = list.lines().find(|line| line.contains(&peer));
    let row = row.unwrap_or_else(|| panic!("{peer} in {list:?}"));
    let id = row.split_whitespace().next().expect("a row has an id");
    program.type_line(&format!("conns kick {id}"));
    let kicked = program.expect(PROMPT);
    assert!(kicked.contains(&format!("kicked {id}")), "{kicked:?}");
    assert_eq!(read_to_end(&mut other), (Vec::new(), Ended::InOrder));

    program.type_line("quit");
    program.expect("good-bye");
    program.ends();
    drop(other);
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
    assert!(whole.commands.contains(&vec![255, 252, 1]), "{whole:?}");
    assert!(whole.commands.contains(&vec![255, 254, 24]), "{whole:?}");
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
