//! The tokio peer: a current_thread runtime, one task and one buffer per connection, read and write_all.
//!
//! Invariant: nothing a tokio user would not write; no tuning that belongs to another server.

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use crate::endpoint::Endpoint;

pub fn run(endpoint: &Endpoint, buffer: usize) -> Result<()> {
    let listener = endpoint.listen()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
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
    S: AsyncReadExt + AsyncWriteExt + Unpin + Send + 'static,
    F: Future<Output = Result<S>>,
{
    loop {
        let stream = next().await?;
        tokio::spawn(echo(stream, buffer));
    }
}

async fn echo(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, buffer: usize) {
    let mut bytes = vec![0; buffer];
    while let Ok(len @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}
