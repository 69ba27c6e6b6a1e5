//! The data directory: made if it is not there, ours by its format, and one process's alone while that lives.
//!
//! It owns the lock file, the format file, and where the directory is by default. Invariants: the lock ends with the
//! process, however it ends, because the kernel holds it and not the file; nothing is written into a directory that is
//! somebody else's or of a newer version. It must not look at what services keep there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::config::DataDirChoice;

/// The name of the lock file.
const LOCK: &str = "lock";
/// The file that says whose directory this is, and how old.
const FORMAT: &str = "FORMAT";
/// The format file before it is whole.
const FORMAT_BEFORE: &str = "FORMAT.new";
/// What a file system has at its root.
const LOST: &str = "lost+found";
/// How the format file begins; a number follows.
const WORDS: &str = "megamux data ";
/// What this version writes. An older one would be brought up to it here; there is none yet.
const VERSION: u32 = 1;
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
    /// There are files, and they are not ours.
    #[error("{} is no data directory of megamux: it holds {found:?} and no valid {FORMAT} file; give an empty one", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        found: String,
    },
    /// It was written by a later version.
    #[error(
        "the data directory {} has format {found}, and this version knows up to {VERSION}: \
         use a later megamux, or another directory", path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// Opens what was chosen. A default directory in the home that cannot be had is a warning: whoever did not ask for one
/// is not kept from starting. One that was asked for, or that systemd made, is a must.
pub(crate) fn open(choice: &DataDirChoice) -> Result<Option<DataDir>, DataDirError> {
    match choice {
        DataDirChoice::None => Ok(None),
        DataDirChoice::At(path) => DataDir::open(path).map(Some),
        DataDirChoice::Default => match default_path(|name| std::env::var_os(name).map(PathBuf::from)) {
            Some((path, Must::Have)) => DataDir::open(&path).map(Some),
            Some((path, Must::Try)) => match DataDir::open(&path) {
                Err(error @ (DataDirError::Unusable { .. } | DataDirError::InUse { .. })) => {
                    tracing::warn!("going on without a data directory: {error}");
                    Ok(None)
                }
                opened => opened.map(Some),
            },
            None => Ok(None),
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Have,
    Try,
}

/// `$STATE_DIRECTORY` (systemd.exec(5); the first of several), else where the XDG Base Directory Specification has state.
fn default_path(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<(PathBuf, Must)> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    if let Some(paths) = set("STATE_DIRECTORY") {
        let first = paths.to_string_lossy().split(':').next().map(PathBuf::from)?;
        return Some((first, Must::Have));
    }
    // The specification: a relative path is invalid and to be ignored.
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state =
        state.or_else(|| set("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".local/state")))?;
    Some((state.join("megamux"), Must::Try))
}

impl DataDir {
    /// Makes the directory, with access for its owner alone, unless it is there, locks it, and asks for its format.
    pub(crate) fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_path_buf(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        // Before anything is written: it may be anybody's.
        check_owner(path)?;
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
        match format(path)? {
            Some(_) => {}
            None => write_format(path).map_err(unusable)?,
        }
        Ok(DataDir { _lock: lock })
    }
}

/// Asks that the directory is empty or ours.
fn check_owner(path: &Path) -> Result<(), DataDirError> {
    if format(path)?.is_some() {
        return Ok(());
    }
    let unusable = |source| DataDirError::Unusable { path: path.to_path_buf(), source };
    for entry in fs::read_dir(path).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name();
        if ![LOCK, FORMAT_BEFORE, LOST].iter().any(|known| name == **known) {
            return Err(DataDirError::Foreign { path: path.to_path_buf(), found: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

/// The format of the directory, if it says one.
fn format(path: &Path) -> Result<Option<u32>, DataDirError> {
    let text = match fs::read(path.join(FORMAT)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DataDirError::Unusable { path: path.to_path_buf(), source }),
    };
    let text = String::from_utf8_lossy(&text);
    match text.trim_end().strip_prefix(WORDS).and_then(|number| number.parse().ok()) {
        None | Some(0) => Err(DataDirError::Foreign { path: path.to_path_buf(), found: FORMAT.to_owned() }),
        Some(found) if found > VERSION => Err(DataDirError::Newer { path: path.to_path_buf(), found }),
        found => Ok(found),
    }
}

/// Whole or not at all: a crash in between leaves a directory that counts as empty.
fn write_format(path: &Path) -> io::Result<()> {
    let before = path.join(FORMAT_BEFORE);
    let mut file = File::create(&before)?;
    writeln!(file, "{WORDS}{VERSION}")?;
    file.sync_all()?;
    fs::rename(before, path.join(FORMAT))?;
    File::open(path)?.sync_all()
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

    /// A directory of its own, removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            Scratch(std::env::temp_dir().join(format!("megamux-data-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_directory_is_made_and_locked_until_it_is_dropped() {
        let scratch = Scratch::new("lock");
        let nested = scratch.0.join("a/b");
        let first = DataDir::open(&nested).unwrap();
        assert_eq!(fs::read_to_string(nested.join(FORMAT)).unwrap(), "megamux data 1\n");
        let error = DataDir::open(&nested).unwrap_err().to_string();
        assert!(error.ends_with(&format!("is in use by process {}", std::process::id())), "{error}");
        drop(first);
        DataDir::open(&nested).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_said() {
        let error = DataDir::open(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(error.starts_with("cannot use the data directory /dev/null: "), "{error}");
    }

    #[test]
    fn only_an_empty_directory_becomes_ours() {
        let scratch = Scratch::new("foreign");
        fs::create_dir(&scratch.0).unwrap();
        fs::create_dir(scratch.0.join(LOST)).unwrap();
        fs::write(scratch.0.join("thesis.tex"), "").unwrap();
        let error = DataDir::open(&scratch.0).unwrap_err().to_string();
        assert!(error.contains("no data directory of megamux: it holds \"thesis.tex\""), "{error}");
        assert!(!scratch.0.join(LOCK).exists(), "nothing was written");
        fs::remove_file(scratch.0.join("thesis.tex")).unwrap();
        DataDir::open(&scratch.0).unwrap();
    }

    #[test]
    fn the_format_decides() {
        let check = |name: &str, text: &str, expect: &str| {
            let scratch = Scratch::new(name);
            fs::create_dir(&scratch.0).unwrap();
            fs::write(scratch.0.join(FORMAT), text).unwrap();
            let error = DataDir::open(&scratch.0).unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("newer", "megamux data 2\n", "has format 2, and this version knows up to 1");
        check("other", "PG_VERSION 16\n", "no data directory of megamux");
        check("empty", "", "no data directory of megamux");
        check("zero", "megamux data 0\n", "no data directory of megamux");
    }

    #[test]
    fn a_crash_before_the_format_was_whole_leaves_an_empty_directory() {
        let scratch = Scratch::new("crash");
        fs::create_dir(&scratch.0).unwrap();
        fs::write(scratch.0.join(LOCK), "1\n").unwrap();
        fs::write(scratch.0.join(FORMAT_BEFORE), "mega").unwrap();
        DataDir::open(&scratch.0).unwrap();
        assert_eq!(format(&scratch.0).unwrap(), Some(VERSION));
    }

    #[test]
    fn the_default_is_systemds_then_xdgs() {
        let check = |set: &[(&str, &str)], expect: Option<(&str, Must)>| {
            let variable =
                |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, path)| PathBuf::from(path));
            assert_eq!(default_path(variable), expect.map(|(path, must)| (PathBuf::from(path), must)), "{set:?}");
        };
        let home = ("HOME", "/home/a");
        check(&[], None);
        check(&[home], Some(("/home/a/.local/state/megamux", Must::Try)));
        check(&[home, ("XDG_STATE_HOME", "/state")], Some(("/state/megamux", Must::Try)));
        check(&[home, ("XDG_STATE_HOME", "relative")], Some(("/home/a/.local/state/megamux", Must::Try)));
        check(&[home, ("STATE_DIRECTORY", "/var/lib/megamux:/var/lib/b")], Some(("/var/lib/megamux", Must::Have)));
    }
}
