//! The handler seam: what an endpoint does with its connections, on the shard.
//!
//! A handler is built once per endpoint and shard by a `Send` factory and never leaves that shard's thread: no `Sync`, no
//! locks. Callbacks get `&mut` and return at once; they never run inside the completion-queue loop, and nothing
//! they do reaches the kernel before the tick's flush.

use std::io;
use std::net::SocketAddr;

use crate::buffer::RecvBuf;
use crate::close_reason::CloseReason;
use crate::cx::{Cx, EndpointCx};
use crate::id::{ConnInfo, TimerKey};
use crate::net::Addr;
use crate::service::Service;

/// What an endpoint does with its connections.
///
/// Per connection: `on_open` once; then `on_data`, `on_event`, `on_writable`, `on_timer`, `on_read_closed` as things
/// happen; `on_close` exactly once for every `on_open` that returned `Ok`, and nothing after it.
/// An `Err(reason)` from any of them closes the connection for that reason.
#[allow(unused_variables)]
pub trait Handler: Sized + 'static {
    /// The service that gets this handler's events; [`crate::NoService`] when replies are made here.
    type Service: Service;
    /// What is kept per connection: small, it lives as long as the connection does.
    type Conn: Send + 'static;

    /// A connection was accepted or dialled, and its filter (if any) is through.
    fn on_open(&mut self, cx: &mut Cx<'_, Self::Service>, info: &ConnInfo) -> Result<Self::Conn, CloseReason>;

    /// Bytes arrived. What is left unread in `data` comes back in front of the next bytes, bounded by
    /// the endpoint's `max_frame`.
    fn on_data(
        &mut self,
        cx: &mut Cx<'_, Self::Service>,
        conn: &mut Self::Conn,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason>;

    /// The service sent something to this connection.
    fn on_event(
        &mut self,
        cx: &mut Cx<'_, Self::Service>,
        conn: &mut Self::Conn,
        event: <Self::Service as Service>::Out,
    ) -> Result<(), CloseReason> {
        Ok(())
    }

    /// The peer sent FIN. Writing is still legal; the default closes once everything queued is sent.
    fn on_read_closed(&mut self, cx: &mut Cx<'_, Self::Service>, conn: &mut Self::Conn) -> Result<(), CloseReason> {
        Err(CloseReason::PeerClosed)
    }

    /// There is room for events again, after [`Cx::try_reserve`] had found none in any callback. Unread bytes come to
    /// `on_data` right after. The room is shared: it may be gone again.
    fn on_room(&mut self, cx: &mut Cx<'_, Self::Service>, conn: &mut Self::Conn) -> Result<(), CloseReason> {
        Ok(())
    }

    /// The send queue fell below its low watermark after having been above the high one.
    fn on_writable(&mut self, cx: &mut Cx<'_, Self::Service>, conn: &mut Self::Conn) -> Result<(), CloseReason> {
        Ok(())
    }

    /// A timer set with [`Cx::set_timer`] is due.
    fn on_timer(
        &mut self,
        cx: &mut Cx<'_, Self::Service>,
        conn: &mut Self::Conn,
        key: TimerKey,
    ) -> Result<(), CloseReason> {
        Ok(())
    }

    /// The engine drains. The default closes once everything queued is sent; `Ok` asks for time until the deadline.
    fn on_drain(&mut self, cx: &mut Cx<'_, Self::Service>, conn: &mut Self::Conn) -> Result<(), CloseReason> {
        Err(CloseReason::Drained)
    }

    /// The connection is over. What it still had queued may yet be sent, but nothing of it reaches the handler.
    fn on_close(&mut self, cx: &mut EndpointCx<'_, Self::Service>, conn: Self::Conn, why: CloseReason) {}

    /// A dial failed; `tag` is what it was given.
    fn on_connect_failed(&mut self, cx: &mut EndpointCx<'_, Self::Service>, tag: u64, to: &Addr, error: io::Error) {}

    /// A datagram arrived on this endpoint. Answer with [`EndpointCx::send_datagram`].
    fn on_datagram(&mut self, cx: &mut EndpointCx<'_, Self::Service>, from: SocketAddr, bytes: &[u8]) {}
}

/// What stands between a connection's bytes and its handler: sans-IO, both ways, with deadlines of its own.
/// PROXY protocol is one, TLS will be. Watermarks and caps count wire bytes.
pub trait Filter: Send + 'static {
    /// Takes `wire` bytes, appends what the handler should see to `plain` and what the peer must get to `reply`.
    /// Returns how many bytes of `wire` it took; the rest comes back in front of the next bytes.
    fn receive(
        &mut self,
        now: crate::Time,
        wire: &[u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<usize, CloseReason>;

    /// Turns `plain` bytes of the handler into bytes for the wire.
    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        wire.extend_from_slice(plain);
    }

    /// Where the filter stands; asked after each `receive`.
    fn status(&self) -> FilterStatus;

    /// The peer's real address, if the filter learned one; asked once, when it stops `Opening`.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    /// Last bytes for the wire when the connection closes in order.
    fn finish(&mut self, wire: &mut Vec<u8>) {
        let _ = wire;
    }
}

/// Where a [`Filter`] stands. Its opening is bounded by the endpoint's `handshake_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterStatus {
    /// The handler has not seen the connection yet.
    Opening,
    /// Bytes pass through the filter both ways.
    Open,
    /// The filter is done: it is dropped, and bytes pass untouched and uncopied from here on.
    Transparent,
}
