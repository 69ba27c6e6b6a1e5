//! What the suite runs: the shape of every scenario, in one table.
//!
//! Invariant: a scenario means the same load and the same buffer size for every server of its table, so a ratio
//! between two rows compares servers and nothing else. Holds no measuring code.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// 500 connections, depth 1, 64 B
    Pingpong,
    /// 500 connections, depth 16, 64 B
    Pipeline,
    /// 64 connections, depth 1, 16 KiB
    Bulk16k,
    /// connect, one 64 B exchange, close by reset; 64 at a time
    Churn,
    /// kernel and user bytes per idle connection
    Idle,
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

impl Scenario {
    pub const ALL: [Self; 5] = [Self::Pingpong, Self::Pipeline, Self::Bulk16k, Self::Churn, Self::Idle];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pingpong => "pingpong",
            Self::Pipeline => "pipeline",
            Self::Bulk16k => "bulk16k",
            Self::Churn => "churn",
            Self::Idle => "idle",
        }
    }

    /// One unit of the table: what CPU time is divided by.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Churn => "conn",
            _ => "msg",
        }
    }

    pub fn shape(self) -> Shape {
        // 2 KiB holds every small message of a whole pipeline (16 x 64 B); 64 KiB is one read of the bulk floor.
        match self {
            Self::Pingpong => Shape { connections: 500, depth: 1, message: 64, buffer: 2 << 10 },
            Self::Pipeline => Shape { connections: 500, depth: 16, message: 64, buffer: 2 << 10 },
            Self::Bulk16k => Shape { connections: 64, depth: 1, message: 16 << 10, buffer: 64 << 10 },
            Self::Churn => Shape { connections: 64, depth: 1, message: 64, buffer: 2 << 10 },
            Self::Idle => Shape { connections: 15_000, depth: 1, message: 64, buffer: 2 << 10 },
        }
    }
}
