//! The idle scenario: what a connection that does nothing costs its server, in user and in kernel memory.
//!
//! Invariant: every figure is a slope between two counts of connections that have each exchanged one message, so what a
//! server holds anyway cancels out. The kernel's slabs hold both ends of a loopback connection; the client's end, a plain
//! socket with its local port, is measured against the `plain` server and taken off.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::load::PATIENCE;
use crate::method::median;
use crate::pattern::Pattern;
use crate::process::Process;
use crate::report::Kind;

/// Between the last exchange and a reading: delayed acknowledgements (40 ms) and RCU callbacks are through by then.
const REST: Duration = Duration::from_millis(500);

/// A cache belongs to connections if it grew by at least this many objects for each; less is somebody else's growth.
const OBJECTS_PER_CONNECTION: f64 = 0.25;

/// Caches a socket server has no part in, which files opened and programs started meanwhile let grow. `anon_vma_chain` is not
/// among them: the kernel merges it with `eventpoll_pwq`, of which every socket in an epoll set has one.
const FOREIGN: [&str; 4] = ["anon_vma", "buffer_head", "radix_tree_node", "vm_area_struct"];

/// The inodes that are sockets', among the many that are files'.
const SOCKET_INODES: [&str; 2] = ["sock_inode_cache", "lsm_inode_cache"];

/// Bytes per idle connection of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Footprint {
    pub name: String,
    pub kind: Kind,
    pub rss: f64,
    pub pss: f64,
    /// Slab of both ends.
    pub slab_both_ends: f64,
    /// Of that, the kernel's records of local ports. Only the end that connects has any.
    pub port_records: f64,
    /// Slab of the server's end: both ends less the client's.
    pub kernel: f64,
    /// Both ends by cache.
    pub caches: BTreeMap<String, f64>,
}

/// What megamux wants an idle connection to cost, beside others.
pub struct IdleBar {
    /// Which figure.
    pub what: &'static str,
    pub against: String,
    pub ratio: f64,
    pub at_most: f64,
}

impl fmt::Display for IdleBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, against, ratio, at_most } = self;
        let reach = if ratio <= at_most { "met" } else { "missed" };
        write!(f, "bar: {what} bytes, megamux / {against} {ratio:.3}, at most {at_most:.2}: {reach}")
    }
}

/// Kernel memory beside a server on epoll that runs no engine, user memory beside the best peer.
pub fn bars(footprints: &[Footprint]) -> Vec<IdleBar> {
    let Some(ours) = footprints.iter().find(|footprint| footprint.kind == Kind::Ours) else {
        return Vec::new();
    };
    let epoll = footprints.iter().find(|footprint| footprint.name == "bare-epoll");
    let peers = footprints.iter().filter(|footprint| footprint.kind == Kind::Peer);
    let best = peers.min_by(|one, other| one.rss.total_cmp(&other.rss));
    let bar = |what, other: &Footprint, figure: fn(&Footprint) -> f64, at_most| IdleBar {
        what,
        against: other.name.clone(),
        ratio: figure(ours) / figure(other),
        at_most,
    };
    let kernel = epoll.map(|epoll| bar("kernel", epoll, |footprint| footprint.kernel, 1.03));
    let user = best.map(|best| bar("user", best, |footprint| footprint.rss, 0.05));
    kernel.into_iter().chain(user).collect()
}

struct Reading {
    rss: u64,
    pss: u64,
    /// Objects and bytes per object, by cache.
    slab: BTreeMap<String, (u64, u64)>,
}

/// Opens connections in two steps and takes the slope. `kernel` is left at zero for `subtract_client_end`.
pub fn measure(
    server: &mut Process,
    kind: Kind,
    counts: [usize; 2],
    message: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Footprint> {
    let mut conns = Vec::with_capacity(counts[1]);
    let mut readings = Vec::with_capacity(2);
    for count in counts {
        while conns.len() < count {
            let outcome = open(server, conns.len(), message);
            conns.push(server.blame(outcome)?);
            progress(conns.len());
        }
        thread::sleep(REST);
        server.settled_cpu_ns()?;
        readings.push(Reading::take(server)?);
    }
    server.check()?;
    let [low, high] = &readings[..] else { unreachable!("one reading per count") };
    let connections = (counts[1] - counts[0]) as f64;
    let slope = |low: u64, high: u64| (high as f64 - low as f64) / connections;
    let caches = slab_slope(&low.slab, &high.slab, connections);
    let opened = &conns[counts[0]..];
    Ok(Footprint {
        name: server.name.clone(),
        kind,
        rss: slope(low.rss, high.rss),
        pss: slope(low.pss, high.pss),
        slab_both_ends: caches.values().sum(),
        port_records: port_records(opened)? / connections,
        kernel: 0.0,
        caches,
    })
}

/// The two ends of a connection to the `plain` server are alike but for the client's port: that and half of the rest
/// is a client's end, everywhere.
pub fn subtract_client_end(footprints: &mut [Footprint], plain: &Footprint) {
    let client_end = (plain.slab_both_ends + plain.port_records) / 2.0;
    for footprint in footprints {
        footprint.kernel = footprint.slab_both_ends - client_end;
    }
}

/// The median of several measurements of one server, cache by cache: files opened meanwhile grow caches that sockets
/// use too, such as dentries, now and then.
pub fn median_of(runs: &[Footprint]) -> Footprint {
    let of = |value: &dyn Fn(&Footprint) -> f64| median(&mut runs.iter().map(value).collect::<Vec<_>>());
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.caches.keys()).collect();
    let cache = |name: &String| of(&|run| run.caches.get(name).copied().unwrap_or(0.0));
    let caches: BTreeMap<String, f64> =
        names.into_iter().map(|name| (name.clone(), cache(name))).filter(|&(_, bytes)| bytes > 0.0).collect();
    Footprint {
        name: runs[0].name.clone(),
        kind: runs[0].kind,
        rss: of(&|run| run.rss),
        pss: of(&|run| run.pss),
        slab_both_ends: caches.values().sum(),
        port_records: of(&|run| run.port_records),
        kernel: 0.0,
        caches,
    }
}

/// Waits until the kernel has freed the connections of the server before.
pub fn wait_for_slab_to_rest() -> Result<()> {
    const STILL: u64 = 256 << 10;
    let deadline = Instant::now() + PATIENCE;
    let total = || Ok::<_, anyhow::Error>(slabinfo()?.values().map(|(count, size)| count * size).sum::<u64>());
    let mut last = total()?;
    loop {
        thread::sleep(REST);
        let now = total()?;
        if now.abs_diff(last) < STILL || Instant::now() >= deadline {
            return Ok(());
        }
        last = now;
    }
}

fn open(server: &Process, index: usize, message: usize) -> Result<Socket> {
    let mut socket = server.endpoint.connect(index).with_context(|| format!("cannot open connection {index}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let sent = Pattern::noise().run(Pattern::noise().start(index), message);
    socket.write_all(sent)?;
    let mut answer = vec![0; message];
    socket.read_exact(&mut answer).with_context(|| format!("no answer on connection {index}"))?;
    ensure!(answer == sent, "connection {index} got other bytes than it sent");
    Ok(socket)
}

impl Reading {
    fn take(server: &Process) -> Result<Self> {
        let (rss, pss) = server.memory()?;
        Ok(Self { rss, pss, slab: slabinfo()? })
    }
}

fn slabinfo() -> Result<BTreeMap<String, (u64, u64)>> {
    let text = fs::read_to_string("/proc/slabinfo").context("cannot read /proc/slabinfo: idle needs root")?;
    Ok(parse_slabinfo(&text))
}

/// `name active_objs num_objs objsize ...`, after two lines of header.
fn parse_slabinfo(text: &str) -> BTreeMap<String, (u64, u64)> {
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?.to_owned();
        let active = fields.next()?.parse().ok()?;
        let size = fields.nth(1)?.parse().ok()?;
        Some((name, (active, size)))
    };
    text.lines().skip(2).filter_map(parse).collect()
}

fn slab_slope(
    low: &BTreeMap<String, (u64, u64)>,
    high: &BTreeMap<String, (u64, u64)>,
    connections: f64,
) -> BTreeMap<String, f64> {
    high.iter()
        .filter(|(name, _)| !is_foreign(name))
        .filter_map(|(name, &(count, size))| {
            let before = low.get(name).map_or(0, |&(count, _)| count);
            let objects = (count as f64 - before as f64) / connections;
            (objects >= OBJECTS_PER_CONNECTION).then(|| (name.clone(), objects * size as f64))
        })
        .collect()
}

fn is_foreign(cache: &str) -> bool {
    FOREIGN.contains(&cache) || (cache.ends_with("inode_cache") && !SOCKET_INODES.contains(&cache))
}

/// Bytes of the records of local ports: one per port, and one per address and port. Their caches may be merged with
/// others of that size, so records are counted here and only their size is asked for.
fn port_records(conns: &[Socket]) -> Result<f64> {
    let mut ports = HashSet::new();
    let mut pairs = HashSet::new();
    for conn in conns {
        if let Some(address) = conn.local_addr()?.as_socket() {
            ports.insert(address.port());
            pairs.insert(address);
        }
    }
    if ports.is_empty() {
        return Ok(0.0);
    }
    let size = |cache: &str| {
        let path = format!("/sys/kernel/slab/{cache}/slab_size");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        text.trim().parse::<f64>().with_context(|| format!("{path} is not a number"))
    };
    Ok(ports.len() as f64 * size("tcp_bind_bucket")? + pairs.len() as f64 * size("tcp_bind2_bucket")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> ...\n";

    fn slab(lines: &str) -> BTreeMap<String, (u64, u64)> {
        parse_slabinfo(&format!("{HEADER}{lines}"))
    }

    #[test]
    fn slope_counts_what_grows_with_connections() {
        let low = slab(
            "TCP 100 110 2368 13 8 : tunables 0 0 0\nfilp 50 60 192 21 1 : tunables\next4_inode_cache 1 1 128 32 1 : x\n",
        );
        let high = slab(
            "TCP 2100 2110 2368 13 8 : tunables 0 0 0\nfilp 150 160 192 21 1 : x\next4_inode_cache 1001 1 128 32 1 : x\n",
        );
        let slope = slab_slope(&low, &high, 1_000.0);
        // filp grew by a tenth of an object per connection: not by connections. File inodes are never theirs.
        assert_eq!(slope, BTreeMap::from([("TCP".to_owned(), 2.0 * 2368.0)]));
    }

    #[test]
    fn median_of_runs_drops_what_only_one_saw() {
        let run = |dentry: f64, stray: Option<f64>| Footprint {
            name: "plain".to_owned(),
            kind: Kind::Floor,
            rss: 1.0,
            pss: 1.0,
            slab_both_ends: 0.0,
            port_records: 0.0,
            kernel: 0.0,
            caches: [("dentry", Some(dentry)), ("kmalloc-64", stray)]
                .into_iter()
                .filter_map(|(name, bytes)| Some((name.to_owned(), bytes?)))
                .collect(),
        };
        let merged = median_of(&[run(384.0, None), run(868.0, Some(64.0)), run(385.0, None)]);
        assert_eq!(merged.caches, BTreeMap::from([("dentry".to_owned(), 385.0)]));
        assert_eq!(merged.slab_both_ends, 385.0);
    }

    #[test]
    fn bars_are_against_the_epoll_floor_and_the_peer_with_the_least() {
        let footprint = |name: &str, kind, kernel, rss| Footprint {
            name: name.to_owned(),
            kind,
            rss,
            pss: 0.0,
            slab_both_ends: 0.0,
            port_records: 0.0,
            kernel,
            caches: BTreeMap::new(),
        };
        let ours = footprint("megamux", Kind::Ours, 3_955.0, 126.0);
        let others = [
            footprint("bare-epoll", Kind::Floor, 3_875.0, 30.0),
            footprint("tokio", Kind::Peer, 3_876.0, 2_816.0),
            footprint("monoio", Kind::Peer, 4_531.0, 2_000.0),
        ];
        let all: Vec<Footprint> = others.into_iter().chain([ours]).collect();
        let lines: Vec<String> = bars(&all).iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "bar: kernel bytes, megamux / bare-epoll 1.021, at most 1.03: met");
        assert_eq!(lines[1], "bar: user bytes, megamux / monoio 0.063, at most 0.05: missed");
        assert!(bars(&all[..3]).is_empty());
    }

    #[test]
    fn client_end_is_half_of_plain_and_its_port() {
        let footprint = |name: &str, slab_both_ends| Footprint {
            name: name.to_owned(),
            kind: Kind::Floor,
            rss: 0.0,
            pss: 0.0,
            slab_both_ends,
            port_records: 256.0,
            kernel: 0.0,
            caches: BTreeMap::new(),
        };
        let plain = footprint("plain", 7_656.0);
        let mut all = [plain.clone(), footprint("bare-epoll", 7_866.0)];
        subtract_client_end(&mut all, &plain);
        assert_eq!(all.map(|footprint| footprint.kernel), [3_700.0, 3_910.0]);
    }
}
