//! The compio peer: its io_uring driver, one task and one buffer per connection, the buffer lent to each operation.
//!
//! Invariant: nothing a compio user would not write; no tuning that belongs to another server.

use anyhow::Result;
use compio::buf::BufResult;
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, UnixListener};
use compio::runtime::Runtime;

use crate::endpoint::Endpoint;

pub fn run(endpoint: &Endpoint, buffer: usize) -> Result<()> {
    let listener = endpoint.listen()?;
    Runtime::new()?.block_on(async {
        match endpoint {
            Endpoint::Tcp(..) => {
                let listener = TcpListener::from_std(listener.into())?;
                accept(async || Ok(listener.accept().await?.0), buffer).await
            }
            Endpoint::Unix(_) => {
                let listener = UnixListener::from_std(listener.into())?;
                accept(async || Ok(listener.accept().await?.0), buffer).await
            }
        }
    })
}

async fn accept<S, F>(next: impl Fn() -> F, buffer: usize) -> Result<()>
where
    S: AsyncRead + AsyncWrite + 'static,
    F: Future<Output = Result<S>>,
{
    loop {
        let stream = next().await?;
        compio::runtime::spawn(echo(stream, buffer)).detach();
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite, buffer: usize) {
    let mut bytes = Vec::with_capacity(buffer);
    loop {
        bytes.clear();
        let BufResult(outcome, read) = stream.read(bytes).await;
        let Ok(1..) = outcome else {
            return;
        };
        let BufResult(outcome, written) = stream.write_all(read).await;
        if outcome.is_err() {
            return;
        }
        bytes = written;
    }
}
