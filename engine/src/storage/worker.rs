//! The thread that carries out one storage's operations, in order, until the service is gone.

use std::io;
use std::thread::{self, JoinHandle};

use super::{Dir, Files, StorageSeat};

/// Carries out what is submitted to `seat` on a thread of its own. It ends when the service's end of it is dropped, with
/// everything done that was submitted before.
pub(crate) fn start(seat: StorageSeat, dir: Dir) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("{}-files", seat.service)).spawn(move || {
        let mut files = Files::new(dir);
        while let Ok(job) = seat.jobs.recv() {
            seat.run(&mut files, job);
        }
    })
}
