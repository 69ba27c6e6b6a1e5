//! The desk between a service's host and its future: inputs go one way, answers the other.
//!
//! Each life of a service has a desk of its own, so what an earlier life left running can neither take inputs
//! nor answer. Invariants: the host takes no inputs while [`limits::ASYNC_INPUTS`] lie here, the future gets none while
//! [`limits::ASYNC_ANSWERS`] lie here; and the root task sleeps only after it said so here and found nothing that
//! it could move, so that whoever puts something down afterwards wakes it.
//!
//! No waker is called and no value of the service dropped under the lock: both may come back here.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::close_reason::CloseReason;
use crate::host::Outbox;
use crate::id::ConnId;
use crate::limits;

use super::AsyncInput;

pub(super) struct Desk<I, O>(Mutex<Papers<I, O>>);

/// What a future sends.
pub(super) enum Answer<O> {
    Event(ConnId, O),
    Close(ConnId, CloseReason),
    /// The good-byes are in front of this.
    Drained,
}

struct Papers<I, O> {
    inputs: VecDeque<AsyncInput<I>>,
    answers: VecDeque<Answer<O>>,
    /// Events that found nobody; at most [`limits::ASYNC_GONE`].
    gone: VecDeque<(ConnId, O)>,
    /// The host was told to take no more inputs.
    held: bool,
    /// The lanes had no room for the answers that lie here.
    stuck: bool,
    farewell: Farewell,
    /// The future has ended.
    over: bool,
    /// Who waits for an input.
    receiver: Option<Waker>,
    /// Who waits for an event that found nobody.
    mourner: Option<Waker>,
    /// Who waits for room for answers.
    senders: Vec<Waker>,
    root: Option<Waker>,
    /// The root task sleeps: it does not look here by itself.
    asleep: bool,
}

/// How far the good-byes have come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    NotAsked,
    Asked,
    Said,
}

impl<I, O> Default for Desk<I, O> {
    fn default() -> Self {
        Desk(Mutex::new(Papers {
            inputs: VecDeque::new(),
            answers: VecDeque::new(),
            gone: VecDeque::new(),
            held: false,
            stuck: false,
            farewell: Farewell::NotAsked,
            over: false,
            receiver: None,
            mourner: None,
            senders: Vec::new(),
            root: None,
            asleep: false,
        }))
    }
}

/// The future's side.
impl<I, O> Desk<I, O> {
    pub(super) fn take(&self, waker: &Waker) -> Poll<AsyncInput<I>> {
        let mut papers = self.lock();
        papers.part();
        let input = match papers.has_room() {
            true => papers.inputs.pop_front(),
            false => None,
        };
        let replaced = match &input {
            Some(AsyncInput::Drain) => {
                papers.farewell = Farewell::Asked;
                None
            }
            Some(AsyncInput::Conn(..)) => None,
            None => papers.receiver.replace(waker.clone()),
        };
        let root = papers.root_to_wake();
        drop(papers);
        drop(replaced);
        root.into_iter().for_each(Waker::wake);
        input.map_or(Poll::Pending, Poll::Ready)
    }

    pub(super) fn take_gone(&self, waker: &Waker) -> Poll<(ConnId, O)> {
        let mut papers = self.lock();
        let gone = papers.gone.pop_front();
        let replaced = if gone.is_none() { papers.mourner.replace(waker.clone()) } else { None };
        drop(papers);
        drop(replaced);
        gone.map_or(Poll::Pending, Poll::Ready)
    }

    pub(super) fn answer(&self, answer: Answer<O>) {
        let mut papers = self.lock();
        if papers.over {
            drop(papers);
            return;
        }
        papers.answers.push_back(answer);
        let root = papers.root_to_wake();
        drop(papers);
        root.into_iter().for_each(Waker::wake);
    }

    /// Whether there is room for answers; if there is none, `waker` is woken when there is.
    pub(super) fn has_room(&self, waker: &Waker) -> bool {
        let mut papers = self.lock();
        let room = papers.has_room() && !papers.over;
        if !room && !papers.senders.iter().any(|known| known.will_wake(waker)) {
            papers.senders.push(waker.clone());
        }
        room
    }
}

/// The host's side, called within a step.
impl<I, O: Send> Desk<I, O> {
    pub(super) fn put(&self, input: AsyncInput<I>) {
        let mut papers = self.lock();
        if papers.over {
            drop(papers);
            return;
        }
        papers.inputs.push_back(input);
        let receiver = papers.receiver_to_wake();
        drop(papers);
        receiver.into_iter().for_each(Waker::wake);
    }

    pub(super) fn put_gone(&self, conn: ConnId, event: O) {
        let mut papers = self.lock();
        let oldest = if papers.gone.len() >= limits::ASYNC_GONE { papers.gone.pop_front() } else { None };
        papers.gone.push_back((conn, event));
        // That it may be the root task, which is up, does no harm.
        let mourner = papers.mourner.take();
        drop(papers);
        drop(oldest);
        mourner.into_iter().for_each(Waker::wake);
    }

    /// Moves answers into the lanes, as far as there is room.
    pub(super) fn move_answers(&self, outbox: &mut Outbox<O>) {
        let mut answers = mem::take(&mut self.lock().answers);
        while !outbox.is_spilling()
            && let Some(answer) = answers.pop_front()
        {
            match answer {
                Answer::Event(conn, event) => outbox.send(conn, event),
                Answer::Close(conn, why) => outbox.close(conn, why),
                Answer::Drained => outbox.drained(),
            }
        }
        let mut papers = self.lock();
        // What was answered meanwhile comes after what is left.
        answers.append(&mut papers.answers);
        papers.answers = answers;
        papers.stuck = outbox.is_spilling();
        let mut woken = Vec::new();
        if papers.has_room() {
            woken = mem::take(&mut papers.senders);
            if !papers.inputs.is_empty() {
                woken.extend(papers.receiver_to_wake());
            }
        }
        drop(papers);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// The root task's side.
impl<I, O> Desk<I, O> {
    /// The root task is up, and looks here before it sleeps. Says whether the host is to take no inputs.
    pub(super) fn wake_up(&self, root: &Waker) -> bool {
        let mut papers = self.lock();
        papers.asleep = false;
        let known = papers.root.as_ref().is_some_and(|old| old.will_wake(root));
        let replaced = if known { None } else { papers.root.replace(root.clone()) };
        papers.held = papers.inputs.len() >= limits::ASYNC_INPUTS;
        let held = papers.held;
        drop(papers);
        drop(replaced);
        held
    }

    /// Whether a step of the host would move something.
    pub(super) fn has_work(&self) -> bool {
        self.lock().has_work()
    }

    /// The last look: `true` if the root task may sleep, and will be woken.
    pub(super) fn sleep(&self) -> bool {
        let mut papers = self.lock();
        papers.asleep = !papers.has_work();
        papers.asleep
    }

    /// The future has ended: what it has not taken is dropped, what it sent is still moved. `true` if it had
    /// been told to drain.
    pub(super) fn end(&self) -> bool {
        let mut papers = self.lock();
        papers.part();
        papers.over = true;
        let untaken = mem::take(&mut papers.inputs);
        let farewell = papers.farewell;
        drop(papers);
        drop(untaken);
        farewell == Farewell::Said
    }

    fn lock(&self) -> MutexGuard<'_, Papers<I, O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I, O> Papers<I, O> {
    fn has_room(&self) -> bool {
        self.answers.len() < limits::ASYNC_ANSWERS
    }

    fn has_work(&self) -> bool {
        let sendable = !self.answers.is_empty() && !self.stuck;
        sendable || self.held && self.inputs.len() < limits::ASYNC_INPUTS
    }

    /// Who was told to drain and comes back has said its good-byes.
    fn part(&mut self) {
        if self.farewell == Farewell::Asked {
            self.farewell = Farewell::Said;
            self.answers.push_back(Answer::Drained);
        }
    }

    /// The root task's waker, if it sleeps through work.
    fn root_to_wake(&mut self) -> Option<Waker> {
        if !self.asleep || !self.has_work() {
            return None;
        }
        self.asleep = false;
        self.root.clone()
    }

    /// The receiver's waker, unless it is the root task itself: that polls the future after every step anyway.
    fn receiver_to_wake(&mut self) -> Option<Waker> {
        let receiver = self.receiver.take()?;
        let is_root = self.root.as_ref().is_some_and(|root| root.will_wake(&receiver));
        (!is_root).then_some(receiver)
    }
}
