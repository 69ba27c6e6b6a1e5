//! Memory that the kernel may write while we hold it: a heap value at a fixed address.
//!
//! Moving the owner never moves the value, and no reference to it exists unless one of the accessors is called;
//! so a pointer handed to the kernel stays good while it is in use. `Box` promises uniqueness on every move
//! and would not do.

use std::ptr::NonNull;

use socket2::SockAddrStorage;

/// A heap value whose address outlives moves of its owner.
pub(super) struct Stable<T>(NonNull<T>);

impl<T> Stable<T> {
    pub(super) fn new(value: T) -> Stable<T> {
        Stable(NonNull::from(Box::leak(Box::new(value))))
    }

    /// The address, for a submission.
    pub(super) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// # Safety
    ///
    /// No operation that writes to the value may be in flight.
    pub(super) unsafe fn get(&self) -> &T {
        // SAFETY: the pointer is ours and initialised; nobody writes, says the caller.
        unsafe { self.0.as_ref() }
    }

    /// # Safety
    ///
    /// No operation that reads or writes the value may be in flight.
    pub(super) unsafe fn get_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` excludes other references.
        unsafe { self.0.as_mut() }
    }
}

/// Moves an address out of where the kernel wrote it, and leaves zeros.
pub(super) fn take_storage(storage: &mut SockAddrStorage) -> SockAddrStorage {
    std::mem::replace(storage, SockAddrStorage::zeroed())
}

impl<T> Drop for Stable<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box. The driver drops these after the ring has no operation left
        // (`UringDriver::drop`), or when the one operation on it has completed.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
