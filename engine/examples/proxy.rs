//! A relay: each accepted connection gets one to the upstream address, dialled from the same shard.
//! `cargo run --release --example proxy -- 127.0.0.1:7001 127.0.0.1:7000`

use std::{collections::HashMap, io};

use megamux_engine::{
    CloseReason, Config, ConnId, ConnInfo, Cx, Engine, Handler, Listen, NO_SERVICE, NoService, Origin, RecvBuf,
    StartError, net::Addr,
};

type Outcome<T = ()> = Result<T, CloseReason>;
type OnConn<'a> = Cx<'a, NoService>;
type OnEndpoint<'a> = megamux_engine::EndpointCx<'a, NoService>;

/// With more bytes than this queued for one side, the other is not read.
pub const HIGH: usize = 256 * 1024;

struct Relay {
    upstream: Addr,
    others: HashMap<ConnId, ConnId>,
}

impl Handler for Relay {
    type Service = NoService;
    type Conn = ConnId;

    fn on_open(&mut self, cx: &mut OnConn<'_>, info: &ConnInfo) -> Outcome<ConnId> {
        if let Origin::Dialed(client) = info.origin {
            let client = ConnId::from_bits(client);
            if !cx.resume_read_of(client) {
                return Err(CloseReason::Requested);
            }
            self.others.insert(client, info.id);
            self.others.insert(info.id, client);
        } else {
            // What the client says before the upstream is there waits in the kernel.
            cx.pause_read();
            if !cx.dial(self.upstream.clone(), info.id.to_bits()) {
                return Err(CloseReason::Refused);
            }
        }
        Ok(info.id)
    }

    fn on_data(&mut self, cx: &mut OnConn<'_>, id: &mut ConnId, data: &mut RecvBuf<'_>) -> Outcome {
        let other = self.others[id];
        cx.send_frame_to(other, data.take_all());
        if cx.queued_bytes_of(other) > Some(HIGH) {
            cx.pause_read();
        }
        Ok(())
    }

    fn on_writable(&mut self, cx: &mut OnConn<'_>, id: &mut ConnId) -> Outcome {
        cx.resume_read_of(self.others[id]);
        Ok(())
    }

    fn on_read_closed(&mut self, cx: &mut OnConn<'_>, id: &mut ConnId) -> Outcome {
        // The other way goes on. When both have ended, the engine closes the connections.
        cx.shutdown_write_of(self.others[id]);
        Ok(())
    }

    fn on_close(&mut self, cx: &mut OnEndpoint<'_>, id: ConnId, _: CloseReason) {
        if let Some(other) = self.others.remove(&id) {
            cx.close_conn(other, CloseReason::Requested);
        }
    }

    fn on_connect_failed(&mut self, cx: &mut OnEndpoint<'_>, id: u64, _: &Addr, _: io::Error) {
        cx.close_conn(ConnId::from_bits(id), CloseReason::Requested);
    }
}

pub fn start(addr: &str, upstream: Addr) -> Result<Engine, StartError> {
    let mut builder = Engine::builder(Config::default())?;
    let listen = Listen::tcp(addr).send_queue(HIGH / 4, HIGH, 4 * HIGH);
    let relay = move |_shard| Relay { upstream: upstream.clone(), others: HashMap::new() };
    builder.listen(listen.keep_reading(), &NO_SERVICE, relay)?;
    builder.start()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: &str| args.next().unwrap_or(default.into());
    let engine = start(&arg("127.0.0.1:7001"), arg("127.0.0.1:7000").parse()?)?;
    let (_, bound) = &engine.local_addrs()[0];
    println!("listening on {bound}");
    Ok(engine.join()?)
}
