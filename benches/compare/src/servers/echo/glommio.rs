//! The glommio peer: one executor, one task and one buffer per connection. TCP only: it binds its own listener, and offers
//! nobody else's.
//!
//! Invariant: nothing a glommio user would not write; no tuning that belongs to another server.

use anyhow::{Result, anyhow, bail};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutor, spawn_local};

use crate::endpoint::Endpoint;

pub fn run(endpoint: &Endpoint, buffer: usize) -> Result<()> {
    let Endpoint::Tcp(address, _) = endpoint else {
        bail!("glommio serves TCP only");
    };
    LocalExecutor::default().run(async {
        let listener = TcpListener::bind(address).map_err(|error| anyhow!("{error}"))?;
        loop {
            let stream = listener.accept().await.map_err(|error| anyhow!("{error}"))?;
            spawn_local(echo(stream, buffer)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream, buffer: usize) {
    // A peer that is gone already is noticed by the read.
    let _ = stream.set_nodelay(true);
    let mut bytes = vec![0; buffer];
    while let Ok(len @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}
