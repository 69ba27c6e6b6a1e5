//! What this machine can hold: descriptors, addresses, memory. Read once before a run, and memory again while it ramps.

use std::fs;

use megamux_engine::net::{Addr, nofile_limit};

use crate::source;

/// Places of a ring's table left for the run's other sockets.
const SPARE: u64 = 200;
/// The engine's most.
const MOST_SHARDS: u64 = 255;
/// Kernel memory of one end of a loopback connection, measured: socket, inode, dentry, file, and what waits on it.
const KERNEL_PER_END: u64 = 3_900;
/// Memory of ours per connection: the engine's slot, the client's state, the pacer's entry.
const OURS: u64 = 300;
/// What this machine lacks for a run, each with what there is and what is asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this machine cannot do that:\n  {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
pub struct Unfit(Vec<Lack>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Lack {
    #[error(
        "descriptors: {connections} connections need {needed} shards of {each} each (RLIMIT_NOFILE, less {SPARE}), and {given}"
    )]
    Shards { connections: u64, needed: u64, each: u64, given: String },
    #[error(
        "files: {connections} connections make {files}, {open} are open, and the system allows {allowed}: raise /proc/sys/fs/file-max"
    )]
    FileMax { connections: u64, files: u64, open: u64, allowed: u64 },
    #[error("addresses: {0} connections, and 127.1.0.0 to 127.240.255.255 have {most} ports", most = source::MOST)]
    Addresses(u64),
    #[error("ports: {0} connections, and the system gives a target {1} (/proc/sys/net/ipv4/ip_local_port_range)")]
    Ports(u64, u64),
    #[error(
        "memory: {connections} connections need about {needed} MiB ({each} B each), and {free} MiB are free, of which {keep} stay so \
         (--keep-free): {fit} fit"
    )]
    Memory { connections: u64, needed: u64, each: u64, free: u64, keep: u64, fit: u64 },
}

/// How many shards open so many connections.
pub fn shards(connections: u32, wanted: Option<u16>) -> u64 {
    wanted.map_or_else(|| u64::from(connections).div_ceil(each()), u64::from)
}

/// Descriptors of a shard's table.
fn each() -> u64 {
    nofile_limit().0.min(1 << 20).saturating_sub(SPARE).max(1)
}

/// Whether the run fits; if not, all that it lacks.
pub fn check(target: &Addr, connections: u32, shards: u64, keep_free: u64) -> Result<(), Unfit> {
    let (connections, ends) = (u64::from(connections), ends_here(target));
    let lacks = [
        lacks_shards(connections, shards),
        lacks_files(connections, ends),
        lacks_ports(connections, target),
        free().and_then(|free| lacks_memory(connections, ends, free, keep_free)),
    ];
    match lacks.into_iter().flatten().collect::<Vec<_>>() {
        none if none.is_empty() => Ok(()),
        lacks => Err(Unfit(lacks)),
    }
}

fn lacks_shards(connections: u64, shards: u64) -> Option<Lack> {
    let (each, needed) = (each(), connections.div_ceil(each()));
    let given = match shards {
        0 => "--shards says 0".to_owned(),
        _ if shards < needed => format!("--shards says {shards}"),
        _ if shards > MOST_SHARDS => format!("{MOST_SHARDS} are the most there can be"),
        _ => return None,
    };
    Some(Lack::Shards { connections, needed, each, given })
}

fn lacks_files(connections: u64, ends: u64) -> Option<Lack> {
    let (open, allowed) = (number_of("/proc/sys/fs/file-nr", 0)?, number_of("/proc/sys/fs/file-max", 0)?);
    let files = ends * connections;
    (open + files > allowed).then_some(Lack::FileMax { connections, files, open, allowed })
}

fn lacks_ports(connections: u64, target: &Addr) -> Option<Lack> {
    match target {
        Addr::Tcp(addr) if source::is_loopback_v4(addr) => {
            (connections > source::MOST).then_some(Lack::Addresses(connections))
        }
        Addr::Tcp(_) => {
            let range = "/proc/sys/net/ipv4/ip_local_port_range";
            let ports = number_of(range, 1)?.saturating_sub(number_of(range, 0)?) + 1;
            (connections > ports).then_some(Lack::Ports(connections, ports))
        }
        _ => None,
    }
}

fn lacks_memory(connections: u64, ends: u64, free: u64, keep: u64) -> Option<Lack> {
    let each = ends * KERNEL_PER_END + OURS;
    let room = free.saturating_sub(keep);
    let needed = connections * each;
    let (free, keep, fit) = (mib(free), mib(keep), room / each);
    (needed > room).then_some(Lack::Memory { connections, needed: mib(needed), each, free, keep, fit })
}

/// How many ends of a connection take this machine's memory.
pub fn ends_here(target: &Addr) -> u64 {
    match target {
        Addr::Tcp(addr) if !addr.ip().is_loopback() => 1,
        _ => 2,
    }
}

/// Bytes that may still be used: what is free, and the page cache. `MemAvailable` counts the inodes and dentries of open
/// sockets as well, 1 KiB each, as if they could be reclaimed.
pub fn free() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((kib("MemFree:")? + kib("Active(file):")? + kib("Inactive(file):")?) << 10)
}

/// A number in a file, by its place.
fn number_of(path: &str, place: usize) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_whitespace().nth(place)?.parse().ok()
}

pub fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_follow_from_the_descriptor_limit() {
        let each = each();
        assert_eq!((shards(1, None), shards(each as u32, None), shards(each as u32 + 1, None)), (1, 1, 2));
        assert_eq!(shards(10, Some(7)), 7);
        for (connections, shards, fits) in
            [(1, 1, true), (each, 1, true), (each + 1, 1, false), (1, 0, false), (1, 256, false)]
        {
            assert_eq!(lacks_shards(connections, shards).is_none(), fits, "{connections} on {shards}");
        }
    }

    #[test]
    fn what_is_lacking_is_told_with_what_there_is() {
        let (gib, target) = (1 << 30, "192.0.2.1:7".parse().unwrap());
        let lack = lacks_memory(1_000_000, 2, 4 * gib, 3 * gib).unwrap().to_string();
        assert!(lack.contains("need about") && lack.contains("4096 MiB are free, of which 3072 stay"), "{lack}");
        assert_eq!(lacks_memory(100_000, 2, 4 * gib, 3 * gib), None);
        assert!(lacks_ports(70_000, &target).unwrap().to_string().contains("ip_local_port_range"));
        assert_eq!(lacks_ports(70_000, &"127.0.0.1:7".parse().unwrap()), None);
        let unfit = Unfit(vec![Lack::Addresses(1), Lack::Ports(2, 1)]).to_string();
        assert_eq!(unfit.lines().count(), 3, "{unfit}");
        assert!(free().unwrap() > 0);
    }
}
