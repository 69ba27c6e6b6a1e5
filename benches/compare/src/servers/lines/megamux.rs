//! megamux: the telnet decoder in a handler, under a permit, and a service on a thread of its own that answers.
//!
//! Invariant: nothing but the public interface of engine and protocol; a line is decoded only when there is room for it, and
//! is a frame of the received bytes all the way.

use anyhow::Result;
use megamux_engine::{
    CloseReason, ConnId, ConnInfo, Cx, Engine, Frame, Handler, Input, Placement, RecvBuf, Scope, Service, ServiceCx,
};
use megamux_telnet::{Support, Telnet, TelnetEvent, encode_text};

use super::UNDER_WAY;
use crate::endpoint::Endpoint;
use crate::servers::{listen, shards};

/// Answers each line with its text.
struct Answers;

impl Service for Answers {
    type In = Frame;
    type Out = Frame;
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<Frame>) {
        if let Input::Frame(line) = input {
            cx.send(conn, line);
        }
    }
}

#[derive(Default)]
struct Lines {
    /// Bytes on their way to a peer; empty between calls.
    out: Vec<u8>,
}

impl Lines {
    fn flush(&mut self, cx: &mut Cx<'_, Answers>) {
        if !self.out.is_empty() {
            cx.send(&self.out);
            self.out.clear();
        }
    }

    /// Decodes as long as there is room for what comes of it. Returns how many bytes were read.
    fn decode(
        &mut self,
        cx: &mut Cx<'_, Answers>,
        telnet: &mut Telnet,
        data: &RecvBuf<'_>,
    ) -> Result<usize, CloseReason> {
        let mut input: &[u8] = data;
        while let Some(permit) = cx.try_reserve() {
            match telnet.next_event(&mut input, &mut self.out).map_err(|_| CloseReason::ProtocolError)? {
                Some(TelnetEvent::Line(line)) => permit.send(data.frame(line)),
                Some(_) => {}
                None => break,
            }
        }
        Ok(data.len() - input.len())
    }
}

impl Handler for Lines {
    type Service = Answers;
    type Conn = Telnet;

    fn on_open(&mut self, _: &mut Cx<'_, Answers>, _: &ConnInfo) -> Result<Telnet, CloseReason> {
        Ok(Telnet::new(Support::NONE))
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, Answers>,
        telnet: &mut Telnet,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        let read = self.decode(cx, telnet, data)?;
        data.consume(read);
        self.flush(cx);
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, Answers>, _: &mut Telnet, answer: Frame) -> Result<(), CloseReason> {
        encode_text(&*answer, &mut self.out);
        encode_text("\n", &mut self.out);
        self.flush(cx);
        Ok(())
    }
}

pub fn run(endpoint: &Endpoint) -> Result<()> {
    let mut config = shards(endpoint);
    config.lane_capacity = UNDER_WAY;
    let mut builder = Engine::builder(config)?;
    let answers = builder.service("answers", Placement::Thread, || Answers)?;
    builder.listen(listen(endpoint), &answers, |_shard| Lines::default())?;
    Ok(builder.start()?.join()?)
}
