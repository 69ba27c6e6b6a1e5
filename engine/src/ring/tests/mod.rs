//! The ring by itself: probing, sizes, teardown, full queues. What it shares with the epoll driver is in `driver/tests`.

mod queues;
mod setup;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use super::{Mask, Rings, UringConfig, UringDriver, probe};
use crate::driver::tests::{DEADLINE, QUIET, have, write};
use crate::driver::{Completion, Driver, Payload, Wait};
use crate::id::ShardId;
use crate::token::Kind;

type Bench = crate::driver::tests::Bench<UringDriver>;
