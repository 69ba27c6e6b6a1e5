//! Simulated disks: what was written and not synced is kept, lost or torn when the power goes, as the seed has it.
//!
//! Bytes survive by the sector; lengths and names survive in the order in which they changed, as a journalling file
//! system has it, so a file may be longer than what of it survived: the rest reads as zeros. A failed sync leaves any part
//! of what it should have written, and forgets the rest, as Linux does. What is synced is never lost.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::driver::SharedNet;
use super::rng::Rng;
use crate::storage::{Disk, FileName, Files, Job, StorageSeat};
use crate::time::Time;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What survived on each directory's disk.
#[derive(Debug, Clone, Default)]
pub struct Disks(BTreeMap<PathBuf, Image>);

impl Disks {
    /// The bytes of a file, if it is there.
    pub fn file(&self, dir: &str, name: &str) -> Option<&[u8]> {
        let image = self.0.get(&PathBuf::from(dir))?;
        let node = *image.names().get(&name.parse().ok()?)?;
        Some(&image.nodes[node].bytes)
    }

    pub(super) fn insert(&mut self, dir: PathBuf, image: Image) {
        self.0.insert(dir, image);
    }
}

type Names = BTreeMap<FileName, usize>;

/// One directory.
#[derive(Debug, Clone)]
pub(super) struct Image {
    nodes: Vec<Node>,
    /// The names as they are on the disk, and after each change since.
    states: Vec<Names>,
}

impl Default for Image {
    fn default() -> Image {
        Image { nodes: Vec::new(), states: vec![Names::new()] }
    }
}

/// A file's content.
#[derive(Debug, Clone, Default)]
struct Node {
    /// As whoever reads it sees it.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Node {
    /// Applies any part of what is pending to what is durable. Each sector has `odds` in a thousand.
    fn settle(&mut self, rng: &mut Rng, odds: u32) {
        let ordered = rng.index(self.pending.len() + 1);
        let durable = &mut self.durable;
        for (number, change) in self.pending.drain(..).enumerate() {
            match change {
                Change::SetLen(len) if number < ordered => durable.resize(len, 0),
                Change::SetLen(_) => {}
                Change::Write(at, bytes) => {
                    if number < ordered {
                        durable.resize(durable.len().max(at + bytes.len()), 0);
                    }
                    write_sectors(durable, at, &bytes, || rng.chance(odds));
                }
            }
        }
    }
}

/// Writes those sectors that `survives` says, as far as the file goes.
fn write_sectors(file: &mut [u8], at: usize, bytes: &[u8], mut survives: impl FnMut() -> bool) {
    let mut done = 0;
    while done < bytes.len() {
        let until = ((at + done) / SECTOR * SECTOR + SECTOR - at).min(bytes.len());
        if survives() {
            let from = (at + done).min(file.len());
            let to = (at + until).min(file.len());
            file[from..to].copy_from_slice(&bytes[done..done + (to - from)]);
        }
        done = until;
    }
}

impl Image {
    fn names(&self) -> &Names {
        self.states.last().expect("there is always a state of the names")
    }

    fn change_names(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names().clone();
        change(&mut names);
        self.states.push(names);
    }

    /// The power goes.
    fn settle(&mut self, rng: &mut Rng) {
        // Nothing, anything, or everything.
        let odds = [0, 100, 500, 900, 1000][rng.index(5)];
        let kept = rng.index(self.states.len());
        self.states = vec![self.states[kept].clone()];
        for node in &mut self.nodes {
            node.settle(rng, odds);
            node.bytes = node.durable.clone();
        }
    }
}

/// A disk of one service's directory.
pub(super) struct SimDisk {
    image: Image,
    net: SharedNet,
    /// The power goes: what is still carried out is not synced any more.
    failing: bool,
}

impl SimDisk {
    pub(super) fn new(image: Image, net: &SharedNet) -> SimDisk {
        SimDisk { image, net: SharedNet::clone(net), failing: false }
    }

    fn chance(&self, of: impl Fn(&super::Faults) -> u32) -> bool {
        let net = &mut *self.net.borrow_mut();
        net.rng.chance(of(&net.faults))
    }

    fn node(&self, name: &FileName) -> io::Result<usize> {
        self.image.names().get(name).copied().ok_or_else(|| errno(libc::ENOENT))
    }

    fn write(&mut self, node: usize, at: usize, bytes: &[u8]) {
        let node = &mut self.image.nodes[node];
        node.bytes.resize(node.bytes.len().max(at + bytes.len()), 0);
        node.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        node.pending.push(Change::Write(at, bytes.to_vec()));
    }
}

/// A disk on which nothing goes wrong.
#[cfg(test)]
pub(crate) fn quiet_disk() -> impl Disk {
    let net = super::net::Net::new(1, super::Faults::none());
    SimDisk::new(Image::default(), &SharedNet::new(net.into()))
}

fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Disk for SimDisk {
    type File = usize;

    fn open(&mut self, name: &FileName) -> io::Result<(usize, u64)> {
        let node = self.node(name)?;
        Ok((node, self.image.nodes[node].bytes.len() as u64))
    }

    fn create(&mut self, name: &FileName) -> io::Result<usize> {
        if self.node(name).is_ok() {
            return Err(errno(libc::EEXIST));
        }
        let node = self.image.nodes.len();
        self.image.nodes.push(Node::default());
        self.image.change_names(|names| _ = names.insert(name.clone(), node));
        Ok(node)
    }

    fn read_at(&mut self, file: &usize, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let bytes = &self.image.nodes[*file].bytes;
        let from = (at as usize).min(bytes.len());
        let len = into.len().min(bytes.len() - from);
        into[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&mut self, file: &usize, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = at as usize;
        let used: usize = self.image.names().values().map(|node| self.image.nodes[*node].bytes.len()).sum();
        let grows = (at + bytes.len()).saturating_sub(self.image.nodes[*file].bytes.len());
        let full = used + grows > self.net.borrow().faults.disk_size;
        if full || self.chance(|faults| faults.write_failure) {
            let some = self.net.borrow_mut().rng.index(bytes.len() + 1);
            self.write(*file, at, &bytes[..some]);
            return Err(errno(if full { libc::ENOSPC } else { libc::EIO }));
        }
        self.write(*file, at, bytes);
        Ok(())
    }

    fn set_len(&mut self, file: &usize, len: u64) -> io::Result<()> {
        let node = &mut self.image.nodes[*file];
        node.bytes.resize(len as usize, 0);
        node.pending.push(Change::SetLen(len as usize));
        Ok(())
    }

    fn sync(&mut self, file: &usize) -> io::Result<()> {
        if self.failing {
            return Ok(());
        }
        let fails = self.chance(|faults| faults.sync_failure);
        let node = &mut self.image.nodes[*file];
        if fails {
            node.settle(&mut self.net.borrow_mut().rng, 500);
            return Err(errno(libc::EIO));
        }
        node.durable = node.bytes.clone();
        node.pending.clear();
        Ok(())
    }

    fn rename(&mut self, from: &FileName, to: &FileName) -> io::Result<()> {
        let node = self.node(from)?;
        self.image.change_names(|names| {
            names.remove(from);
            names.insert(to.clone(), node);
        });
        Ok(())
    }

    fn remove(&mut self, name: &FileName) -> io::Result<()> {
        self.node(name)?;
        self.image.change_names(|names| _ = names.remove(name));
        Ok(())
    }

    fn list(&mut self, most: usize) -> io::Result<Vec<(String, u64)>> {
        let len = |node: &usize| self.image.nodes[*node].bytes.len() as u64;
        Ok(self.image.names().iter().take(most).map(|(name, node)| (name.to_string(), len(node))).collect())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        if self.failing {
            return Ok(());
        }
        if self.chance(|faults| faults.sync_failure) {
            return Err(errno(libc::EIO));
        }
        let now = self.image.names().clone();
        self.image.states = vec![now];
        Ok(())
    }
}

/// What carries out one service's operations, stepped instead of a thread.
pub(super) struct SimStorage {
    seat: StorageSeat,
    files: Files<SimDisk>,
    /// The operation under way, and when it is done.
    running: Option<(Job, Time)>,
}

impl SimStorage {
    pub(super) fn new(seat: StorageSeat, disks: &mut Disks, net: &SharedNet) -> SimStorage {
        let image = disks.0.remove(&seat.dir).unwrap_or_default();
        SimStorage { seat, files: Files::new(SimDisk::new(image, net)), running: None }
    }

    fn net(&self) -> &SharedNet {
        &self.files.disk.net
    }

    /// Begins the next operation; whether one is to be ended now.
    pub(super) fn is_due(&mut self) -> bool {
        if self.running.is_none()
            && let Ok(job) = self.seat.jobs.try_recv()
        {
            let mut net = self.net().borrow_mut();
            let latency = net.faults.disk_latency;
            let until = net.now + net.some(latency);
            drop(net);
            self.running = Some((job, until));
        }
        let now = self.net().borrow().now;
        self.running.as_ref().is_some_and(|(_, until)| *until <= now)
    }

    pub(super) fn next_time(&self) -> Option<Time> {
        self.running.as_ref().map(|(_, until)| *until)
    }

    pub(super) fn step(&mut self) {
        if let Some((job, _)) = self.running.take() {
            self.seat.run(&mut self.files, job);
        }
    }

    /// The power goes while something is under way: some of it may be done, but is not synced.
    pub(super) fn crash(mut self) -> (PathBuf, Image) {
        self.files.disk.failing = true;
        while self.net().borrow_mut().rng.chance(700) {
            match self.running.take().map(|(job, _)| job).or_else(|| self.seat.jobs.try_recv().ok()) {
                Some(job) => self.seat.run(&mut self.files, job),
                None => break,
            }
        }
        let SimDisk { mut image, net, .. } = self.files.disk;
        image.settle(&mut net.borrow_mut().rng);
        (self.seat.dir, image)
    }
}
