//! A network of its own for servers and generator: two namespaces, joined by a pair of virtual Ethernet devices.
//!
//! What an end receives is processed on that end's core, as the interrupts of its network card would have it; over the loopback
//! it is processed on the sender's. Each end finds its connections in a table of its own, so large that it matters nothing
//! which server's were opened last: in a full one those are found first. Invariant: nothing outside the namespaces changes but one setting that has none,
//! which is set back in the end; and they are nameless: they end with the processes in them and this one's descriptors, in
//! whatever way those end.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::endpoint::{BACKLOG, Endpoint};

/// The servers' end. Of the generator's, every address of [`CLIENTS`] is its own.
const SERVERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const GENERATOR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// First byte of the addresses that clients connect from: 10.0.0.0/8.
pub const CLIENTS: u8 = 10;

/// All are free: nobody else is there.
const FIRST_PORT: usize = 20_000;

/// Of a table of connections: each has a place of its own, nearly always.
const PLACES: u32 = 1 << 22;

/// Packets that may wait for an end's core. More are dropped, and come again a second later; a hundred thousand resets overrun
/// the usual 1000.
const IN_FLIGHT: u32 = 1 << 20;

pub struct Wire {
    pub servers: Arc<OwnedFd>,
    generator: OwnedFd,
    _in_flight: Setting,
}

/// A setting of the whole machine. A shell waits for the end of this, in whatever way it comes, and sets it back.
struct Setting(Child);

impl Wire {
    pub fn lay(server_cpu: usize, load_cpu: usize) -> Result<Self> {
        let wire = Self {
            servers: Arc::new(namespace()?),
            generator: namespace()?,
            _in_flight: Setting::put("/proc/sys/net/core/netdev_max_backlog", IN_FLIGHT)?,
        };
        let peer = format!("/proc/{}/fd/{}", std::process::id(), wire.generator.as_raw_fd());
        order(&wire.servers, &format!("ip link add wire type veth peer name wire netns {peer}"))?;
        // Both are up before either has a way to the other.
        for (end, address, cpu) in [(&*wire.servers, SERVERS, server_cpu), (&wire.generator, GENERATOR, load_cpu)] {
            let cpus = mask(cpu);
            order(
                end,
                &format!(
                    "ip link set lo up
                     ip address add {address}/30 dev wire
                     ip link set wire up
                     mount -t sysfs sysfs /sys
                     for queue in /sys/class/net/wire/queues/rx-*; do echo {cpus} > $queue/rps_cpus; done"
                ),
            )?;
        }
        order(&wire.servers, &format!("ip route add {CLIENTS}.0.0.0/8 via {GENERATOR}"))?;
        order(&wire.generator, &format!("ip route add local {CLIENTS}.0.0.0/8 dev lo"))?;
        Ok(wire)
    }

    /// Runs something on a thread at the generator's end. Threads that are started there are at that end too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            enter(&self.generator)?;
            work()
        })
    }

    /// A place of its own for the `index`th server.
    pub fn endpoint(&self, index: usize) -> Endpoint {
        Endpoint::Tcp(SocketAddrV4::new(SERVERS, (FIRST_PORT + index) as u16).into(), 1)
    }
}

impl Setting {
    fn put(path: &str, value: u32) -> Result<Self> {
        let before = fs::read_to_string(path).context(path.to_owned())?;
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"cat > /dev/null; echo "$1" > "$0""#, path, before.trim()]);
        // In a group of its own, because Ctrl-C is not meant for it.
        let shell = shell.stdin(Stdio::piped()).process_group(0).spawn().context("cannot run sh")?;
        let setting = Self(shell);
        fs::write(path, value.to_string()).context(path.to_owned())?;
        Ok(setting)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            eprintln!("megamux-compare: a setting may not have been set back: {error}");
        }
    }
}

/// Moves the calling thread into a network namespace.
pub fn enter(namespace: impl AsFd) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
}

fn namespace() -> Result<OwnedFd> {
    // SAFETY: descriptors stay shared; the thread that calls this ends.
    let unshare = || unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("no network namespaces");
    on_a_thread(|| {
        // The table's size is set where the namespace is made (Linux 6.1), and this one goes with the thread.
        unshare()?;
        fs::write("/proc/sys/net/ipv4/tcp_child_ehash_entries", PLACES.to_string()).context("no table of its own")?;
        unshare()?;
        fs::write("/proc/sys/net/core/somaxconn", BACKLOG.to_string()).context("no backlog of its own")?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
}

/// Runs a script in a network namespace, with mounts of its own.
fn order(namespace: &OwnedFd, script: &str) -> Result<()> {
    let output = on_a_thread(|| {
        enter(namespace)?;
        Ok(Command::new("unshare").args(["--mount", "sh", "-ec", script]).output()?)
    });
    let output = output.with_context(|| format!("cannot run {script}"))?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// A core as the kernel reads sets of them: words of 32 bits, in hexadecimal.
fn mask(cpu: usize) -> String {
    format!("{:x}{}", 1_u32 << (cpu % 32), ",00000000".repeat(cpu / 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_set_back() {
        let file = std::env::temp_dir().join(format!("megamux-setting-{}", std::process::id()));
        let path = file.to_str().expect("a path");
        fs::write(path, "1000\n").expect("a file");
        let setting = Setting::put(path, 5).expect("a setting");
        assert_eq!(fs::read_to_string(path).expect("a value"), "5");
        drop(setting);
        assert_eq!(fs::read_to_string(path).expect("a value"), "1000\n");
        fs::remove_file(path).expect("an end");
    }

    #[test]
    fn cores_are_bits_of_words() {
        for (cpu, expect) in [(0, "1"), (1, "2"), (31, "80000000"), (32, "1,00000000"), (65, "2,00000000,00000000")] {
            assert_eq!(mask(cpu), expect);
        }
    }
}
