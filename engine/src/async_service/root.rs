//! The one task of an async service's thread: its host and its future in turn.
//!
//! Invariants: neither starves the other, since both get a bounded share of every turn, nor the runtime's
//! timers and files, which get theirs after [`limits::ASYNC_TURNS`] turns. The task sleeps only after the
//! inbox and the desk were told so and both had nothing; nobody else polls the future.

use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::task::LocalSet;

use crate::buffer::flush_returns;
use crate::handle::Handle;
use crate::handoff::inbox::Inbox;
use crate::handoff::wake::Wake;
use crate::host::HostRun;
use crate::limits;
use crate::time::Time;

use super::desk::Desk;
use super::{AsyncCx, AsyncService, Fresh, RuntimeKind, Seat};

pub(super) struct Root<A: AsyncService> {
    pub(super) name: String,
    pub(super) runtime: RuntimeKind,
    pub(super) host: Box<dyn HostRun>,
    pub(super) inbox: Inbox,
    pub(super) epoch: Instant,
    pub(super) wake: TaskWake,
    pub(super) seat: Arc<Seat<A>>,
    pub(super) engine: Handle,
    pub(super) desk: Option<Arc<Desk<A::In, A::Out>>>,
    pub(super) life: Option<Life>,
}

/// A service's future, with the local tasks that it spawns.
pub(super) type Life = Pin<Box<dyn Future<Output = ()>>>;

/// What comes after a turn.
enum Next {
    Turn,
    Sleep,
    Stop,
}

impl<A: AsyncService> Root<A> {
    /// Runs until the host is told to stop.
    pub(super) async fn run(mut self) {
        loop {
            match poll_fn(|task| Poll::Ready(self.turns(task))).await {
                Next::Stop => return,
                Next::Turn => breathe().await,
                Next::Sleep => {
                    let Root { host, inbox, desk, .. } = &mut self;
                    let idle = || host.is_idle() && desk.as_ref().is_none_or(|desk| desk.sleep());
                    match inbox.try_sleep(idle) {
                        Some(_nap) => woken().await,
                        None => breathe().await,
                    }
                }
            }
        }
    }

    fn turns(&mut self, task: &mut Context<'_>) -> Next {
        self.wake.set(task.waker());
        for _ in 0..limits::ASYNC_TURNS {
            match self.turn(task) {
                Next::Turn => {}
                next => return next,
            }
        }
        Next::Turn
    }

    fn turn(&mut self, task: &mut Context<'_>) -> Next {
        let now = Time::from_nanos(self.epoch.elapsed().as_nanos() as u64);
        for shard in self.inbox.drain() {
            self.host.rung(shard);
        }
        let desk = self.desk.as_ref();
        self.host.hold(desk.is_some_and(|desk| desk.wake_up(task.waker())));
        self.host.poke();
        let more = self.host.step(now);
        if self.host.is_stopped() {
            // Here, because what the future holds may want the runtime when it is dropped.
            self.end_life();
            return Next::Stop;
        }
        if let Some(fresh) = self.seat.take() {
            self.begin_life(fresh, task);
        }
        let failed = self.poll_life(task);
        if failed {
            self.end_life();
            self.desk = None;
            self.host.failed(now);
        }
        // The frames that the future dropped: their shards may wait for the buffers.
        flush_returns();
        match more || failed || self.desk.as_ref().is_some_and(|desk| desk.has_work()) {
            true => Next::Turn,
            false => Next::Sleep,
        }
    }

    fn begin_life(&mut self, fresh: Fresh<A>, task: &mut Context<'_>) {
        self.end_life();
        let Fresh { service, desk } = fresh;
        desk.wake_up(task.waker());
        let (engine, runtime) = (self.engine.clone(), self.runtime);
        let cx = AsyncCx { desk: Arc::clone(&desk), engine, runtime };
        self.desk = Some(desk);
        self.life = Some(Box::pin(async move {
            // Its own, so that the tasks it spawned are dropped with it.
            let tasks = LocalSet::new();
            tasks.run_until(service.run(cx)).await;
        }));
    }

    /// Polls the future; `true` if it panicked, or ended although nobody told it to.
    fn poll_life(&mut self, task: &mut Context<'_>) -> bool {
        let (Some(life), Some(desk)) = (&mut self.life, &self.desk) else {
            return false;
        };
        match catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(task))) {
            Ok(Poll::Pending) => return false,
            Ok(Poll::Ready(())) if desk.end() => {
                self.end_life();
                return false;
            }
            Ok(Poll::Ready(())) => {
                tracing::error!(service = %self.name, "an async service ended by itself")
            }
            Err(_) => {
                desk.end();
            }
        }
        true
    }

    fn end_life(&mut self) {
        let life = self.life.take();
        if catch_unwind(AssertUnwindSafe(|| drop(life))).is_err() {
            tracing::error!(service = %self.name, "an async service panicked when it was dropped");
        }
    }
}

/// Lets the runtime look at its timers and files. tokio's own `yield_now` would not do: it goes past the hook in which
/// tokio-uring submits.
async fn breathe() {
    let mut out = true;
    poll_fn(|task| match mem::take(&mut out) {
        true => {
            task.waker().wake_by_ref();
            Poll::Pending
        }
        false => Poll::Ready(()),
    })
    .await;
}

/// Sleeps until anybody wakes this task.
async fn woken() {
    let mut asleep = true;
    poll_fn(|_| match mem::take(&mut asleep) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

/// Wakes the root task. Before that has run for the first time there is nothing to wake, and nothing it could miss.
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
