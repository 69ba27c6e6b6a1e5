//! The storage seam: files of a service, submitted and completed, so that a service never waits for a disk.
//!
//! A service submits operations through [`Storage`]; each completes once, in the order of submission, in
//! [`crate::Service::on_stored`]. What carries them out is a thread of its own (`worker`) on a directory (`dir`), or the
//! simulator on a disk that loses what was not synced. The rules that both keep are in `files`.
//! docs/storage.md has the contract.
//!
//! Invariant: what is in flight is bounded by [`limits::STORAGE_OPERATIONS`] and [`limits::STORAGE_BYTES`], and nothing a
//! service of before a restart submitted is reported to the one after it.

mod dir;
mod disk;
mod files;
mod name;
#[cfg(test)]
mod tests;
mod worker;

use std::path::PathBuf;
use std::sync::mpsc;

use bytes::Bytes;

use crate::handoff::inbox::Doorbell;
use crate::handoff::mailbox::{self, mailbox};
use crate::limits;

pub(crate) use dir::Dir;
#[cfg(feature = "sim")]
pub(crate) use disk::Disk;
pub(crate) use files::Files;
pub(crate) use name::FileName;
pub(crate) use worker::start;

/// A service's own name for an operation; comes back with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageKey(pub u64);

/// An open file. Never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(crate) u64);

/// What opening does about a file that is there, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It must be there.
    Existing,
    /// It is made, durably, if it is not there.
    OrCreate,
    /// It must not be there, and is made, durably.
    Fresh,
}

/// A file of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// The file is open.
    Opened {
        /// Its name from now on.
        file: FileId,
        /// Its length in bytes.
        len: u64,
    },
    /// The bytes stand at the file's end; not durable yet.
    Appended {
        /// Where they begin.
        at: u64,
    },
    /// The bytes stand where they were to; not durable yet.
    Written,
    /// What was read: shorter than asked for at the file's end alone.
    Read(Bytes),
    /// The file has its new length; not durable yet.
    Truncated,
    /// Everything done to the file before is durable.
    Synced,
    /// The file is closed. Not a sync.
    Closed,
    /// The file has its new name, durably; what had that name before is gone.
    Renamed,
    /// The file is gone, durably.
    Removed,
    /// The files of the directory, by name.
    Listed(Vec<FileEntry>),
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No file has this name.
    #[error("no such file")]
    NotFound,
    /// A file has this name already.
    #[error("the file exists")]
    Exists,
    /// The file is open, so it cannot be opened again, replaced or removed.
    #[error("the file is open")]
    InUse,
    /// The file was closed, or belongs to the service of before a restart.
    #[error("the file is not open")]
    NotOpen,
    /// As many files are open, or listed, as may be.
    #[error("too many files")]
    TooMany,
    /// No space is left. The file is as it was before, unless this was a [`Storage::write`].
    #[error("no space is left")]
    NoSpace,
    /// A sync failed, here or before: nobody knows what of the file is on the disk, and no later sync could say so.
    /// Nothing more is done to the file until it is removed. For names: until the engine starts anew.
    #[error("a sync failed (errno {errno}): what is on the disk is not known")]
    Poisoned {
        /// What the kernel said to that sync.
        errno: i32,
    },
    /// What else the kernel said.
    #[error("{}", std::io::Error::from_raw_os_error(*errno))]
    Io {
        /// Its error number.
        errno: i32,
    },
}

/// Why an operation was not taken. It will not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSubmitted {
    /// As many operations, or bytes, are in flight as may be: go on when some have completed.
    #[error("too much is in flight")]
    Full,
    /// More bytes than one operation may have.
    #[error("too long for one operation")]
    TooLong,
    /// A name is 1 to 255 letters, digits, `.`, `_` and `-`, and does not begin with `.`.
    #[error("no name for a file")]
    Name,
    /// The service was registered without a storage.
    #[error("the service has no storage")]
    Absent,
    /// The engine has stopped: what was submitted before is still done, and nothing new.
    #[error("the engine has stopped")]
    Stopped,
}

/// One operation, on its way to whoever carries it out.
#[derive(Debug)]
pub(crate) enum Operation {
    Open(FileName, Opening),
    Append(FileId, Bytes),
    Write(FileId, u64, Bytes),
    Read(FileId, u64, usize),
    Truncate(FileId, u64),
    Sync(FileId),
    Close(FileId),
    Rename(FileName, FileName),
    Remove(FileName),
    List,
}

impl Operation {
    /// What it counts for in [`limits::STORAGE_BYTES`].
    fn bytes(&self) -> usize {
        match self {
            Operation::Append(_, bytes) | Operation::Write(_, _, bytes) => bytes.len(),
            Operation::Read(_, _, len) => *len,
            _ => 0,
        }
    }
}

pub(crate) enum Job {
    Do {
        life: u64,
        key: StorageKey,
        operation: Operation,
    },
    /// The service is made anew: all its files are closed.
    Forget,
}

/// A completion on its way back.
pub(crate) struct Done {
    pub(crate) life: u64,
    pub(crate) key: StorageKey,
    pub(crate) bytes: usize,
    pub(crate) result: Result<Stored, StorageError>,
}

/// What carries operations out: the other end of one [`Storage`].
pub(crate) struct StorageSeat {
    pub(crate) service: String,
    pub(crate) dir: PathBuf,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) done: mailbox::Sender<Done>,
}

impl StorageSeat {
    /// Carries one job out and reports it.
    pub(crate) fn run<D: disk::Disk>(&self, files: &mut Files<D>, job: Job) {
        match job {
            Job::Forget => files.close_all(),
            Job::Do { life, key, operation } => {
                let bytes = operation.bytes();
                let result = files.run(operation);
                // It has room for all that can be in flight; a service that is gone needs no answer.
                let _ = self.done.send(Done { life, key, bytes, result });
            }
        }
    }
}

/// A service's files. Each method submits one operation, which completes once in [`crate::Service::on_stored`]; they are
/// carried out, and complete, in the order of submission. See docs/storage.md for what is durable when.
pub struct Storage {
    ends: Option<(mpsc::Sender<Job>, mailbox::Receiver<Done>)>,
    /// Counts the services that had this storage.
    life: u64,
    operations: usize,
    bytes: usize,
    stopped: bool,
}

impl Storage {
    /// The storage of a service that has none.
    pub(crate) fn absent() -> Storage {
        Storage { ends: None, life: 0, operations: 0, bytes: 0, stopped: false }
    }

    /// A storage whose completions ring `bell`, and its other end.
    pub(crate) fn new(service: &str, dir: PathBuf, bell: Doorbell) -> (Storage, StorageSeat) {
        let (jobs, receiver) = mpsc::channel();
        let (done, completions) = mailbox(limits::STORAGE_OPERATIONS, bell);
        let seat = StorageSeat { service: service.to_owned(), dir, jobs: receiver, done };
        (Storage { ends: Some((jobs, completions)), ..Storage::absent() }, seat)
    }

    /// Opens a file. A file can be open once.
    ///
    /// # Errors
    ///
    /// As for all methods: the operation was not taken and will not complete.
    pub fn open(&mut self, key: StorageKey, name: &str, opening: Opening) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Open(name.parse()?, opening))
    }

    /// Appends to a file: all of it, or on failure nothing.
    pub fn append(&mut self, key: StorageKey, file: FileId, bytes: impl Into<Bytes>) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Append(file, bytes.into()))
    }

    /// Writes into a file, from `at` on. What a failed write leaves in that range is not known.
    pub fn write(
        &mut self,
        key: StorageKey,
        file: FileId,
        at: u64,
        bytes: impl Into<Bytes>,
    ) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Write(file, at, bytes.into()))
    }

    /// Reads `len` bytes from `at` on.
    pub fn read(&mut self, key: StorageKey, file: FileId, at: u64, len: usize) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Read(file, at, len))
    }

    /// Cuts a file, or makes it longer with zeros.
    pub fn truncate(&mut self, key: StorageKey, file: FileId, len: u64) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Truncate(file, len))
    }

    /// Makes everything done to a file before durable.
    pub fn sync(&mut self, key: StorageKey, file: FileId) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Sync(file))
    }

    /// Closes a file.
    pub fn close(&mut self, key: StorageKey, file: FileId) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Close(file))
    }

    /// Renames a file, atomically and durably, over one that has the new name. Its content is durable only if it was
    /// synced before.
    pub fn rename(&mut self, key: StorageKey, from: &str, to: &str) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Rename(from.parse()?, to.parse()?))
    }

    /// Removes a file, durably.
    pub fn remove(&mut self, key: StorageKey, name: &str) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::Remove(name.parse()?))
    }

    /// Lists the files.
    pub fn list(&mut self, key: StorageKey) -> Result<(), NotSubmitted> {
        self.submit(key, Operation::List)
    }

    /// Operations that have not completed.
    pub fn in_flight(&self) -> usize {
        self.operations
    }

    fn submit(&mut self, key: StorageKey, operation: Operation) -> Result<(), NotSubmitted> {
        let Some((jobs, _)) = &self.ends else {
            return Err(NotSubmitted::Absent);
        };
        let bytes = operation.bytes();
        if self.stopped {
            return Err(NotSubmitted::Stopped);
        }
        if bytes > limits::STORAGE_OPERATION_BYTES {
            return Err(NotSubmitted::TooLong);
        }
        if self.operations == limits::STORAGE_OPERATIONS || self.bytes + bytes > limits::STORAGE_BYTES {
            return Err(NotSubmitted::Full);
        }
        let job = Job::Do { life: self.life, key, operation };
        jobs.send(job).map_err(|_| NotSubmitted::Stopped)?;
        self.operations += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// The next completion of this service's own.
    pub(crate) fn take(&mut self) -> Option<(StorageKey, Result<Stored, StorageError>)> {
        let (_, completions) = self.ends.as_mut()?;
        while let Some(done) = completions.receive() {
            self.operations -= 1;
            self.bytes -= done.bytes;
            if done.life == self.life {
                return Some((done.key, done.result));
            }
        }
        None
    }

    /// Nothing waits to be taken.
    pub(crate) fn is_quiet(&self) -> bool {
        self.ends.as_ref().is_none_or(|(_, completions)| completions.is_empty())
    }

    /// The service is made anew, and knows nothing of what the last one did.
    pub(crate) fn forget(&mut self) {
        self.life += 1;
        if let Some((jobs, _)) = &self.ends {
            let _ = jobs.send(Job::Forget);
        }
    }

    /// Takes nothing new: the engine has stopped.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }
}
