//! megamux: a handler that sends the received bytes back from where the kernel put them.
//!
//! Invariant: nothing but the public interface, with the default configuration on one shard; but nobody asks for the peers'
//! addresses, as the floors do not.

use anyhow::Result;
use megamux_engine::{CloseReason, ConnInfo, Cx, Engine, Handler, NO_SERVICE, NoService, RecvBuf};

use crate::endpoint::Endpoint;
use crate::servers::{listen, shards};

struct Echo;

impl Handler for Echo {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        cx.send_frame(data.take_all());
        Ok(())
    }
}

pub fn run(endpoint: &Endpoint) -> Result<()> {
    let mut builder = Engine::builder(shards(endpoint))?;
    builder.listen(listen(endpoint).without_peer_address(), &NO_SERVICE, |_shard| Echo)?;
    Ok(builder.start()?.join()?)
}
