//! Services: what stands behind handlers. A service sees typed events of connections, never sockets.
//!
//! A service is stepped by whoever runs it (a thread of its own, a shard, the simulator) and never owns a thread
//! or a clock. It gives the same answers under each [`Placement`] it allows.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::host::Outbox;
use crate::id::{ConnId, ConnInfo, ShardId, TimerKey};
use crate::storage::{Storage, StorageError, StorageKey, Stored};
use crate::time::Time;

/// Where a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// One instance on each shard, for that shard's connections. Only for [`Scope::Connection`], or one shard.
    PerShard,
    /// One instance, on this shard's thread.
    Shard(ShardId),
    /// One instance, on a thread of its own.
    Thread,
}

/// How far a service's state reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// State across connections: there must be one instance.
    Node,
    /// No state across connections: there may be one instance per shard.
    Connection,
}

/// What a service hears of a connection, in this order: `Open`, any number of `Frame`s, `Close` exactly once.
#[derive(Debug)]
pub enum Input<E> {
    /// The connection opened.
    Open(Box<ConnInfo>),
    /// The handler sent an event.
    Frame(E),
    /// The connection is over. Replies to it from now on go nowhere.
    Close(CloseReason),
}

/// Consumes and emits events; owns its state.
#[allow(unused_variables)]
pub trait Service: Sized + Send + 'static {
    /// What handlers send to it.
    type In: Send + 'static;
    /// What it sends to connections.
    type Out: Send + 'static;
    /// How far its state reaches.
    const SCOPE: Scope;

    /// Something happened on a connection.
    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<Self::In>);

    /// The inputs at hand are done: the place for group commit and coalescing.
    fn on_batch_end(&mut self, cx: &mut ServiceCx<'_, Self>) {}

    /// An event sent to `conn` found nobody there, and comes back, in the order of sending; the connection's `Close` may
    /// come before or after. While thousands of events are on their way back to one shard's lane, further ones are
    /// dropped and counted (`replies_lost`); those under way when the service is made anew or the engine stops are dropped.
    fn on_gone(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, event: Self::Out) {}

    /// A timer set with [`ServiceCx::set_timer`] is due.
    fn on_timer(&mut self, cx: &mut ServiceCx<'_, Self>, key: TimerKey) {}

    /// An operation submitted to [`ServiceCx::storage`] has completed.
    fn on_stored(&mut self, cx: &mut ServiceCx<'_, Self>, key: StorageKey, result: Result<Stored, StorageError>) {}

    /// The engine drains: say good-bye, finish what is under way.
    fn on_drain(&mut self, cx: &mut ServiceCx<'_, Self>) {}

    /// The service (re)started and may set timers and publish events.
    fn on_start(&mut self, cx: &mut ServiceCx<'_, Self>) {}
}

/// Receives events that other services (or the embedder) publish. Connected by
/// [`crate::Builder::subscribe`].
pub trait Subscribe<E>: Service {
    /// Somebody published `event`.
    fn on_published(&mut self, cx: &mut ServiceCx<'_, Self>, event: &E);
}

/// The service of handlers that need none.
#[derive(Debug, Clone, Copy)]
pub struct NoService;

impl Service for NoService {
    type In = Infallible;
    type Out = Infallible;
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, _: ConnId, _: Input<Infallible>) {}
}

/// What a service may do from a callback.
pub struct ServiceCx<'a, S: Service> {
    pub(crate) now: Time,
    pub(crate) outbox: &'a mut Outbox<S::Out>,
    pub(crate) timers: &'a mut ServiceTimers,
    pub(crate) storage: &'a mut Storage,
    pub(crate) engine: &'a Handle,
}

impl<S: Service> ServiceCx<'_, S> {
    /// The time of this step.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Sends an event to a connection's handler. Order per connection is kept; if the connection is
    /// gone by then, that is counted (`replies_gone`), and the event comes back to [`Service::on_gone`].
    pub fn send(&mut self, conn: ConnId, event: S::Out) {
        self.outbox.send(conn, event);
    }

    /// The same, but gives the event back at once if the service cannot reach the connection by what it has heard: no
    /// `Open` of it, or its `Close`. It may still be gone by the time the event arrives.
    ///
    /// # Errors
    ///
    /// [`Gone`], with the event.
    pub fn try_send(&mut self, conn: ConnId, event: S::Out) -> Result<(), Gone<S::Out>> {
        match self.outbox.knows(conn) {
            true => {
                self.outbox.send(conn, event);
                Ok(())
            }
            false => Err(Gone(event)),
        }
    }

    /// Closes a connection after what was sent to it before.
    pub fn close(&mut self, conn: ConnId, why: CloseReason) {
        self.outbox.close(conn, why);
    }

    /// Sets (or moves) the timer `key` to fire once, `after` from now.
    pub fn set_timer(&mut self, key: TimerKey, after: Duration) {
        self.timers.set(key, self.now + after);
    }

    /// Takes the timer `key` back; `false` if it was not set.
    pub fn cancel_timer(&mut self, key: TimerKey) -> bool {
        self.timers.cancel(key)
    }

    /// Gives an event to every service that subscribed to its type, in its own time; see [`Handle::publish`].
    pub fn publish<E: Send + Sync + 'static>(&self, event: E) -> Result<usize, PublishError> {
        self.engine.publish(event)
    }

    /// The service's files; see [`crate::Builder::storage`].
    pub fn storage(&mut self) -> &mut Storage {
        self.storage
    }

    /// The engine that runs this service.
    pub fn engine(&self) -> &Handle {
        self.engine
    }
}

/// The connection is gone, or never was; with what was to be sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is gone")]
pub struct Gone<O>(pub O);

/// A subscriber's mailbox was full; the others got the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subscriber's mailbox is full ({full} of {subscribers})")]
pub struct PublishError {
    /// How many subscribers missed the event.
    pub full: usize,
    /// How many subscribers there are.
    pub subscribers: usize,
}

/// A service's timers, by key.
pub(crate) struct ServiceTimers {
    wheel: crate::timer::Wheel<TimerKey>,
    ids: HashMap<TimerKey, crate::timer::TimerId>,
}

impl Default for ServiceTimers {
    fn default() -> Self {
        ServiceTimers { wheel: crate::timer::Wheel::new(), ids: HashMap::new() }
    }
}

impl ServiceTimers {
    fn set(&mut self, key: TimerKey, deadline: Time) {
        self.cancel(key);
        self.ids.insert(key, self.wheel.insert(deadline, key));
    }

    fn cancel(&mut self, key: TimerKey) -> bool {
        self.ids.remove(&key).is_some_and(|id| self.wheel.cancel(id))
    }

    pub(crate) fn expire(&mut self, now: Time, most: usize, due: &mut Vec<TimerKey>) -> bool {
        let before = due.len();
        let more = self.wheel.expire(now, most, due);
        for key in &due[before..] {
            self.ids.remove(key);
        }
        more
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.wheel.next_deadline()
    }
}

/// An event on its way to subscribers.
pub(crate) type Published = Arc<dyn Any + Send + Sync>;

/// How an event of one type reaches one subscribed service.
pub(crate) type Deliver<S> = fn(&mut S, &mut ServiceCx<'_, S>, &(dyn Any + Send + Sync));

/// Finds a service's [`Subscribe`] implementation by the event's type.
pub(crate) struct Subscriptions<S: Service>(HashMap<TypeId, Deliver<S>>);

impl<S: Service> Clone for Subscriptions<S> {
    fn clone(&self) -> Self {
        Subscriptions(self.0.clone())
    }
}

impl<S: Service> Default for Subscriptions<S> {
    fn default() -> Self {
        Subscriptions(HashMap::new())
    }
}

impl<S: Service> Subscriptions<S> {
    pub(crate) fn add<E: 'static>(&mut self)
    where
        S: Subscribe<E>,
    {
        self.0.insert(TypeId::of::<E>(), |service, cx, event| {
            if let Some(event) = event.downcast_ref::<E>() {
                service.on_published(cx, event);
            }
        });
    }

    pub(crate) fn find(&self, event: &(dyn Any + Send + Sync)) -> Option<Deliver<S>> {
        self.0.get(&event.type_id()).copied()
    }
}
