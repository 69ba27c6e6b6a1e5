//! From the kernel's completions to the shard's.
//!
//! Invariants: a received range is counted in the pool here and reaches the shard in exactly one completion; a slot's close is
//! handed over before anything about the connection that lives there next, and its peer's address before what was received;
//! what is the driver's own never leaves. Entries are copied out in chunks before they are looked at, so that the shared queue is free for the kernel
//! while its contents are worked on.

use std::mem::MaybeUninit;

use io_uring::cqueue;

use super::UringDriver;
use super::dial::Ended;
use super::own::{Own, counted};
use crate::buffer::Pool;
use crate::driver::{Completion, Payload};
use crate::token::{Kind, Token};

/// What the ready events of a poll for the peer's end mean. POLLHUP alone says only that both sides have finished.
fn hangup(events: i32) -> i32 {
    match events {
        error @ ..0 => error,
        events if events & i32::from(libc::POLLERR) != 0 => -libc::ECONNRESET,
        _ => 0,
    }
}

/// Completions copied at a time: a kilobyte of stack.
const CHUNK: usize = 64;

impl UringDriver {
    /// Moves at most `most` completions into `out`.
    pub(super) fn reap_queue(&mut self, pool: &mut Pool, out: &mut Vec<Completion>, most: usize) {
        let end = out.len() + most;
        // Before anything about the connections that live in their slots next.
        self.reap_closes(out, most);
        let room = self.ready.len().min(end - out.len());
        out.extend(self.ready.drain(..room));
        let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
        while out.len() < end {
            // Each entry gives at most one completion at once, so these fit.
            let room = CHUNK.min(end - out.len());
            let entries = self.ring.take(&mut chunk[..room]);
            for entry in entries {
                if let Some(completion) = self.convert(entry, pool) {
                    out.push(completion);
                    if !self.early.is_empty() {
                        self.release_early(out);
                    }
                }
            }
            if entries.len() < room {
                break;
            }
        }
        let room = self.ready.len().min(end - out.len());
        out.extend(self.ready.drain(..room));
    }

    /// Turns one entry into what the shard sees of it, if anything.
    #[inline]
    fn convert(&mut self, entry: &cqueue::Entry, pool: &mut Pool) -> Option<Completion> {
        let (result, flags) = (entry.result(), entry.flags());
        let more = cqueue::more(flags);
        let Some(token) = Token::from_bits(entry.user_data()) else {
            debug_assert!(false, "a completion of nobody's");
            return None;
        };
        if !more && counted(token) {
            self.ring.ended();
        }
        let completion = Completion { token, result, more, payload: Payload::None };
        match token.kind() {
            Kind::Recv => self.received(receive(completion, flags, pool)),
            // The ready events say nothing that the receive will not say better.
            Kind::Poll => Some(Completion { result: result.min(0), ..completion }),
            Kind::Watch => Some(Completion { result: hangup(result), ..completion }),
            Kind::Accept => Some(self.accepted(completion)),
            Kind::Passed => {
                if let Ok(slot) = u32::try_from(result) {
                    self.peers.note(slot, token.aux());
                }
                Some(Completion { token: token.with_other_aux(0), ..completion })
            }
            Kind::DatagramRecv => {
                let received = self.datagrams.received(token.slot(), result);
                let payload = if received { Payload::Datagram(token.slot()) } else { Payload::None };
                Some(Completion { payload, ..completion })
            }
            Kind::Driver => self.convert_own(completion),
            _ => Some(completion),
        }
    }

    /// Of an accept that is several operations, only the last one's completion is the last.
    fn accepted(&mut self, completion: Completion) -> Completion {
        let Completion { token, result, mut more, .. } = completion;
        // They are few, and the token's number is the shard's.
        let mut listeners = self.listeners.iter_mut().flatten();
        if let Some(listener) = listeners.find(|listener| listener.token == Some(token)) {
            if let Ok(slot) = u32::try_from(result) {
                self.peers.note(slot, listener.peer_length);
            }
            listener.attempts -= u32::from(!more);
            more = listener.attempts > 0;
        }
        Completion { more, ..completion }
    }

    /// Reports the closes that the kernel has taken: it has executed those.
    fn reap_closes(&mut self, out: &mut Vec<Completion>, most: usize) {
        if self.closing.is_empty() {
            return;
        }
        let taken = self.ring.taken();
        let end = out.len() + most;
        while out.len() < end
            && let Some(&(place, token)) = self.closing.front()
            && place < taken
        {
            self.closing.pop_front();
            out.push(Completion { token, result: 0, more: false, payload: Payload::None });
        }
    }

    /// Older kernels hand over what a multishot receive brings before operations that ended earlier in the same call.
    #[inline]
    pub(super) fn received(&mut self, completion: Completion) -> Option<Completion> {
        if self.peers.is_fetching(completion.token.slot()) {
            self.early.push(completion);
            return None;
        }
        Some(completion)
    }

    /// What was received before an address that has come now.
    #[cold]
    pub(super) fn release_early(&mut self, out: &mut Vec<Completion>) {
        let peers = &self.peers;
        out.extend(self.early.extract_if(.., |early| !peers.is_fetching(early.token.slot())));
    }

    fn convert_own(&mut self, completion: Completion) -> Option<Completion> {
        let Completion { token, result, more, .. } = completion;
        let place = token.slot();
        match Own::of(token)? {
            Own::Peer => {
                let (token, result) = self.peers.complete(place, result);
                Some(Completion { token, result, more, payload: Payload::Peer(place) })
            }
            Own::DatagramSend => {
                let token = self.datagrams.sent(place);
                Some(Completion { token, result, more, payload: Payload::None })
            }
            step @ (Own::DialSocket | Own::DialOption | Own::DialConnect | Own::DialClose) => {
                let ended = self.dials.step(&mut self.ring, step, place, result)?;
                if let Ok(slot) = u32::try_from(ended.result) {
                    self.peers.note(slot, ended.peer_length);
                }
                Some(dial_completion(ended))
            }
            Own::Wake => {
                // Having ended the wait was all it had to do. A full completion queue ends the poll.
                if !more {
                    self.poll_wakes();
                }
                None
            }
            Own::Alarm => {
                self.ring.alarm_rang(result);
                None
            }
            Own::Option | Own::Probe | Own::Message | Own::Close => None,
        }
    }
}

/// What a receive brought. A buffer that was spent on an end of stream or an error goes back at once: nobody would
/// look for data there.
fn receive(completion: Completion, flags: u32, pool: &mut Pool) -> Completion {
    let Some(bid) = cqueue::buffer_select(flags) else {
        return completion;
    };
    let len = u32::try_from(completion.result).unwrap_or(0);
    let received = pool.received(bid, len, cqueue::buffer_more(flags));
    if len == 0 {
        pool.release(received);
        return completion;
    }
    Completion { payload: Payload::Data(received), ..completion }
}

/// A dial's end, for the shard.
pub(super) fn dial_completion(ended: Ended) -> Completion {
    Completion { token: ended.token, result: ended.result, more: false, payload: Payload::None }
}
