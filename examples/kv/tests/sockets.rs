//! The server over real sockets: pipelining, mistakes, and the same answers wherever the store runs.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use megamux_engine::net::Addr;
use megamux_engine::{Config, Engine, Pin, Placement, ShardId};
use megamux_kv_example::protocol::MAX_VALUE;

const DEADLINE: Duration = Duration::from_secs(20);

fn start(shards: usize, placement: Placement) -> Engine {
    let mut config = Config::default();
    config.shards = shards;
    config.pin = Pin::None;
    config.connections_per_shard = 1024;
    megamux_kv_example::start(config, "127.0.0.1:0", placement).expect("a server")
}

fn end(engine: Engine) {
    engine.drain(DEADLINE);
    engine.join().expect("an orderly end");
}

/// A client that reads replies as a person would: lines, and values by their length.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(engine: &Engine) -> Client {
        let addrs = engine.local_addrs();
        let Some((_, Addr::Tcp(addr))) = addrs.first() else { panic!("{addrs:?}") };
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn send(&self, bytes: &[u8]) {
        self.0.get_ref().write_all(bytes).unwrap();
    }

    /// Sends on a thread of its own, so that replies can be read meanwhile.
    fn send_aside(&self, bytes: Vec<u8>) -> thread::JoinHandle<()> {
        let mut stream = self.0.get_ref().try_clone().unwrap();
        thread::spawn(move || stream.write_all(&bytes).unwrap())
    }

    fn finish(&self) {
        self.0.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    #[track_caller]
    fn reply(&mut self) -> Vec<u8> {
        let mut reply = Vec::new();
        self.0.read_until(b'\n', &mut reply).unwrap();
        if let Some(length) = reply.strip_prefix(b"VALUE ") {
            let length: usize = str::from_utf8(length).unwrap().trim_end().parse().unwrap();
            let start = reply.len();
            reply.resize(start + length + 1, 0);
            self.0.read_exact(&mut reply[start..]).unwrap();
        }
        reply
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

/// What the server should answer, by a few lines that share nothing with it.
#[derive(Default)]
struct Model(HashMap<String, Vec<u8>>);

impl Model {
    fn get(&self, key: &str) -> Vec<u8> {
        match self.0.get(key) {
            Some(value) => [format!("VALUE {}\n", value.len()).as_bytes(), value, b"\n"].concat(),
            None => b"NONE\n".to_vec(),
        }
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Vec<u8> {
        self.0.insert(key.into(), value.into());
        b"OK\n".to_vec()
    }

    fn del(&mut self, key: &str) -> Vec<u8> {
        match self.0.remove(key) {
            Some(_) => b"OK\n".to_vec(),
            None => b"NONE\n".to_vec(),
        }
    }
}

/// Requests, and the replies they should get. `prefix` keeps the keys of two conversations apart.
fn conversation(prefix: &str, requests: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut model = Model::default();
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    for number in 0..requests {
        let key = format!("{prefix}-{}", number % 13);
        match number % 5 {
            0 | 3 => {
                // Every byte there is, line ends among them.
                let value: Vec<u8> = (0..number * 7 % 3000).map(|at| (at + number) as u8).collect();
                bytes.extend(format!("SET {key} {}\n", value.len()).as_bytes());
                bytes.extend(&value);
                bytes.push(b'\n');
                replies.push(model.set(&key, &value));
            }
            4 => {
                bytes.extend(format!("DEL {key}\n").as_bytes());
                replies.push(model.del(&key));
            }
            _ => {
                bytes.extend(format!("GET {key}\n").as_bytes());
                replies.push(model.get(&key));
            }
        }
    }
    (bytes, replies)
}

/// Many pipelined requests on several connections at once get the answers of the model, in order.
#[track_caller]
fn check(shards: usize, placement: Placement) {
    let engine = start(shards, placement);
    thread::scope(|scope| {
        for number in 0..4 {
            let mut client = Client::connect(&engine);
            scope.spawn(move || {
                let (requests, replies) = conversation(&format!("client-{number}"), 5000);
                let sending = client.send_aside(requests);
                for (number, reply) in replies.iter().enumerate() {
                    assert!(client.reply() == *reply, "reply {number}");
                }
                sending.join().unwrap();
                client.finish();
                assert_eq!(client.rest(), b"");
            });
        }
    });
    end(engine);
}

#[test]
fn the_store_answers_from_a_thread_of_its_own() {
    check(2, Placement::Thread);
}

#[test]
fn the_store_answers_from_one_shard_of_two() {
    check(2, Placement::Shard(ShardId(0)));
}

#[test]
fn the_store_answers_from_the_only_shard() {
    check(1, Placement::PerShard);
}

#[test]
fn one_store_cannot_be_on_every_shard() {
    let mut config = Config::default();
    config.shards = 2;
    let refused = megamux_kv_example::start(config, "127.0.0.1:0", Placement::PerShard);
    assert!(refused.is_err());
}

#[test]
fn what_one_connection_sets_another_gets() {
    let engine = start(2, Placement::Thread);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(&engine)).collect();
    for writer in 0..8 {
        clients[writer].send(format!("SET who 1\n{writer}\n").as_bytes());
        assert_eq!(clients[writer].reply(), b"OK\n");
        for reader in &mut clients {
            reader.send(b"GET who\n");
            assert_eq!(reader.reply(), format!("VALUE 1\n{writer}\n").as_bytes());
        }
    }
    drop(clients);
    end(engine);
}

#[test]
fn requests_may_come_byte_by_byte() {
    let engine = start(1, Placement::Thread);
    let mut client = Client::connect(&engine);
    client.0.get_ref().set_nodelay(true).unwrap();
    for byte in b"SET slow 6\na\n\0b\xff\n\nGET slow\n" {
        client.send(&[*byte]);
    }
    assert_eq!(client.reply(), b"OK\n");
    assert_eq!(client.reply(), b"VALUE 6\na\n\0b\xff\n\n");
    drop(client);
    end(engine);
}

#[test]
fn a_client_that_reads_late_gets_everything_it_asked_for() {
    const GETS: usize = 500;
    let engine = start(1, Placement::Thread);
    let mut client = Client::connect(&engine);
    let value = vec![b'v'; MAX_VALUE];
    client.send(&[format!("SET large {MAX_VALUE}\n").as_bytes(), &value, b"\n"].concat());
    assert_eq!(client.reply(), b"OK\n");
    // 32 MiB of replies, asked for at once, and nobody reads until all of it is asked for.
    client.send("GET large\n".repeat(GETS).as_bytes());
    client.finish();
    for _ in 0..GETS {
        assert_eq!(client.reply().len(), "VALUE 65536\n".len() + MAX_VALUE + 1);
    }
    assert_eq!(client.rest(), b"");
    end(engine);
}

#[test]
fn everything_asked_before_fin_is_answered() {
    let engine = start(2, Placement::Thread);
    let mut client = Client::connect(&engine);
    client.send(&b"DEL nothing\n".repeat(1000));
    client.finish();
    assert_eq!(client.rest(), b"NONE\n".repeat(1000));
    end(engine);
}

#[test]
fn a_mistake_is_told_after_the_replies_that_are_owed_and_ends_the_connection() {
    let engine = start(2, Placement::Thread);
    let mut client = Client::connect(&engine);
    client.send(&[&b"GET a\n".repeat(100)[..], b"PUT a\nGET a\n"].concat());
    assert_eq!(client.rest(), [&b"NONE\n".repeat(100)[..], b"ERROR unknown request\n"].concat());
    drop(client);
    end(engine);
}

#[test]
fn a_drain_answers_what_was_taken_and_then_closes() {
    let engine = start(2, Placement::Thread);
    let mut client = Client::connect(&engine);
    client.send(b"SET a 1\n1\n");
    assert_eq!(client.reply(), b"OK\n");
    engine.drain(DEADLINE);
    assert_eq!(client.rest(), b"");
    drop(client);
    engine.join().expect("an orderly end");
}
