//! The echo service of RFC 862, over TCP: what comes goes back, unchanged, until the peer has enough.
//!
//! It is on TCP only: two UDP echo services can be made to answer each other for ever by one forged datagram.
//! Nothing is copied and nothing is kept. A peer that does not read its echo is not read from, by the engine's watermarks.

use crate::engine::{CloseReason, ConnInfo, Cx, Handler, NoService, RecvBuf};

/// The handler: it has no state, neither its own nor per connection.
#[derive(Debug, Clone, Copy)]
pub struct Echo;

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
