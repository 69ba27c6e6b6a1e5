//! Crowds: many connections that come at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};

use megamux_engine::{Engine, Listen, NO_SERVICE};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::harness::{DEADLINE, On, addr, config, drain, script};

/// Nearly as many as a backlog holds by default, and together with their first words more than the completion queue does.
const CROWD: usize = 4000;

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, DEADLINE).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
    stream
}

fn say(stream: &mut TcpStream) {
    stream.write_all(b"word").expect("send");
}

fn expect_answer(stream: &mut TcpStream) {
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"word");
}

#[test]
fn a_crowd_that_the_kernel_accepts_at_once_overflows_nothing() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("a higher limit on open files");
    let mut config = config(1);
    config.connections_per_shard = CROWD as u32 + 64;
    let mut builder = Engine::builder(config).unwrap();
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(Some(gone));
    builder
        .listen(Listen::tcp("127.0.0.1:0"), &NO_SERVICE, move |_| {
            let mut gone = gone.lock().unwrap().take();
            script(move |cx, on| {
                if let (On::Open(_), Some(gone)) = (&on, gone.take()) {
                    // While the shard stands still, who comes waits in the backlog.
                    let _ = gone.recv_timeout(DEADLINE);
                }
                on.echo(cx)
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    let mut first = connect(addr(&engine));
    let mut crowd: Vec<_> = (0..CROWD).map(|_| connect(addr(&engine))).collect();
    crowd.iter_mut().chain([&mut first]).for_each(say);
    drop(go);
    crowd.iter_mut().chain([&mut first]).for_each(expect_answer);
    let stats = engine.stats().total();
    assert_eq!((stats.accepts, stats.completion_overflows), (1 + CROWD as u64, 0));
    drop((first, crowd));
    drain(engine);
}
