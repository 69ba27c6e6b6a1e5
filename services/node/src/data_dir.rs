//! The data directory: made if it is not there, and one process's alone while that lives.
//!
//! It owns the lock file. Invariant: the lock ends with the process, however it ends, because the kernel holds it and
//! not the file. It must not look at what services keep there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The name of the lock file.
const LOCK: &str = "lock";
/// A process id has fewer digits; what is longer was written by somebody else.
const LONGEST_ID: u64 = 16;

/// A directory that this process has locked.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// It cannot be made, or nothing can be written there.
    #[error("cannot use the data directory {}: {source}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the data directory {} is in use by process {owner}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What that process wrote into the lock file: its id.
        owner: String,
    },
}

impl DataDir {
    /// Makes the directory, with access for its owner alone, unless it is there, and locks it.
    pub(crate) fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_path_buf(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mut options = OpenOptions::new();
        // Not truncated before it is ours: the owner's id stands there.
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK)).map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DataDirError::InUse { path: path.to_path_buf(), owner: owner(&lock) });
            }
            Err(error) => return Err(unusable(error.into())),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(unusable)?;
        Ok(DataDir { _lock: lock })
    }
}

/// The id in a lock file; a question mark if there is none.
fn owner(lock: &File) -> String {
    let mut text = String::new();
    let read = lock.take(LONGEST_ID).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(id) if read.is_ok() => id.to_string(),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_and_locked_until_it_is_dropped() {
        let path = std::env::temp_dir().join(format!("megamux-data-{}", std::process::id()));
        let nested = path.join("a/b");
        let first = DataDir::open(&nested).unwrap();
        let error = DataDir::open(&nested).unwrap_err().to_string();
        assert!(error.ends_with(&format!("is in use by process {}", std::process::id())), "{error}");
        drop(first);
        DataDir::open(&nested).unwrap();
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_said() {
        let error = DataDir::open(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(error.starts_with("cannot use the data directory /dev/null: "), "{error}");
    }
}
