//! Dials: a socket made, set up and connected through the ring.
//!
//! ```text
//! Making --SOCKET done--> Connecting --CONNECT done--> (slot handed over)
//!    |                         |
//!    '-- cancelled ------------+-- an option or the connect failed --> Closing --CLOSE done--> (error handed over)
//! ```
//!
//! The table's index is the slot field of the shard's token, so nothing has to be searched for. Options are set in
//! the same submission as the connect and run before it, and so is the local address; they complete only if they fail. A dial ends exactly
//! once, and a failed one only after its slot was freed.

use socket2::SockAddr;

use super::ops::{self, SocketOption};
use super::own::{Own, own};
use super::peer::address_length;
use super::queues::Ring;
use super::stable::Stable;
use crate::net::{Addr, Dial, Route, SocketOptions};
use crate::token::Token;

/// All dials of one driver, under way.
#[derive(Default)]
pub(super) struct Dials(Vec<Option<Dialling>>);

struct Dialling {
    token: Token,
    peer_length: u8,
    stage: Stage,
    cancelled: bool,
    /// The first option that failed, as `-errno`.
    option_failed: i32,
    memory: Stable<Memory>,
}

#[derive(Clone, Copy)]
enum Stage {
    Making,
    Connecting { slot: u32 },
    Closing { outcome: i32 },
}

/// What the kernel reads while the dial is under way.
struct Memory {
    addr: SockAddr,
    local: Option<SockAddr>,
    options: Vec<SocketOption>,
}

/// A dial's end.
pub(super) struct Ended {
    /// The token it was started with.
    pub(super) token: Token,
    /// The slot, or `-errno`.
    pub(super) result: i32,
    /// Bytes of the address dialled, as [`address_length`] has them.
    pub(super) peer_length: u8,
}

impl Dials {
    /// Starts a dial; an address that fits no socket ends it at once.
    pub(super) fn start(&mut self, ring: &mut Ring, dial: &Dial, token: Token) -> Option<Ended> {
        let local = dial.route.source.map(SockAddr::from);
        let misfit = matches!(dial.route.to, Addr::Unix(_)) && local.is_some();
        let Some(addr) = dial.route.to.to_sock_addr().ok().filter(|_| !misfit) else {
            return Some(Ended { token, result: -libc::EINVAL, peer_length: 0 });
        };
        let domain = i32::from(addr.family());
        let options = options(&dial.route, &dial.options);
        let dialling = Dialling {
            token,
            peer_length: address_length(domain),
            stage: Stage::Making,
            cancelled: false,
            option_failed: 0,
            memory: Stable::new(Memory { addr, local, options }),
        };
        let index = token.slot() as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        assert!(self.0[index].is_none(), "two dials under one token");
        self.0[index] = Some(dialling);
        // SAFETY: the entry points at nothing.
        unsafe { ring.push(ops::socket(domain, own(Own::DialSocket, token.slot()))) };
        None
    }

    /// Notes a cancel and names what to cancel in the kernel; `None` if no such dial is under way.
    pub(super) fn cancel(&mut self, target: Token) -> Option<Token> {
        let index = target.slot();
        let dialling = self.0.get_mut(index as usize)?.as_mut()?;
        if dialling.token != target {
            return None;
        }
        dialling.cancelled = true;
        Some(match dialling.stage {
            Stage::Making => own(Own::DialSocket, index),
            Stage::Connecting { .. } | Stage::Closing { .. } => own(Own::DialConnect, index),
        })
    }

    /// Goes on after a completion of one of a dial's steps.
    pub(super) fn step(&mut self, ring: &mut Ring, step: Own, index: u32, result: i32) -> Option<Ended> {
        let place = self.0.get_mut(index as usize)?;
        let dialling = place.as_mut()?;
        match (step, dialling.stage) {
            (Own::DialSocket, Stage::Making) if result < 0 => end(place, result),
            (Own::DialSocket, Stage::Making) if dialling.cancelled => {
                dialling.give_up(ring, index, result as u32, -libc::ECANCELED)
            }
            (Own::DialSocket, Stage::Making) => dialling.connect(ring, index, result as u32),
            (Own::DialOption, Stage::Connecting { .. }) => {
                if dialling.option_failed == 0 {
                    dialling.option_failed = result;
                }
                None
            }
            (Own::DialConnect, Stage::Connecting { slot }) => {
                // An option that was asked for and refused fails the dial: nobody would notice otherwise.
                match if result < 0 { result } else { dialling.option_failed } {
                    0 => end(place, slot as i32),
                    // A connect that waits in a kernel thread is cancelled by a signal, and says EINTR.
                    _ if dialling.cancelled => dialling.give_up(ring, index, slot, -libc::ECANCELED),
                    failed => dialling.give_up(ring, index, slot, failed),
                }
            }
            (Own::DialClose, Stage::Closing { outcome }) => end(place, outcome),
            _ => None,
        }
    }
}

impl Dialling {
    fn connect(&mut self, ring: &mut Ring, index: u32, slot: u32) -> Option<Ended> {
        self.stage = Stage::Connecting { slot };
        // SAFETY: the kernel reads this memory, and nobody writes it before the dial ends and drops it.
        let memory = unsafe { self.memory.get() };
        for option in &memory.options {
            // SAFETY: the options live as long as the dial, which outlives the connect below.
            unsafe { ring.push_uncounted(ops::set_option(slot, own(Own::DialOption, index), option)) };
        }
        if let Some(local) = &memory.local {
            let entry = ops::bind(slot, own(Own::DialOption, index), local.as_ptr().cast(), local.len());
            // SAFETY: as for the options.
            unsafe { ring.push_uncounted(entry) };
        }
        let (addr, len) = (memory.addr.as_ptr().cast(), memory.addr.len());
        // SAFETY: the address lives until this operation's completion ends the dial.
        unsafe { ring.push(ops::connect(slot, own(Own::DialConnect, index), addr, len)) };
        None
    }

    fn give_up(&mut self, ring: &mut Ring, index: u32, slot: u32, outcome: i32) -> Option<Ended> {
        self.stage = Stage::Closing { outcome };
        // SAFETY: the entry points at nothing.
        unsafe { ring.push(ops::close(slot, own(Own::DialClose, index))) };
        None
    }
}

fn end(place: &mut Option<Dialling>, result: i32) -> Option<Ended> {
    let dialling = place.take()?;
    Some(Ended { token: dialling.token, result, peer_length: dialling.peer_length })
}

fn options(route: &Route, wanted: &SocketOptions) -> Vec<SocketOption> {
    let mut options = Vec::new();
    let mut set = |level, name, value| options.push(SocketOption::int(level, name, value));
    let clamp = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    if let Some(size) = wanted.recv_buffer {
        set(libc::SOL_SOCKET, libc::SO_RCVBUF, clamp(size as u64));
    }
    if let Some(size) = wanted.send_buffer {
        set(libc::SOL_SOCKET, libc::SO_SNDBUF, clamp(size as u64));
    }
    if let Addr::Unix(_) = route.to {
        return options;
    }
    if let Some(local) = route.source {
        // A port of a closed connection may be taken again at once; port 0 is chosen at the connect, which knows the peer.
        set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
        if local.port() == 0 {
            set(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
        }
    }
    if wanted.nodelay {
        set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    }
    if let Some(keepalive) = &wanted.keepalive {
        set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
        set(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, clamp(keepalive.idle.as_secs().max(1)));
        set(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, clamp(keepalive.interval.as_secs().max(1)));
        set(libc::IPPROTO_TCP, libc::TCP_KEEPCNT, clamp(u64::from(keepalive.count)));
    }
    options
}
