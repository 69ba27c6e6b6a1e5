//! What a simulated peer does, and what it must get: a list of acts, a pace of reading, an expectation.

use std::time::Duration;

/// One thing a peer does before it goes on to the next.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Send(Vec<u8>),
    Wait(Duration),
    Await(usize),
    AwaitEnd,
    Echo,
    Read(Pace),
    Finish,
    Close,
    Reset,
}

/// How a peer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Whatever there is, at once.
    Freely,
    /// Not at all.
    Stopped,
    /// So many bytes at a time.
    Bytes {
        /// How many.
        bytes: usize,
        /// How often.
        every: Duration,
    },
}

/// What a peer must receive. A violation ends the simulation at the byte that is wrong.
#[derive(Debug, Clone)]
pub(super) enum Expect {
    Anything,
    /// What it sent; all of it, if the connection ends in order.
    Echo,
    /// The beginning of what it sent.
    EchoBegun,
    /// These bytes; all of them, if the connection ends in order.
    Exactly(Vec<u8>),
    /// The beginning of these bytes.
    Begun(Vec<u8>),
}

/// A peer's part, made with calls in a row:
///
/// ```
/// use megamux_engine::sim::Script;
/// let script = Script::new().send(b"hello").await_bytes(5).finish().expect_echo();
/// ```
///
/// A peer reads freely unless told otherwise. When its acts are done it waits for the other side's end, then closes.
#[derive(Debug, Clone)]
pub struct Script {
    pub(super) acts: Vec<Act>,
    pub(super) expect: Expect,
}

impl Default for Script {
    fn default() -> Self {
        Script::new()
    }
}

impl Script {
    /// Does nothing, expects nothing.
    pub fn new() -> Script {
        Script { acts: Vec::new(), expect: Expect::Anything }
    }

    fn then(mut self, act: Act) -> Script {
        self.acts.push(act);
        self
    }

    /// Sends bytes, in pieces as the seed has it.
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Script {
        self.then(Act::Send(bytes.as_ref().to_vec()))
    }

    /// Lets virtual time pass.
    pub fn wait(self, time: Duration) -> Script {
        self.then(Act::Wait(time))
    }

    /// Waits until so many bytes have been received in all.
    pub fn await_bytes(self, total: usize) -> Script {
        self.then(Act::Await(total))
    }

    /// Waits until the other side has finished, or the connection broke.
    pub fn await_end(self) -> Script {
        self.then(Act::AwaitEnd)
    }

    /// Sends back everything it receives, until the other side has finished.
    pub fn echo(self) -> Script {
        self.then(Act::Echo)
    }

    /// Reads at another pace from here on.
    pub fn read(self, pace: Pace) -> Script {
        self.then(Act::Read(pace))
    }

    /// Sends FIN and reads on.
    pub fn finish(self) -> Script {
        self.then(Act::Finish)
    }

    /// Closes both directions; RST if something is unread.
    pub fn close(self) -> Script {
        self.then(Act::Close)
    }

    /// Closes with RST.
    pub fn reset(self) -> Script {
        self.then(Act::Reset)
    }

    /// Must get back what it sends: all of it, if the connection ends in order after all acts.
    pub fn expect_echo(mut self) -> Script {
        self.expect = Expect::Echo;
        self
    }

    /// Must get back the beginning of what it sends, however the connection ends.
    pub fn expect_echo_begun(mut self) -> Script {
        self.expect = Expect::EchoBegun;
        self
    }

    /// Must get exactly these bytes, if the connection ends in order after all acts; else their beginning.
    pub fn expect(mut self, bytes: impl AsRef<[u8]>) -> Script {
        self.expect = Expect::Exactly(bytes.as_ref().to_vec());
        self
    }

    /// Must get the beginning of these bytes, however the connection ends.
    pub fn expect_begun(mut self, bytes: impl AsRef<[u8]>) -> Script {
        self.expect = Expect::Begun(bytes.as_ref().to_vec());
        self
    }
}
