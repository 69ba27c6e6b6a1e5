//! Simulated peers: scripts on one end of a stream, stepped by the schedule like everything else.
//!
//! Each byte a peer receives is compared with what it must be as it arrives.

use std::net::SocketAddr;
use std::time::Duration;

use super::net::{Close, EndId, Event, Net, Owner};
use super::script::{Act, Expect, Pace, Script};
use crate::net::Addr;
use crate::time::Time;

/// The longest piece a peer sends at once, and the longest pause between two pieces under faults.
const PIECE: usize = 16 * 1024;

/// All peers of a simulation.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) list: Vec<Peer>,
    /// Scripts for connections that shards make.
    pub(super) servers: Vec<Script>,
    /// Peers to be stepped, each once.
    pub(super) look: Vec<usize>,
}

/// One peer.
pub(super) struct Peer {
    state: PeerState,
    end: EndId,
    script: Script,
    act: usize,
    /// Progress within the act: bytes sent, or the time waited for.
    sent_of_act: usize,
    until: Option<Time>,
    pace: Pace,
    next_read: Time,
    listed: bool,
    pub(super) sent: Vec<u8>,
    pub(super) received: Vec<u8>,
    connecting: Option<(Addr, Option<SocketAddr>)>,
}

/// Where a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Its connection is being made.
    Connecting,
    /// Nobody listened, or nobody had a descriptor left.
    Refused,
    /// Connected.
    Open,
    /// All acts done, both directions ended by FIN.
    Ended,
    /// The connection broke or was reset by the other side.
    Reset,
    /// The peer closed it by its script, before the other side's end.
    Left,
}

impl PeerState {
    /// Nothing more will happen.
    pub fn is_over(self) -> bool {
        !matches!(self, PeerState::Connecting | PeerState::Open)
    }
}

impl Peers {
    pub(super) fn look_at(&mut self, peer: usize) {
        if let Some(listed) = self.list.get_mut(peer)
            && !listed.listed
        {
            listed.listed = true;
            self.look.push(peer);
        }
    }

    /// A shard connects to a server of this script.
    pub(super) fn accept(&mut self, script: usize, end: EndId) -> usize {
        let script = self.servers[script].clone();
        self.list.push(Peer { state: PeerState::Open, end, ..Peer::new(script) });
        self.list.len() - 1
    }
}

impl Peer {
    fn new(script: Script) -> Peer {
        Peer {
            state: PeerState::Connecting,
            end: 0,
            script,
            act: 0,
            sent_of_act: 0,
            until: None,
            pace: Pace::Freely,
            next_read: Time::ZERO,
            listed: false,
            sent: Vec::new(),
            received: Vec::new(),
            connecting: None,
        }
    }

    pub(super) fn state(&self) -> PeerState {
        self.state
    }

    /// Compares what was received last with what it must be.
    fn check(&self, number: usize, new: usize) {
        let expected = match &self.script.expect {
            Expect::Anything => return,
            Expect::Echo | Expect::EchoBegun => &self.sent,
            Expect::Exactly(bytes) | Expect::Begun(bytes) => bytes,
        };
        let from = self.received.len() - new;
        let until = expected.len().min(self.received.len());
        let wrong = (from..until).find(|&at| expected[at] != self.received[at]);
        let excess = (self.received.len() > expected.len()).then_some(expected.len());
        if let Some(at) = wrong.or(excess) {
            panic!(
                "peer {number}: byte {at} of what it received is {:?}, expected {:?}",
                self.received[at],
                expected.get(at)
            );
        }
    }

    /// After an end in order nothing may be missing.
    fn check_end(&self, number: usize) {
        let expected = match &self.script.expect {
            Expect::Echo => self.sent.len(),
            Expect::Exactly(bytes) => bytes.len(),
            _ => return,
        };
        let received = self.received.len();
        assert_eq!(received, expected, "peer {number}: the connection ended in order, but bytes are missing");
    }
}

impl Net {
    /// Adds a peer that connects to `addr` after `after`.
    pub(super) fn add_peer(&mut self, addr: Addr, from: Option<SocketAddr>, after: Duration, script: Script) -> usize {
        let number = self.peers.list.len();
        let latency = self.faults.latency;
        let at = self.now + after + self.some(latency);
        self.peers.list.push(Peer { connecting: Some((addr, from)), until: Some(at), ..Peer::new(script) });
        self.at(at, Event::Peer(number));
        number
    }

    /// Lets a peer do what it can do now.
    pub(super) fn step_peer(&mut self, number: usize) {
        let mut peer = std::mem::replace(&mut self.peers.list[number], Peer::new(Script::new()));
        peer.listed = false;
        if peer.state == PeerState::Connecting && peer.until.is_none_or(|at| at <= self.now) {
            self.connect_peer(number, &mut peer);
        }
        if peer.state == PeerState::Open {
            self.read_as_paced(number, &mut peer);
            while peer.state == PeerState::Open && self.act(number, &mut peer) {}
        }
        // Somebody may have marked the stand-in.
        peer.listed = self.peers.list[number].listed;
        self.peers.list[number] = peer;
    }

    fn connect_peer(&mut self, number: usize, peer: &mut Peer) {
        let Some((addr, from)) = peer.connecting.take() else {
            return;
        };
        peer.until = None;
        match self.connect(&addr, Owner::Peer(number), from) {
            Some(end) => (peer.end, peer.state) = (end, PeerState::Open),
            None => peer.state = PeerState::Refused,
        }
    }

    fn read_as_paced(&mut self, number: usize, peer: &mut Peer) {
        let most = match peer.pace {
            Pace::Stopped => 0,
            Pace::Freely => usize::MAX,
            Pace::Bytes { bytes, every } if peer.next_read <= self.now => {
                peer.next_read = self.now + every;
                self.at(peer.next_read, Event::Peer(number));
                bytes
            }
            Pace::Bytes { .. } => 0,
        };
        if most > 0 && !self.ends[peer.end].unread.is_empty() {
            let bytes = self.read(peer.end, most);
            peer.received.extend_from_slice(&bytes);
            peer.check(number, bytes.len());
        }
        let end = &self.ends[peer.end];
        if end.broken && (end.unread.is_empty() || peer.pace == Pace::Stopped) {
            self.leave(peer, PeerState::Reset, Close::Abort);
        }
    }

    fn leave(&mut self, peer: &mut Peer, state: PeerState, how: Close) {
        peer.state = state;
        self.close(peer.end, how);
    }

    /// Goes on with the current act; `true` if the next can begin.
    fn act(&mut self, number: usize, peer: &mut Peer) -> bool {
        let other_ended = self.ends[peer.end].fin && self.ends[peer.end].unread.is_empty();
        let Some(act) = peer.script.acts.get(peer.act).cloned() else {
            // All done: wait for the other side.
            if other_ended {
                let (in_order, refused) = (self.ends[peer.end].fin_sent, self.ends[peer.end].refused);
                self.leave(peer, if refused { PeerState::Refused } else { PeerState::Ended }, Close::InOrder);
                if in_order && !refused {
                    peer.check_end(number);
                }
            }
            return false;
        };
        let done = match act {
            Act::Send(bytes) => self.send_pieces(number, peer, &bytes),
            Act::Wait(time) => self.waited(number, peer, time),
            Act::Await(total) => peer.received.len() >= total || other_ended,
            Act::AwaitEnd => other_ended,
            Act::Echo => {
                let received = std::mem::take(&mut peer.received);
                let all_sent = self.send_pieces(number, peer, &received);
                peer.received = received;
                all_sent && other_ended
            }
            Act::Read(pace) => {
                peer.pace = pace;
                self.read_as_paced(number, peer);
                true
            }
            Act::Finish => {
                self.finish(peer.end);
                true
            }
            Act::Close => {
                self.leave(peer, PeerState::Left, Close::InOrder);
                true
            }
            Act::Reset => {
                self.leave(peer, PeerState::Left, Close::Abort);
                true
            }
        };
        if done {
            peer.act += 1;
            (peer.sent_of_act, peer.until) = (0, None);
        }
        done
    }

    fn waited(&mut self, number: usize, peer: &mut Peer, time: Duration) -> bool {
        if peer.until.is_none() {
            let until = self.now + time;
            peer.until = Some(until);
            self.at(until, Event::Peer(number));
        }
        peer.until.is_some_and(|until| until <= self.now)
    }

    /// Sends the rest of an act's bytes, as far as there is room: in pieces, with pauses if there is latency.
    fn send_pieces(&mut self, number: usize, peer: &mut Peer, bytes: &[u8]) -> bool {
        if peer.until.is_some_and(|until| until > self.now) {
            return false;
        }
        while peer.sent_of_act < bytes.len() {
            let room = self.room(peer.end).min(bytes.len() - peer.sent_of_act);
            if room == 0 || self.ends[peer.end].broken {
                return false;
            }
            let longest = [1, 16, 256, PIECE][self.rng.index(4)];
            let len = self.rng.between(1, room.min(longest) as u64) as usize;
            let piece = &bytes[peer.sent_of_act..peer.sent_of_act + len];
            peer.sent.extend_from_slice(piece);
            peer.sent_of_act += len;
            self.send(peer.end, piece.to_vec());
            if !self.faults.latency.is_zero() && self.rng.chance(100) {
                let pause = self.now + self.some(self.faults.latency);
                peer.until = Some(pause);
                self.at(pause, Event::Peer(number));
                return false;
            }
        }
        true
    }
}
