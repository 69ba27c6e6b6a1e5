//! A single-issuer io_uring and a pool of incremental provided buffers: what the bare floor and the load generator
//! both stand on. Shares no code with the engine under test.
//!
//! Invariant: a buffer is the kernel's from `give` until a completion carries it without F_BUF_MORE; bytes handed out by
//! `take` are never written again before the buffer is given back, which is the caller's to do once, after its last use.
//! Needs Linux 6.12 (incremental buffers). Must be made and used on one thread.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};
use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

const SUBMISSIONS: u32 = 1024;
/// Room for a receive and a send completion of each of some thousand connections before the kernel's overflow list.
const COMPLETIONS: u32 = 4096;

/// `IOU_PBUF_RING_INC`: completions consume a buffer piece by piece.
const INCREMENTAL: u16 = 2;

const PAGE: usize = 4096;

/// One completion, copied out so that whoever handles it may submit.
#[derive(Clone, Copy)]
pub struct Completion {
    pub user_data: u64,
    /// A count, or a negative errno.
    pub result: i32,
    flags: u32,
}

impl Completion {
    /// Whether a multishot operation stays armed.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// Which buffer holds the received bytes.
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// Whether the kernel keeps the rest of that buffer.
    pub fn buffer_continues(&self) -> bool {
        cqueue::buffer_more(self.flags)
    }
}

pub struct Ring {
    uring: IoUring,
}

impl Ring {
    pub fn new() -> Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .context("cannot set up an io_uring (SINGLE_ISSUER, DEFER_TASKRUN)")?;
        Ok(Self { uring })
    }

    pub fn uring(&self) -> &IoUring {
        &self.uring
    }

    /// Queues an entry, submitting first if the queue is full.
    ///
    /// # Safety
    ///
    /// What the entry points to must outlive its operation.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: passed on to the caller.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.uring.submit()?;
        }
    }

    /// Submits and waits for one completion.
    pub fn wait(&self) -> io::Result<()> {
        ignore_transient(self.uring.submit_and_wait(1).map(drop))
    }

    /// Submits and waits for `want` completions. `Ok(false)` if they did not come within `patience`.
    pub fn wait_for(&self, want: usize, patience: &Timespec) -> io::Result<bool> {
        match self.uring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(patience)) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(false),
            other => ignore_transient(other.map(drop)).map(|()| true),
        }
    }

    /// Submits, and lets what is at hand complete, without waiting.
    pub fn poll(&mut self) -> io::Result<()> {
        /// `IORING_ENTER_GETEVENTS`: deferred work runs only when asked for.
        const GETEVENTS: u32 = 1;
        let submit = self.uring.submission().len() as u32;
        // SAFETY: no argument is passed.
        ignore_transient(
            unsafe { self.uring.submitter().enter::<libc::sigset_t>(submit, 0, GETEVENTS, None) }.map(drop),
        )
    }

    /// Appends all completions at hand to `batch`.
    pub fn reap(&mut self, batch: &mut Vec<Completion>) {
        batch.extend(self.uring.completion().map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }
}

/// A signal, or completions that must be reaped first: the loop comes round again.
fn ignore_transient(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
        other => other,
    }
}

/// `COUNT` buffers of `SIZE` bytes in one provided-buffer ring.
pub struct Buffers {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    tail: u16,
    /// Bytes of each buffer already handed out.
    taken: [u32; Self::COUNT],
}

impl Buffers {
    pub const GROUP: u16 = 0;
    /// Measured on 16 KiB echoes: a quarter of it starves, four times it falls out of the cache.
    pub const COUNT: usize = 64;
    pub const SIZE: usize = 64 << 10;

    const MASK: u16 = Self::COUNT as u16 - 1;

    /// Makes the pool and registers it with `ring`, which must go first.
    pub fn register(ring: &Ring) -> Result<Self> {
        let mut buffers = Self {
            entries: allocate(Self::entries_layout()).cast(),
            bytes: allocate(Self::bytes_layout()),
            tail: 0,
            taken: [0; Self::COUNT],
        };
        // SAFETY: the entries are page aligned, COUNT long, and live until `drop`, after the ring is gone.
        unsafe {
            ring.uring().submitter().register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                Self::COUNT as u16,
                Self::GROUP,
                INCREMENTAL,
            )
        }
        .context("cannot register incremental provided buffers: this needs Linux 6.12 or newer")?;
        for buffer in 0..Self::COUNT as u16 {
            buffers.give(buffer);
        }
        Ok(buffers)
    }

    /// Hands out the next `len` bytes the kernel wrote to `buffer`; returns where in the buffer they start.
    pub fn take(&mut self, buffer: u16, len: u32) -> u32 {
        let start = self.taken[usize::from(buffer)];
        assert!(start + len <= Self::SIZE as u32, "the kernel filled buffer {buffer} beyond its end");
        self.taken[usize::from(buffer)] = start + len;
        start
    }

    pub fn slice(&self, buffer: u16, start: u32, len: u32) -> &[u8] {
        assert!(start + len <= self.taken[usize::from(buffer)]);
        // SAFETY: inside the buffer, and below what was taken: the kernel no longer writes there.
        unsafe { slice::from_raw_parts(self.pointer(buffer, start), len as usize) }
    }

    /// Where bytes that were taken lie.
    pub fn pointer(&self, buffer: u16, start: u32) -> *const u8 {
        // SAFETY: `take` checked that the range lies in the buffer, and buffers lie in the allocation.
        unsafe { self.bytes.as_ptr().add(usize::from(buffer) * Self::SIZE + start as usize) }
    }

    /// Gives a buffer (back) to the kernel.
    pub fn give(&mut self, buffer: u16) {
        self.taken[usize::from(buffer)] = 0;
        let address = self.pointer(buffer, 0) as u64;
        // SAFETY: the index is masked to the ring; the kernel reads entries only below the tail. The tail lies in an
        // unused field of the first entry, which the setters leave alone.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(usize::from(self.tail & Self::MASK));
            entry.set_addr(address);
            entry.set_len(Self::SIZE as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    fn entries_layout() -> Layout {
        let layout = Layout::array::<BufRingEntry>(Self::COUNT).and_then(|layout| layout.align_to(PAGE));
        layout.expect("64 entries of 16 bytes make a layout")
    }

    fn bytes_layout() -> Layout {
        Layout::from_size_align(Self::COUNT * Self::SIZE, PAGE).expect("4 MiB make a layout")
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: both came from `allocate` with these layouts, and the ring that wrote to them is gone.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::entries_layout());
            dealloc(self.bytes.as_ptr(), Self::bytes_layout());
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here has size zero.
    let pointer = unsafe { alloc_zeroed(layout) };
    NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout))
}
