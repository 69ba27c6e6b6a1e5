//! Timers: a hierarchical timing wheel of one-millisecond ticks, one per shard and per service host.
//!
//! Owns every armed timer, as one entry of a slab; a timer is a deadline and a key, and firing is handing the
//! key out. Invariants: no timer fires before its deadline, none is lost, later milliseconds never fire before
//! earlier ones, and every loop is bounded by the caller's `most` or by the number of levels.
//! It must not read a clock, call back, or allocate per timer: memory follows the most timers armed at once.
//! `docs/timers.md` draws it.

use crate::time::Time;

/// One tick of the wheel, in nanoseconds: network timeouts are stated in milliseconds or more.
const RESOLUTION_NANOS: u64 = 1_000_000;
/// Bits of the deadline that one level decides.
const LEVEL_BITS: u32 = 6;
/// Slots of one level: as many as a machine word has bits, so that one word tells which are occupied.
const SLOTS: u32 = 1 << LEVEL_BITS;
/// Enough levels for every [`Time`] to have its slot, so that there is no overflow list.
const LEVELS: u32 = 8;
/// Heads of the slots' lists; links below this name a head, the others an entry.
const HEADS: u32 = LEVELS * SLOTS;
/// Bits of an entry's deadline, in ticks; the other 19 of the same word are its generation.
const DEADLINE_BITS: u32 = 45;

const _: () = assert!(u64::MAX / RESOLUTION_NANOS + 1 < 1 << DEADLINE_BITS);
const _: () = assert!(DEADLINE_BITS <= LEVELS * LEVEL_BITS);
const _: () = assert!(SLOTS == u64::BITS);
const _: () = assert!(size_of::<Entry<u64>>() <= 24);

/// Names one armed timer. The generation is inside: the id of a timer that fired or was cancelled names
/// nothing, until its entry was armed 2^19 times more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TimerId {
    at: u32,
    generation: u32,
}

impl TimerId {
    /// Names no timer.
    pub(crate) const NONE: TimerId = TimerId {
        at: NONE,
        generation: 0,
    };
}

/// A timing wheel of timers with keys `K`.
#[derive(Debug)]
pub(crate) struct Wheel<K> {
    /// The tick the wheel has come to: everything before it has fired, it itself perhaps in part.
    elapsed: u64,
    /// Per level, a bit for every slot whose list is not empty.
    occupied: [u64; LEVELS as usize],
    /// Per slot, the ends of its circular list.
    heads: Box<[Links; HEADS as usize]>,
    entries: Vec<Entry<K>>,
    /// The first entry of the free list, which runs through `links.next`; `HEADS` or more, or [`NONE`].
    free: u32,
    armed: usize,
}

/// The end of the free list. No list of timers ever ends: it comes back to its head.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Links {
    prev: u32,
    next: u32,
}

#[derive(Debug)]
struct Entry<K> {
    links: Links,
    /// `generation:19 | deadline:45`, the deadline in ticks.
    word: u64,
    key: K,
}

/// The earliest occupied slot.
struct Due {
    head: u32,
    level: u32,
    start: u64,
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel, standing at [`Time::ZERO`].
    pub(crate) fn new() -> Self {
        let mut heads = Box::new([Links { prev: 0, next: 0 }; HEADS as usize]);
        for (at, links) in (0..).zip(heads.iter_mut()) {
            *links = Links { prev: at, next: at };
        }
        Wheel {
            elapsed: 0,
            occupied: [0; LEVELS as usize],
            heads,
            entries: Vec::new(),
            free: NONE,
            armed: 0,
        }
    }

    /// Timers armed now.
    pub(crate) fn len(&self) -> usize {
        self.armed
    }

    /// Arms a timer. A deadline that has passed fires at the next [`Wheel::expire`].
    pub(crate) fn insert(&mut self, deadline: Time, key: K) -> TimerId {
        let deadline = deadline.as_nanos().div_ceil(RESOLUTION_NANOS);
        let at = self.claim(deadline, key);
        self.place(at);
        self.armed += 1;
        TimerId {
            at,
            generation: self.entry(at).generation(),
        }
    }

    /// Disarms a timer; `false` if it had fired or was cancelled before.
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        let entry = self.entries.get((id.at - HEADS) as usize);
        if entry.is_none_or(|entry| entry.generation() != id.generation) {
            return false;
        }
        self.unlink(id.at);
        self.give_back(id.at);
        true
    }

    /// The earliest time at which [`Wheel::expire`] has something to do: never after the tick of the earliest
    /// deadline, and before it when that timer must first move to a finer level.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let due = self.first_slot()?;
        Some(Time::from_nanos(due.start.saturating_mul(RESOLUTION_NANOS)))
    }

    /// Fires what is due at `now`: appends the keys to `out`, in the order of their ticks, and within one tick in
    /// the order of insertion (a timer inserted while `true` was the last answer may overtake older ones
    /// of its tick). Handles at most `most` entries, fired or moved to a finer level; `true` if due ones are left.
    pub(crate) fn expire(&mut self, now: Time, most: usize, out: &mut Vec<K>) -> bool {
        let now = now.as_nanos() / RESOLUTION_NANOS;
        let mut left = most;
        while let Some(due) = self.first_slot().filter(|due| due.start <= now) {
            debug_assert!(
                self.elapsed <= due.start,
                "the wheel has passed an occupied slot"
            );
            self.elapsed = due.start;
            loop {
                let at = self.heads[due.head as usize].next;
                if at == due.head {
                    break;
                }
                if left == 0 {
                    return true;
                }
                left -= 1;
                self.unlink(at);
                if due.level == 0 {
                    out.push(self.entry(at).key);
                    self.give_back(at);
                } else {
                    self.place(at);
                }
            }
        }
        self.elapsed = self.elapsed.max(now);
        false
    }

    /// The slot that comes next: a coarse slot before the finer ones it is about to fill.
    fn first_slot(&self) -> Option<Due> {
        let mut first: Option<Due> = None;
        for level in 0..LEVELS {
            let occupied = self.occupied[level as usize];
            if occupied == 0 {
                continue;
            }
            // No slot before that of `elapsed` is occupied: those have been emptied on the way.
            let slot = occupied.trailing_zeros();
            let shift = level * LEVEL_BITS;
            let round = self.elapsed >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
            let start = round | u64::from(slot) << shift;
            if first.as_ref().is_none_or(|first| start <= first.start) {
                first = Some(Due {
                    head: level * SLOTS + slot,
                    level,
                    start,
                });
            }
        }
        first
    }

    /// Appends an entry to the slot of its deadline: on the level of the highest digit in which the
    /// deadline differs from `elapsed`. While `elapsed` moves on, that level stays the same until
    /// the slot's own start comes.
    fn place(&mut self, at: u32) {
        let deadline = self.entry(at).deadline().max(self.elapsed);
        let level = (deadline ^ self.elapsed).checked_ilog2().unwrap_or(0) / LEVEL_BITS;
        let slot = (deadline >> (level * LEVEL_BITS)) as u32 % SLOTS;
        let head = level * SLOTS + slot;
        let last = self.links(head).prev;
        *self.links(at) = Links {
            prev: last,
            next: head,
        };
        self.links(last).next = at;
        self.links(head).prev = at;
        self.occupied[level as usize] |= 1 << slot;
    }

    /// Takes an entry out of its list, whichever that is.
    fn unlink(&mut self, at: u32) {
        let Links { prev, next } = *self.links(at);
        self.links(prev).next = next;
        self.links(next).prev = prev;
        // Both neighbours the same: that is the head, and the list is empty.
        if prev == next {
            self.occupied[(prev / SLOTS) as usize] &= !(1 << (prev % SLOTS));
        }
    }

    /// Takes an entry from the free list, or a new one.
    fn claim(&mut self, deadline: u64, key: K) -> u32 {
        let links = Links {
            prev: NONE,
            next: NONE,
        };
        let at = self.free;
        if at == NONE {
            let at = self.entries.len() + HEADS as usize;
            assert!(at < NONE as usize, "four billion timers are armed");
            self.entries.push(Entry {
                links,
                word: deadline,
                key,
            });
            return at as u32;
        }
        let entry = &mut self.entries[(at - HEADS) as usize];
        self.free = entry.links.next;
        // The generation is there since the last life ended.
        *entry = Entry {
            links,
            word: entry.word | deadline,
            key,
        };
        at
    }

    /// Frees an unlinked entry, and ends the life its id names.
    fn give_back(&mut self, at: u32) {
        let free = self.free;
        let entry = &mut self.entries[(at - HEADS) as usize];
        entry.links.next = free;
        entry.end_life();
        self.free = at;
        self.armed -= 1;
    }

    fn entry(&self, at: u32) -> &Entry<K> {
        &self.entries[(at - HEADS) as usize]
    }

    fn links(&mut self, at: u32) -> &mut Links {
        match at.checked_sub(HEADS) {
            None => &mut self.heads[at as usize],
            Some(index) => &mut self.entries[index as usize].links,
        }
    }
}

impl<K> Entry<K> {
    fn deadline(&self) -> u64 {
        self.word & ((1 << DEADLINE_BITS) - 1)
    }

    fn generation(&self) -> u32 {
        (self.word >> DEADLINE_BITS) as u32
    }

    /// Goes on to the next generation, which wraps as the shift drops its high bits, and leaves the deadline zero.
    fn end_life(&mut self) {
        self.word = ((self.word >> DEADLINE_BITS) + 1) << DEADLINE_BITS;
    }
}
