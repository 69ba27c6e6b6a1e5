//! A directory as a disk: relative to its descriptor, never through a symbolic link, and locked while it is open.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};

use super::FileName;
use super::disk::Disk;

/// No service can name this file.
const LOCK: &str = ".lock";

/// Files are for their owner alone.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// See the module's page.
pub(crate) struct Dir {
    dir: OwnedFd,
    /// Held by `flock` until it is dropped, by a crash too.
    _lock: OwnedFd,
}

impl Dir {
    /// Opens a directory, making it if need be, and locks it.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when somebody else has it open, in this process or another.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_parent(path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let lock = rustix::fs::openat(&dir, LOCK, flags(OFlags::CREATE), FILE_MODE)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Dir { dir, _lock: lock })
    }

    fn open_file(&self, name: &FileName, more: OFlags) -> io::Result<File> {
        let file = rustix::fs::openat(&self.dir, name.as_str(), flags(more), FILE_MODE)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(File::from(file)),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
}

fn flags(more: OFlags) -> OFlags {
    // A pipe of that name must not hold up the worker.
    OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | more
}

/// The directory's own name is durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

impl Disk for Dir {
    type File = File;

    fn open(&mut self, name: &FileName) -> io::Result<(File, u64)> {
        let file = self.open_file(name, OFlags::empty())?;
        let len = file.metadata()?.len();
        Ok((file, len))
    }

    fn create(&mut self, name: &FileName) -> io::Result<File> {
        self.open_file(name, OFlags::CREATE | OFlags::EXCL)
    }

    fn read_at(&mut self, file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match file.read_at(&mut into[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn set_len(&mut self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        // fdatasync: the length is part of what reading needs, so it is synced too.
        Ok(rustix::fs::fdatasync(file)?)
    }

    fn rename(&mut self, from: &FileName, to: &FileName) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, from.as_str(), &self.dir, to.as_str())?)
    }

    fn remove(&mut self, name: &FileName) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty())?)
    }

    fn list(&mut self, most: usize) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let facts = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile {
                names.push((name.to_owned(), facts.st_size as u64));
            }
            if names.len() == most {
                break;
            }
        }
        Ok(names)
    }

    fn sync_names(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.dir.as_fd())?)
    }
}
