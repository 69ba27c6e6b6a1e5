//! What a connection does: bytes to requests for the store, its replies to bytes.
//!
//! Invariants: every request taken is answered, in order, before the connection ends; at most [`PIPELINE`] requests of a
//! connection are under way, so a client that reads nothing costs a bounded number of bytes.

use megamux_engine::{CloseReason, ConnInfo, Cx, Frame, Handler, RecvBuf};

use crate::protocol::{self, Reply};
use crate::store::Store;

/// Requests of one connection on their way to the store and back.
const PIPELINE: usize = 32;

/// The marks of a connection's send queue, in bytes: reading pauses above `HIGH` until it is below `LOW`.
pub(crate) const SEND_LOW: usize = 64 << 10;
/// See [`SEND_LOW`].
pub(crate) const SEND_HIGH: usize = 256 << 10;
/// Above this the connection would be closed as a slow consumer.
pub(crate) const SEND_CAP: usize = 4 << 20;

const _: () = assert!(
    SEND_HIGH + PIPELINE * protocol::MAX_REPLY <= SEND_CAP,
    "whoever keeps to the protocol is never closed for reading slowly"
);

/// Turns bytes into requests and replies into bytes.
#[derive(Default)]
pub struct Requests {
    /// What a reply is encoded into; kept for its memory.
    out: Vec<u8>,
}

/// What is kept per connection.
#[derive(Default)]
pub struct Pipeline {
    /// Requests under way.
    asked: usize,
    /// Why no more are taken. The replies that are owed come first.
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    /// The client has sent FIN, or the server drains.
    InOrder(CloseReason),
    /// The client made a mistake.
    Failed(protocol::Error),
}

impl Handler for Requests {
    type Service = Store;
    type Conn = Pipeline;

    fn on_open(&mut self, _: &mut Cx<'_, Store>, _: &ConnInfo) -> Result<Pipeline, CloseReason> {
        Ok(Pipeline::default())
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, Store>,
        conn: &mut Pipeline,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        while conn.asked < PIPELINE {
            let (request, len) = match protocol::decode(data) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => return Ok(()),
                Err(error) => {
                    conn.end = Some(End::Failed(error));
                    break;
                }
            };
            // Without a permit nothing was taken: the bytes come again when there is room.
            let Some(permit) = cx.try_reserve() else {
                return Ok(());
            };
            let bytes = data.take(len);
            permit.send(request.map(|part| bytes.slice(part)));
            conn.asked += 1;
        }
        cx.pause_read();
        conn.end_if_due(cx)
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Store>, conn: &mut Pipeline, reply: Reply) -> Result<(), CloseReason> {
        self.out.clear();
        protocol::encode(&reply, &mut self.out);
        cx.send(&self.out);
        if let Reply::Value(value) = reply {
            cx.send_frame(Frame::from(value));
            cx.send(protocol::VALUE_END);
        }
        conn.asked -= 1;
        if conn.end.is_none() && conn.asked == PIPELINE / 2 {
            cx.resume_read();
        }
        conn.end_if_due(cx)
    }

    fn on_read_closed(&mut self, cx: &mut Cx<'_, Store>, conn: &mut Pipeline) -> Result<(), CloseReason> {
        conn.end.get_or_insert(End::InOrder(CloseReason::PeerClosed));
        conn.end_if_due(cx)
    }

    fn on_drain(&mut self, cx: &mut Cx<'_, Store>, conn: &mut Pipeline) -> Result<(), CloseReason> {
        cx.pause_read();
        conn.end.get_or_insert(End::InOrder(CloseReason::Drained));
        conn.end_if_due(cx)
    }
}

impl Pipeline {
    /// Ends the connection once nothing is owed any more.
    fn end_if_due(&self, cx: &mut Cx<'_, Store>) -> Result<(), CloseReason> {
        match self.end.filter(|_| self.asked == 0) {
            None => Ok(()),
            Some(End::InOrder(why)) => Err(why),
            Some(End::Failed(error)) => {
                cx.send(format!("ERROR {error}\n").as_bytes());
                Err(CloseReason::ProtocolError)
            }
        }
    }
}
