//! Services that need an async ecosystem: a future on a thread of its own, fed by the same lanes as any service.
//!
//! The runtime is tokio-uring where it works and tokio's current_thread where it is refused; the choice is logged.
//! Such a service carries no state that was acknowledged to anyone: a future that is dropped (stop, panic) loses
//! what it awaits. This file owns what an embedder sees; [`root`] runs it, [`runtime`] chooses what it runs on, and
//! docs/async-services.md argues why nothing here is lost or grows.

mod desk;
mod root;
mod runtime;

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

use crate::builder::Runner;
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::id::ConnId;
use crate::service::{Input, Scope, Service, ServiceCx};

use desk::{Answer, Desk};
use root::Root;
pub(crate) use root::TaskWake;
use runtime::Runtime;

/// A service written as a future.
pub trait AsyncService: Sized + Send + 'static {
    /// What handlers send to it.
    type In: Send + 'static;
    /// What it sends to connections.
    type Out: Send + 'static;

    /// The service's life: takes inputs from `cx`, and ends after [`AsyncInput::Drain`] or when it is dropped. It runs
    /// on one thread and need not be `Send`. Local tasks that it spawns end when it does.
    ///
    /// If it panics, or ends before it was told to drain, its connections close with
    /// [`CloseReason::ServicePanic`] and it is made anew.
    fn run(self, cx: AsyncCx<Self>) -> impl Future<Output = ()>;
}

/// Which runtime an async service is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AsyncRuntime {
    /// tokio-uring where it works, else tokio.
    #[default]
    Auto,
    /// tokio-uring, or the engine does not start.
    TokioUring,
    /// tokio's current_thread.
    Tokio,
}

/// Which runtime an async service got: files are opened through one or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// `tokio_uring::fs` and all of tokio work.
    TokioUring,
    /// All of tokio works.
    Tokio,
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuntimeKind::TokioUring => "tokio-uring",
            RuntimeKind::Tokio => "tokio",
        })
    }
}

/// What an async service hears.
#[derive(Debug)]
pub enum AsyncInput<E> {
    /// Something happened on a connection.
    Conn(ConnId, Input<E>),
    /// The engine drains: say good-bye. Connections close once [`AsyncCx::recv`] is called again (or the service
    /// ends), after what was sent to them until then.
    Drain,
}

/// What an async service may do. Clones of it go to the tasks that the service spawns, and go dead with the service.
pub struct AsyncCx<A: AsyncService> {
    desk: Arc<Desk<A::In, A::Out>>,
    engine: Handle,
    runtime: RuntimeKind,
}

impl<A: AsyncService> Clone for AsyncCx<A> {
    fn clone(&self) -> Self {
        AsyncCx { desk: Arc::clone(&self.desk), engine: self.engine.clone(), runtime: self.runtime }
    }
}

impl<A: AsyncService> AsyncCx<A> {
    /// The next input, in order per connection. One task at a time may wait for it; a wait that is given up loses
    /// nothing. There is none as long as too many answers wait for room.
    pub async fn recv(&self) -> AsyncInput<A::In> {
        poll_fn(|task| self.desk.take(task.waker())).await
    }

    /// Sends an event to a connection's handler, in order per connection.
    pub fn send(&self, conn: ConnId, event: A::Out) {
        self.desk.answer(Answer::Event(conn, event));
    }

    /// Closes a connection after what was sent to it before.
    pub fn close(&self, conn: ConnId, why: CloseReason) {
        self.desk.answer(Answer::Close(conn, why));
    }

    /// The next event of those sent that found its connection gone. Up to 1,024 are kept for who asks; beyond that the
    /// oldest are forgotten. One task at a time may wait for it.
    pub async fn gone(&self) -> (ConnId, A::Out) {
        poll_fn(|task| self.desk.take_gone(task.waker())).await
    }

    /// Waits until there is room for answers. Who answers inputs need not ask, because [`AsyncCx::recv`] waits for it;
    /// who sends of its own accord awaits this first, or what it sends piles up.
    pub async fn room(&self) {
        poll_fn(|task| match self.desk.has_room(task.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// The runtime that this service runs on.
    pub fn runtime(&self) -> RuntimeKind {
        self.runtime
    }

    /// The engine that runs this service.
    pub fn engine(&self) -> &Handle {
        &self.engine
    }
}

/// The service that handlers name: `type Service = Async<MyService>`. It stands for the future in its host.
pub struct Async<A: AsyncService> {
    desk: Arc<Desk<A::In, A::Out>>,
    service: Option<A>,
    seat: Arc<Seat<A>>,
}

/// Where a service that was just made waits for the task that runs it.
struct Seat<A: AsyncService>(Mutex<Option<Fresh<A>>>);

struct Fresh<A: AsyncService> {
    service: A,
    desk: Arc<Desk<A::In, A::Out>>,
}

impl<A: AsyncService> Seat<A> {
    fn put(&self, fresh: Option<Fresh<A>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    fn take(&self) -> Option<Fresh<A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<A: AsyncService> Service for Async<A> {
    type In = A::In;
    type Out = A::Out;
    const SCOPE: Scope = Scope::Node;

    fn on_start(&mut self, _: &mut ServiceCx<'_, Self>) {
        let desk = Arc::clone(&self.desk);
        let service = self.service.take();
        self.seat.put(service.map(|service| Fresh { service, desk }));
    }

    fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<A::In>) {
        self.desk.put(AsyncInput::Conn(conn, input));
    }

    fn on_gone(&mut self, _: &mut ServiceCx<'_, Self>, conn: ConnId, event: A::Out) {
        self.desk.put_gone(conn, event);
    }

    fn on_drain(&mut self, cx: &mut ServiceCx<'_, Self>) {
        cx.outbox.drain_later();
        self.desk.put(AsyncInput::Drain);
    }

    fn on_batch_end(&mut self, cx: &mut ServiceCx<'_, Self>) {
        self.desk.move_answers(cx.outbox);
    }
}

/// What makes the service, and what runs it on its thread.
pub(crate) struct AsyncParts<A: AsyncService> {
    pub(crate) make: Arc<dyn Fn() -> Async<A> + Send + Sync>,
    pub(crate) run: Runner,
}

pub(crate) fn parts<A: AsyncService>(
    name: &str,
    choice: AsyncRuntime,
    factory: impl Fn() -> A + Send + Sync + 'static,
    wake: TaskWake,
    engine: Handle,
) -> AsyncParts<A> {
    let seat = Arc::new(Seat(Mutex::new(None)));
    let sits = Arc::clone(&seat);
    let make = Arc::new(move || Async { desk: Arc::default(), service: Some(factory()), seat: Arc::clone(&sits) });
    let name = name.to_owned();
    let run: Runner = Box::new(move |host, inbox, epoch: Instant, ready| match Runtime::new(&name, choice) {
        Ok(runtime) => {
            let _ = ready.send(Ok(()));
            let root =
                Root { name, runtime: runtime.kind(), host, inbox, epoch, wake, seat, engine, desk: None, life: None };
            runtime.run(root.run());
        }
        Err(error) => {
            let _ = ready.send(Err(error));
        }
    });
    AsyncParts { make, run }
}
