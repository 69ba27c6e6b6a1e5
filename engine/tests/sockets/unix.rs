//! Listening on a path.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use megamux_engine::{Listen, NO_SERVICE, Origin};

use crate::harness::{DEADLINE, On, builder, drain, next, script};

#[test]
fn connections_over_a_unix_socket_have_no_peer_address() {
    let path = std::env::temp_dir().join(format!("megamux-{}.sock", std::process::id()));
    let (opened, opens) = mpsc::channel();
    let mut builder = builder(2);
    builder
        .listen(Listen::unix(&path), &NO_SERVICE, move |_| {
            let opened = opened.clone();
            script(move |cx, on| {
                if let On::Open(info) = &on {
                    opened.send(**info).unwrap();
                }
                on.echo(cx)
            })
        })
        .unwrap();
    let engine = builder.start().unwrap();
    for _ in 0..10 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(b"through the file system").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut echoed = String::new();
        stream.read_to_string(&mut echoed).unwrap();
        assert_eq!(echoed, "through the file system");
        let info = next(&opens);
        assert_eq!((info.peer, info.origin), (None, Origin::Accepted));
    }
    drain(engine);
    let _ = std::fs::remove_file(path);
}
