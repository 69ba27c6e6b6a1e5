//! One suite for every disk: what a storage promises must hold on a directory and on the simulator's disk alike.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::disk::Disk;
use super::*;

/// A directory of the test's own, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("megamux-storage-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn open(&self) -> Dir {
        Dir::open(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A disk whose next calls fail as the test has it.
struct Failing<D> {
    disk: D,
    write: Option<i32>,
    set_len: Option<i32>,
    sync: Option<i32>,
    sync_names: Option<i32>,
}

impl<D> Failing<D> {
    fn new(disk: D) -> Failing<D> {
        Failing { disk, write: None, set_len: None, sync: None, sync_names: None }
    }
}

fn fail(with: &mut Option<i32>) -> io::Result<()> {
    with.take().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
}

impl<D: Disk> Disk for Failing<D> {
    type File = D::File;

    fn open(&mut self, name: &FileName) -> io::Result<(D::File, u64)> {
        self.disk.open(name)
    }
    fn create(&mut self, name: &FileName) -> io::Result<D::File> {
        self.disk.create(name)
    }
    fn read_at(&mut self, file: &D::File, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, at, into)
    }
    fn write_at(&mut self, file: &D::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.write.is_some() {
            self.disk.write_at(file, at, &bytes[..bytes.len() / 2])?;
        }
        fail(&mut self.write)?;
        self.disk.write_at(file, at, bytes)
    }
    fn set_len(&mut self, file: &D::File, len: u64) -> io::Result<()> {
        fail(&mut self.set_len)?;
        self.disk.set_len(file, len)
    }
    fn sync(&mut self, file: &D::File) -> io::Result<()> {
        fail(&mut self.sync)?;
        self.disk.sync(file)
    }
    fn rename(&mut self, from: &FileName, to: &FileName) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&mut self, name: &FileName) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&mut self, most: usize) -> io::Result<Vec<(String, u64)>> {
        self.disk.list(most)
    }
    fn sync_names(&mut self) -> io::Result<()> {
        fail(&mut self.sync_names)?;
        self.disk.sync_names()
    }
}

fn open<D: Disk>(files: &mut Files<D>, name: &str, opening: Opening) -> Result<(FileId, u64), StorageError> {
    match files.run(Operation::Open(name.parse().unwrap(), opening))? {
        Stored::Opened { file, len } => Ok((file, len)),
        other => panic!("{other:?}"),
    }
}

fn append<D: Disk>(files: &mut Files<D>, file: FileId, bytes: &'static str) -> Result<Stored, StorageError> {
    files.run(Operation::Append(file, Bytes::from_static(bytes.as_bytes())))
}

fn content<D: Disk>(files: &mut Files<D>, file: FileId) -> String {
    match files.run(Operation::Read(file, 0, 1000)).unwrap() {
        Stored::Read(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename(from.parse().unwrap(), to.parse().unwrap())
}

fn remove(name: &str) -> Operation {
    Operation::Remove(name.parse().unwrap())
}

/// Every rule of `files`, on an empty disk.
fn suite<D: Disk>(disk: D) {
    let files = &mut Files::new(Failing::new(disk));
    bytes_stand_where_they_were_put(files);
    names_are_used_once(files);
    an_append_is_whole_or_not_there(files);
    a_failed_sync_poisons_the_file_alone(files);
    a_restart_closes_files(files);
    // Last: nothing heals it.
    a_failed_sync_of_names_poisons_names_alone(files);
}

fn bytes_stand_where_they_were_put<D: Disk>(files: &mut Files<D>) {
    let (file, len) = open(files, "log", Opening::Fresh).unwrap();
    assert_eq!(len, 0);
    assert_eq!(append(files, file, "hello "), Ok(Stored::Appended { at: 0 }));
    assert_eq!(append(files, file, "world"), Ok(Stored::Appended { at: 6 }));
    assert_eq!(files.run(Operation::Write(file, 4, Bytes::from_static(b"X"))), Ok(Stored::Written));
    assert_eq!(content(files, file), "hellX world");
    assert_eq!(files.run(Operation::Read(file, 9, 100)), Ok(Stored::Read(Bytes::from_static(b"ld"))));
    assert_eq!(files.run(Operation::Read(file, 90, 100)), Ok(Stored::Read(Bytes::new())));
    assert_eq!(files.run(Operation::Truncate(file, 5)), Ok(Stored::Truncated));
    assert_eq!(append(files, file, "!"), Ok(Stored::Appended { at: 5 }));
    // A write beyond the end leaves zeros in between, and the next append goes behind it.
    assert_eq!(files.run(Operation::Write(file, 8, Bytes::from_static(b"Y"))), Ok(Stored::Written));
    assert_eq!(append(files, file, "Z"), Ok(Stored::Appended { at: 9 }));
    assert_eq!(content(files, file), "hellX!\0\0YZ");
    let beyond = Operation::Write(file, u64::MAX, Bytes::from_static(b"Y"));
    assert_eq!(files.run(beyond), Err(StorageError::Io { errno: libc::EFBIG }));
    assert_eq!(files.run(Operation::Sync(file)), Ok(Stored::Synced));
    assert_eq!(files.run(Operation::Close(file)), Ok(Stored::Closed));
    assert_eq!(append(files, file, "late"), Err(StorageError::NotOpen));
    let (again, len) = open(files, "log", Opening::OrCreate).unwrap();
    assert_ne!(again, file);
    assert_eq!(len, 10);
    files.run(Operation::Close(again)).unwrap();
}

fn names_are_used_once<D: Disk>(files: &mut Files<D>) {
    assert_eq!(open(files, "none", Opening::Existing), Err(StorageError::NotFound));
    assert_eq!(open(files, "log", Opening::Fresh), Err(StorageError::Exists));
    assert_eq!(files.run(rename("none", "log")), Err(StorageError::NotFound));
    assert_eq!(files.run(remove("none")), Err(StorageError::NotFound));
    let (file, _) = open(files, "new", Opening::OrCreate).unwrap();
    assert_eq!(open(files, "new", Opening::OrCreate), Err(StorageError::InUse));
    assert_eq!(files.run(remove("new")), Err(StorageError::InUse));
    assert_eq!(files.run(rename("log", "new")), Err(StorageError::InUse));
    append(files, file, "compacted").unwrap();
    // An open file may be renamed over one that is not, and stays open under its new name.
    assert_eq!(files.run(rename("new", "log")), Ok(Stored::Renamed));
    assert_eq!(open(files, "log", Opening::Existing), Err(StorageError::InUse));
    assert_eq!(content(files, file), "compacted");
    let log = FileEntry { name: "log".into(), len: 9 };
    assert_eq!(files.run(Operation::List), Ok(Stored::Listed(vec![log])));
    files.run(Operation::Close(file)).unwrap();
    assert_eq!(files.run(remove("log")), Ok(Stored::Removed));
    assert_eq!(files.run(Operation::List), Ok(Stored::Listed(Vec::new())));
    let opened: Vec<_> = (0..limits::STORAGE_FILES)
        .map(|number| open(files, &format!("many-{number}"), Opening::Fresh).unwrap().0)
        .collect();
    assert_eq!(open(files, "one-more", Opening::Fresh), Err(StorageError::TooMany));
    for (number, file) in opened.into_iter().enumerate() {
        files.run(Operation::Close(file)).unwrap();
        files.run(remove(&format!("many-{number}"))).unwrap();
    }
}

fn an_append_is_whole_or_not_there<D: Disk>(files: &mut Files<Failing<D>>) {
    let (file, _) = open(files, "log", Opening::Fresh).unwrap();
    append(files, file, "one,").unwrap();
    files.disk.write = Some(libc::ENOSPC);
    assert_eq!(append(files, file, "two,"), Err(StorageError::NoSpace));
    files.disk.write = Some(libc::EIO);
    assert_eq!(append(files, file, "two,"), Err(StorageError::Io { errno: libc::EIO }));
    assert_eq!(append(files, file, "three"), Ok(Stored::Appended { at: 4 }));
    assert_eq!(content(files, file), "one,three");
    // If the half of it cannot be cut off again, the file is not trusted any more.
    (files.disk.write, files.disk.set_len) = (Some(libc::EIO), Some(libc::EROFS));
    assert_eq!(append(files, file, "four"), Err(StorageError::Poisoned { errno: libc::EROFS }));
    assert_eq!(append(files, file, "five"), Err(StorageError::Poisoned { errno: libc::EROFS }));
    files.run(Operation::Close(file)).unwrap();
    files.run(remove("log")).unwrap();
}

fn a_failed_sync_poisons_the_file_alone<D: Disk>(files: &mut Files<Failing<D>>) {
    let poisoned = StorageError::Poisoned { errno: libc::EIO };
    let (file, _) = open(files, "log", Opening::Fresh).unwrap();
    let (other, _) = open(files, "other", Opening::Fresh).unwrap();
    append(files, file, "lost?").unwrap();
    files.disk.sync = Some(libc::EIO);
    assert_eq!(files.run(Operation::Sync(file)), Err(poisoned));
    // The kernel would say yes now.
    assert_eq!(files.run(Operation::Sync(file)), Err(poisoned));
    assert_eq!(append(files, file, "more"), Err(poisoned));
    assert_eq!(files.run(Operation::Read(file, 0, 5)), Err(poisoned));
    assert_eq!(files.run(Operation::Truncate(file, 0)), Err(poisoned));
    append(files, other, "fine").unwrap();
    assert_eq!(files.run(Operation::Sync(other)), Ok(Stored::Synced));
    // Neither closing nor renaming makes it better.
    files.run(rename("log", "log-2")).unwrap();
    files.run(Operation::Close(file)).unwrap();
    assert_eq!(open(files, "log-2", Opening::Existing), Err(poisoned));
    files.run(remove("log-2")).unwrap();
    let (fresh, _) = open(files, "log-2", Opening::Fresh).unwrap();
    assert_eq!(files.run(Operation::Sync(fresh)), Ok(Stored::Synced));
    for file in [fresh, other] {
        files.run(Operation::Close(file)).unwrap();
    }
    files.run(remove("log-2")).unwrap();
    files.run(remove("other")).unwrap();
}

fn a_restart_closes_files<D: Disk>(files: &mut Files<D>) {
    let (file, _) = open(files, "log", Opening::Fresh).unwrap();
    append(files, file, "kept").unwrap();
    files.close_all();
    assert_eq!(append(files, file, "late"), Err(StorageError::NotOpen));
    let (file, len) = open(files, "log", Opening::Existing).unwrap();
    assert_eq!(len, 4);
    files.run(Operation::Close(file)).unwrap();
}

fn a_failed_sync_of_names_poisons_names_alone<D: Disk>(files: &mut Files<Failing<D>>) {
    let poisoned = StorageError::Poisoned { errno: libc::EIO };
    let (file, _) = open(files, "log", Opening::Existing).unwrap();
    files.disk.sync_names = Some(libc::EIO);
    assert_eq!(open(files, "new", Opening::Fresh), Err(poisoned));
    assert_eq!(open(files, "newer", Opening::Fresh), Err(poisoned));
    assert_eq!(files.run(rename("log", "old")), Err(poisoned));
    assert_eq!(files.run(remove("log")), Err(poisoned));
    append(files, file, "!").unwrap();
    assert_eq!(files.run(Operation::Sync(file)), Ok(Stored::Synced));
}

#[test]
fn a_directory_keeps_the_rules() {
    let scratch = Scratch::new("suite");
    suite(scratch.open());
}

#[cfg(feature = "sim")]
#[test]
fn the_simulated_disk_keeps_the_rules() {
    suite(crate::sim::quiet_disk());
}

#[test]
fn a_directory_has_one_owner() {
    let scratch = Scratch::new("owner");
    let first = scratch.open();
    let second = Dir::open(&scratch.0).map(|_| ()).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
    drop(first);
    drop(scratch.open());
}

#[test]
fn no_link_leads_out_of_a_directory_and_no_pipe_holds_it_up() {
    let scratch = Scratch::new("links");
    let mut files = Files::new(scratch.open());
    std::os::unix::fs::symlink("/etc/passwd", scratch.0.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, scratch.0.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    std::fs::create_dir(scratch.0.join("folder")).unwrap();
    std::fs::write(scratch.0.join("file"), "content").unwrap();
    for name in ["link", "pipe", "folder"] {
        assert!(matches!(open(&mut files, name, Opening::OrCreate), Err(StorageError::Io { .. })), "{name}");
    }
    let file = FileEntry { name: "file".into(), len: 7 };
    assert_eq!(files.run(Operation::List), Ok(Stored::Listed(vec![file])));
}

#[test]
fn what_is_in_flight_is_bounded() {
    let (_inbox, bell) = crate::handoff::inbox::inbox(1, Box::new(NoWake));
    let (mut storage, seat) = Storage::new("test", PathBuf::new(), bell);
    let key = StorageKey(1);
    for _ in 0..limits::STORAGE_OPERATIONS {
        assert_eq!(storage.list(key), Ok(()));
    }
    assert_eq!(storage.list(key), Err(NotSubmitted::Full));
    // One that completes makes room for one.
    assert!(matches!(seat.jobs.recv(), Ok(Job::Do { .. })));
    let report = |life| {
        let done = Done { life, key, bytes: 0, result: Err(StorageError::NotOpen) };
        assert!(seat.done.send(done).is_ok());
    };
    report(0);
    assert!(storage.take().is_some());
    assert_eq!(storage.list(key), Ok(()));
    // What the service of before a restart submitted is not reported to this one, but counts until it is done.
    storage.forget();
    assert_eq!(storage.list(key), Err(NotSubmitted::Full));
    report(0);
    assert!(storage.take().is_none());
    assert_eq!(storage.in_flight(), limits::STORAGE_OPERATIONS - 1);
    let file = FileId(1);
    assert_eq!(storage.append(key, file, vec![0; limits::STORAGE_OPERATION_BYTES + 1]), Err(NotSubmitted::TooLong));
    assert_eq!(storage.open(key, "../x", Opening::Existing), Err(NotSubmitted::Name));
    storage.stop();
    assert_eq!(storage.list(key), Err(NotSubmitted::Stopped));
    assert_eq!(Storage::absent().list(key), Err(NotSubmitted::Absent));
}

#[test]
fn bytes_in_flight_are_bounded() {
    let (_inbox, bell) = crate::handoff::inbox::inbox(1, Box::new(NoWake));
    let (mut storage, _seat) = Storage::new("test", PathBuf::new(), bell);
    for _ in 0..limits::STORAGE_BYTES / limits::STORAGE_OPERATION_BYTES {
        assert_eq!(storage.read(StorageKey(1), FileId(1), 0, limits::STORAGE_OPERATION_BYTES), Ok(()));
    }
    assert_eq!(storage.append(StorageKey(1), FileId(1), "x"), Err(NotSubmitted::Full));
}

struct NoWake;

impl crate::handoff::wake::Wake for NoWake {
    fn wake(&self) {}
}
