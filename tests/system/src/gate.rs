//! The fault server's gate: this file owns how a test stops the threads of a server, and lets them go on.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use crate::client::connect;

/// A thread that can be held.
#[derive(Debug, Clone, Copy)]
pub enum Held {
    /// The service's.
    Service,
    /// The shard's.
    Shard,
}

/// A connection to the gate of a fault server, which no shard and no service has a part in.
#[derive(Debug)]
pub struct Gate(BufReader<TcpStream>);

impl Gate {
    /// The gate at this address.
    pub fn at(addr: SocketAddr) -> Gate {
        Gate(BufReader::new(connect(addr)))
    }

    /// From now on a thread stops where it would take the next input.
    pub fn hold(&mut self, who: Held) {
        self.ask("hold", who);
    }

    /// Lets it go on.
    pub fn release(&mut self, who: Held) {
        self.ask("release", who);
    }

    /// Whether it stands at the gate.
    pub fn is_held(&mut self, who: Held) -> bool {
        self.ask("waiting", who) > 0
    }

    /// Inputs that have passed it.
    pub fn passed(&mut self, who: Held) -> u64 {
        self.ask("passed", who)
    }

    /// Begins a drain, with the server's deadline.
    pub fn drain(&mut self) {
        self.line("drain");
    }

    fn ask(&mut self, verb: &str, who: Held) -> u64 {
        let who = match who {
            Held::Service => "service",
            Held::Shard => "shard",
        };
        self.line(&format!("{verb} {who}"))
    }

    fn line(&mut self, line: &str) -> u64 {
        writeln!(self.0.get_mut(), "{line}").expect("the gate stands");
        let mut answer = String::new();
        self.0.read_line(&mut answer).expect("the gate answers");
        answer.trim().parse().unwrap_or_else(|_| panic!("{line:?} answered {answer:?}"))
    }
}
