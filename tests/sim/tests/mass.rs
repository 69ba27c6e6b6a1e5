//! A million connections on real shards, within what a connection may take. `cargo xtask sim --mass 10000000` runs ten.

use std::time::Duration;

use megamux_heap_tests::Counting;
use megamux_sim_tests::measure;

#[global_allocator]
static COUNTING: Counting = Counting;

/// The bar: 104 bytes of table and 16 of the handler's, and a little for what a shard has once.
const WAITING: f64 = 121.0;
/// One timer in the wheel more.
const TIMED: f64 = 24.0;
/// Queues and chunks that a shard keeps for reuse when some have talked; and the wheel, full of idle timers, has doubled
/// for the first deadline of a send.
const SERVED: f64 = 9.0 + TIMED;

/// Two full shards: a million and a bit.
const CONNECTIONS: u64 = 1 << 20;

#[test]
fn a_million_connections_keep_to_their_bytes() {
    // One after the other: the allocator counts for the whole process.
    for (idle_timeout, bar) in [(None, WAITING), (Some(Duration::from_secs(3600)), WAITING + TIMED)] {
        let measured = measure(CONNECTIONS, 3, idle_timeout);
        println!("{measured:?}");
        assert!(measured.waiting <= bar, "{measured:?}");
        assert!(measured.served <= bar + SERVED, "{measured:?}");
        assert!(measured.answered >= 4 * (CONNECTIONS / 100) - 100, "{measured:?}");
    }
}
