//! What the rules of `files` ask of a disk: plain blocking calls on one directory.
//!
//! Sealed: `Dir` is the product, the simulator's disk the other. A disk knows nothing of durability beyond [`Disk::sync`]
//! and [`Disk::sync_names`]; it keeps no rule of its own and must not retry a failed sync.

use std::io;

use super::FileName;

/// See the module's page.
pub(crate) trait Disk {
    /// An open file.
    type File;

    /// Opens a file that is there; says how long it is.
    fn open(&mut self, name: &FileName) -> io::Result<(Self::File, u64)>;
    /// Makes a file that is not there.
    fn create(&mut self, name: &FileName) -> io::Result<Self::File>;
    /// Fills `into` as far as the file goes; says how far.
    fn read_at(&mut self, file: &Self::File, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`; after an error any part of them may stand there.
    fn write_at(&mut self, file: &Self::File, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file, or makes it longer with zeros.
    fn set_len(&mut self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Makes a file's bytes and length durable.
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;
    /// Renames over what has the new name.
    fn rename(&mut self, from: &FileName, to: &FileName) -> io::Result<()>;
    fn remove(&mut self, name: &FileName) -> io::Result<()>;
    /// At most `most` names and lengths.
    fn list(&mut self, most: usize) -> io::Result<Vec<(String, u64)>>;
    /// Makes what was made, renamed and removed durable.
    fn sync_names(&mut self) -> io::Result<()>;
}
