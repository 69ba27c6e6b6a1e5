//! Services, and the check of what a service hears.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use megamux_engine::{CloseReason, ConnId, Frame, Input, Scope, Service, ServiceCx};

/// Checks what a service hears of each connection: Open, Frames, Close, in this order, each of the ends once. What is
/// wrong is kept, not thrown: a service that panics is made anew, and nobody would know.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    /// Connections, and whether they are open.
    conns: HashMap<ConnId, bool>,
    wrong: Vec<String>,
}

impl Heard {
    fn with<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The service that knew these is gone, and the next one will not hear of them.
    pub fn forget(&self, conns: &[ConnId]) {
        self.with(|ledger| ledger.conns.extend(conns.iter().map(|conn| (*conn, false))));
    }

    /// Takes note of an input.
    pub fn hear<E>(&self, conn: ConnId, input: &Input<E>) {
        self.with(|Ledger { conns, wrong }| {
            let (word, before, expected) = match input {
                Input::Open(_) => ("open", conns.insert(conn, true), None),
                Input::Frame(_) => ("frame", conns.get(&conn).copied(), Some(true)),
                Input::Close(_) => ("close", conns.insert(conn, false), Some(true)),
            };
            if before != expected {
                wrong.push(format!("{word} of {conn:?}, of which it had heard {before:?}"));
            }
        });
    }

    /// Every connection that was opened was closed, and nothing came out of order.
    pub fn assert_all_closed(&self) {
        self.with(|Ledger { conns, wrong }| {
            assert!(wrong.is_empty(), "the service heard {wrong:?}");
            let left: Vec<_> = conns.iter().filter(|(_, is_open)| **is_open).map(|(conn, _)| *conn).collect();
            assert!(left.is_empty(), "the service never heard the end of {left:?}");
        });
    }
}

/// Sends each frame back; an empty one too.
#[derive(Debug)]
pub struct Repeat {
    heard: Heard,
}

impl Repeat {
    /// One that tells `heard` what it hears.
    pub fn new(heard: &Heard) -> Repeat {
        Repeat { heard: heard.clone() }
    }
}

impl Service for Repeat {
    type In = Frame;
    type Out = Frame;
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<Frame>) {
        self.heard.hear(conn, &input);
        if let Input::Frame(frame) = input {
            cx.send(conn, frame);
        }
    }
}

/// Answers each byte with itself, `times` times over; panics at the byte 0xff; closes at the byte 0xfe.
#[derive(Debug)]
pub struct Shout {
    heard: Heard,
    times: usize,
    conns: Vec<ConnId>,
}

impl Shout {
    /// One that tells `heard` what it hears.
    pub fn new(heard: &Heard, times: usize) -> Shout {
        Shout { heard: heard.clone(), times, conns: Vec::new() }
    }
}

impl Service for Shout {
    type In = u8;
    type Out = Vec<u8>;
    const SCOPE: Scope = Scope::Connection;

    fn on_input(&mut self, cx: &mut ServiceCx<'_, Self>, conn: ConnId, input: Input<u8>) {
        self.heard.hear(conn, &input);
        match input {
            Input::Open(_) => self.conns.push(conn),
            Input::Frame(0xff) => {
                self.heard.forget(&self.conns);
                panic!("the byte that this service cannot bear");
            }
            Input::Frame(0xfe) => cx.close(conn, CloseReason::Requested),
            Input::Frame(byte) => (0..self.times).for_each(|_| cx.send(conn, vec![byte])),
            Input::Close(_) => self.conns.retain(|open| *open != conn),
        }
    }
}
