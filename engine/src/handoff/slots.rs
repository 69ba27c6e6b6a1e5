//! The slots of a lane as each end keeps them at hand: no way through the `Arc` and no bounds check per item.
//!
//! It also asks for lines before they are needed. Every line that an end comes to was last touched by the other core
//! and is far away. A producer's stores leave its core in order, so one that waits for such a line holds up all
//! behind it, those included that the caller makes between two items; a consumer that does more than move items looks no
//! further ahead than the few items that fit its core's window. With the lines on their way early, neither waits.
//!
//! Invariant: a slot is touched by the end that owns it (see `lane`); this file never decides who that is. Lines are asked
//! for reading only where something is published: a look beyond would take them from the producer.

use std::mem::MaybeUninit;

use super::{prefetch, sync::UnsafeCell};

/// Room for one item.
pub(super) type Slot<T> = UnsafeCell<MaybeUninit<T>>;

const LINE: usize = 64;
/// How far ahead lines are asked for. Between 2 and 32 lines it made no difference.
const LINES_AHEAD: usize = 8;

/// See the module's page.
pub(super) struct Slots<T> {
    first: *const Slot<T>,
    mask: usize,
}

// SAFETY: the pointer leads into the lane's shared half, which is Send and Sync for such `T`; the end that holds this
// also holds the `Arc` that keeps it alive.
unsafe impl<T: Send> Send for Slots<T> {}

/// So many slots without items.
pub(super) fn vacant<T>(capacity: usize) -> Box<[Slot<T>]> {
    (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect()
}

impl<T> Slots<T> {
    /// Items in [`LINES_AHEAD`] lines.
    const AHEAD: usize = match size_of::<T>() {
        0 => 1,
        size if size > LINES_AHEAD * LINE => 1,
        size => LINES_AHEAD * LINE / size,
    };

    /// `slots` are a power of two.
    pub(super) fn of(slots: &[Slot<T>]) -> Self {
        Self { first: slots.as_ptr(), mask: slots.len() - 1 }
    }

    #[inline(always)]
    pub(super) fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// # Safety
    ///
    /// The caller's end keeps the slots alive.
    #[inline(always)]
    unsafe fn at(&self, index: usize) -> &Slot<T> {
        // SAFETY: `index & mask` is below the length, a power of two, and the box never moves or shrinks;
        // the caller keeps it alive.
        unsafe { &*self.first.add(index & self.mask) }
    }

    /// # Safety
    ///
    /// The slot is vacant and the caller's.
    #[inline(always)]
    pub(super) unsafe fn write(&self, index: usize, item: T) {
        // SAFETY: the caller owns the slot, so nobody else holds a pointer to its inside.
        unsafe {
            self.at(index).with_mut(|slot| {
                (*slot).write(item);
            });
        }
    }

    /// # Safety
    ///
    /// The slot holds an item and is the caller's, who counts it as vacant from now on.
    #[inline(always)]
    pub(super) unsafe fn read(&self, index: usize) -> T {
        // SAFETY: the caller owns the slot, says that it is initialised, and never reads it again.
        unsafe { self.at(index).with(|slot| (*slot).assume_init_read()) }
    }

    /// Has the lines on their way that writing comes to soon after `tail`.
    #[inline(always)]
    pub(super) fn will_write_behind(&self, tail: usize) {
        self.each_line(tail.wrapping_add(Self::AHEAD), prefetch::to_write);
    }

    /// Has the lines on their way that reading comes to soon after `head`, none at or behind `published`.
    #[inline(always)]
    pub(super) fn will_read(&self, head: usize, published: usize) {
        let items = published.wrapping_sub(head).min(Self::AHEAD);
        // With nothing left this is the slot just read, whose line is here.
        self.each_line(head.wrapping_add(items).wrapping_sub(1), prefetch::to_read);
    }

    #[inline(always)]
    fn each_line(&self, index: usize, ask: impl Fn(*const u8)) {
        let slot = self.first.wrapping_add(index & self.mask).cast::<u8>();
        for line in 0..size_of::<T>().div_ceil(LINE).min(LINES_AHEAD) {
            ask(slot.wrapping_add(line * LINE));
        }
    }
}
