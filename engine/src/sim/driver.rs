//! The `sim` driver: what one shard sees of the simulated kernel.
//!
//! Keeps what every driver keeps (see the seam's page). [`Driver::enter`] never waits: it runs what is due and notes
//! how long the shard would have slept, and the world ticks the shard again when something is there.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::datagrams::Datagram;
use super::kernel::{Buffer, Carried, Kernel, Ready};
use super::net::Net;
use super::ops::{Credit, Op, What};
use super::trace::Happened;
use crate::buffer::{LentChain, Pool, SendChain};
use crate::driver::{Accept, Caps, Completion, Driver, DriverCounts, First, Payload, Wait};
use crate::handoff::wake::Wake;
use crate::id::ShardId;
use crate::net::{Addr, Dial};
use crate::time::Time;
use crate::token::Token;

/// Datagrams of one socket that may be on their way out at once.
const DATAGRAMS_SENDING: usize = 16;

/// The network, shared by the drivers and the world of one simulation.
pub(super) type SharedNet = Rc<RefCell<Net>>;

/// A simulated listening socket on its way to a shard.
pub(super) struct SimListener(pub(super) Addr);

/// A simulated datagram socket on its way to a shard.
pub(super) struct SimDatagram(pub(super) SocketAddr);

/// The driver of one shard.
pub(super) struct SimDriver {
    net: SharedNet,
    shard: usize,
    caps: Caps,
    operations: u64,
    /// Peer addresses not taken yet.
    peers: Vec<Option<Option<SocketAddr>>>,
    /// The latest datagram of each socket.
    datagrams: Vec<Option<Datagram>>,
}

impl SimDriver {
    /// Adds a kernel for one more shard to the network.
    pub(super) fn new(net: &SharedNet, slots: u32) -> SimDriver {
        let mut shared = net.borrow_mut();
        let shard = shared.kernels.len();
        shared.kernels.push(Kernel::new(slots));
        let caps = Caps {
            driver: "sim",
            refused: None,
            incremental_buffers: shared.faults.incremental_buffers,
            recv_budget: shared.faults.recv_budget,
            min_wait: false,
            registered_ring: false,
            peer_cmd: true,
            accept_dontwait: true,
            msg_ring: false,
            pass: true,
            restrictions: false,
            masked: Vec::new(),
        };
        drop(shared);
        let net = Rc::clone(net);
        SimDriver { net, shard, caps, operations: 0, peers: Vec::new(), datagrams: Vec::new() }
    }

    fn push(&mut self, token: Token, what: What) {
        self.operations += 1;
        let op = Op { token, what, number: self.operations, not_before: Time::ZERO, ending: false };
        let net = &mut *self.net.borrow_mut();
        net.trace.add(net.now, Happened::Pushed(self.shard, token));
        net.kernels[self.shard].pushed.push(op);
        if net.rng.chance(net.faults.submit_full) {
            net.submit_pushed(self.shard);
        }
    }

    /// Moves what a completion carries to where the shard finds it.
    fn hand_over(&mut self, ready: Ready, pool: &mut Pool) -> Completion {
        let Ready { mut completion, carried } = ready;
        completion.payload = match carried {
            Carried::Nothing => Payload::None,
            Carried::Bytes { buffer, bytes, keeps_rest } => {
                pool.fill(buffer, &bytes);
                Payload::Data(pool.received(buffer, bytes.len() as u32, keeps_rest))
            }
            Carried::Peer(addr) => {
                let free = self.peers.iter().position(Option::is_none);
                let place = free.unwrap_or_else(|| {
                    self.peers.push(None);
                    self.peers.len() - 1
                });
                self.peers[place] = Some(addr);
                Payload::Peer(place as u32)
            }
            Carried::Datagram(datagram) => {
                let socket = completion.token.slot();
                self.datagrams[socket as usize] = Some(datagram);
                Payload::Datagram(socket)
            }
        };
        completion
    }
}

impl Driver for SimDriver {
    type Listener = SimListener;
    type Datagram = SimDatagram;

    fn now(&self) -> Time {
        self.net.borrow().now
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn slots(&self) -> u32 {
        self.net.borrow().kernels[self.shard].slots.len() as u32
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.net.borrow().kernels[self.shard].woken) as Arc<dyn Wake>
    }

    fn adopt_listener(&mut self, listener: SimListener) -> io::Result<u32> {
        Ok(self.net.borrow_mut().listen(self.shard, listener.0))
    }

    fn close_listener(&mut self, listener: u32) {
        self.net.borrow_mut().unlisten(self.shard, listener);
    }

    fn accept(&mut self, listener: u32, token: Token, whom: Accept) {
        self.push(token, What::Accept { listener, whom });
    }

    fn peer(&mut self, slot: u32, token: Token) {
        self.push(token, What::Peer { slot });
    }

    fn take_peer(&mut self, index: u32) -> Option<SocketAddr> {
        self.peers[index as usize].take().expect("a peer address is taken once")
    }

    fn pass(&mut self, slot: u32, to: ShardId, there: Token, token: Token) {
        self.push(token, What::Pass { slot, to: usize::from(to.0), there });
    }

    fn dial(&mut self, dial: &Dial, token: Token) {
        self.push(token, What::Dial { route: dial.route.clone() });
    }

    fn poll_readable(&mut self, slot: u32, token: Token) {
        self.push(token, What::Poll { slot, spurious: false });
    }

    fn poll_hangup(&mut self, slot: u32, token: Token) {
        self.push(token, What::Watch { slot });
    }

    fn recv_once(&mut self, slot: u32, token: Token, _: First) {
        self.push(token, What::Recv { slot, credit: Credit::Once });
    }

    fn recv_multishot(&mut self, slot: u32, token: Token, credit: u32, _: First) {
        let credit = if self.caps.recv_budget { Credit::Bytes(credit as usize) } else { Credit::Unbounded };
        self.push(token, What::Recv { slot, credit });
    }

    fn send(&mut self, slot: u32, token: Token, chain: &SendChain) {
        let chain = LentChain::new(chain);
        let first = chain.read(0, chain.total());
        self.push(token, What::Send { slot, chain, first, taken: 0 });
    }

    fn shutdown_write(&mut self, slot: u32, token: Token) {
        self.push(token, What::Shutdown { slot });
    }

    fn reset_on_close(&mut self, slot: u32) {
        self.net.borrow_mut().kernels[self.shard].resets[slot as usize] = true;
    }

    fn close(&mut self, slot: u32, token: Token) {
        self.push(token, What::Close { slot });
    }

    fn cancel(&mut self, target: Token, token: Token) {
        self.push(token, What::Cancel { target });
    }

    fn adopt_datagram(&mut self, socket: SimDatagram) -> io::Result<u32> {
        self.datagrams.push(None);
        Ok(self.net.borrow_mut().bind_datagram(self.shard, socket.0))
    }

    fn datagram_recv(&mut self, socket: u32, token: Token) {
        self.push(token, What::DatagramRecv { socket });
    }

    fn datagram(&self, index: u32) -> (SocketAddr, &[u8], bool) {
        let datagram = self.datagrams[index as usize].as_ref().expect("a datagram that was received");
        (datagram.from, &datagram.bytes, false)
    }

    fn datagram_send(&mut self, socket: u32, token: Token, to: SocketAddr, bytes: &[u8]) -> bool {
        {
            let kernel = &mut self.net.borrow_mut().kernels[self.shard];
            let Some(socket) = &mut kernel.sockets[socket as usize] else {
                return false;
            };
            if socket.sending == DATAGRAMS_SENDING {
                return false;
            }
            socket.sending += 1;
        }
        self.push(token, What::DatagramSend { socket, to, bytes: bytes.to_vec() });
        true
    }

    fn provide_buffers(&mut self, pool: &mut Pool) {
        let kernel = &mut self.net.borrow_mut().kernels[self.shard];
        while let Some(buffer) = pool.take_free() {
            kernel.provided.push_back(Buffer { number: buffer.bid, room: buffer.len as usize });
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.net.borrow_mut().enter(self.shard, wait);
        Ok(())
    }

    fn reap(&mut self, pool: &mut Pool, out: &mut Vec<Completion>, most: usize) {
        let taken: Vec<Ready> = {
            let ready = &mut self.net.borrow_mut().kernels[self.shard].ready;
            let count = ready.len().min(most);
            ready.drain(..count).collect()
        };
        for ready in taken {
            out.push(self.hand_over(ready, pool));
        }
    }

    fn counts(&self) -> DriverCounts {
        self.net.borrow().kernels[self.shard].counts
    }
}
