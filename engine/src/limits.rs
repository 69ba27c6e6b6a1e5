//! Every bound of the engine that is not a user's option, with the relations between them.

use std::time::Duration;

/// Completions taken per tick. More wait in the completion queue, which is the kernel's backpressure.
pub(crate) const BATCH: usize = 1024;
/// Accepted connections that are let in per tick: about as many as fit into a core's cache with their sockets. (As swept:
/// docs/performance.md.)
pub(crate) const ARRIVALS_PER_TICK: usize = 64;
/// Accepts submitted at once when a crowd is taken in groups: what is accepted is received from before it leaves the cache. (As
/// swept: docs/performance.md.)
pub(crate) const ACCEPTS_AT_ONCE: u32 = 32;
/// The first group of a crowd, or after a pause of it. The next are up to twice as large as what the last one found, so that
/// few attempts are in vain: each costs the kernel a socket.
pub(crate) const ACCEPTS_AT_FIRST: u32 = 4;
/// Submission queue entries of one ring.
pub(crate) const SUBMISSIONS: u32 = 1024;
/// Completion queue entries: room for a tick's submissions and for what multishots add while a tick runs.
pub(crate) const COMPLETIONS: u32 = 4096;
/// A shard that reaped so many completions is busy, and lingers for a fuller batch if it is configured to.
pub(crate) const BUSY_BATCH: usize = 16;
/// Receive buffers that the kernel gets at first: it doubles when a tick uses up half of them.
pub(crate) const FIRST_LENT: u16 = 4;
/// Bytes of receive buffers that the kernel has at most, where it fills them bit by bit: it goes around all that it has, and
/// what a tick received should still be in the cache when it is sent. (As swept; docs/performance.md.)
pub(crate) const LENT_BYTES: u32 = 768 << 10;
/// Receive credit of one arming: what one connection may deliver before the shard has looked at it.
pub(crate) const RECEIVE_CREDIT: u32 = 128 * 1024;
/// The same of a connection's first receive, before its handler has heard of it.
pub(crate) const EARLY_CREDIT: u32 = 16 * 1024;
/// Multishot receives armed per ring. Cancelling one costs the kernel a search over its armed requests.
pub(crate) const ARMED_RECEIVES: usize = 4096;
/// A connection that was silent this long parks.
pub(crate) const PARK_AFTER: Duration = Duration::from_secs(1);
/// One that has said a first word, or none yet, parks already after this.
pub(crate) const PARK_EARLY: Duration = Duration::from_millis(250);
/// After so many connections that said one thing and fell silent, the next ones get a single receive at first. The first
/// that says more, or ends, before it would have been parked makes it a multishot again.
pub(crate) const TERSE: u8 = 16;
/// How often armed connections are looked at for parking: seldom, so that it costs a busy shard nothing.
pub(crate) const PARK_EVERY: Duration = Duration::from_millis(50);
/// Armed connections looked at each time.
pub(crate) const PARK_SCAN: usize = 512;
/// Connections per tick whose queued frames are copied out of the receive pool when it runs short.
pub(crate) const RELIEVED_PER_TICK: usize = 64;
/// Connections looked at for that per tick.
pub(crate) const RELIEF_SCAN: usize = 4096;
/// How often a shard looks for returned buffers while somebody waits for one.
pub(crate) const STARVED_LOOK: Duration = Duration::from_millis(1);
/// Attempts to accept again after the descriptor table was full, per tick and listener.
pub(crate) const ACCEPT_RETRIES: u32 = 16;
/// Shards that are asked to take a connection that was accepted for all, before it stays where it was accepted. Fits the aux
/// bits of a token.
pub(crate) const PASS_ATTEMPTS: u8 = 8;
/// How long accepting pauses when descriptors stay out.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How long a start waits for an address that is taken. A killed process's rings are taken apart, with their listeners,
/// only when the process is gone already: 2 to 13 ms later, with up to 5,000 connections on 2 cores.
pub(crate) const ADDRESS_RELEASE: Duration = Duration::from_millis(250);
/// Between two attempts to bind it.
pub(crate) const ADDRESS_PAUSE: Duration = Duration::from_millis(5);
/// Services of one engine.
pub(crate) const SERVICES: usize = 16;
/// Endpoints of one engine, those that are gone included: their numbers have 16 bits.
pub(crate) const ENDPOINTS: usize = 1 << 16;
/// Control messages that may wait for one shard.
pub(crate) const CONTROL_MAIL: usize = 4096;
/// Room in that mailbox that closes, dials and listings leave for drain and stop.
pub(crate) const CONTROL_ROOM: usize = 64;
/// Timers fired per tick.
pub(crate) const TIMERS_PER_TICK: usize = 1024;
/// Connections whose unread bytes are offered to their handler again, per tick.
pub(crate) const RESUMES_PER_TICK: usize = 256;
/// Connections whose operations are brought in line per tick: each pushes at most a send and a receive, or steps of its end.
pub(crate) const SETTLES_PER_TICK: usize = COMPLETIONS as usize / 2;
/// Service answers taken per tick and service.
pub(crate) const ANSWERS_PER_TICK: usize = 4096;
/// Control messages handled per tick.
pub(crate) const CONTROLS_PER_TICK: usize = 64;
/// Inputs a service takes from one shard before it looks at the next.
pub(crate) const INPUTS_PER_LANE: usize = 256;
/// Slots of a lane only opens and closes of connections may use.
pub(crate) const LANE_RESERVED: usize = 64;
/// Opens and closes that may wait for room in a lane before new connections are refused.
pub(crate) const LIFECYCLE_WAITING: usize = 4096;
/// Answers that found nobody and may wait at a shard for room on their way back to their service.
pub(crate) const GONE_WAITING: usize = 4096;
/// Timers one connection's handler may have set at once.
pub(crate) const HANDLER_TIMERS: usize = 16;
/// Looks at a send chain per write-stall timeout. What was taken since the last look may have been taken right after it,
/// so a stall is found up to one look late.
pub(crate) const STALL_LOOKS: u32 = 8;
/// A connection that was not read for so long is watched for its peer's end; one whose peer has finished is looked at
/// again after so long.
pub(crate) const HELD_LOOK: Duration = Duration::from_secs(5);
/// What was said to a peer within this time it may not have read, and if it said something itself it may be saying more:
/// closing then lingers, for whatever reason.
pub(crate) const TALKED_LATELY: Duration = Duration::from_secs(2);
/// For so long: an RST comes that much later than the last words.
pub(crate) const LINGER_AFTER_TALK: Duration = Duration::from_millis(500);
/// How long a cancelled operation may take before its cancel is repeated. The kernel ends what it was asked to end; this is
/// for one that does not.
pub(crate) const CANCEL_AGAIN: Duration = Duration::from_secs(1);
/// How long a closing connection reads away what its peer still sends, before it gives up on a clean end.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// What a lingering connection reads away at most.
pub(crate) const LINGER_BYTES: u64 = 1 << 20;
/// Send queues kept for reuse per shard: 0.35 KB each, or 1.4 KB after a chain of many pieces.
pub(crate) const SPARE_QUEUES: usize = 4096;
/// 4 KiB chunks for queued bytes kept for reuse per shard.
pub(crate) const SPARE_CHUNKS: usize = 1024;
/// Connections closed per budget overrun, before the next tick looks again.
pub(crate) const VICTIMS_PER_TICK: usize = 16;
/// Dials started per tick.
pub(crate) const DIALS_PER_TICK: usize = 256;
/// Inputs an async service may leave untaken before its host stops taking more.
#[cfg(feature = "tokio-uring")]
pub(crate) const ASYNC_INPUTS: usize = 4096;
/// Events of an async service that found nobody and are kept for it.
#[cfg(feature = "tokio-uring")]
pub(crate) const ASYNC_GONE: usize = 1024;
/// Answers of an async service that may wait for room in a lane before it gets no more inputs.
#[cfg(feature = "tokio-uring")]
pub(crate) const ASYNC_ANSWERS: usize = 4096;
/// Turns of an async service and its host before their runtime looks at timers and files.
#[cfg(feature = "tokio-uring")]
pub(crate) const ASYNC_TURNS: usize = 8;
/// A service's mailbox: events published by others.
pub(crate) const SERVICE_MAIL: usize = 16_384;
/// Room in that mailbox that events leave for orders: a shard's lanes, drain, stop.
pub(crate) const ORDER_MAIL: usize = 8192;
/// Storage operations of one service in flight.
pub(crate) const STORAGE_OPERATIONS: usize = 1024;
/// Bytes that those may write and read.
pub(crate) const STORAGE_BYTES: usize = 16 << 20;
/// Bytes of one of them.
pub(crate) const STORAGE_OPERATION_BYTES: usize = 4 << 20;
/// Files that one storage may have open.
pub(crate) const STORAGE_FILES: usize = 256;
/// Names that are listed of one storage.
pub(crate) const STORAGE_NAMES: usize = 65_536;
/// Storage completions that a service hears per step.
pub(crate) const STORED_PER_STEP: usize = 256;
/// Restarts of a panicking service within [`RESTART_WINDOW`] before the engine drains.
pub(crate) const RESTARTS: usize = 5;
/// See [`RESTARTS`].
pub(crate) const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// Ticks whose timeline is kept per shard, 64 bytes each: 40 ms of a shard that ticks every 10 us.
pub(crate) const TRACED_TICKS: usize = 4096;
/// The longest a shard sleeps without looking around.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(1);

const _: () = {
    assert!(COMPLETIONS >= 4 * SUBMISSIONS, "a tick's submissions must not overflow their completions");
    assert!(BATCH <= COMPLETIONS as usize);
    assert!(ACCEPTS_AT_ONCE as usize <= ARRIVALS_PER_TICK, "a group never has to wait for its turn");
    assert!(HANDLER_TIMERS <= 256, "a timer's word has 8 bits for its place");
    assert!(SERVICE_MAIL > ORDER_MAIL && ORDER_MAIL > crate::id::MAX_SHARDS, "each shard attaches once");
    assert!(STORAGE_OPERATION_BYTES <= STORAGE_BYTES, "one operation must fit");
    assert!(LANE_RESERVED >= 2, "a connection's open and close must fit");
    assert!(TRACED_TICKS.is_power_of_two());
    assert!(ARMED_RECEIVES <= 20_000, "cancelling gets slow beyond");
};
