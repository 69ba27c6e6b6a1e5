//! Datagram sockets: each datagram goes to the endpoint's handler, answers leave with the flush.
//!
//! Nothing is queued beyond what the driver has room for: a datagram that finds none is dropped and counted,
//! as the network would.

use crate::driver::{Completion, Driver, Payload};
use crate::id::EndpointId;
use crate::shard::{Drain, Shard};
use crate::token::{Kind, Token};

impl<D: Driver> Shard<D> {
    pub(crate) fn arm_datagram(&mut self, socket: u32) {
        self.driver.datagram_recv(socket, Token::new(Kind::DatagramRecv, 0, socket));
    }

    /// A datagram arrived, or receiving one failed (an ICMP error of an earlier send, say): receive the next.
    pub(crate) fn datagram_received(&mut self, socket: u32, completion: Completion) {
        if let Payload::Datagram(index) = completion.payload {
            let (from, bytes, truncated) = self.driver.datagram(index);
            self.core.stats.datagrams_in.add(1);
            self.core.stats.datagrams_truncated.add(u64::from(truncated));
            let EndpointId(endpoint) = self.sockets[socket as usize];
            self.endpoints[usize::from(endpoint)].datagram(&mut self.core, socket, from, bytes);
        }
        if self.drain != Drain::No {
            return;
        }
        match -completion.result {
            libc::ECANCELED => {}
            // What the network said of an earlier send, or nothing at all.
            libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EAGAIN | libc::EINTR => {
                self.arm_datagram(socket);
            }
            1.. => self.postpone_datagram(socket),
            _ => self.arm_datagram(socket),
        }
    }

    pub(crate) fn flush_datagrams(&mut self) {
        if self.core.datagrams.is_empty() {
            return;
        }
        let mut out = std::mem::take(&mut self.core.datagrams);
        let stats = &self.core.stats;
        out.drain(|socket, to, bytes| {
            let token = Token::new(Kind::DatagramSend, 0, socket);
            match self.driver.datagram_send(socket, token, to, bytes) {
                true => stats.datagrams_out.add(1),
                false => stats.datagrams_dropped.add(1),
            }
        });
        self.core.datagrams = out;
    }
}
