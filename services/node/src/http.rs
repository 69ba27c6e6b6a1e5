//! The HTTP endpoint: `/healthz`, `/metrics` and `/trace`, answered on the shard that was asked.
//!
//! It owns the answers and a connection's deadline for one request; `megamux-http` owns what a request is.
//! Invariants: a connection holds at most one answer above the high watermark, however many requests are pipelined, because
//! requests are left unread while its queue is above it; a refused request is answered, then the connection closes.
//! `/trace` is for peers on this machine alone. Nothing here waits, and reading the figures disturbs no shard.

use std::time::{Duration, SystemTime};

use megamux_http::{Decoded, Decoder, HttpError, ReplyTo, Request, Response, Status};

use crate::engine::{CloseReason, ConnInfo, Cx, Handler, Listen, NoService, RecvBuf, TimerKey};
use crate::health::Health;
use crate::{metrics, trace};

/// A connection that was silent this long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A request that has begun must be whole by then.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const REQUEST: TimerKey = TimerKey(0);
const TEXT: &str = "text/plain; charset=utf-8";

/// Requests are left unread while more than this is queued.
const QUEUE_HIGH: usize = 256 * 1024;
const QUEUE_LOW: usize = 64 * 1024;
/// What the figures of one shard take in an exposition: 9 KiB, with room for figures to come.
const EXPOSITION_PER_SHARD: usize = 32 * 1024;

/// Sets a listener's limits for this handler, in an engine with so many shards.
pub fn limited(listen: Listen, shards: usize) -> Listen {
    let answer = (EXPOSITION_PER_SHARD * (shards + 1)).max(trace::MOST_BYTES);
    listen.idle_timeout(IDLE_TIMEOUT).max_frame(megamux_http::MAX_HEAD_BYTES).send_queue(
        QUEUE_LOW,
        QUEUE_HIGH,
        QUEUE_HIGH + answer,
    )
}

/// Answers `/healthz`, `/metrics` and `/trace`. Its listener needs [`limited`].
#[derive(Debug)]
pub struct HttpHandler {
    clock: fn() -> SystemTime,
    health: Health,
    answer: Vec<u8>,
}

/// What is kept per connection.
#[derive(Debug, Default)]
pub struct HttpConn {
    decoder: Decoder,
    request_is_timed: bool,
}

impl HttpHandler {
    /// `clock` gives the time for the Date header.
    pub fn new(clock: fn() -> SystemTime) -> HttpHandler {
        HttpHandler { clock, health: Health::default(), answer: Vec::new() }
    }

    /// Has `/healthz` say 503 once this is draining.
    pub fn with_health(mut self, health: Health) -> HttpHandler {
        self.health = health;
        self
    }

    /// Answers one request; an error ends the connection behind its answer.
    fn answer(&mut self, cx: &mut Cx<'_, NoService>, request: &Request<'_>) -> Result<(), CloseReason> {
        let to = match request.expects_continue {
            // RFC 9110 section 10.1.1: a client that waits for 100 and is answered otherwise may or may not send its
            // body, so where the next request begins is not known.
            true => request.reply_to().closing(),
            false => request.reply_to(),
        };
        match (request.path(), request.method) {
            ("/healthz", "GET" | "HEAD") if self.health.is_draining() || cx.engine().is_draining() => {
                self.text(to, Status::ServiceUnavailable, "draining\n");
            }
            ("/healthz", "GET" | "HEAD") => self.text(to, Status::Ok, "ok\n"),
            ("/metrics", "GET" | "HEAD") => {
                let body = metrics::exposition(&cx.engine().stats());
                self.begin(to, Status::Ok).header("content-type", metrics::CONTENT_TYPE).body(body.as_bytes());
            }
            // Having phases told apart costs the shard something, and only this machine's tools want to know.
            ("/trace", "GET" | "HEAD") if !is_local(&cx.info()) => {
                self.text(to, Status::Forbidden, "for peers on this machine\n")
            }
            ("/trace", "GET" | "HEAD") => {
                match trace::text(cx.engine(), cx.shard(), request.query().unwrap_or_default()) {
                    Some(body) => self.text(to, Status::Ok, &body),
                    None => self.text(to, Status::BadRequest, "say /trace?shard=NUMBER&from=TICK\n"),
                }
            }
            // RFC 9110 section 15.5.6: 405 names what is allowed.
            ("/healthz" | "/metrics" | "/trace", _) => self
                .begin(to, Status::MethodNotAllowed)
                .header("allow", "GET, HEAD")
                .header("content-type", TEXT)
                .body(b"method not allowed\n"),
            _ => self.text(to, Status::NotFound, "not found: there are /healthz, /metrics and /trace\n"),
        }
        cx.send(&self.answer);
        if to.keep_alive() { Ok(()) } else { Err(CloseReason::Requested) }
    }

    /// Answers what is no request.
    fn refuse(&mut self, cx: &mut Cx<'_, NoService>, status: Status, why: &str) -> CloseReason {
        self.text(ReplyTo::UNREAD, status, &format!("{why}\n"));
        cx.send(&self.answer);
        CloseReason::ProtocolError
    }

    fn text(&mut self, to: ReplyTo, status: Status, body: &str) {
        self.begin(to, status).header("content-type", TEXT).body(body.as_bytes());
    }

    fn begin(&mut self, to: ReplyTo, status: Status) -> Response<'_> {
        let date = httpdate::fmt_http_date((self.clock)());
        self.answer.clear();
        // RFC 9110 section 6.6.1: a server with a clock sends the date.
        Response::new(&mut self.answer, to, status).header("date", date)
    }
}

impl Handler for HttpHandler {
    type Service = NoService;
    type Conn = HttpConn;

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<HttpConn, CloseReason> {
        Ok(HttpConn::default())
    }

    fn on_data(
        &mut self,
        cx: &mut Cx<'_, NoService>,
        conn: &mut HttpConn,
        data: &mut RecvBuf<'_>,
    ) -> Result<(), CloseReason> {
        // Above the watermark the engine stops reading, and offers what is left unread again below it.
        while cx.queued_bytes() <= QUEUE_HIGH {
            let (consumed, answered) = match conn.decoder.decode(data) {
                Ok(Decoded::NeedMore) => break,
                Ok(Decoded::Request { consumed, request }) => (consumed, self.answer(cx, &request)),
                Ok(Decoded::Body { consumed, .. } | Decoded::Finished { consumed }) => (consumed, Ok(())),
                Err(error) => {
                    return Err(self.refuse(cx, HttpError::status(error), &error.to_string()));
                }
            };
            data.consume(consumed);
            answered?;
        }
        conn.time_request(cx);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, NoService>, _: &mut HttpConn, _: TimerKey) -> Result<(), CloseReason> {
        Err(self.refuse(cx, Status::RequestTimeout, "the request did not come in time"))
    }
}

/// Whether the peer is on this machine, by a loopback address or a Unix socket.
fn is_local(conn: &ConnInfo) -> bool {
    conn.peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
}

impl HttpConn {
    /// Sets the request's deadline when one has begun, and takes it back when it is whole.
    fn time_request(&mut self, cx: &mut Cx<'_, NoService>) {
        let has_begun = !self.decoder.is_idle();
        if has_begun && !self.request_is_timed {
            self.request_is_timed = cx.set_timer(REQUEST, REQUEST_TIMEOUT);
        } else if !has_begun && self.request_is_timed {
            cx.cancel_timer(REQUEST);
            self.request_is_timed = false;
        }
    }
}
