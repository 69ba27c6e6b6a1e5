//! An embedder's server: an echo with limits, health and metrics beside it, all from the one crate.
//!
//! `cargo run -p megamux --example embed [ADDR]`: echoes at ADDR, answers /healthz and /metrics at a port of its own.

use std::time::SystemTime;

use megamux::{Config, Engine, NO_SERVICE};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let mut builder = Engine::builder(Config::default())?;
    let listen = megamux::Listen::tcp(addr).name("echo").max_connections(1000);
    builder.listen(listen, &NO_SERVICE, |_shard| megamux::echo::Echo)?;

    let listen = megamux::http::limited(megamux::Listen::tcp("127.0.0.1:0"), builder.shards());
    builder.listen(listen.name("http"), &NO_SERVICE, |_| megamux::http::HttpHandler::new(SystemTime::now))?;

    let engine = builder.start()?;
    for (endpoint, addr) in engine.local_addrs() {
        println!("endpoint {endpoint}: {addr}");
    }
    engine.join()?;
    Ok(())
}
