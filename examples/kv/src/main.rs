//! The server: `cargo run --release -p megamux-kv-example -- 127.0.0.1:7002`, then
//! `printf 'SET greeting 5\nhello\nGET greeting\n' | nc -N 127.0.0.1 7002`.

use megamux_engine::{Config, Placement};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7002");
    let engine = megamux_kv_example::start(Config::default(), addr, Placement::Thread)?;
    for (_, bound) in engine.local_addrs() {
        println!("listening on {bound}");
    }
    Ok(engine.join()?)
}
