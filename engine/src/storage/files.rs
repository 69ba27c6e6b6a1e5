//! The rules of a storage, over any disk: who is open, how long a file is, and what a failed sync means.
//!
//! Invariants: an append is there whole or not at all. A file whose sync failed is poisoned, under every name it gets and
//! however often it is closed: a kernel reports such a failure once and then calls the lost pages clean, so a second sync
//! would lie. Names that were made, renamed or removed are durable when that is reported.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;

use super::disk::Disk;
use super::{FileEntry, FileId, FileName, Opening, Operation, StorageError, Stored};
use crate::limits;

/// See the module's page.
pub(crate) struct Files<D: Disk> {
    pub(crate) disk: D,
    open: HashMap<FileId, OpenFile<D::File>>,
    next: u64,
    /// What the failed syncs said.
    poisoned: HashMap<FileName, i32>,
    names_poisoned: Option<i32>,
}

struct OpenFile<F> {
    file: F,
    name: FileName,
    len: u64,
}

type Outcome = Result<Stored, StorageError>;

impl<D: Disk> Files<D> {
    pub(crate) fn new(disk: D) -> Files<D> {
        Files { disk, open: HashMap::new(), next: 0, poisoned: HashMap::new(), names_poisoned: None }
    }

    pub(crate) fn run(&mut self, operation: Operation) -> Outcome {
        match operation {
            Operation::Open(name, opening) => self.open(name, opening),
            Operation::Append(file, bytes) => {
                let at = self.find(file)?.len;
                self.write(file, at, &bytes).map(|()| Stored::Appended { at })
            }
            Operation::Write(file, at, bytes) => self.write(file, at, &bytes).map(|()| Stored::Written),
            Operation::Read(file, at, len) => self.read(file, at, len),
            Operation::Truncate(file, len) => self.truncate(file, len),
            Operation::Sync(file) => self.sync(file),
            Operation::Close(file) => self.open.remove(&file).map(|_| Stored::Closed).ok_or(StorageError::NotOpen),
            Operation::Rename(from, to) => self.rename(from, to),
            Operation::Remove(name) => self.remove(&name),
            Operation::List => self.list(),
        }
    }

    /// Its service is made anew. What is poisoned stays so.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }

    fn open(&mut self, name: FileName, opening: Opening) -> Outcome {
        self.refuse_in_use(&name)?;
        self.refuse_poisoned(&name)?;
        if self.open.len() == limits::STORAGE_FILES {
            return Err(StorageError::TooMany);
        }
        let found = match opening {
            Opening::Fresh => None,
            _ => Some(self.disk.open(&name)),
        };
        let (file, len) = match found {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound && opening == Opening::OrCreate => {
                (self.create(&name)?, 0)
            }
            None => (self.create(&name)?, 0),
            Some(found) => found.map_err(name_error)?,
        };
        self.next += 1;
        let id = FileId(self.next);
        self.open.insert(id, OpenFile { file, name, len });
        Ok(Stored::Opened { file: id, len })
    }

    fn create(&mut self, name: &FileName) -> Result<D::File, StorageError> {
        self.refuse_poisoned_names()?;
        let file = self.disk.create(name).map_err(name_error)?;
        self.sync_names()?;
        Ok(file)
    }

    fn write(&mut self, id: FileId, at: u64, bytes: &Bytes) -> Result<(), StorageError> {
        let (disk, open) = self.writable(id)?;
        let end = at.checked_add(bytes.len() as u64).ok_or(StorageError::Io { errno: libc::EFBIG })?;
        match disk.write_at(&open.file, at, bytes) {
            Ok(()) => {
                open.len = open.len.max(end);
                Ok(())
            }
            Err(error) => {
                // What was written of it beyond the end must not stand in the way of the next append.
                if let Err(cut) = disk.set_len(&open.file, open.len) {
                    let name = open.name.clone();
                    return Err(self.poison(name, &cut));
                }
                Err(io_error(&error))
            }
        }
    }

    fn read(&mut self, id: FileId, at: u64, len: usize) -> Outcome {
        let (disk, open) = self.writable(id)?;
        let left = usize::try_from(open.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        let read = disk.read_at(&open.file, at, &mut bytes).map_err(|error| io_error(&error))?;
        bytes.truncate(read);
        Ok(Stored::Read(bytes.into()))
    }

    fn truncate(&mut self, id: FileId, len: u64) -> Outcome {
        let (disk, open) = self.writable(id)?;
        disk.set_len(&open.file, len).map_err(|error| io_error(&error))?;
        open.len = len;
        Ok(Stored::Truncated)
    }

    fn sync(&mut self, id: FileId) -> Outcome {
        let (disk, open) = self.writable(id)?;
        #[cfg(feature = "planted")]
        if crate::planted::is(crate::planted::Bug::EarlyDurable) {
            return Ok(Stored::Synced);
        }
        match disk.sync(&open.file) {
            Ok(()) => Ok(Stored::Synced),
            Err(error) => {
                let name = open.name.clone();
                Err(self.poison(name, &error))
            }
        }
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Outcome {
        self.refuse_poisoned_names()?;
        if from != to {
            self.refuse_in_use(&to)?;
        }
        self.disk.rename(&from, &to).map_err(name_error)?;
        for open in self.open.values_mut().filter(|open| open.name == from) {
            open.name = to.clone();
        }
        let poison = self.poisoned.remove(&from);
        self.poisoned.remove(&to);
        self.poisoned.extend(poison.map(|errno| (to, errno)));
        self.sync_names().map(|()| Stored::Renamed)
    }

    fn remove(&mut self, name: &FileName) -> Outcome {
        self.refuse_poisoned_names()?;
        self.refuse_in_use(name)?;
        self.disk.remove(name).map_err(name_error)?;
        self.poisoned.remove(name);
        self.sync_names().map(|()| Stored::Removed)
    }

    fn list(&mut self) -> Outcome {
        let mut names = self.disk.list(limits::STORAGE_NAMES + 1).map_err(|error| io_error(&error))?;
        if names.len() > limits::STORAGE_NAMES {
            return Err(StorageError::TooMany);
        }
        names.sort();
        // Whatever else lies in the directory is none of the service's.
        names.retain(|(name, _)| name.parse::<FileName>().is_ok());
        Ok(Stored::Listed(names.into_iter().map(|(name, len)| FileEntry { name, len }).collect()))
    }

    fn find(&self, id: FileId) -> Result<&OpenFile<D::File>, StorageError> {
        self.open.get(&id).ok_or(StorageError::NotOpen)
    }

    /// An open file that no failed sync has made worthless.
    fn writable(&mut self, id: FileId) -> Result<(&mut D, &mut OpenFile<D::File>), StorageError> {
        let open = self.open.get_mut(&id).ok_or(StorageError::NotOpen)?;
        match self.poisoned.get(&open.name) {
            Some(&errno) => Err(StorageError::Poisoned { errno }),
            None => Ok((&mut self.disk, open)),
        }
    }

    fn refuse_in_use(&self, name: &FileName) -> Result<(), StorageError> {
        match self.open.values().any(|open| open.name == *name) {
            true => Err(StorageError::InUse),
            false => Ok(()),
        }
    }

    fn refuse_poisoned(&self, name: &FileName) -> Result<(), StorageError> {
        self.poisoned.get(name).map_or(Ok(()), |&errno| Err(StorageError::Poisoned { errno }))
    }

    fn refuse_poisoned_names(&self) -> Result<(), StorageError> {
        self.names_poisoned.map_or(Ok(()), |errno| Err(StorageError::Poisoned { errno }))
    }

    fn poison(&mut self, name: FileName, error: &io::Error) -> StorageError {
        let errno = errno(error);
        tracing::error!(file = %name, %error, "a sync failed: the file is not touched again");
        self.poisoned.insert(name, errno);
        StorageError::Poisoned { errno }
    }

    fn sync_names(&mut self) -> Result<(), StorageError> {
        self.disk.sync_names().map_err(|error| {
            let errno = errno(&error);
            tracing::error!(%error, "a sync of a directory failed: no names are changed in it again");
            self.names_poisoned = Some(errno);
            StorageError::Poisoned { errno }
        })
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn io_error(error: &io::Error) -> StorageError {
    match errno(error) {
        libc::ENOSPC | libc::EDQUOT => StorageError::NoSpace,
        errno => StorageError::Io { errno },
    }
}

fn name_error(error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::NotFound => StorageError::NotFound,
        io::ErrorKind::AlreadyExists => StorageError::Exists,
        _ => io_error(&error),
    }
}
