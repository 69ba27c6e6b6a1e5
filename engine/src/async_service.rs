//! Services that need an async ecosystem: a future on a thread of its own, fed by the same lanes as any service.
//!
//! The runtime is tokio-uring where it works and tokio's current_thread where it is refused; the choice is logged.
//! Such a service carries no state that was acknowledged to anyone: a future that is dropped (drain, stop, panic) loses
//! what it awaits. Invariant: one task polls host and future in turn, so neither can starve the other, and
//! inputs that the future has not taken are bounded: the host stops taking them from its lanes.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::handoff::inbox::Inbox;
use crate::handoff::wake::Wake;
use crate::host::HostRun;
use crate::id::ConnId;
use crate::limits;
use crate::service::{Input, Scope, Service, ServiceCx};
use crate::time::Time;

/// A service written as a future.
pub trait AsyncService: Sized + Send + 'static {
    /// What handlers send to it.
    type In: Send + 'static;
    /// What it sends to connections.
    type Out: Send + 'static;

    /// The service's life: takes inputs from `cx` until there are no more. It runs on one thread and need not be
    /// `Send`; it may spawn local tasks. A panic closes its connections and starts it anew.
    fn run(self, cx: AsyncCx<Self>) -> impl Future<Output = ()>;
}

/// Which runtime an async service gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AsyncRuntime {
    /// tokio-uring where it works, else tokio.
    #[default]
    Auto,
    /// tokio's current_thread.
    Tokio,
}

/// What an async service hears.
#[derive(Debug)]
pub enum AsyncInput<E> {
    /// Something happened on a connection.
    Conn(ConnId, Input<E>),
    /// The engine drains: say good-bye.
    Drain,
}

/// What an async service may do.
pub struct AsyncCx<A: AsyncService> {
    shared: Arc<Mutex<Shared<A>>>,
    engine: Handle,
}

impl<A: AsyncService> Clone for AsyncCx<A> {
    fn clone(&self) -> Self {
        AsyncCx { shared: Arc::clone(&self.shared), engine: self.engine.clone() }
    }
}

impl<A: AsyncService> AsyncCx<A> {
    /// The next input, in order per connection. One task at a time may wait for it.
    pub async fn recv(&self) -> AsyncInput<A::In> {
        poll_fn(|task| {
            let mut shared = lock(&self.shared);
            match shared.inputs.pop_front() {
                Some(input) => Poll::Ready(input),
                None => {
                    shared.receiver = Some(task.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Sends an event to a connection's handler.
    pub fn send(&self, conn: ConnId, event: A::Out) {
        self.push(Answer::Event(conn, event));
    }

    /// Closes a connection after what was sent to it before.
    pub fn close(&self, conn: ConnId, why: CloseReason) {
        self.push(Answer::Close(conn, why));
    }

    /// The engine that runs this service.
    pub fn engine(&self) -> &Handle {
        &self.engine
    }

    fn push(&self, answer: Answer<A::Out>) {
        let mut shared = lock(&self.shared);
        shared.answers.push_back(answer);
        if let Some(root) = shared.root.take() {
            root.wake();
        }
    }
}

enum Answer<O> {
    Event(ConnId, O),
    Close(ConnId, CloseReason),
}

/// What host and future exchange; both live on one thread, so nobody ever waits for the lock.
struct Shared<A: AsyncService> {
    inputs: VecDeque<AsyncInput<A::In>>,
    answers: VecDeque<Answer<A::Out>>,
    /// A service that has not begun to run.
    fresh: Option<A>,
    receiver: Option<Waker>,
    root: Option<Waker>,
}

fn lock<A: AsyncService>(shared: &Mutex<Shared<A>>) -> MutexGuard<'_, Shared<A>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The service that handlers name: `type Service = Async<MyService>`.
pub struct Async<A: AsyncService> {
    shared: Arc<Mutex<Shared<A>>>,
    service: Option<A>,
}

impl<A: AsyncService> Async<A> {
    fn push(&self, input: AsyncInput<A::In>) {
        let mut shared = lock(&self.shared);
        shared.inputs.push_back(input);
        if let Some(receiver) = shared.receiver.take() {
            receiver.wake();
        }
    }
}

impl<A: AsyncService> Service for Async<A> {
    type In = A::In;
    type Out = A::Out;
    const SCOPE: Scope = Scope::Node;

    fn on_start(&mut self, _: &mut ServiceCx<'_, Self>) {
        let mut shared = lock(&self.shared);
        shared.inputs.clear();
        shared.answers.clear();
        shared.fresh = self.service.take();
    }

    fn on_input(&mut self, _: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<A::In>) {
        self.push(AsyncInput::Conn(conn, input));
    }

    fn on_drain(&mut self, _: &mut ServiceCx<'_, Self>) {
        self.push(AsyncInput::Drain);
    }

    fn on_batch_end(&mut self, cx: &mut ServiceCx<'_, Self>) {
        for answer in lock(&self.shared).answers.drain(..) {
            match answer {
                Answer::Event(conn, event) => cx.send(conn, event),
                Answer::Close(conn, why) => cx.close(conn, why),
            }
        }
    }
}

/// Wakes the task that runs a service.
#[derive(Clone, Default)]
pub(crate) struct TaskWake(Arc<Mutex<Option<Waker>>>);

impl TaskWake {
    fn set(&self, waker: &Waker) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

impl Wake for TaskWake {
    fn wake(&self) {
        if let Some(waker) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

/// What makes the service, and what runs it on its thread.
pub(crate) struct AsyncParts<A: AsyncService> {
    pub(crate) make: Arc<dyn Fn() -> Async<A> + Send + Sync>,
    pub(crate) run: Box<dyn FnOnce(Box<dyn HostRun>, Inbox, Instant) + Send>,
}

pub(crate) fn parts<A: AsyncService>(
    name: &str,
    runtime: AsyncRuntime,
    factory: impl Fn() -> A + Send + Sync + 'static,
    wake: TaskWake,
    engine: Handle,
) -> AsyncParts<A> {
    let shared = Arc::new(Mutex::new(Shared {
        inputs: VecDeque::new(),
        answers: VecDeque::new(),
        fresh: None,
        receiver: None,
        root: None,
    }));
    let made = Arc::clone(&shared);
    let make = Arc::new(move || Async { shared: Arc::clone(&made), service: Some(factory()) });
    let name = name.to_owned();
    let run = Box::new(move |host, inbox, epoch| {
        let cx = AsyncCx { shared, engine };
        let root = Root { host, inbox, epoch, wake, cx, life: None };
        if let Err(error) = block_on(&name, runtime, root.run()) {
            tracing::error!(service = %name, %error, "no runtime for an async service");
        }
    });
    AsyncParts { make, run }
}

/// Runs the future on the best runtime there is, and says which.
fn block_on(name: &str, runtime: AsyncRuntime, future: impl Future<Output = ()>) -> io::Result<()> {
    if runtime == AsyncRuntime::Auto {
        match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => {
                tracing::info!(service = name, runtime = "tokio-uring", "async service");
                runtime.block_on(future);
                return Ok(());
            }
            Err(error) => tracing::info!(service = name, %error, "tokio-uring is refused here"),
        }
    }
    tracing::info!(service = name, runtime = "tokio current_thread", "async service");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future);
    Ok(())
}

/// The one task: host and future in turn.
struct Root<A: AsyncService> {
    host: Box<dyn HostRun>,
    inbox: Inbox,
    epoch: Instant,
    wake: TaskWake,
    cx: AsyncCx<A>,
    life: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<A: AsyncService> Root<A> {
    async fn run(mut self) {
        poll_fn(|task| self.poll(task)).await;
    }

    fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        self.wake.set(task.waker());
        lock(&self.cx.shared).root = Some(task.waker().clone());
        let now = Time::from_nanos(self.epoch.elapsed().as_nanos() as u64);
        for shard in self.inbox.drain() {
            self.host.rung(shard);
        }
        self.host.hold(lock(&self.cx.shared).inputs.len() >= limits::ASYNC_INPUTS);
        let more = self.host.step(now);
        if self.host.is_stopped() {
            return Poll::Ready(());
        }
        self.poll_life(task, now);
        let answers = !lock(&self.cx.shared).answers.is_empty();
        if answers {
            self.host.poke();
        }
        let Root { host, inbox, .. } = self;
        if more || answers {
            task.waker().wake_by_ref();
        } else if let Some(nap) = inbox.try_sleep(|| host.is_idle()) {
            // The sleep outlives this call: whoever rings wakes the task.
            std::mem::forget(nap);
        } else {
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn poll_life(&mut self, task: &mut Context<'_>, now: Time) {
        let fresh = lock(&self.cx.shared).fresh.take();
        if let Some(service) = fresh {
            self.life = Some(Box::pin(service.run(self.cx.clone())));
        }
        let Some(life) = &mut self.life else { return };
        match catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(task))) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => self.life = None,
            Err(_) => {
                self.life = None;
                self.host.panicked(now);
            }
        }
    }
}
