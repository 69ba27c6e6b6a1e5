//! A proxy: each accepted connection is paired with one that is dialled, and bytes and ends pass both ways.

use std::collections::HashMap;
use std::io;

use megamux_engine::net::Addr;
use megamux_engine::{CloseReason, ConnId, ConnInfo, Cx, EndpointCx, Handler, NoService, Origin, RecvBuf};

type Outcome = Result<(), CloseReason>;

/// Pairs its connections with connections to one address.
#[derive(Debug)]
pub struct Proxy {
    to: Addr,
    partners: HashMap<ConnId, ConnId>,
}

impl Proxy {
    /// A proxy to `to`.
    pub fn new(to: &str) -> Proxy {
        Proxy { to: to.parse().expect("an address"), partners: HashMap::new() }
    }
}

impl Handler for Proxy {
    type Service = NoService;
    type Conn = ConnId;

    fn on_open(&mut self, cx: &mut Cx<'_, NoService>, info: &ConnInfo) -> Result<ConnId, CloseReason> {
        if let Origin::Dialed(tag) = info.origin {
            let first = ConnId::from_bits(tag);
            self.partners.insert(first, info.id);
            self.partners.insert(info.id, first);
            if !cx.resume_read_of(first) {
                return Err(CloseReason::Requested);
            }
        } else {
            cx.pause_read();
            let to = self.to.clone();
            cx.dial(to, info.id.to_bits());
        }
        Ok(info.id)
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, id: &mut ConnId, data: &mut RecvBuf<'_>) -> Outcome {
        let Some(partner) = self.partners.get(id).copied() else {
            return Ok(());
        };
        let frame = data.take_all();
        match cx.send_frame_to(partner, frame) {
            true => Ok(()),
            false => Err(CloseReason::Requested),
        }
    }

    fn on_read_closed(&mut self, cx: &mut Cx<'_, NoService>, id: &mut ConnId) -> Outcome {
        match self.partners.get(id).copied() {
            Some(partner) if cx.shutdown_write_of(partner) => Ok(()),
            _ => Err(CloseReason::PeerClosed),
        }
    }

    fn on_close(&mut self, cx: &mut EndpointCx<'_, NoService>, id: ConnId, why: CloseReason) {
        if let Some(partner) = self.partners.remove(&id) {
            self.partners.remove(&partner);
            cx.close_conn(partner, why);
        }
    }

    fn on_connect_failed(&mut self, cx: &mut EndpointCx<'_, NoService>, tag: u64, _: &Addr, _: io::Error) {
        cx.close_conn(ConnId::from_bits(tag), CloseReason::Requested);
    }
}
