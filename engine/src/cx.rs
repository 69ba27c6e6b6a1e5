//! What a handler may do from a callback. Nothing here reaches the kernel: it leaves marks in the shard's
//! [`Core`], and the tick's flush acts on them.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::buffer::Frame;
use crate::close_reason::CloseReason;
use crate::conn::flag;
use crate::core::{Core, DialRequest};
use crate::handle::Handle;
use crate::id::{ConnId, ConnInfo, EndpointId, ShardId, TimerKey};
use crate::net::Route;
use crate::port::{Permit, Port};
use crate::service::Service;
use crate::time::Time;

/// What may be done for an endpoint, with or without a connection at hand.
pub struct EndpointCx<'a, S: Service> {
    pub(crate) core: &'a mut Core,
    pub(crate) port: Option<&'a mut Port<S>>,
    pub(crate) endpoint: EndpointId,
    /// The datagram socket, for endpoints that are one.
    pub(crate) socket: Option<u32>,
}

impl<S: Service> EndpointCx<'_, S> {
    /// The time of this tick.
    pub fn now(&self) -> Time {
        self.core.now
    }

    /// The shard this runs on.
    pub fn shard(&self) -> ShardId {
        self.core.shard
    }

    /// The engine that runs this handler.
    pub fn engine(&self) -> &Handle {
        &self.core.handle
    }

    /// Connects out from this shard, as a connection of this endpoint: `on_open` with
    /// [`crate::Origin::Dialed`]`(tag)`, or `on_connect_failed(tag)`. `false`, and nothing more, if
    /// too many dials are waiting or under way ([`crate::Config::dials_per_shard`]), or the engine drains.
    pub fn dial(&mut self, route: impl Into<Route>, tag: u64) -> bool {
        let (endpoint, route) = (self.endpoint, route.into());
        self.core.dial(DialRequest { endpoint, route, tag }).is_ok()
    }

    /// Sends a copy of `bytes` on another connection of this shard; `false` if there is no such connection.
    pub fn send_to(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        self.on(conn, |core, slot| core.send(slot, bytes))
    }

    /// Sends a frame on another connection of this shard; `false` if there is no such connection.
    pub fn send_frame_to(&mut self, conn: ConnId, frame: Frame) -> bool {
        self.on(conn, |core, slot| core.send_frame(slot, frame))
    }

    /// Closes another connection of this shard, after what is queued; `false` if there is no such connection.
    pub fn close_conn(&mut self, conn: ConnId, why: CloseReason) -> bool {
        self.on(conn, |core, slot| core.close(slot, why))
    }

    /// Half-closes another connection of this shard; `false` if there is no such connection.
    pub fn shutdown_write_of(&mut self, conn: ConnId) -> bool {
        self.on(conn, Core::shutdown_write)
    }

    /// Stops reading from another connection of this shard; `false` if there is no such connection.
    pub fn pause_read_of(&mut self, conn: ConnId) -> bool {
        self.on(conn, pause_read)
    }

    /// Reads from it again; `false` if there is no such connection.
    pub fn resume_read_of(&mut self, conn: ConnId) -> bool {
        self.on(conn, resume_read)
    }

    /// Bytes queued on another connection of this shard, not yet taken by the kernel.
    pub fn queued_bytes_of(&self, conn: ConnId) -> Option<usize> {
        let slot = self.core.find(conn)?;
        Some(self.core.conns[slot as usize].queued_bytes())
    }

    /// Sends a datagram from this endpoint's socket; does nothing on an endpoint that has none.
    pub fn send_datagram(&mut self, to: SocketAddr, bytes: &[u8]) {
        if let Some(socket) = self.socket {
            self.core.datagrams.push(socket, to, bytes);
        }
    }

    fn on(&mut self, conn: ConnId, act: impl FnOnce(&mut Core, u32)) -> bool {
        let found = self.core.find(conn);
        if let Some(slot) = found {
            act(self.core, slot);
        }
        found.is_some()
    }
}

/// What may be done with the connection at hand, and all of [`EndpointCx`].
pub struct Cx<'a, S: Service> {
    pub(crate) base: EndpointCx<'a, S>,
    pub(crate) slot: u32,
}

impl<'a, S: Service> Deref for Cx<'a, S> {
    type Target = EndpointCx<'a, S>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl<S: Service> DerefMut for Cx<'_, S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.base
    }
}

impl<S: Service> Cx<'_, S> {
    /// The connection's name.
    pub fn id(&self) -> ConnId {
        self.base.core.id(self.slot)
    }

    /// What is known of the connection.
    pub fn info(&self) -> ConnInfo {
        self.base.core.info(self.slot)
    }

    /// Queues a copy of `bytes`. It leaves with the tick's flush, in order.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.base.core.send(self.slot, bytes);
    }

    /// Queues a frame without copying it.
    #[inline]
    pub fn send_frame(&mut self, frame: Frame) {
        self.base.core.send_frame(self.slot, frame);
    }

    /// Bytes queued and not yet taken by the kernel.
    pub fn queued_bytes(&self) -> usize {
        self.base.core.conns[self.slot as usize].queued_bytes()
    }

    /// Room for one event to the service. `None` when there is none: leave the bytes unread and return; reading
    /// pauses, and when there is room `on_room` comes, and `on_data` with what is unread.
    #[inline]
    pub fn try_reserve(&mut self) -> Option<Permit<'_, S::In, S::Out>> {
        let EndpointCx { core, port, .. } = &mut self.base;
        let id = core.id(self.slot);
        let waits = core.conn(self.slot).has(flag::NO_PERMIT);
        let permit = port.as_mut()?.try_reserve(id, waits);
        if permit.is_none() && !waits {
            core.conn(self.slot).set(flag::NO_PERMIT);
            core.mark(self.slot);
        }
        permit
    }

    /// Stops reading. What arrives before that takes hold is kept and comes after [`Cx::resume_read`].
    pub fn pause_read(&mut self) {
        pause_read(self.base.core, self.slot);
    }

    /// Reads again; unread bytes come to `on_data` first.
    pub fn resume_read(&mut self) {
        resume_read(self.base.core, self.slot);
    }

    /// Sends FIN after what is queued; reading goes on. Sending anything more does nothing.
    pub fn shutdown_write(&mut self) {
        self.base.core.shutdown_write(self.slot);
    }

    /// Closes the connection once everything queued is sent. An `Err` from the callback does the same.
    pub fn close(&mut self, why: CloseReason) {
        self.base.core.close(self.slot, why);
    }

    /// Sets (or moves) the timer `key` to fire once, `after` from now. `false` if the connection has
    /// 16 timers set already.
    pub fn set_timer(&mut self, key: TimerKey, after: Duration) -> bool {
        self.base.core.set_timer(self.slot, key, after)
    }

    /// Takes the timer `key` back; `false` if it was not set.
    pub fn cancel_timer(&mut self, key: TimerKey) -> bool {
        self.base.core.cancel_timer(self.slot, key)
    }

    /// Hands the connection to another endpoint when this callback returns `Ok`: this handler's `on_close` with
    /// [`CloseReason::Upgraded`], the other's `on_open`, and then its `on_data` with `leftover` in front of what is unread.
    pub fn upgrade(&mut self, to: EndpointId, leftover: &[u8]) {
        self.base.core.conn(self.slot).extra().upgrade = Some((to, leftover.to_vec()));
        self.base.core.mark(self.slot);
    }
}

fn pause_read(core: &mut Core, slot: u32) {
    core.conn(slot).set(flag::PAUSED);
}

fn resume_read(core: &mut Core, slot: u32) {
    core.conn(slot).clear(flag::PAUSED);
    core.resume(slot);
}
