//! The console from end to end: a real engine on loopback, and a client that knows bytes only.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use megamux_engine::net::Addr;
use megamux_engine::{Config, Engine, Listen, Pin, Placement, ShardId};

/// Every wait in here ends long before this, or the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

const IAC: u8 = 255;
const PROMPT: &str = "megamux> ";
/// What the server says first: IAC DO NAWS.
const HELLO: &[u8] = &[IAC, 253, 31];

fn engine(shards: usize, placement: Placement) -> (Engine, SocketAddr) {
    let mut config = Config::default();
    config.shards = shards;
    config.pin = Pin::None;
    config.connections_per_shard = 64;
    let mut builder = Engine::builder(config).unwrap();
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
        let greeting = greeting.strip_prefix(HELLO).expect("DO NAWS comes first");
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
    assert!(thread[0].contains("\r\n  shards      Shows"), "{thread:?}");
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
    // WILL NAWS and a window of 40 columns, whose low byte may not be taken for data; DO ECHO and DO of what nobody knows,
    // both refused; and a line with an "are you there" in its middle.
    let mut bytes = vec![IAC, 251, 31, IAC, 250, 31, 0, 40, 0, 24, IAC, 240];
    bytes.extend([IAC, 253, 1, IAC, 253, 99]);
    bytes.extend(b"help ");
    bytes.extend([IAC, 246]);
    bytes.extend(b"quit\r\0");
    let refused = [IAC, 252, 1, IAC, 252, 99];
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

#[test]
fn a_drain_says_good_bye_and_ends() {
    let (engine, addr) = engine(2, Placement::Thread);
    let mut client = Client::new(addr);
    engine.drain(DEADLINE);
    let last = client.until_closed();
    assert_eq!(last, b"\r\nthe engine drains: good-bye\r\n");
    engine.join().unwrap();
}
