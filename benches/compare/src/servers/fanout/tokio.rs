//! The tokio peer: a broadcast channel, one task per connection that reads from the socket and from the channel.
//!
//! Invariant: nothing a tokio user would not write; a message is one allocation that all connections share.

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast;

use super::MESSAGE;
use crate::endpoint::Endpoint;

/// Messages a connection may be behind before it misses some.
const BEHIND: usize = 64;

pub fn run(endpoint: &Endpoint) -> Result<()> {
    let listener = endpoint.listen()?;
    listener.set_nonblocking(true)?;
    let room = broadcast::Sender::new(BEHIND);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        match endpoint {
            Endpoint::Tcp(..) => {
                let listener = TcpListener::from_std(listener.into())?;
                accept(async || Ok(listener.accept().await?.0), room).await
            }
            Endpoint::Unix(_) => {
                let listener = UnixListener::from_std(listener.into())?;
                accept(async || Ok(listener.accept().await?.0), room).await
            }
        }
    })
}

async fn accept<S, F>(next: impl Fn() -> F, room: broadcast::Sender<Bytes>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Result<S>>,
{
    loop {
        let stream = next().await?;
        tokio::spawn(serve(stream, room.clone()));
    }
}

/// Until the peer closes or falls too far behind.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, room: broadcast::Sender<Bytes>) -> Option<()> {
    let mut messages = room.subscribe();
    let mut received = BytesMut::new();
    loop {
        tokio::select! {
            message = messages.recv() => stream.write_all(&message.ok()?).await.ok()?,
            len = stream.read_buf(&mut received) => {
                if len.ok()? == 0 {
                    return None;
                }
                while received.len() >= MESSAGE {
                    room.send(received.split_to(MESSAGE).freeze()).ok()?;
                }
            }
        }
    }
}
