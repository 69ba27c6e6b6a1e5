//! The console from end to end: a real engine on loopback, and a client that knows bytes only.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use megamux_console::{Access, Role, Setup};
use megamux_engine::net::Addr;
use megamux_engine::{Config, Engine, Listen, Pin, Placement, ShardId};

/// Every wait in here ends long before this, or the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

const IAC: u8 = 255;
const PROMPT: &str = "megamux> ";
/// What the server says first: WILL ECHO, WILL SUPPRESS-GO-AHEAD, DO NAWS, DO TERMINAL-TYPE.
const HELLO: &[u8] = &[IAC, 251, 1, IAC, 251, 3, IAC, 253, 31, IAC, 253, 24];
/// A client that takes all of it, with a window of 60 columns and 10 rows, and an xterm.
const KEYS: &[u8] = &[
    IAC, 253, 1, IAC, 253, 3, IAC, 251, 31, IAC, 251, 24, IAC, 250, 31, 0, 60, 0, 10, IAC, 240, IAC, 250, 24, 0, b'x',
    b't', b'e', b'r', b'm', IAC, 240,
];

fn config(shards: usize) -> Config {
    let mut config = Config::default();
    config.shards = shards;
    config.pin = Pin::None;
    config.connections_per_shard = 64;
    config
}

fn engine(shards: usize, placement: Placement) -> (Engine, SocketAddr) {
    let mut builder = Engine::builder(config(shards)).unwrap();
    megamux_console::install(&mut builder, Listen::tcp("127.0.0.1:0"), placement).unwrap();
    let engine = builder.start().unwrap();
    let (_, addr) = engine.local_addrs().remove(0);
    let Addr::Tcp(addr) = addr else { panic!("{addr}") };
    (engine, addr)
}

struct Client(TcpStream);

impl Client {
    /// Connects and waits for the first prompt.
    fn new(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client(stream);
        let greeting = client.until(PROMPT.as_bytes());
        let greeting = greeting.strip_prefix(HELLO).expect("negotiation comes first");
        assert!(greeting.starts_with(b"megamux "), "{greeting:?}");
        client
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Everything up to and with the first `end`.
    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut got = Vec::new();
        let mut byte = [0];
        while !got.ends_with(end) {
            // Not a bare `read`: a signal may end that without a byte.
            self.0
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("{error} after {:?}", got.escape_ascii().to_string()));
            got.push(byte[0]);
        }
        got
    }

    /// Everything up to the end of the stream.
    fn until_closed(&mut self) -> Vec<u8> {
        let mut got = Vec::new();
        match self.0.read_to_end(&mut got) {
            Ok(_) => got,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => got,
            Err(error) => panic!("{error}"),
        }
    }

    /// Enters a line; the answer without the prompt.
    fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        let answer = self.until(PROMPT.as_bytes());
        let answer = String::from_utf8(answer).unwrap();
        answer.strip_suffix(PROMPT).unwrap().to_owned()
    }

    /// This client's row in `conns list`, as `by` sees it, taken apart at white space.
    fn row(&self, by: &mut Client) -> Vec<String> {
        let peer = self.0.local_addr().unwrap().to_string();
        let list = by.ask("conns list");
        let mut rows = list.lines().map(|line| line.split_whitespace().map(str::to_owned).collect());
        rows.find(|row: &Vec<String>| row.contains(&peer)).unwrap_or_else(|| panic!("{peer} is not in {list}"))
    }

    fn id(&self, by: &mut Client) -> String {
        self.row(by).remove(0)
    }
}

/// One operator's way through everything that is the same on every machine.
fn transcript(placement: Placement) -> Vec<String> {
    let (engine, addr) = engine(1, placement);
    let mut client = Client::new(addr);
    let mut other = Client::new(addr);
    let id = other.id(&mut client);
    let mut said: Vec<String> =
        ["help", "help conns kick", "", "conns", "shard", "conns show 7"].iter().map(|line| client.ask(line)).collect();
    // How wide a column is depends on what is in it.
    for line in ["shards", "stats accepts", "conns list"] {
        let text = client.ask(line);
        let headings = text.lines().next().unwrap_or_default();
        said.push(headings.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let kicked = client.ask(&format!("conns kick {id}"));
    let peer = other.0.local_addr().unwrap().to_string();
    said.push(kicked.replace(&peer, "PEER").replace(&id, "ID"));
    assert_eq!(other.until_closed(), b"");
    client.send("quit\r\n");
    said.push(String::from_utf8(client.until_closed()).unwrap());
    // Else the engine would wait for the other half of the connection to end, too.
    drop(client);
    engine.drain(DEADLINE);
    engine.join().unwrap();
    said
}

#[test]
fn every_placement_gives_the_same_answers() {
    let thread = transcript(Placement::Thread);
    assert!(thread[0].contains("\r\n  shards            Shows"), "{thread:?}");
    assert_eq!(thread[2], "");
    assert!(thread[6].starts_with("shard opening open"), "{thread:?}");
    assert_eq!(thread[9], "kicked ID, peer PEER\r\n");
    assert_eq!(thread[10], "good-bye\r\n");
    assert_eq!(thread, transcript(Placement::Shard(ShardId(0))));
    assert_eq!(thread, transcript(Placement::PerShard));
}

#[test]
fn a_console_with_state_cannot_be_on_every_shard() {
    let mut config = Config::default();
    config.shards = 2;
    let mut builder = Engine::builder(config).unwrap();
    let listen = Listen::tcp("127.0.0.1:0");
    assert!(megamux_console::install(&mut builder, listen, Placement::PerShard).is_err());
}

#[test]
fn all_shards_are_shown_and_reached() {
    let (_engine, addr) = engine(2, Placement::Thread);
    let mut client = Client::new(addr);
    let shards = client.ask("shards");
    let first: Vec<_> = shards.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(first, ["shard", "0", "1", "all", "rates"], "{shards}");

    let mut others: Vec<Client> = (0..8).map(|_| Client::new(addr)).collect();
    let list = client.ask("conns list --limit 2");
    assert!(list.ends_with("9 connections, 7 not shown (--limit N)\r\n"), "{list}");
    for other in &mut others {
        let row = other.row(&mut client);
        assert_eq!((&*row[4], &*row[2]), ("accepted", "0"), "{row:?}");
        let details = client.ask(&format!("conns show {}", row[0]));
        assert!(details.contains(&format!("shard     {}\r\n", row[1])), "{details}");
        client.ask(&format!("conns kick {}", row[0]));
        assert_eq!(other.until_closed(), b"");
    }
}

#[test]
fn negotiation_may_be_cut_anywhere() {
    let (_engine, addr) = engine(1, Placement::Thread);
    // WILL NAWS and a window of 40 columns, whose low byte may not be taken for data; DONT ECHO and DO of what nobody knows,
    // which is refused; and a line with an "are you there" in its middle.
    let mut bytes = vec![IAC, 251, 31, IAC, 250, 31, 0, 40, 0, 24, IAC, 240];
    bytes.extend([IAC, 254, 1, IAC, 253, 99]);
    bytes.extend(b"help ");
    bytes.extend([IAC, 246]);
    bytes.extend(b"quit\r\0");
    let refused = [IAC, 252, 99];
    let mut expect = refused.to_vec();
    expect.extend(b"\r\n[yes]\r\nquit\r\n  Ends this session.\r\nmegamux> ");

    let mut bystander = Client::new(addr);
    for cut in 0..=bytes.len() {
        let mut client = Client::new(addr);
        client.send(&bytes[..cut]);
        // By the time another client has its answer, the first part has been read on its own.
        bystander.ask("");
        client.send(&bytes[cut..]);
        let got = client.until(PROMPT.as_bytes());
        assert_eq!(got.escape_ascii().to_string(), expect.escape_ascii().to_string(), "cut at {cut}");
    }
}

#[test]
fn a_client_that_sends_it_all_and_ends_gets_every_answer_in_order() {
    const LINES: usize = 3000;
    let (_engine, addr) = engine(1, Placement::Thread);
    let mut client = Client::new(addr);
    let lines: String = (0..LINES).map(|line| format!("xyzzy {line}\n")).collect();
    client.send(lines);
    client.0.shutdown(Shutdown::Write).unwrap();
    let got = String::from_utf8(client.until_closed()).unwrap();
    let answers: Vec<&str> = got.split(PROMPT).collect();
    assert_eq!(answers.len(), LINES + 1);
    for (line, answer) in answers[..LINES].iter().enumerate() {
        let expect = format!("unknown command: xyzzy {line}\r\n");
        assert!(answer.starts_with(&expect), "{line}: {answer}");
    }
}

#[test]
fn a_line_too_long_is_refused_and_the_session_lives_on() {
    let (_engine, addr) = engine(1, Placement::Thread);
    let mut client = Client::new(addr);
    let answer = client.ask(&"x".repeat(100_000));
    assert_eq!(answer, "line too long: at most 4096 bytes\r\n");
    assert_eq!(client.ask("help quit"), "quit\r\n  Ends this session.\r\n");
}

#[test]
fn a_subnegotiation_without_end_closes_the_connection() {
    let (engine, addr) = engine(1, Placement::Thread);
    let mut client = Client::new(addr);
    let mut bytes = vec![IAC, 250, 31];
    bytes.resize(20_000, 0);
    client.send(bytes);
    assert_eq!(client.until_closed(), b"");
    let mut another = Client::new(addr);
    let stats = another.ask("stats protocol_error");
    assert!(stats.ends_with("megamux_closes_total{reason=\"protocol_error\"}      1\r\n"), "{stats}");
    drop(engine);
}

#[test]
fn what_a_client_types_comes_back_harmless() {
    let (_engine, addr) = engine(1, Placement::Thread);
    let mut client = Client::new(addr);
    client.send(b"\x1b]0;owned\x07 \xff\xff \xc2\x9b31m\r\n");
    let answer = client.until(PROMPT.as_bytes());
    let text = String::from_utf8(answer).unwrap();
    assert!(text.chars().all(|c| !c.is_control() || matches!(c, '\r' | '\n')), "{text:?}");
}

/// What stays of the server's bytes when telnet commands are taken out.
fn shown(bytes: &[u8]) -> String {
    let mut shown = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (IAC, [250, sub @ ..]) => {
                let end = sub.windows(2).position(|pair| pair == [IAC, 240]).expect("it ends");
                &sub[end + 2..]
            }
            (IAC, [251..=254, _, after @ ..]) => after,
            (IAC, [_, after @ ..]) => after,
            _ => {
                shown.push(byte);
                after
            }
        };
    }
    String::from_utf8(shown).unwrap()
}

#[test]
fn keys_are_edited_completed_and_remembered() {
    let (_engine, addr) = engine(1, Placement::Thread);
    let mut client = Client::new(addr);
    client.send(KEYS);
    client.send("hlp\x1b[D\x1b[De\x05 qu\t");
    assert!(shown(&client.until(b"quit ")).starts_with("h"));
    client.send("\r");
    assert_eq!(shown(&client.until(PROMPT.as_bytes())), format!("\r\nquit\r\n  Ends this session.\r\n{PROMPT}"));
    client.send("\x1b[A");
    assert_eq!(shown(&client.until(b"help quit")), "help quit");
    client.send("\x03");
    assert_eq!(shown(&client.until(PROMPT.as_bytes())), format!("^C\r\n{PROMPT}"));
}

#[test]
fn long_answers_stop_at_the_windows_height() {
    let (_engine, addr) = engine(1, Placement::Thread);
    let mut client = Client::new(addr);
    client.send(KEYS);
    client.send("help\r");
    let page = shown(&client.until(b"--more--"));
    assert_eq!(page.lines().count(), 1 + 9 + 1, "the line, the page, and the question: {page}");
    client.send(" ");
    client.until(b"--more--");
    client.send("q");
    assert!(shown(&client.until(PROMPT.as_bytes())).ends_with(PROMPT));
    // A watch clears the screen and goes on until a key is typed.
    client.send("watch -n 1 whoami\r");
    client.until(b"nobody asks");
    client.until(b"nobody asks");
    client.send("x");
    client.until(PROMPT.as_bytes());
    client.send("quit\r");
    assert!(shown(&client.until_closed()).ends_with("good-bye\r\n"));
}

#[test]
fn a_client_may_leave_character_mode_and_come_back() {
    let (_engine, addr) = engine(1, Placement::Thread);
    let mut client = Client::new(addr);
    client.send(KEYS);
    client.send("hel");
    client.until(b"hel");
    // DONT SUPPRESS-GO-AHEAD: it edits by itself, and so we stop to echo.
    client.send([IAC, 254, 3]);
    client.until(&[IAC, 252, 1]);
    assert_eq!(client.ask("help quit"), "quit\r\n  Ends this session.\r\n");
    client.send([IAC, 254, 1, IAC, 253, 3]);
    client.until(&[IAC, 251, 1]);
    client.send([IAC, 253, 1]);
    client.send("whoam\x7fmi\r");
    assert!(shown(&client.until(PROMPT.as_bytes())).contains("nobody asks who you are"));
    // LINEMODE of RFC 1184 is agreed to, with EDIT and TRAPSIG.
    client.send([IAC, 251, 34]);
    // It would show nothing of what it edits while we say that we echo.
    client.until(&[IAC, 252, 1]);
    client.until(&[IAC, 250, 34, 1, 3, IAC, 240]);
    client.send([IAC, 254, 1, IAC, 250, 34, 1, 7, IAC, 240]);
    assert_eq!(client.ask("help quit"), "quit\r\n  Ends this session.\r\n");
    // And back.
    client.send([IAC, 252, 34]);
    client.until(&[IAC, 251, 1]);
}

#[test]
fn a_script_in_character_mode_gets_every_answer_in_order() {
    const LINES: usize = 1000;
    let (_engine, addr) = engine(1, Placement::Thread);
    let mut client = Client::new(addr);
    let mut bytes = KEYS.to_vec();
    bytes.extend((0..LINES).flat_map(|line| format!("xyzzy {line}\r").into_bytes()));
    client.send(bytes);
    client.0.shutdown(Shutdown::Write).unwrap();
    let got = shown(&client.until_closed());
    let asked = got.matches("unknown command: xyzzy ").count();
    assert_eq!(asked, LINES);
    for (line, answer) in got.split(PROMPT).take(LINES).enumerate() {
        assert!(
            answer.starts_with(&format!("xyzzy {line}\r\nunknown command: xyzzy {line}\r\n")),
            "{line}: {answer:?}"
        );
    }
}

#[test]
fn a_drain_says_good_bye_and_ends() {
    let (engine, addr) = engine(2, Placement::Thread);
    let mut client = Client::new(addr);
    engine.drain(DEADLINE);
    let last = client.until_closed();
    assert_eq!(last, b"\r\nthe engine drains: good-bye\r\n");
    engine.join().unwrap();
}

/// "right", hashed as cheaply as argon2 allows.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$P3OLBQw3O3GiY9hpX8wpK8qO6gQccIdDXnlkdzKceqU";

/// A client that takes WILL SUPPRESS-GO-AHEAD and WILL ECHO as `answers` say, and then logs in: when its own echo had to be off.
fn password_of_a_client_that_edits_by_itself(answers: &[u8]) {
    let mut builder = Engine::builder(config(1)).unwrap();
    let mut access = Access::open();
    access.add("ann", HASH, Role::Viewer).unwrap();
    Setup::new().access(access).install(&mut builder, Listen::tcp("127.0.0.1:0"), Placement::Thread).unwrap();
    let engine = builder.start().unwrap();
    let (_, addr) = engine.local_addrs().remove(0);
    let Addr::Tcp(addr) = addr else { panic!("{addr}") };
    let stream = TcpStream::connect_timeout(&addr, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut client = Client(stream);
    client.until(b"login: ");
    client.send(answers);
    client.send("ann\r\n");
    let asked = client.until(&[IAC, 251, 1]);
    assert!(asked.ends_with(b"password: \xff\xfb\x01"), "{:?}", asked.escape_ascii().to_string());
    client.send([IAC, 253, 1]);
    client.send("right\r\n");
    let welcome = client.until(PROMPT.as_bytes());
    assert!(welcome.starts_with(b"\r\nwelcome ann"), "{:?}", welcome.escape_ascii().to_string());
    client.until(&[IAC, 252, 1]);
    client.send([IAC, 254, 1]);
    client.send("help quit\r\n");
    let answer = client.until(PROMPT.as_bytes());
    assert!(answer.starts_with(b"quit\r\n"), "nothing is echoed: {:?}", answer.escape_ascii().to_string());
}

#[test]
fn the_echo_is_taken_over_for_a_password_and_given_back() {
    // It takes the echo, refuses the rest, and agrees that it echoes again; it refuses both; it refuses the echo alone.
    password_of_a_client_that_edits_by_itself(&[IAC, 253, 1, IAC, 254, 3, IAC, 254, 1]);
    password_of_a_client_that_edits_by_itself(&[IAC, 254, 1, IAC, 254, 3]);
    password_of_a_client_that_edits_by_itself(&[IAC, 254, 1, IAC, 253, 3]);
}
