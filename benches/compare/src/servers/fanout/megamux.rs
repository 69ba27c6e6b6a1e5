//! megamux: one frame of received bytes, cloned to every connection of the shard.
//!
//! Invariant: nothing but the public interface, with the default configuration on one shard.

use std::collections::BTreeSet;

use anyhow::Result;
use megamux_engine::{CloseReason, ConnId, ConnInfo, Cx, EndpointCx, Engine, Handler, NO_SERVICE, NoService, RecvBuf};

use super::MESSAGE;
use crate::endpoint::Endpoint;
use crate::servers::{listen, shards};

#[derive(Default)]
struct Room {
    members: BTreeSet<ConnId>,
}

impl Handler for Room {
    type Service = NoService;
    type Conn = ConnId;

    fn on_open(&mut self, cx: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<ConnId, CloseReason> {
        self.members.insert(cx.id());
        Ok(cx.id())
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, NoService>,
        _: &mut ConnId,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        while data.len() >= MESSAGE {
            let message = data.take(MESSAGE);
            for &member in &self.members {
                cx.send_frame_to(member, message.clone());
            }
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut EndpointCx<'_, NoService>, conn: ConnId, _: CloseReason) {
        self.members.remove(&conn);
    }
}

pub fn run(endpoint: &Endpoint) -> Result<()> {
    let mut builder = Engine::builder(shards(endpoint))?;
    builder.listen(listen(endpoint), &NO_SERVICE, |_shard| Room::default())?;
    Ok(builder.start()?.join()?)
}
