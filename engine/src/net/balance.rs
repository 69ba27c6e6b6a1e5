//! How the kernel spreads new connections over the listeners of one port.

use std::io;

use socket2::Socket;

/// Who gets a new connection when several shards listen on one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Balance {
    /// A hash of both addresses: even for many clients, whatever CPU their packets come in on.
    #[default]
    ReusePortHash,
    /// A shard of the CPU that received the packet: no packet crosses cores, if shards are pinned in CPU order and
    /// the network card spreads its queues evenly. On loopback that is the client's CPU.
    ReceivingCpu,
}

impl Balance {
    /// Attaches the choice to a group of listeners, through one of them.
    pub(super) fn apply(self, listener: &Socket, shards: usize) -> io::Result<()> {
        match self {
            Balance::ReusePortHash => Ok(()),
            Balance::ReceivingCpu => attach(listener, &program(cpus(), shards as u32)),
        }
    }
}

/// The program that picks a listener's place in the group, which is its place in the order of listening.
///
/// With k shards per CPU that is `cpu + cpus * (random mod k)`: shard `s` runs on CPU `s mod cpus`. A place beyond the
/// last listener makes the kernel fall back to its hash.
fn program(cpus: u32, shards: u32) -> Vec<libc::sock_filter> {
    use libc::{BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_K, BPF_LD, BPF_MEM, BPF_MOD, BPF_MUL, BPF_RET};
    use libc::{BPF_LDX, BPF_ST, BPF_W, BPF_X};
    let cpu = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
    let columns = cpus.min(shards).max(1);
    let rows = shards.div_ceil(columns).max(1);
    let mut code = vec![step(BPF_LD | BPF_W | BPF_ABS, cpu), step(BPF_ALU | BPF_MOD | BPF_K, columns)];
    if rows > 1 {
        code.extend([
            step(BPF_ST, 0),
            step(BPF_LD | BPF_W | BPF_ABS, random),
            step(BPF_ALU | BPF_MOD | BPF_K, rows),
            step(BPF_ALU | BPF_MUL | BPF_K, columns),
            step(BPF_LDX | BPF_MEM, 0),
            step(BPF_ALU | BPF_ADD | BPF_X, 0),
        ]);
    }
    code.push(step(BPF_RET | BPF_A, 0));
    code
}

fn step(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn attach(listener: &Socket, code: &[libc::sock_filter]) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_ptr().cast_mut() };
    // SAFETY: the kernel copies one `sock_fprog` and the `len` instructions that it points at; both outlive the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// CPUs that may receive packets.
fn cpus() -> u32 {
    // SAFETY: takes and gives a number.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    u32::try_from(cpus).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(code: &[libc::sock_filter], cpu: u32, random: u32) -> u32 {
        let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
        for step in code {
            match u32::from(step.code) {
                0x20 if step.k == (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32 => a = cpu,
                0x20 => a = random,
                0x94 => a %= step.k,
                0x24 => a = a.wrapping_mul(step.k),
                0x0c => a = a.wrapping_add(x),
                0x02 => memory[step.k as usize] = a,
                0x61 => x = memory[step.k as usize],
                0x16 => return a,
                other => panic!("instruction {other:#x}"),
            }
        }
        panic!("no return")
    }

    #[test]
    fn every_shard_is_picked_by_its_own_cpu() {
        for (cpus, shards) in [(1, 1), (2, 2), (2, 8), (8, 2), (4, 12), (4, 6)] {
            let code = program(cpus, shards);
            let mut picked = vec![false; shards as usize];
            for cpu in 0..cpus {
                for random in 0..64 {
                    let place = run(&code, cpu, random);
                    assert_eq!(place % cpus.min(shards), cpu % cpus.min(shards));
                    if let Some(picked) = picked.get_mut(place as usize) {
                        *picked = true;
                    }
                }
            }
            assert!(picked.iter().all(|&picked| picked), "{cpus} CPUs, {shards} shards: {picked:?}");
        }
    }
}
