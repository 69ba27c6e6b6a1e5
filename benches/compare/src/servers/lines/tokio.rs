//! The tokio peer: a current_thread runtime with one task per connection, and a worker thread behind bounded channels.
//!
//! Invariant: nothing a tokio user would not write, and the best found of that. Lines are decoded by tokio-util's
//! `LinesCodec` and written with one flush per batch. A connection passes the lines at hand on together, and they come
//! back together: with a channel item for each line the threads wake each other for every few, which costs twice as much.

use std::thread;

use anyhow::Result;
use bytes::{BufMut, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder, Encoder, Framed, LinesCodec, LinesCodecError};

use super::UNDER_WAY;
use crate::endpoint::Endpoint;

/// Lines that go from thread to thread together, at most.
const BATCH: usize = 64;

/// Batches of answers that may wait for their connection.
const ANSWERS: usize = 16;

/// The longest line, as of the other server.
const MAX_LINE: usize = megamux_telnet::MAX_LINE;

struct Request {
    lines: Vec<String>,
    answers: mpsc::Sender<Vec<String>>,
}

pub fn run(endpoint: &Endpoint) -> Result<()> {
    let listener = endpoint.listen()?;
    listener.set_nonblocking(true)?;
    let (requests, inbox) = mpsc::channel(UNDER_WAY / BATCH);
    thread::spawn(move || answer(inbox));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        match endpoint {
            Endpoint::Tcp(..) => {
                let listener = TcpListener::from_std(listener.into())?;
                accept(async || Ok(listener.accept().await?.0), requests).await
            }
            Endpoint::Unix(_) => {
                let listener = UnixListener::from_std(listener.into())?;
                accept(async || Ok(listener.accept().await?.0), requests).await
            }
        }
    })
}

/// Answers each line with its text.
fn answer(mut inbox: mpsc::Receiver<Request>) {
    let mut requests = Vec::new();
    while inbox.blocking_recv_many(&mut requests, UNDER_WAY / BATCH) > 0 {
        for Request { lines, answers } in requests.drain(..) {
            // Fails only if the connection is gone.
            let _ = answers.blocking_send(lines);
        }
    }
}

async fn accept<S, F>(next: impl Fn() -> F, requests: mpsc::Sender<Request>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Result<S>>,
{
    loop {
        let stream = next().await?;
        tokio::spawn(serve(stream, requests.clone()));
    }
}

/// Until the peer closes or sends what is no line.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, requests: mpsc::Sender<Request>) -> Option<()> {
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    let mut lines = Framed::new(stream, Telnet(LinesCodec::new_with_max_length(MAX_LINE)));
    let mut batches = Vec::with_capacity(ANSWERS);
    loop {
        tokio::select! {
            _ = answered.recv_many(&mut batches, ANSWERS) => {
                for answer in batches.drain(..).flatten() {
                    lines.feed(answer).await.ok()?;
                }
                lines.flush().await.ok()?;
            }
            line = lines.next() => {
                let mut batch = vec![line?.ok()?];
                while batch.len() < BATCH && let Some(line) = lines.next().now_or_never() {
                    batch.push(line?.ok()?);
                }
                requests.send(Request { lines: batch, answers: answers.clone() }).await.ok()?;
            }
        }
    }
}

/// Lines end in CR LF (RFC 854), which `LinesCodec` understands but does not write.
struct Telnet(LinesCodec);

impl Decoder for Telnet {
    type Item = String;
    type Error = LinesCodecError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<String>, LinesCodecError> {
        self.0.decode(bytes)
    }
}

impl Encoder<String> for Telnet {
    type Error = LinesCodecError;

    fn encode(&mut self, line: String, bytes: &mut BytesMut) -> Result<(), LinesCodecError> {
        bytes.reserve(line.len() + 2);
        bytes.put_slice(line.as_bytes());
        bytes.put_slice(b"\r\n");
        Ok(())
    }
}
