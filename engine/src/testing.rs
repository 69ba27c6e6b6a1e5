//! Tests for services: one service, stepped by hand, without threads, sockets or a clock that runs.
//!
//! Owns what stands around a service in an engine: its real host, the far ends of its lanes, and the mailboxes of shards
//! that do not exist. A test plays the connections ([`ServiceTester::open`], [`ServiceTester::frame`]), the shards
//! ([`ServiceTester::asked`]), the other services ([`ServiceTester::watch`], and publishing on the handle) and time
//! ([`ServiceTester::advance`]).
//!
//! Invariant: the service is called as an engine calls it, in the same order and with the same batches, restarts
//! included. What differs: [`Handle::now`] and the times in [`Handle::stats`] still come from the machine's clock.

use std::any::TypeId;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::buffer::{Pool, PoolConfig};
use crate::builder::{Builder, EngineParts, ServiceRef, ShardSeat, ThreadHost};
use crate::close_reason::CloseReason;
use crate::control::{ConnRow, Connections, Control, Socket};
use crate::handle::Handle;
use crate::handoff::inbox::{Doorbell, Inbox};
use crate::handoff::lane::{Consumer, Producer, lane};
use crate::handoff::mailbox;
use crate::host::{HostMail, HostRun, ShardLane};
use crate::id::{ConnId, ConnInfo, EndpointId, Origin, ShardId};
use crate::port::{FromService, Inbound, ToService};
use crate::service::{Input, Service};
use crate::storage::{Dir, Files, StorageSeat};
use crate::time::Time;

/// Room of each lane: more than a test feeds between two steps.
const LANE_CAPACITY: usize = 1024;

/// Steps one service and collects what it does.
///
/// ```
/// use megamux_engine::testing::{Sent, ServiceTester};
/// use megamux_engine::{ConnId, Config, Engine, Input, Placement, Scope, Service, ServiceCx, ShardId};
///
/// struct Doubler;
///
/// impl Service for Doubler {
///     type In = u32;
///     type Out = u32;
///     const SCOPE: Scope = Scope::Connection;
///
///     fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<u32>) {
///         if let Input::Frame(number) = input {
///             cx.send(conn, 2 * number);
///         }
///     }
/// }
///
/// let mut config = Config::default();
/// config.shards = 1;
/// let mut builder = Engine::builder(config)?;
/// let doubler = builder.service("doubler", Placement::Thread, || Doubler)?;
/// let mut tester = ServiceTester::new(builder, &doubler);
///
/// let conn = tester.open(ShardId(0), None);
/// tester.frame(conn, 21);
/// assert_eq!(tester.sent(), [Sent::Event(conn, 42)]);
/// # Ok::<(), megamux_engine::StartError>(())
/// ```
pub struct ServiceTester<S: Service> {
    host: Box<dyn HostRun>,
    inbox: Inbox,
    bell: Doorbell,
    mail: mailbox::Sender<HostMail<S>>,
    engine: Handle,
    lanes: Vec<FarEnd<S>>,
    seats: Vec<ShardSeat>,
    now: Time,
    opened: u32,
    sent: Vec<Sent<S::Out>>,
    pool: Pool,
    /// The service's files, really there: carried out between two steps.
    files: Option<(StorageSeat, Files<Dir>)>,
}

/// A shard's ends of its lanes to the service.
struct FarEnd<S: Service> {
    inputs: Producer<Inbound<S>>,
    replies: Consumer<FromService<S::Out>>,
}

/// What a service did to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent<O> {
    /// It sent an event.
    Event(ConnId, O),
    /// It closed the connection.
    Close(ConnId, CloseReason),
}

/// What a service asked of the engine's shards through its [`Handle`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Asked {
    /// [`Handle::close`].
    Close(ConnId, CloseReason),
    /// [`Handle::connections`], once for each shard.
    Connections(ListingAsked),
    /// [`Handle::connection`].
    Connection(RowAsked),
    /// Anything else.
    Other,
}

/// A listing that a shard was asked for, to be answered by the test; dropped, that shard stays silent.
pub struct ListingAsked {
    /// The shard that was asked.
    pub shard: ShardId,
    /// The most rows it may answer with.
    pub most: usize,
    reply: Arc<dyn Fn(Connections) + Send + Sync>,
}

/// A connection that a shard was asked for, to be answered by the test; dropped, that shard stays silent.
pub struct RowAsked {
    /// The connection that was asked for.
    pub conn: ConnId,
    reply: Box<dyn FnOnce(Option<ConnRow>) + Send>,
}

/// The events of one type that were published, kept for the test.
pub struct Watched<E>(Arc<Mutex<Vec<Arc<E>>>>);

impl<S: Service> ServiceTester<S> {
    /// Takes the service out of `builder`, with its subscriptions. The builder's shards exist in name only.
    ///
    /// # Panics
    ///
    /// When `service` is not the builder's only service, is not placed on a thread of its own, or its directory cannot be
    /// opened.
    pub fn new(builder: Builder, service: &ServiceRef<S>) -> ServiceTester<S> {
        let engine = builder.handle().clone();
        let (_, link) = service.link(ShardId(0)).expect("a service of this builder is tested");
        let EngineParts { shards, mut threads, mut storages } = builder
            .into_parts(0, |_, shards| Ok((0..shards).map(|_| Socket::None).collect()))
            .expect("sockets that are not made cannot fail");
        assert_eq!(threads.len(), 1, "the only service, on its own thread");
        let ThreadHost { host, inbox, .. } = threads.remove(0);
        let files = storages.pop().map(|seat| {
            let dir = Dir::open(&seat.dir).expect("a directory that can be opened");
            (seat, Files::new(dir))
        });
        let pool = PoolConfig { buffers: 1, buffer_size: 1 };
        let mut tester = ServiceTester {
            host,
            inbox,
            bell: link.bell,
            mail: link.mail,
            engine,
            lanes: Vec::new(),
            seats: shards.into_iter().map(|part| part.seat).collect(),
            now: Time::ZERO,
            opened: 0,
            sent: Vec::new(),
            pool: Pool::new(pool).expect("a page can be mapped"),
            files,
        };
        for shard in 0..tester.seats.len() {
            tester.attach(shard);
        }
        tester.run();
        tester
    }

    /// A new connection of `shard` opens.
    pub fn open(&mut self, shard: ShardId, peer: Option<SocketAddr>) -> ConnId {
        let id = conn_id(shard, self.opened);
        self.opened += 1;
        let info = conn_info(id, peer);
        self.feed(id, Input::Open(Box::new(info)));
        id
    }

    /// A connection's handler sends an event.
    pub fn frame(&mut self, conn: ConnId, event: S::In) {
        self.feed(conn, Input::Frame(event));
    }

    /// A connection is over.
    pub fn close(&mut self, conn: ConnId, why: CloseReason) {
        self.feed(conn, Input::Close(why));
    }

    /// An event that the service sent to a connection found nobody, and comes back.
    pub fn give_back(&mut self, conn: ConnId, event: S::Out) {
        self.pass(usize::from(conn.shard().0), ToService::Gone(Box::new((conn, event))));
    }

    /// The engine drains.
    pub fn drain(&mut self) {
        self.mail(HostMail::Drain);
    }

    /// Has the service do all there is to do now.
    pub fn run(&mut self) {
        loop {
            for shard in self.inbox.drain() {
                self.host.rung(shard);
            }
            let more = self.host.step(self.now);
            let took = self.collect() | self.run_files();
            if !more && !took && self.host.is_idle() {
                return;
            }
        }
    }

    /// Lets time pass: the service runs now, at each of its deadlines, and at the end.
    pub fn advance(&mut self, by: Duration) {
        self.run();
        let until = self.now + by;
        while let Some(deadline) = self.host.next_deadline().filter(|&at| at <= until) {
            self.now = self.now.max(deadline);
            self.run();
        }
        self.now = until;
        self.run();
    }

    /// The time the service sees.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The engine as the service sees it.
    pub fn engine(&self) -> &Handle {
        &self.engine
    }

    /// Runs the service, and takes what it did to connections since the last time.
    pub fn sent(&mut self) -> Vec<Sent<S::Out>> {
        self.run();
        std::mem::take(&mut self.sent)
    }

    /// Runs the service, and takes what it asked of shards since the last time.
    pub fn asked(&mut self) -> Vec<Asked> {
        self.run();
        let mut asked = Vec::new();
        for (shard, seat) in (0..).map(ShardId).zip(&mut self.seats) {
            while let Some(order) = seat.mail.receive() {
                asked.push(match order {
                    Control::Close(conn, why) => Asked::Close(conn, why),
                    Control::Connections { most, reply } => Asked::Connections(ListingAsked { shard, most, reply }),
                    Control::Connection(conn, reply) => Asked::Connection(RowAsked { conn, reply }),
                    _ => Asked::Other,
                });
            }
        }
        asked
    }

    /// Keeps every event of type `E` that is published from now on.
    pub fn watch<E: Send + Sync + 'static>(&mut self) -> Watched<E> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        self.engine.add_subscriber(
            TypeId::of::<E>(),
            Box::new(move |event| {
                if let Ok(event) = event.downcast::<E>() {
                    lock(&keep).push(event);
                }
                true
            }),
        );
        Watched(kept)
    }

    /// Carries out what was submitted to the storage; says whether there was anything.
    fn run_files(&mut self) -> bool {
        let Some((seat, files)) = &mut self.files else { return false };
        let mut ran = false;
        while let Ok(job) = seat.jobs.try_recv() {
            seat.run(files, job);
            ran = true;
        }
        ran
    }

    fn attach(&mut self, shard: usize) {
        let (inputs, from_shard) = lane(LANE_CAPACITY, 0);
        let (to_shard, replies) = lane(LANE_CAPACITY, 0);
        let lane = ShardLane {
            inputs: from_shard,
            replies: to_shard,
            bell: self.seats[shard].bell.clone(),
            number: 0,
            returns: self.pool.return_lane(),
        };
        self.mail(HostMail::Attach(ShardId(shard as u16), Box::new(lane)));
        self.lanes.push(FarEnd { inputs, replies });
    }

    fn mail(&mut self, mail: HostMail<S>) {
        let sent = self.mail.send(mail).is_ok();
        assert!(sent, "the service's mailbox is full");
    }

    fn feed(&mut self, conn: ConnId, input: Input<S::In>) {
        self.pass(usize::from(conn.shard().0), ToService::Input(conn, input));
    }

    fn pass(&mut self, shard: usize, message: Inbound<S>) {
        let lane = &mut self.lanes[shard].inputs;
        if lane.free() == 0 {
            self.run();
        }
        let lane = &mut self.lanes[shard].inputs;
        let fed = lane.push(message).is_ok();
        assert!(fed, "the service does not take what it is fed");
        lane.publish();
        let _ = self.bell.ring(shard);
    }

    /// Takes the service's answers out of the lanes; says whether there were any.
    fn collect(&mut self) -> bool {
        let before = self.sent.len();
        for (shard, lane) in self.lanes.iter_mut().enumerate() {
            while let Some(answer) = lane.replies.pop() {
                match answer {
                    FromService::Event(conn, event) => self.sent.push(Sent::Event(conn, event)),
                    FromService::Close(conn, why) => self.sent.push(Sent::Close(conn, why)),
                    FromService::Restarted => {
                        let forgotten = lane.inputs.push(ToService::Restarted).is_ok();
                        assert!(forgotten, "the lane is full");
                        lane.inputs.publish();
                        let _ = self.bell.ring(shard);
                    }
                    FromService::Drained => {}
                }
            }
            if lane.replies.release() {
                let _ = self.bell.ring(shard);
            }
        }
        self.sent.len() > before
    }
}

impl ListingAsked {
    /// Answers with these connections, of `total` that the shard has.
    pub fn answer(self, rows: Vec<ConnRow>, total: usize) {
        (self.reply)(Connections { shard: self.shard, rows, total });
    }
}

impl std::fmt::Debug for ListingAsked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListingAsked").field("shard", &self.shard).field("most", &self.most).finish_non_exhaustive()
    }
}

impl RowAsked {
    /// Answers with this connection, or that there is none.
    pub fn answer(self, row: Option<ConnRow>) {
        (self.reply)(row);
    }
}

impl std::fmt::Debug for RowAsked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowAsked").field("conn", &self.conn).finish_non_exhaustive()
    }
}

impl<E> Watched<E> {
    /// Takes what was published since the last time.
    pub fn take(&self) -> Vec<Arc<E>> {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// The name of the connection that is the first in this slot of a shard.
pub fn conn_id(shard: ShardId, slot: u32) -> ConnId {
    ConnId::new(shard, 1, slot)
}

/// An accepted connection of endpoint 0.
pub fn conn_info(id: ConnId, peer: Option<SocketAddr>) -> ConnInfo {
    ConnInfo { id, endpoint: EndpointId(0), origin: Origin::Accepted, peer }
}

/// A row of a listing: a parked connection that has not done anything yet.
pub fn conn_row(info: ConnInfo) -> ConnRow {
    ConnRow {
        info,
        state: "parked",
        age: Duration::ZERO,
        idle: Duration::ZERO,
        bytes_in: 0,
        bytes_out: 0,
        queued_bytes: 0,
        unread_bytes: 0,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::Config;
    use crate::service::{Placement, Scope, ServiceCx};

    /// Counts what it hears, and bears no zero.
    struct Counter(Arc<AtomicUsize>);

    impl Service for Counter {
        type In = u32;
        type Out = u32;
        const SCOPE: Scope = Scope::Connection;

        fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, _: ConnId, input: Input<u32>) {
            if matches!(input, Input::Frame(0)) {
                panic_any("a zero");
            }
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tester(factory: impl Fn() -> Counter + Send + Sync + 'static) -> ServiceTester<Counter> {
        let mut builder = Builder::new(Config { shards: 1, ..Config::default() }).unwrap();
        let counter = builder.service("counter", Placement::Thread, factory).unwrap();
        ServiceTester::new(builder, &counter)
    }

    #[test]
    fn a_service_that_is_told_to_stop_hears_what_was_sent_before() {
        let heard = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heard);
        let mut tester = tester(move || Counter(Arc::clone(&count)));
        let conn = tester.open(ShardId(0), None);
        for number in 1..LANE_CAPACITY as u32 {
            tester.frame(conn, number);
        }
        tester.mail(HostMail::Stop);
        while !tester.host.is_stopped() {
            tester.host.step(Time::ZERO);
        }
        assert_eq!(heard.load(Ordering::Relaxed), LANE_CAPACITY);
    }

    #[test]
    fn a_factory_that_panics_is_one_more_failure_of_its_service() {
        let made = AtomicUsize::new(0);
        let mut tester = tester(move || {
            assert_ne!(made.fetch_add(1, Ordering::Relaxed), 1, "the second cannot be made");
            Counter(Arc::default())
        });
        let conn = tester.open(ShardId(0), None);
        tester.frame(conn, 0);
        tester.run();
        assert_eq!(tester.engine().stats().service_panics, 2);
    }
}
