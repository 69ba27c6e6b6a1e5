//! Networks that fail on order: two namespaces with one link between them, and what may happen to that link.
//!
//! The scenario runs on a thread in the near namespace, with its server and those who reach it over the loopback, whom no
//! fault touches. Others live in the far namespace and come over the link. Invariant: a namespace is nameless and lives in
//! a child process that ends when this one does, in whatever way; the kernel then takes the link and its faults away.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::relay::{Relay, Weather};
use crate::{binary, skip};

/// The link's two ends, of a range that is for tests of networks (RFC 2544).
const NEAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// What the link is made of.
#[derive(Debug, Clone, Copy)]
pub enum Link {
    /// A pair of virtual Ethernet devices, to which the kernel does what is asked.
    Ethernet,
    /// A relay of this process, which delays, reorders and doubles packets.
    Relay(Weather),
}

/// Two namespaces and their link.
#[derive(Debug)]
pub struct Network {
    far: Namespace,
    relay: Option<Relay>,
    // Last: the scenario's thread is in it.
    near: Namespace,
}

impl Network {
    /// Makes a network and runs a scenario in its near namespace; skips the test where that cannot be.
    pub fn run(link: Link, scenario: impl FnOnce(&Network) + Send) {
        // Built before there is no network to build with.
        binary::path();
        let (near, far) = match (Namespace::new(), Namespace::new()) {
            (Ok(near), Ok(far)) => (near, far),
            (Err(reason), _) | (_, Err(reason)) => return skip(&reason),
        };
        if let Some(missing) = ["ip", "tc", "nft"].into_iter().find(|program| !is_there(program)) {
            return skip(&format!("{missing} is missing"));
        }
        if let (Link::Relay(_), Err(error)) = (link, File::open("/dev/net/tun")) {
            return skip(&format!("no TUN: {error}"));
        }
        let mut network = Network { far, relay: None, near };
        network.connect(link);
        network.near.run(|| scenario(&network));
    }

    /// Runs a scenario on a loopback of its own where there may be one, so that no port of it is taken by others' connections;
    /// else on this machine's.
    pub fn by_itself(scenario: impl FnOnce() + Send) {
        binary::path();
        match Namespace::new() {
            Ok(namespace) if is_there("ip") => {
                namespace.order("ip link set lo up");
                namespace.run(scenario);
            }
            _ => scenario(),
        }
    }

    /// Runs something in the far namespace: what it connects comes over the link.
    pub fn far<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.far.run(work)
    }

    /// Where a server that listens on every address is reached over the link.
    pub fn over_the_link(&self, listener: SocketAddr) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(NEAR), listener.port())
    }

    /// Loses so many of a hundred packets, both ways.
    pub fn lose(&self, percent: u32) {
        let some = format!("numgen random mod 100 < {percent}");
        self.drop_packets("input", &some);
        self.drop_packets("output", &some);
    }

    /// Loses every packet, both ways, and tells nobody.
    pub fn black_hole(&self) {
        self.drop_packets("input", "");
        self.drop_packets("output", "");
    }

    /// Lets so many bits a second through to the far side.
    pub fn slow_down(&self, bits_per_second: u32) {
        let rate = format!("rate {bits_per_second} burst 32kb latency 50ms");
        self.near.order(&format!("tc qdisc add dev wire root tbf {rate}"));
    }

    /// Packets that others overtook so far.
    pub fn overtaken(&self) -> u64 {
        self.relay.as_ref().map_or(0, Relay::overtaken)
    }

    /// Ends what was lost or slowed down.
    pub fn heal(&self) {
        self.near.order("nft flush ruleset");
        self.near.order("tc qdisc replace dev wire root noqueue");
    }

    fn drop_packets(&self, hook: &str, which: &str) {
        let device = if hook == "input" { "iifname" } else { "oifname" };
        self.near.order("nft add table ip faults");
        self.near.order(&format!("nft add chain ip faults {hook} {{ type filter hook {hook} priority 0 ; }}"));
        self.near.order(&format!("nft add rule ip faults {hook} {device} wire {which} drop"));
    }

    fn connect(&mut self, link: Link) {
        match link {
            Link::Ethernet => {
                let far = self.far.holder.id();
                self.near.order(&format!("ip link add wire type veth peer name wire netns {far}"));
            }
            Link::Relay(weather) => self.relay = Some(Relay::new(&self.near, &self.far, weather)),
        }
        for (namespace, address) in [(&self.near, NEAR), (&self.far, FAR)] {
            namespace.order("ip link set lo up");
            namespace.order(&format!("ip address add {address}/24 dev wire"));
            namespace.order("ip link set wire up");
        }
    }
}

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Lives in it, and ends when its standard input does.
    holder: Child,
    file: File,
}

impl Namespace {
    /// A new one, or why there is none.
    fn new() -> Result<Namespace, String> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo there && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("no unshare: {error}"))?;
        let mut word = String::new();
        let said = BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut word);
        if word.is_empty() || said.is_err() {
            let mut reason = String::new();
            let _ = holder.stderr.take().expect("piped").read_to_string(&mut reason);
            let _ = holder.wait();
            return Err(format!("no network namespaces: {}", reason.trim()));
        }
        let file = File::open(format!("/proc/{}/ns/net", holder.id())).expect("it lives");
        Ok(Namespace { holder, file })
    }

    /// Runs something on a thread in it. Threads and processes that are started there are in it too.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let name = thread::current().name().unwrap_or("scenario").to_owned();
        let outcome = thread::scope(|scope| {
            let enter_and_work = || {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("who made it may enter it");
                work()
            };
            let thread = thread::Builder::new().name(name).spawn_scoped(scope, enter_and_work);
            thread.expect("a thread").join()
        });
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs a program in it, given as its words.
    #[track_caller]
    fn order(&self, line: &str) {
        let output = self.run(|| {
            let mut words = line.split_whitespace();
            Command::new(words.next().expect("a program")).args(words).output().expect("the program runs")
        });
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok()
}
