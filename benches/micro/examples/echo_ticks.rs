//! Instructions per echoed message, for callgrind: the same shard as the `shard` bench, a given number of ticks.
//!
//! `cargo xtask bench instructions` runs it for two numbers of ticks and prints the difference per message.

use megamux_engine::bench_internals::NullShard;
use megamux_engine::{CloseReason, ConnInfo, Cx, Handler, NO_SERVICE, NoService, RecvBuf};

struct Echo;

impl Handler for Echo {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, _: &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        cx.send_frame(data.take_all());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ticks: u64 = std::env::args().nth(1).map_or(Ok(100), |ticks| ticks.parse())?;
    let builder = NullShard::builder()?;
    let mut shard = NullShard::new(builder, &NO_SERVICE, || Echo, 500, &[7; 64])?;
    for _ in 0..ticks {
        shard.tick();
    }
    println!("{} messages", shard.answered());
    Ok(())
}
