//! Datagrams: lost, late and out of order, as the seed has it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::kernel::DatagramSocket;
use super::net::{Event, Net};
use crate::time::Time;

/// Datagrams one socket keeps before the network drops more.
const SOCKET_BUFFER: usize = 64;

/// A datagram, at its receiver.
#[derive(Debug, Clone)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Who is bound where, and what is under way.
#[derive(Default)]
pub(super) struct UdpNet {
    bound: BTreeMap<SocketAddr, Vec<Receiver>>,
    under_way: Vec<(Time, SocketAddr, Datagram)>,
    /// What arrived at sockets of the simulation itself.
    arrived: Vec<Vec<Datagram>>,
}

#[derive(Debug, Clone, Copy)]
enum Receiver {
    Shard(usize, u32),
    Outside(usize),
}

impl Net {
    pub(super) fn bind_datagram(&mut self, shard: usize, addr: SocketAddr) -> u32 {
        let sockets = &mut self.kernels[shard].sockets;
        let number = sockets.len() as u32;
        sockets.push(Some(DatagramSocket { addr, arrived: VecDeque::new(), sending: 0 }));
        self.udp.bound.entry(addr).or_default().push(Receiver::Shard(shard, number));
        number
    }

    /// Binds a socket of the simulation itself.
    pub(super) fn bind_outside(&mut self, addr: SocketAddr) -> usize {
        let number = self.udp.arrived.len();
        self.udp.arrived.push(Vec::new());
        self.udp.bound.entry(addr).or_default().push(Receiver::Outside(number));
        number
    }

    pub(super) fn arrived_outside(&self, number: usize) -> &[Datagram] {
        &self.udp.arrived[number]
    }

    pub(super) fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.rng.chance(self.faults.datagram_loss) {
            return;
        }
        let arrival = self.now + self.some(self.faults.latency);
        self.udp.under_way.push((arrival, to, Datagram { from, bytes }));
        self.at(arrival, Event::Datagrams);
    }

    pub(super) fn deliver_datagrams(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.udp.under_way.extract_if(.., |(arrival, ..)| *arrival <= now).collect();
        for (_, to, datagram) in due {
            let Some(receivers) = self.udp.bound.get(&to).filter(|receivers| !receivers.is_empty()) else {
                continue;
            };
            match receivers[self.rng.index(receivers.len())] {
                Receiver::Outside(number) => self.udp.arrived[number].push(datagram),
                Receiver::Shard(shard, number) => {
                    let kernel = &mut self.kernels[shard];
                    kernel.look = true;
                    if let Some(socket) = &mut kernel.sockets[number as usize]
                        && socket.arrived.len() < SOCKET_BUFFER
                    {
                        socket.arrived.push_back(datagram);
                    }
                }
            }
        }
    }
}
