//! The tokio-uring peer: one task and one buffer per connection, the buffer lent to each operation.
//!
//! Invariant: nothing a tokio-uring user would not write; no tuning that belongs to another server.

use anyhow::{Result, bail};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::endpoint::Endpoint;

pub fn run(endpoint: &Endpoint, buffer: usize) -> Result<()> {
    let Endpoint::Tcp(..) = endpoint else {
        bail!("tokio-uring makes its own Unix listeners; here it serves TCP only");
    };
    let listener = endpoint.listen()?;
    tokio_uring::start(async {
        let listener = TcpListener::from_std(listener.into());
        loop {
            let (stream, _) = listener.accept().await?;
            tokio_uring::spawn(echo(stream, buffer));
        }
    })
}

async fn echo(stream: TcpStream, buffer: usize) {
    let mut bytes = vec![0; buffer];
    loop {
        let (outcome, lent) = stream.read(bytes).await;
        let Ok(len @ 1..) = outcome else {
            return;
        };
        let (outcome, lent) = stream.write_all(lent.slice(..len)).await;
        if outcome.is_err() {
            return;
        }
        bytes = lent.into_inner();
    }
}
