//! An echo server (RFC 862) whose handler answers on the shard itself, without a service.
//!
//! `cargo run --release --example echo -- 127.0.0.1:7777 --shards 2`

use std::error::Error;

use megamux_engine::{
    CloseReason, Config, ConnInfo, Cx, DriverChoice, Engine, Handler, Listen, NO_SERVICE, NoService, Pin, RecvBuf,
};

struct Echo;

impl Handler for Echo {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, _: &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        // The received bytes go back from where the kernel put them.
        cx.send_frame(data.take_all());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7777".into());
    let mut config = Config::default();
    while let (Some(option), Some(value)) = (args.next(), args.next()) {
        match option.as_str() {
            "--shards" => config.shards = value.parse()?,
            "--pin" => config.pin = Pin::List(value.split(',').map(str::parse).collect::<Result<_, _>>()?),
            "--caps" => config.caps_mask = value,
            "--driver" if value == "uring" => config.driver = DriverChoice::Uring,
            "--driver" if value == "epoll" => config.driver = DriverChoice::Epoll,
            _ => {
                let known = "--shards N, --pin LIST, --caps MASK, --driver uring or epoll";
                return Err(format!("unknown option {option} {value}: {known}").into());
            }
        }
    }
    let listen = match addr.strip_prefix("unix:") {
        Some(path) => Listen::unix(path),
        None => Listen::tcp(addr),
    };
    let mut builder = Engine::builder(config)?;
    builder.listen(listen, &NO_SERVICE, |_shard| Echo)?;
    let engine = builder.start()?;
    for (_, addr) in engine.local_addrs() {
        println!("listening on {addr}");
    }
    Ok(engine.join()?)
}
