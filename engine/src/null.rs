//! A driver without a kernel, for measuring what the engine itself costs per message.
//!
//! Every connection sends a message of the same size as soon as the answer to the last one was taken, in the shape a
//! busy ring has: one receive completion and one send completion per message, buffers consumed bit by bit.
//! It must not be used for anything but measurement: it checks nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::buffer::{Pool, PoolConfig, RecvBuf, SendChain};
use crate::builder::{Builder, NO_SERVICE};
use crate::close_reason::CloseReason;
use crate::config::{Config, Listen};
use crate::control::Socket;
use crate::cx::Cx;
use crate::driver::{Accept, Caps, Completion, Driver, DriverCounts, First, Payload, Wait};
use crate::engine::StartError;
use crate::handler::Handler;
use crate::handoff::wake::Wake;
use crate::id::{ConnInfo, ShardId};
use crate::limits;
use crate::net::Dial;
use crate::service::NoService;
use crate::shard::Shard;
use crate::spread::Sharing;
use crate::time::Time;
use crate::token::{Kind, Token};

/// One shard on a [`NullDriver`], with `conns` connections that never stop talking.
pub struct NullShard(Shard<NullDriver>);

impl NullShard {
    /// A shard with one listener, whose handler sends back what each connection sends.
    ///
    /// # Errors
    ///
    /// What [`Builder::start`] may say.
    pub fn echo(conns: u32, message: &[u8]) -> Result<NullShard, StartError> {
        let mut builder = Builder::new(Config { shards: 1, ..Config::default() })?;
        builder.listen(Listen::tcp("127.0.0.1:1"), &NO_SERVICE, |_| Echo)?;
        let mut parts = builder.into_parts(1, |_, _| Ok(vec![Socket::Listener(Box::new(()), Sharing::Own)]))?;
        let driver = NullDriver::new(conns, message);
        let shard = Shard::new(parts.shards.remove(0), driver).map_err(StartError::Thread)?;
        let mut shard = NullShard(shard);
        // Accept, peer, poll, one-shot receive, multishot receive: then every connection is at full speed.
        for _ in 0..16 + conns.div_ceil(limits::ARRIVALS_PER_TICK as u32) {
            shard.tick();
        }
        Ok(shard)
    }

    /// One tick: one message of every connection.
    pub fn tick(&mut self) {
        let _ = self.0.tick();
    }

    /// Messages answered so far.
    pub fn answered(&self) -> u64 {
        self.0.driver.answered
    }
}

struct Echo;

impl Handler for Echo {
    type Service = NoService;
    type Conn = ();

    fn on_open(&mut self, _: &mut Cx<'_, NoService>, _: &ConnInfo) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Cx<'_, NoService>, _: &mut (), data: &mut RecvBuf<'_>) -> Result<(), CloseReason> {
        cx.send_frame(data.take_all());
        Ok(())
    }
}

/// The driver by itself: the same completions and releases, and nobody in between. What it costs is no cost of the engine.
pub struct NullAlone {
    driver: NullDriver,
    pool: Pool,
    batch: Vec<Completion>,
}

impl NullAlone {
    /// A driver with `conns` connections that never stop talking.
    ///
    /// # Errors
    ///
    /// No memory for the receive pool.
    pub fn new(conns: u32, message: &[u8]) -> io::Result<NullAlone> {
        let (mut driver, mut pool) = (NullDriver::new(conns, message), Pool::new(PoolConfig::default())?);
        driver.provide_buffers(&mut pool);
        (0..conns).for_each(|slot| driver.recv_multishot(slot, Token::new(Kind::Recv, 1, slot), 0, First::Receive));
        Ok(NullAlone { driver, pool, batch: Vec::new() })
    }

    /// One message of every connection.
    pub fn tick(&mut self) {
        let NullAlone { driver, pool, batch } = self;
        pool.set_current();
        let _ = driver.enter(Wait::No);
        driver.reap(pool, batch, usize::MAX);
        for completion in batch.drain(..) {
            if let Payload::Data(range) = completion.payload {
                pool.release(range);
                let slot = completion.token.slot();
                driver.answer(slot, Token::new(Kind::Send, 1, slot), range.len);
            }
        }
        pool.clear_current();
        driver.provide_buffers(pool);
    }

    /// Messages answered so far.
    pub fn answered(&self) -> u64 {
        self.driver.answered
    }
}

struct NullDriver {
    caps: Caps,
    conns: u32,
    message: Vec<u8>,
    accepting: Option<Token>,
    ready: Vec<Completion>,
    receiving: Vec<Option<Token>>,
    buffers: std::collections::VecDeque<(u16, u32)>,
    /// Connections whose next message is due.
    due: Vec<u32>,
    answered: u64,
    clock: u64,
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

impl NullDriver {
    fn new(conns: u32, message: &[u8]) -> NullDriver {
        NullDriver {
            caps: Caps {
                driver: "null",
                refused: None,
                incremental_buffers: true,
                recv_budget: true,
                min_wait: true,
                registered_ring: true,
                peer_cmd: true,
                accept_dontwait: false,
                msg_ring: true,
                pass: false,
                restrictions: false,
                masked: Vec::new(),
            },
            conns,
            message: message.to_vec(),
            accepting: None,
            ready: Vec::new(),
            receiving: vec![None; conns as usize],
            buffers: Default::default(),
            due: Vec::new(),
            answered: 0,
            clock: 0,
        }
    }

    fn done(&mut self, token: Token, result: i32) {
        self.ready.push(Completion { token, result, more: false, payload: Payload::None });
    }

    /// An answer was taken: its completion, and the connection's next message.
    fn answer(&mut self, slot: u32, token: Token, len: u32) {
        self.done(token, len as i32);
        self.answered += 1;
        if self.receiving[slot as usize].is_some() {
            self.due.push(slot);
        }
    }

    fn receive(&mut self, pool: &mut Pool, slot: u32) -> Option<Completion> {
        let token = self.receiving[slot as usize]?;
        let len = self.message.len() as u32;
        let (bid, left) = self.buffers.front_mut()?;
        pool.fill(*bid, &self.message);
        *left -= len;
        let (bid, keeps) = (*bid, *left >= len);
        if !keeps {
            self.buffers.pop_front();
        }
        let payload = Payload::Data(pool.received(bid, len, keeps));
        let more = token.aux() == 0;
        if !more {
            self.receiving[slot as usize] = None;
        }
        let token = Token::new(Kind::Recv, token.generation(), slot);
        Some(Completion { token, result: len as i32, more, payload })
    }
}

impl Driver for NullDriver {
    type Listener = ();
    type Datagram = ();

    fn now(&self) -> Time {
        Time::from_nanos(self.clock)
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn slots(&self) -> u32 {
        self.conns
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NoWake)
    }

    fn adopt_listener(&mut self, (): ()) -> io::Result<u32> {
        Ok(0)
    }

    fn close_listener(&mut self, _: u32) {}

    fn accept(&mut self, _: u32, token: Token, _: Accept) {
        self.accepting = Some(token);
        for slot in 0..self.conns {
            self.ready.push(Completion { token, result: slot as i32, more: true, payload: Payload::None });
        }
    }

    fn peer(&mut self, _: u32, token: Token) {
        self.ready.push(Completion { token, result: 16, more: false, payload: Payload::Peer(0) });
    }

    fn take_peer(&mut self, _: u32) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 9)))
    }

    fn pass(&mut self, _: u32, _: ShardId, _: Token, token: Token) {
        self.done(token, -libc::ENFILE);
    }

    fn dial(&mut self, _: &Dial, token: Token) {
        self.done(token, -libc::ECONNREFUSED);
    }

    fn poll_readable(&mut self, _: u32, token: Token) {
        self.done(token, 1);
    }

    fn poll_hangup(&mut self, _: u32, _: Token) {}

    fn recv_once(&mut self, slot: u32, token: Token, _: First) {
        self.receiving[slot as usize] = Some(Token::with_aux(Kind::Recv, 1, token.generation(), slot));
        self.due.push(slot);
    }

    fn recv_multishot(&mut self, slot: u32, token: Token, _: u32, _: First) {
        self.receiving[slot as usize] = Some(token);
        self.due.push(slot);
    }

    fn send(&mut self, slot: u32, token: Token, chain: &SendChain) {
        self.answer(slot, token, chain.total() as u32);
    }

    fn shutdown_write(&mut self, _: u32, token: Token) {
        self.done(token, 0);
    }

    fn reset_on_close(&mut self, _: u32) {}

    fn close(&mut self, _: u32, token: Token) {
        self.done(token, 0);
    }

    fn cancel(&mut self, _: Token, token: Token) {
        self.done(token, -libc::ENOENT);
    }

    fn adopt_datagram(&mut self, (): ()) -> io::Result<u32> {
        Ok(0)
    }

    fn datagram_recv(&mut self, _: u32, _: Token) {}

    fn datagram(&self, _: u32) -> (SocketAddr, &[u8], bool) {
        (SocketAddr::from(([127, 0, 0, 1], 9)), &[], false)
    }

    fn datagram_send(&mut self, _: u32, _: Token, _: SocketAddr, _: &[u8]) -> bool {
        false
    }

    fn provide_buffers(&mut self, pool: &mut Pool) {
        while let Some(buffer) = pool.take_free() {
            self.buffers.push_back((buffer.bid, buffer.len));
        }
    }

    fn enter(&mut self, _: Wait) -> io::Result<()> {
        self.clock += 1_000;
        Ok(())
    }

    fn reap(&mut self, pool: &mut Pool, out: &mut Vec<Completion>, _: usize) {
        out.append(&mut self.ready);
        let mut due = std::mem::take(&mut self.due);
        due.retain(|&slot| match self.receive(pool, slot) {
            Some(completion) => {
                out.push(completion);
                false
            }
            None => true,
        });
        self.due = due;
    }

    fn counts(&self) -> DriverCounts {
        DriverCounts::default()
    }
}
