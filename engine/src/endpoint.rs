//! An endpoint on one shard: its handler and its connections' states, behind a face without types.
//!
//! Every call into a handler goes through [`Typed::call`], which catches its panics: they close one connection.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use slab::Slab;

use crate::buffer::RecvBuf;
use crate::close_reason::CloseReason;
use crate::conn::NO_KEY;
use crate::core::Core;
use crate::cx::{Cx, EndpointCx};
use crate::handler::Handler;
use crate::id::{EndpointId, TimerKey};
use crate::net::Addr;
use crate::port::NumberedPort;
use crate::service::Service;

type Outcome = Result<(), CloseReason>;

/// What the shard asks of an endpoint. `Err` closes the connection.
pub(crate) trait Endpoint {
    /// The number of the port its service is behind.
    fn port(&self) -> Option<usize>;
    /// Whether its service is too far behind to take new connections.
    fn is_behind(&self) -> bool;
    fn open(&mut self, core: &mut Core, slot: u32) -> Outcome;
    fn data(&mut self, core: &mut Core, slot: u32, data: &mut RecvBuf<'_>) -> Outcome;
    /// `event` is an `Option` of the service's `Out`, to be taken.
    fn event(&mut self, core: &mut Core, slot: u32, event: &mut dyn Any) -> Outcome;
    fn read_closed(&mut self, core: &mut Core, slot: u32) -> Outcome;
    fn room(&mut self, core: &mut Core, slot: u32) -> Outcome;
    fn writable(&mut self, core: &mut Core, slot: u32) -> Outcome;
    fn timer(&mut self, core: &mut Core, slot: u32, key: TimerKey) -> Outcome;
    fn drain(&mut self, core: &mut Core, slot: u32) -> Outcome;
    /// The connection is over for the handler and its service.
    fn closed(&mut self, core: &mut Core, slot: u32, why: CloseReason);
    fn connect_failed(&mut self, core: &mut Core, tag: u64, to: &Addr, error: io::Error);
    fn datagram(&mut self, core: &mut Core, socket: u32, from: SocketAddr, bytes: &[u8]);
}

/// A handler of type `H` with its connections.
pub(crate) struct Typed<H: Handler> {
    id: EndpointId,
    handler: H,
    conns: Slab<H::Conn>,
    /// The port's number and the port; `None` without a service.
    port: Option<NumberedPort<H::Service>>,
}

impl<H: Handler> Typed<H> {
    pub(crate) fn new(id: EndpointId, handler: H, port: Option<NumberedPort<H::Service>>) -> Typed<H> {
        Typed { id, handler, conns: Slab::new(), port }
    }

    /// Calls the handler with its connection and a context. A panic closes the connection.
    #[inline]
    fn call(
        &mut self,
        core: &mut Core,
        slot: u32,
        act: impl FnOnce(&mut H, &mut Cx<'_, H::Service>, &mut H::Conn) -> Outcome,
    ) -> Outcome {
        let key = core.conns[slot as usize].state_key;
        let Typed { id, handler, conns, port } = self;
        let Some(conn) = conns.get_mut(key as usize) else { return Ok(()) };
        let mut port = port.as_ref().map(|(_, port)| port.borrow_mut());
        let base = EndpointCx { core, port: port.as_deref_mut(), endpoint: *id, socket: None };
        let mut cx = Cx { base, slot };
        caught(|| act(handler, &mut cx, conn)).unwrap_or_else(|()| {
            cx.core.stats.panics.add(1);
            Err(CloseReason::HandlerPanic)
        })
    }

    /// The same for callbacks without a connection. A panic is counted and otherwise without effect.
    fn call_endpoint(
        &mut self,
        core: &mut Core,
        socket: Option<u32>,
        act: impl FnOnce(&mut H, &mut EndpointCx<'_, H::Service>),
    ) {
        let Typed { id, handler, port, .. } = self;
        let mut port = port.as_ref().map(|(_, port)| port.borrow_mut());
        let mut cx = EndpointCx { core, port: port.as_deref_mut(), endpoint: *id, socket };
        if caught(|| act(handler, &mut cx)).is_err() {
            cx.core.stats.panics.add(1);
        }
    }
}

/// Runs a callback; a panic has been reported by the process's panic hook already.
#[inline]
pub(crate) fn caught<T>(act: impl FnOnce() -> T) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| ())
}

impl<H: Handler> Endpoint for Typed<H> {
    fn port(&self) -> Option<usize> {
        self.port.as_ref().map(|(number, _)| *number)
    }

    fn is_behind(&self) -> bool {
        self.port.as_ref().is_some_and(|(_, port)| port.borrow().is_behind())
    }

    fn open(&mut self, core: &mut Core, slot: u32) -> Outcome {
        let info = core.info(slot);
        let Typed { id, handler, conns, port } = self;
        let mut port = port.as_ref().map(|(_, port)| port.borrow_mut());
        if let Some(port) = &mut port {
            port.open(&info);
        }
        let base = EndpointCx { core, port: port.as_deref_mut(), endpoint: *id, socket: None };
        let mut cx = Cx { base, slot };
        let opened = caught(|| handler.on_open(&mut cx, &info)).unwrap_or_else(|()| {
            cx.core.stats.panics.add(1);
            Err(CloseReason::HandlerPanic)
        });
        match opened {
            Ok(conn) => {
                core.conn(slot).state_key = conns.insert(conn) as u32;
                Ok(())
            }
            Err(why) => {
                // The service heard of it before the handler could send anything; now it hears the end.
                if let Some(port) = &mut port {
                    port.close(info.id, why);
                }
                Err(why)
            }
        }
    }

    #[inline]
    fn data(&mut self, core: &mut Core, slot: u32, data: &mut RecvBuf<'_>) -> Outcome {
        self.call(core, slot, |handler, cx, conn| handler.on_data(cx, conn, data))
    }

    fn event(&mut self, core: &mut Core, slot: u32, event: &mut dyn Any) -> Outcome {
        let event = event.downcast_mut::<Option<<H::Service as Service>::Out>>();
        let Some(event) = event.and_then(Option::take) else { return Ok(()) };
        self.call(core, slot, |handler, cx, conn| handler.on_event(cx, conn, event))
    }

    fn read_closed(&mut self, core: &mut Core, slot: u32) -> Outcome {
        self.call(core, slot, |handler, cx, conn| handler.on_read_closed(cx, conn))
    }

    fn room(&mut self, core: &mut Core, slot: u32) -> Outcome {
        self.call(core, slot, |handler, cx, conn| handler.on_room(cx, conn))
    }

    fn writable(&mut self, core: &mut Core, slot: u32) -> Outcome {
        self.call(core, slot, |handler, cx, conn| handler.on_writable(cx, conn))
    }

    fn timer(&mut self, core: &mut Core, slot: u32, key: TimerKey) -> Outcome {
        self.call(core, slot, |handler, cx, conn| handler.on_timer(cx, conn, key))
    }

    fn drain(&mut self, core: &mut Core, slot: u32) -> Outcome {
        self.call(core, slot, |handler, cx, conn| handler.on_drain(cx, conn))
    }

    fn closed(&mut self, core: &mut Core, slot: u32, why: CloseReason) {
        let key = std::mem::replace(&mut core.conn(slot).state_key, NO_KEY);
        let Some(conn) = self.conns.try_remove(key as usize) else { return };
        self.call_endpoint(core, None, |handler, cx| handler.on_close(cx, conn, why));
        if let Some((_, port)) = &self.port {
            port.borrow_mut().close(core.id(slot), why);
        }
    }

    fn connect_failed(&mut self, core: &mut Core, tag: u64, to: &Addr, error: io::Error) {
        self.call_endpoint(core, None, |handler, cx| handler.on_connect_failed(cx, tag, to, error));
    }

    fn datagram(&mut self, core: &mut Core, socket: u32, from: SocketAddr, bytes: &[u8]) {
        self.call_endpoint(core, Some(socket), |handler, cx| handler.on_datagram(cx, from, bytes));
    }
}
