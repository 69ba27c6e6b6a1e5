//! The atomics, cells and fences of the handoff: std's, or loom's under `--cfg megamux_loom`.
//!
//! Everything in this room that two threads touch goes through these names, so that what loom
//! explores is what ships. The cell speaks loom's closure dialect, which costs nothing under std.

#[cfg(megamux_loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    },
};

#[cfg(not(megamux_loom))]
pub use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

/// [`std::cell::UnsafeCell`] with loom's access by closure.
#[cfg(not(megamux_loom))]
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(megamux_loom))]
impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Runs `read` with a pointer that may be read; dereferencing it is the caller's claim.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Runs `write` with a pointer that may be written; dereferencing it is the caller's claim.
    #[inline(always)]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
