//! The memory floor: a blocking loop that accepts, answers one message, and keeps the socket without waiting on it.
//!
//! Invariant: a served connection costs the kernel an accepted socket with a descriptor, and nothing else. A silent
//! client would block it for ever; it serves only the idle scenario.

use anyhow::Result;
use socket2::Socket;
use std::io::{Read, Write};

pub fn run(listener: Socket, buffer: usize) -> Result<()> {
    let mut kept = Vec::new();
    let mut bytes = vec![0; buffer];
    loop {
        let (mut socket, _) = listener.accept()?;
        // A client that only looks whether somebody listens closes at once.
        let Ok(len @ 1..) = socket.read(&mut bytes) else {
            continue;
        };
        socket.write_all(&bytes[..len])?;
        kept.push(socket);
    }
}
