//! What this machine can hold: descriptors, addresses, memory. Read once before a run, and memory again while it ramps.

use std::fs;

use megamux_engine::net::{Addr, nofile_limit};

use crate::plan::Plan;
use crate::source;

/// Places of a ring's table left for the run's other sockets.
const SPARE: u64 = 200;
/// The engine's most.
const MOST_SHARDS: u64 = 255;
/// Kernel memory of one end of a loopback connection, measured: socket, inode, dentry, file, and what waits on it.
const KERNEL_PER_END: u64 = 3_900;
/// Memory of ours per connection: the engine's slot, the client's state, the pacer's entry.
const OURS: u64 = 300;
/// What `MemAvailable` overstates per socket: pinned inodes and dentries count as reclaimable.
const OVERSTATED: u64 = 1_024;

/// Why this machine cannot do it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    #[error("{connections} connections need {needed} shards of {each} descriptors each (RLIMIT_NOFILE); {given}")]
    Shards { connections: u64, needed: u64, each: u64, given: String },
    #[error("{wanted} files would be open, and the system allows {allowed}: raise /proc/sys/fs/file-max")]
    FileMax { wanted: u64, allowed: u64 },
    #[error("{0} connections need more local addresses than 127.1.0.0 to 127.240.255.255 give")]
    Addresses(u64),
    #[error(
        "{connections} connections need about {needed} MiB and {available} MiB are available, of which {keep} MiB are to stay \
         free (--keep-free): at most {fit} fit"
    )]
    Memory { connections: u64, needed: u64, available: u64, keep: u64, fit: u64 },
}

/// How many shards open so many connections.
pub fn shards(connections: u32, wanted: Option<u16>) -> Result<u16, Unfit> {
    let connections = u64::from(connections);
    let each = nofile_limit().0.min(1 << 20).saturating_sub(SPARE).max(1);
    let needed = connections.div_ceil(each);
    let unfit = |given: String| Unfit::Shards { connections, needed, each, given };
    match wanted.map(u64::from) {
        Some(wanted) if wanted < needed => Err(unfit(format!("--shards says {wanted}"))),
        _ if needed > MOST_SHARDS => Err(unfit(format!("{MOST_SHARDS} are the most there can be"))),
        Some(0) => Err(unfit("--shards says 0".into())),
        Some(wanted) => Ok(wanted.min(MOST_SHARDS) as u16),
        None => Ok(needed as u16),
    }
}

/// Whether the run fits.
pub fn check(plan: &Plan) -> Result<(), Unfit> {
    let connections = u64::from(plan.connections);
    let ends = ends_here(&plan.target);
    if let (Some(open), Some(allowed)) = (number_of("/proc/sys/fs/file-nr"), number_of("/proc/sys/fs/file-max")) {
        let wanted = open + ends * connections;
        if wanted > allowed {
            return Err(Unfit::FileMax { wanted, allowed });
        }
    }
    if matches!(&plan.target, Addr::Tcp(addr) if source::is_loopback_v4(addr)) && connections > source::MOST {
        return Err(Unfit::Addresses(connections));
    }
    let Some(available) = available() else { return Ok(()) };
    let per_connection = ends * (KERNEL_PER_END + OVERSTATED / 8) + OURS;
    let room = available.saturating_sub(plan.keep_free);
    match connections * per_connection <= room {
        true => Ok(()),
        false => Err(Unfit::Memory {
            connections,
            needed: mib(connections * per_connection),
            available: mib(available),
            keep: mib(plan.keep_free),
            fit: room / per_connection,
        }),
    }
}

/// How many ends of a connection take this machine's memory.
pub fn ends_here(target: &Addr) -> u64 {
    match target {
        Addr::Tcp(addr) if !addr.ip().is_loopback() => 1,
        _ => 2,
    }
}

/// Bytes that may still be used, with `sockets` open: less than the kernel says.
pub fn available_with(sockets: u64) -> Option<u64> {
    available().map(|available| available.saturating_sub(sockets * OVERSTATED))
}

fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The first number in a file.
fn number_of(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

pub fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_follow_from_the_descriptor_limit() {
        let each = nofile_limit().0.min(1 << 20) - SPARE;
        assert_eq!(shards(1, None), Ok(1));
        assert_eq!(shards(each as u32, None), Ok(1));
        assert_eq!(shards(each as u32 + 1, None), Ok(2));
        assert_eq!(shards(10, Some(7)), Ok(7));
        assert!(shards(10, Some(0)).is_err());
    }

    #[test]
    fn memory_is_read_and_overstatement_is_taken_off() {
        let (all, with) = (available_with(0).unwrap(), available_with(1 << 20).unwrap());
        assert!(all > with, "{all} {with}");
    }
}
