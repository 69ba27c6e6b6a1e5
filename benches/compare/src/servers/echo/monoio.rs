//! The monoio peer: its io_uring driver, one task and one buffer per connection, the buffer lent to each operation.
//!
//! Invariant: nothing a monoio user would not write; no tuning that belongs to another server.

use anyhow::Result;
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, UnixListener};
use monoio::{IoUringDriver, RuntimeBuilder};

use crate::endpoint::Endpoint;

pub fn run(endpoint: &Endpoint, buffer: usize) -> Result<()> {
    let listener = endpoint.listen()?;
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().build()?;
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
    S: AsyncReadRent + AsyncWriteRent + 'static,
    F: Future<Output = Result<S>>,
{
    loop {
        let stream = next().await?;
        monoio::spawn(echo(stream, buffer));
    }
}

async fn echo(mut stream: impl AsyncReadRent + AsyncWriteRent, buffer: usize) {
    let mut bytes = vec![0; buffer];
    loop {
        let (outcome, lent) = stream.read(bytes).await;
        let Ok(len @ 1..) = outcome else {
            return;
        };
        let (outcome, lent) = stream.write_all(lent.slice_mut(..len)).await;
        if outcome.is_err() {
            return;
        }
        bytes = lent.into_inner();
    }
}
