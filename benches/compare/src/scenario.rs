//! What the suite runs: work, load, baseline and bars of every scenario, in one table.
//!
//! Invariant: a scenario means the same load and the same buffer size for every server of its table, so a ratio
//! between two rows compares servers and nothing else. Holds no measuring code.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::pattern;
use crate::servers::{Server, Work};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// 500 connections, depth 1, 64 B
    Pingpong,
    /// 500 connections, depth 16, 64 B
    Pipeline,
    /// 64 connections, depth 1, 16 KiB
    Bulk16k,
    /// 16 connections, depth 1, 256 KiB
    Bulk256k,
    /// connect, one 64 B exchange, close by reset; 64 at a time
    Churn,
    /// pingpong over Unix sockets
    Unix,
    /// telnet lines of 64 B answered by a second thread, 200 connections, depth 16
    Frames,
    /// one message of 100 B to 10,000 connections
    Fanout,
    /// kernel and user bytes per idle connection
    Idle,
    /// open loop at shares of the ceiling: 500 connections, 64 B, latency from when a message was due
    Latency,
    /// 100,000 connections, of which 1% exchange messages in an open loop
    Active,
    /// 100,000 connections are reset and come back at once: time until all are served
    Storm,
}

/// A closed loop: every connection keeps `depth` messages of `message` bytes under way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Shape {
    pub connections: usize,
    pub depth: usize,
    /// Bytes per message.
    pub message: usize,
    /// Bytes of the buffer a server gives each connection, where it gives it one.
    pub buffer: usize,
}

/// What megamux wants to reach: at most so much of another row's CPU time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bar {
    pub against: String,
    pub at_most: f64,
}

/// What a bar is against if it is the peer that does best in its table.
pub const BEST_PEER: &str = "best peer";

impl Scenario {
    pub const ALL: [Self; 12] = [
        Self::Pingpong,
        Self::Pipeline,
        Self::Bulk16k,
        Self::Bulk256k,
        Self::Churn,
        Self::Unix,
        Self::Frames,
        Self::Fanout,
        Self::Idle,
        Self::Latency,
        Self::Active,
        Self::Storm,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pingpong => "pingpong",
            Self::Pipeline => "pipeline",
            Self::Bulk16k => "bulk16k",
            Self::Bulk256k => "bulk256k",
            Self::Churn => "churn",
            Self::Unix => "unix",
            Self::Frames => "frames",
            Self::Fanout => "fanout",
            Self::Idle => "idle",
            Self::Latency => "latency",
            Self::Active => "active",
            Self::Storm => "storm",
        }
    }

    /// One unit of the table: what CPU time is divided by.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Churn => "conn",
            Self::Frames => "line",
            Self::Fanout => "dlv",
            _ => "msg",
        }
    }

    pub fn shape(self) -> Shape {
        // 2 KiB holds every small message of a whole pipeline (16 x 64 B); 64 KiB is one read of the bulk floor.
        let (connections, depth, message, buffer) = match self {
            Self::Pingpong | Self::Unix | Self::Latency => (500, 1, 64, 2 << 10),
            Self::Pipeline => (500, 16, 64, 2 << 10),
            Self::Bulk16k => (64, 1, 16 << 10, 64 << 10),
            Self::Bulk256k => (16, 1, 256 << 10, 64 << 10),
            Self::Churn => (64, 1, 64, 2 << 10),
            Self::Frames => (200, 16, pattern::LINE, 2 << 10),
            Self::Fanout => (10_000, 1, crate::servers::FANOUT_MESSAGE, 2 << 10),
            Self::Idle => (15_000, 1, 64, 2 << 10),
            Self::Active | Self::Storm => (100_000, 1, 64, 2 << 10),
        };
        Shape { connections, depth, message, buffer }
    }

    pub fn work(self) -> Work {
        match self {
            Self::Frames => Work::Lines,
            Self::Fanout => Work::Fanout,
            _ => Work::Echo,
        }
    }

    /// Row 0 of the table, and row 1 again.
    pub fn baseline(self) -> Server {
        match self {
            Self::Frames | Self::Latency | Self::Active | Self::Storm => Server::Tokio,
            Self::Fanout => Server::BareSend,
            _ => Server::BareUring,
        }
    }

    /// Whether the tails of latencies are what is measured.
    pub fn is_about_tails(self) -> bool {
        matches!(self, Self::Latency | Self::Active | Self::Storm)
    }

    /// Whether the transport is part of the scenario.
    pub fn is_over_unix(self) -> bool {
        self == Self::Unix
    }

    pub fn bars(self) -> Vec<Bar> {
        let bars: &[(&str, f64)] = match self {
            Self::Pingpong | Self::Pipeline => &[("bare-uring", 1.03), (BEST_PEER, 1.00)],
            Self::Bulk16k | Self::Bulk256k => &[(BEST_PEER, 1.00)],
            Self::Churn => &[(BEST_PEER, 0.88), ("bare-epoll", 0.98)],
            Self::Unix => &[("tokio", 0.97)],
            Self::Frames => &[("tokio", 0.60)],
            Self::Fanout => &[("bare-send", 1.03), ("tokio", 0.90)],
            _ => &[],
        };
        bars.iter().map(|&(against, at_most)| Bar { against: against.into(), at_most }).collect()
    }
}
