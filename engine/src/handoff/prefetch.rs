//! Asking for a line of memory before it is needed. Only ever a hint: where it is not to be had, nothing is done.

/// Has the line at this address on its way, to be written to. By hand: the intrinsic becomes a prefetch for reading
/// unless the whole build is for newer processors. Those without the instruction take it for a no-op.
#[cfg(all(target_arch = "x86_64", not(any(megamux_loom, miri))))]
#[inline(always)]
pub(crate) fn to_write(line: *const u8) {
    // SAFETY: a prefetch is a hint: it changes no memory and no register, and faults at no address.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) line.addr(), options(nomem, nostack, preserves_flags));
    }
}

/// The same, to be read.
#[cfg(all(target_arch = "x86_64", not(any(megamux_loom, miri))))]
#[inline(always)]
pub(super) fn to_read(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: as above.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

#[cfg(not(all(target_arch = "x86_64", not(any(megamux_loom, miri)))))]
pub(crate) fn to_write(_line: *const u8) {}

#[cfg(not(all(target_arch = "x86_64", not(any(megamux_loom, miri)))))]
pub(super) fn to_read(_line: *const u8) {}
