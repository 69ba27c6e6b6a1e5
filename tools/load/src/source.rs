//! Local addresses for very many connections to one target.
//!
//! Invariant: no two numbers below [`MOST`] share an address and port, and none lies in the range from which the kernel picks
//! ports by itself (32768..60999 by default): mixing the two makes the kernel search.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use megamux_engine::net::{Addr, Route};

/// The first local address: 127.0.0.0/8 is all this machine's.
const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 0]);
/// Ports used of each address: above the privileged ones, below the kernel's own range.
const PORTS: std::ops::Range<u16> = 1_024..32_768;
const PORTS_PER_ADDRESS: u32 = (PORTS.end - PORTS.start) as u32;

/// So many numbers have an address: enough for 200 shards' tables a few times over.
pub const MOST: u64 = 240 * 256 * PORTS_PER_ADDRESS as u64;

/// The way of connection `number` to `target`: IPv4 loopback from an address of its own, anything else as the kernel has it.
pub fn route(target: &Addr, number: u64) -> Route {
    let route = Route::from(target.clone());
    match target {
        Addr::Tcp(addr) if is_loopback_v4(addr) => route.with_source(local(number)),
        _ => route,
    }
}

/// Whether connections to it come from explicit addresses.
pub fn is_loopback_v4(addr: &SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V4(ip) if ip.is_loopback())
}

/// The address changes fastest: the kernel keeps local ports in buckets by port, and short buckets are searched fast.
fn local(number: u64) -> SocketAddr {
    let number = number % MOST;
    let addresses = MOST / u64::from(PORTS_PER_ADDRESS);
    let (port, address) = ((number / addresses) as u16, (number % addresses) as u32);
    SocketAddr::from((Ipv4Addr::from(FIRST + address), PORTS.start + port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbours_differ_and_all_are_loopback_and_outside_the_kernels_range() {
        let addresses = MOST / u64::from(PORTS_PER_ADDRESS);
        let numbers = (0..1000).chain(addresses - 5..addresses + 5).chain(MOST - 5..MOST);
        let sources: Vec<_> = numbers.map(local).collect();
        assert_eq!(sources.iter().collect::<HashSet<_>>().len(), sources.len());
        assert!(sources.iter().all(|source| is_loopback_v4(source) && PORTS.contains(&source.port())));
        assert_eq!(local(0).to_string(), "127.1.0.0:1024");
        assert_eq!(local(MOST), local(0));
    }

    #[test]
    fn only_ipv4_loopback_is_given_a_source() {
        let check = |target: &str, expect| assert_eq!(route(&target.parse().unwrap(), 3).source.is_some(), expect);
        check("127.0.0.1:7", true);
        check("[::1]:7", false);
        check("192.0.2.1:7", false);
        check("unix:/s", false);
    }
}
