//! A mailbox: bounded, many senders, one receiver; for control and for messages between shards.
//!
//! These are rare, so the queue is crossbeam's and each message rings by itself. A sender is told
//! [`SendError::Full`] and decides: nothing here waits or drops.
//!
//! Invariant: a message that was accepted is received, or dropped with the mailbox, exactly once.
//! The receiver may spin for the moment in which a sender has claimed a slot and not filled it yet, so
//! nothing that a peer sends may travel here one by one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crossbeam_queue::ArrayQueue;

use super::{inbox::Doorbell, wake::Notified};

/// Makes a mailbox for `capacity` messages whose arrival is knocked on `doorbell`.
///
/// # Panics
///
/// When `capacity` is zero.
pub fn mailbox<T: Send>(capacity: usize, doorbell: Doorbell) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(capacity), receiver_gone: AtomicBool::new(false) });
    let sender = Sender { shared: Arc::clone(&shared), doorbell };
    (sender, Receiver { shared })
}

/// The sending end.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    doorbell: Doorbell,
}

/// The receiving end.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// A message not sent, given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T> {
    /// As many messages wait as the mailbox holds.
    #[error("the mailbox is full")]
    Full(T),
    /// The receiver is gone for good.
    #[error("the mailbox is closed")]
    Gone(T),
}

#[derive(Debug)]
struct Shared<T> {
    queue: ArrayQueue<T>,
    receiver_gone: AtomicBool,
}

impl<T: Send> Sender<T> {
    /// Leaves a message and wakes the receiver if it sleeps.
    ///
    /// # Errors
    ///
    /// The message comes back when the mailbox is full or its receiver gone.
    pub fn send(&self, message: T) -> Result<Notified, SendError<T>> {
        if self.shared.receiver_gone.load(Ordering::Acquire) {
            return Err(SendError::Gone(message));
        }
        self.shared.queue.push(message).map_err(SendError::Full)?;
        Ok(self.doorbell.knock())
    }
}

impl<T> Sender<T> {
    /// How many messages still fit, at this moment. For senders who leave room for more important ones.
    pub fn room(&self) -> usize {
        self.shared.queue.capacity() - self.shared.queue.len()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), doorbell: self.doorbell.clone() }
    }
}

impl<T: Send> Receiver<T> {
    /// The oldest message. A tick takes a bounded number of them, or busy senders would hold it.
    #[inline]
    pub fn receive(&mut self) -> Option<T> {
        // Finding out by `pop` that there is none takes a fence.
        if self.shared.queue.is_empty() { None } else { self.shared.queue.pop() }
    }

    /// True when no message waits: the mailbox's part of the last look before sleeping.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    /// What waits is dropped now; a message that slips in beside it goes with the last sender.
    fn drop(&mut self) {
        self.shared.receiver_gone.store(true, Ordering::Release);
        for _ in 0..self.shared.queue.capacity() {
            if self.shared.queue.pop().is_none() {
                break;
            }
        }
    }
}

#[cfg(all(test, not(megamux_loom)))]
mod tests {
    use std::thread;

    use crossbeam_utils::sync::Parker;

    use super::{super::inbox::inbox, super::wake::ThreadWake, *};

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (_inbox, bell) = inbox(0, Box::new(ThreadWake::new(&Parker::new())));
        let (sender, mut receiver) = mailbox(2, bell);
        assert_eq!(sender.send(1), Ok(Notified::Suppressed));
        assert_eq!(sender.send(2), Ok(Notified::Suppressed));
        assert_eq!(sender.send(3), Err(SendError::Full(3)));
        assert_eq!(receiver.receive(), Some(1));
        assert_eq!(sender.send(3), Ok(Notified::Suppressed));
    }

    #[test]
    fn a_closed_mailbox_drops_what_waits_and_takes_nothing_more() {
        let (_inbox, bell) = inbox(0, Box::new(ThreadWake::new(&Parker::new())));
        let (sender, receiver) = mailbox(2, bell);
        let message = Arc::new(());
        assert!(sender.send(Arc::clone(&message)).is_ok());
        drop(receiver);
        assert_eq!(Arc::strong_count(&message), 1);
        assert!(matches!(sender.send(Arc::clone(&message)), Err(SendError::Gone(_))));
    }

    #[test]
    fn a_sleeping_receiver_gets_every_message_of_every_sender() {
        const SENDERS: u32 = 3;
        const MESSAGES: u32 = if cfg!(miri) { 10 } else { 5_000 };
        let parker = Parker::new();
        let (mut inbox, bell) = inbox(0, Box::new(ThreadWake::new(&parker)));
        let (sender, mut receiver) = mailbox(8, bell);
        thread::scope(|scope| {
            for _ in 0..SENDERS {
                let sender = sender.clone();
                scope.spawn(move || {
                    for message in 0..MESSAGES {
                        while sender.send(message) == Err(SendError::Full(message)) {
                            thread::yield_now();
                        }
                    }
                });
            }
            let mut received = 0;
            while received < SENDERS * MESSAGES {
                while receiver.receive().is_some() {
                    received += 1;
                }
                if received < SENDERS * MESSAGES
                    && let Some(_nap) = inbox.try_sleep(|| receiver.is_empty())
                {
                    parker.park();
                }
            }
        });
    }
}
