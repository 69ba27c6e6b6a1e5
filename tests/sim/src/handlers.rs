//! Handlers: echo without a service, relays to one, and one that talks first.

use std::marker::PhantomData;
use std::time::Duration;

use megamux_engine::{CloseReason, ConnInfo, Cx, EndpointId, Frame, Handler, NoService, RecvBuf, Service, TimerKey};

type Outcome = Result<(), CloseReason>;

/// Sends back what it gets: as frames, as copies, or leaving some unread, by turns.
#[derive(Debug, Default)]
pub struct Echo {
    turn: usize,
}

impl Handler for Echo {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Outcome {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        self.turn += 1;
        match self.turn % 3 {
            0 => cx.send_frame(data.take_all()),
            1 => {
                cx.send(data);
                data.consume(data.len());
            }
            _ => {
                let half = data.len().div_ceil(2);
                cx.send_frame(data.take(half));
                cx.send(data);
                data.consume(data.len());
            }
        }
        Ok(())
    }
}

/// Sends back whole lines; what is no line yet stays unread.
#[derive(Debug, Default)]
pub struct Lines;

impl Handler for Lines {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Outcome {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            cx.send_frame(data.take(end + 1));
        }
        Ok(())
    }
}

/// Hands each byte to its service as an event of its own, and sends what comes back.
#[derive(Debug)]
pub struct RelayBytes<S>(PhantomData<fn() -> S>);

impl<S> Default for RelayBytes<S> {
    fn default() -> Self {
        RelayBytes(PhantomData)
    }
}

impl<S: Service<In = u8, Out = Vec<u8>>> Handler for RelayBytes<S> {
    type Service = S;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, S>, _: &ConnInfo) -> Outcome {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, S>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        while let Some(&byte) = data.first() {
            let Some(permit) = cx.try_reserve() else {
                break;
            };
            permit.send(byte);
            data.consume(1);
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, S>, (): &mut (), event: Vec<u8>) -> Outcome {
        cx.send(&event);
        Ok(())
    }
}

/// Hands whatever it gets to its service as one frame, and sends what comes back; the peer's FIN travels as an empty event.
#[derive(Debug)]
pub struct Relay<S>(PhantomData<fn() -> S>);

impl<S> Default for Relay<S> {
    fn default() -> Self {
        Relay(PhantomData)
    }
}

/// What a [`Relay`] keeps of a connection.
#[derive(Debug, Default)]
pub struct RelayConn {
    read_closed: bool,
    finished: bool,
}

impl<S: Service<In = Frame, Out = Frame>> Relay<S> {
    /// Without room it is tried again when there is some.
    fn finish(cx: &mut Cx<'_, S>, conn: &mut RelayConn) {
        if let Some(permit) = cx.try_reserve() {
            permit.send(Frame::default());
            conn.finished = true;
        }
    }
}

impl<S: Service<In = Frame, Out = Frame>> Handler for Relay<S> {
    type Service = S;
    type Conn = RelayConn;

    fn on_open(&mut self, _: &mut Cx<'_, S>, _: &ConnInfo) -> Result<RelayConn, CloseReason> {
        Ok(RelayConn::default())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, S>, _: &mut RelayConn, data: &mut RecvBuf<'_>) -> Outcome {
        // Taken only with room for it: nothing to drop.
        if cx.try_reserve().is_none() {
            return Ok(());
        }
        let frame = data.take_all();
        if let Some(permit) = cx.try_reserve() {
            permit.send(frame);
        }
        Ok(())
    }

    fn on_event(&mut self, cx: &mut Cx<'_, S>, conn: &mut RelayConn, event: Frame) -> Outcome {
        if event.is_empty() && conn.finished {
            return Err(CloseReason::PeerClosed);
        }
        cx.send_frame(event);
        Ok(())
    }

    fn on_read_closed(&mut self, cx: &mut Cx<'_, S>, conn: &mut RelayConn) -> Outcome {
        conn.read_closed = true;
        Self::finish(cx, conn);
        Ok(())
    }

    fn on_room(&mut self, cx: &mut Cx<'_, S>, conn: &mut RelayConn) -> Outcome {
        if conn.read_closed && !conn.finished {
            Self::finish(cx, conn);
        }
        Ok(())
    }
}

/// Sends so many bytes of a pattern when a connection opens, minding the watermark, then FIN.
#[derive(Debug)]
pub struct Pusher {
    /// Bytes per connection.
    pub bytes: usize,
    /// Bytes queued before it waits for `on_writable`; `usize::MAX` pushes all at once.
    pub high: usize,
}

impl Pusher {
    /// The pattern.
    pub fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    fn push(&self, cx: &mut Cx<'_, NoService>, sent: &mut usize) {
        while *sent < self.bytes && cx.queued_bytes() <= self.high {
            let until = (*sent + 1000).min(self.bytes);
            let piece: Vec<u8> = (*sent..until).map(|at| (at % 251) as u8).collect();
            cx.send(&piece);
            *sent = until;
        }
        if *sent == self.bytes {
            cx.shutdown_write();
        }
    }
}

impl Handler for Pusher {
    type Service = NoService;
    type Conn = usize;

    fn on_open(&mut self, cx: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<usize, CloseReason> {
        let mut sent = 0;
        self.push(cx, &mut sent);
        Ok(sent)
    }

    fn on_data(&mut self, _: &mut Cx<'_, NoService>, _: &mut usize, data: &mut RecvBuf<'_>) -> Outcome {
        data.consume(data.len());
        Ok(())
    }

    fn on_writable(&mut self, cx: &mut Cx<'_, NoService>, sent: &mut usize) -> Outcome {
        self.push(cx, sent);
        Ok(())
    }
}

/// Reads one line, then hands the connection and what follows to another endpoint. Panics at the line `panic`.
#[derive(Debug)]
pub struct Door(pub EndpointId);

impl Handler for Door {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Outcome {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
            return Ok(());
        };
        let line = data.take(end + 1);
        assert_ne!(&line[..], b"panic\n", "the line that this handler cannot bear");
        cx.send_frame(line);
        // Half of what is left goes by hand, the other half stays unread: both must arrive, in this order.
        let leftover = data.take(data.len() / 2);
        cx.upgrade(self.0, &leftover);
        Ok(())
    }
}

/// Sets itself timers far and near, and does not care when the engine drains.
#[derive(Debug)]
pub struct Sleeper;

/// Fires long after most of its connections are gone.
const FAR: TimerKey = TimerKey(2);
/// Fires again and again.
const NEAR: TimerKey = TimerKey(3);

impl Handler for Sleeper {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, cx: &mut Cx<'_, NoService>, _: &ConnInfo) -> Outcome {
        cx.set_timer(FAR, Duration::from_secs(30));
        cx.set_timer(NEAR, Duration::from_millis(70));
        Ok(())
    }

    fn on_data(&mut self, _: &mut Cx<'_, NoService>, (): &mut (), data: &mut RecvBuf<'_>) -> Outcome {
        data.consume(data.len());
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, NoService>, (): &mut (), key: TimerKey) -> Outcome {
        if key == FAR {
            return Err(CloseReason::Requested);
        }
        cx.set_timer(NEAR, Duration::from_millis(700));
        Ok(())
    }

    fn on_drain(&mut self, _: &mut Cx<'_, NoService>, (): &mut ()) -> Outcome {
        Ok(())
    }
}
