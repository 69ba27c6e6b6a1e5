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
    pub(crate) const NONE: TimerId = TimerId { at: NONE, generation: 0 };
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
        Wheel { elapsed: 0, occupied: [0; LEVELS as usize], heads, entries: Vec::new(), free: NONE, armed: 0 }
    }

    /// Timers armed now.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn len(&self) -> usize {
        self.armed
    }

    /// Arms a timer. A deadline that has passed fires at the next [`Wheel::expire`].
    pub(crate) fn insert(&mut self, deadline: Time, key: K) -> TimerId {
        let deadline = deadline.as_nanos().div_ceil(RESOLUTION_NANOS);
        let at = self.claim(deadline, key);
        self.place(at);
        self.armed += 1;
        TimerId { at, generation: self.entry(at).generation() }
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
            debug_assert!(self.elapsed <= due.start, "the wheel has passed an occupied slot");
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

    /// The slot that comes next. A coarse slot left half moved starts where the wheel stands, so it is found before
    /// anything finer that starts later.
    fn first_slot(&self) -> Option<Due> {
        let mut first: Option<Due> = None;
        for (level, &occupied) in (0..).zip(&self.occupied).filter(|(_, occupied)| **occupied != 0) {
            // Slots before that of `elapsed` are empty, so the lowest bit is the next slot of this round.
            let slot = occupied.trailing_zeros();
            let shift = level * LEVEL_BITS;
            let round = self.elapsed >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
            let start = round | u64::from(slot) << shift;
            if first.as_ref().is_none_or(|first| start < first.start) {
                first = Some(Due { head: level * SLOTS + slot, level, start });
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
        *self.links(at) = Links { prev: last, next: head };
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
        let links = Links { prev: NONE, next: NONE };
        let at = self.free;
        if at == NONE {
            let at = self.entries.len() + HEADS as usize;
            assert!(at < NONE as usize, "four billion timers are armed");
            self.entries.push(Entry { links, word: deadline, key });
            return at as u32;
        }
        let entry = &mut self.entries[(at - HEADS) as usize];
        self.free = entry.links.next;
        // The generation is there since the last life ended.
        *entry = Entry { links, word: entry.word | deadline, key };
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const HOUR: u64 = 3_600_000;

    fn at(tick: u64) -> Time {
        Time::from_nanos(tick * RESOLUTION_NANOS)
    }

    fn fired<K: Copy>(wheel: &mut Wheel<K>, now: Time) -> Vec<K> {
        let mut out = Vec::new();
        assert!(!wheel.expire(now, usize::MAX, &mut out));
        out
    }

    /// xorshift64*: the same sequence for the same seed.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }

        /// Small and large in equal parts: up to 2^`bits`, of any magnitude.
        fn magnitude(&mut self, bits: u64) -> u64 {
            let bits = self.below(bits + 1);
            self.below(1 << bits)
        }
    }

    #[test]
    fn a_timer_fires_at_its_millisecond_and_not_before() {
        for (deadline, early, due) in [(1, 999_999, 1_000_000), (1_000_000, 999_999, 1_000_000)] {
            let mut wheel = Wheel::new();
            wheel.insert(Time::from_nanos(deadline), 'a');
            assert_eq!(fired(&mut wheel, Time::from_nanos(early)), []);
            assert_eq!(fired(&mut wheel, Time::from_nanos(due)), ['a']);
            assert_eq!(wheel.len(), 0);
        }
    }

    #[test]
    fn a_deadline_that_has_passed_fires_next() {
        let mut wheel = Wheel::new();
        assert_eq!(fired(&mut wheel, at(1000)), []);
        wheel.insert(at(3), 'a');
        assert_eq!(wheel.next_deadline(), Some(at(1000)));
        assert_eq!(fired(&mut wheel, at(1000)), ['a']);
    }

    #[test]
    fn a_deadline_that_never_comes_never_fires() {
        let mut wheel = Wheel::new();
        let id = wheel.insert(Time::NEVER, 'a');
        assert_eq!(fired(&mut wheel, Time::NEVER), []);
        assert!(wheel.cancel(id));
    }

    #[test]
    fn the_clock_going_back_changes_nothing() {
        let mut wheel = Wheel::new();
        wheel.insert(at(20), 'a');
        assert_eq!(fired(&mut wheel, at(10)), []);
        assert_eq!(fired(&mut wheel, at(5)), []);
        assert_eq!(fired(&mut wheel, at(20)), ['a']);
    }

    #[test]
    fn timers_at_the_edges_of_levels_fire_in_their_tick() {
        for level in 0..LEVELS - 1 {
            let edge = 1u64 << (level * LEVEL_BITS);
            for start in [0, 1, edge - 1, edge, 3 * edge - 1, 63 * edge, 64 * edge - 1] {
                for ahead in [1, edge - 1, edge, edge + 1, 63 * edge, 64 * edge - 1, 64 * edge, 65 * edge] {
                    fires_exactly(start, start + ahead);
                }
            }
        }
    }

    /// Follows `next_deadline` as a shard would, and counts how often it had to wake.
    fn fires_exactly(start: u64, deadline: u64) {
        let mut wheel = Wheel::new();
        assert_eq!(fired(&mut wheel, at(start)), []);
        wheel.insert(at(deadline), deadline);
        let mut wakes = 0;
        loop {
            let now = wheel.next_deadline().expect("the timer is armed");
            wakes += 1;
            assert!(now <= at(deadline) && wakes <= LEVELS, "{start} to {deadline}");
            if now == at(deadline) {
                assert_eq!(fired(&mut wheel, now), [deadline]);
                return;
            }
            assert_eq!(fired(&mut wheel, now), []);
        }
    }

    #[test]
    fn a_jump_of_hours_costs_entries_not_milliseconds() {
        let mut wheel = Wheel::new();
        let deadlines = [9 * HOUR, 1, 5 * HOUR, 64, 5 * HOUR, 4096, 1000 * HOUR];
        for deadline in deadlines {
            wheel.insert(at(deadline), deadline);
        }
        let mut out = Vec::new();
        let most = deadlines.len() * LEVELS as usize;
        assert!(!wheel.expire(at(10 * HOUR), most, &mut out));
        assert_eq!(out, [1, 64, 4096, 5 * HOUR, 5 * HOUR, 9 * HOUR]);
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn one_tick_fires_in_order_of_insertion_whatever_level_a_timer_came_from() {
        let mut wheel = Wheel::new();
        wheel.insert(at(5000), 1);
        assert_eq!(fired(&mut wheel, at(4500)), []);
        wheel.insert(at(5000), 2);
        assert_eq!(fired(&mut wheel, at(4999)), []);
        wheel.insert(at(5000), 3);
        assert_eq!(fired(&mut wheel, at(5000)), [1, 2, 3]);
    }

    #[test]
    fn bounded_work_comes_back_for_the_rest() {
        let mut wheel = Wheel::new();
        for key in 0..10 {
            wheel.insert(at(100), key);
        }
        let mut out = Vec::new();
        let mut calls = 1;
        while wheel.expire(at(100), 3, &mut out) {
            assert!(wheel.next_deadline().is_some_and(|next| next <= at(100)), "nobody may sleep now");
            calls += 1;
        }
        assert_eq!(out, (0..10).collect::<Vec<_>>());
        // Each entry is moved once and fired once.
        assert_eq!(calls, 20usize.div_ceil(3));
    }

    #[test]
    fn the_id_of_an_ended_timer_names_nothing() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(at(1), 'a');
        assert_eq!(fired(&mut wheel, at(1)), ['a']);
        let second = wheel.insert(at(2), 'b');
        assert_eq!(first.at, second.at, "the entry is used again");
        assert!(!wheel.cancel(first));
        assert!(wheel.cancel(second));
        assert!(!wheel.cancel(second));
        assert!(!wheel.cancel(TimerId::NONE));
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    }

    #[test]
    fn generations_wrap_into_their_bits() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(at(1), ());
        assert!(wheel.cancel(first));
        for _ in 1..1u32 << (u64::BITS - DEADLINE_BITS) {
            let id = wheel.insert(at(1), ());
            assert!(id != first && wheel.cancel(id));
        }
        assert_eq!(wheel.insert(at(1), ()), first);
    }

    /// The wheel beside an ordered map of what it should hold.
    #[derive(Default)]
    struct Model {
        due: BTreeMap<(u64, u64), TimerId>,
        ended: Vec<TimerId>,
        inserted: u64,
        now: u64,
    }

    impl Model {
        fn insert(&mut self, wheel: &mut Wheel<(u64, u64)>, nanos: u64) {
            let tick = nanos.div_ceil(RESOLUTION_NANOS).max(self.now);
            let key = (tick, self.inserted);
            self.inserted += 1;
            self.due.insert(key, wheel.insert(Time::from_nanos(nanos), key));
        }

        fn cancel(&mut self, wheel: &mut Wheel<(u64, u64)>, random: &mut Random) {
            let nth = random.below(self.due.len().max(1) as u64) as usize;
            if let Some((&key, &id)) = self.due.iter().nth(nth) {
                self.due.remove(&key);
                assert!(wheel.cancel(id));
                self.ended.push(id);
            }
        }

        /// Every timer that was due by now, in order; it is no longer.
        fn expire(&mut self) -> Vec<(u64, u64)> {
            let later = self.due.split_off(&(self.now + 1, 0));
            let due = std::mem::replace(&mut self.due, later);
            self.ended.extend(due.values());
            due.into_keys().collect()
        }

        fn check(&mut self, wheel: &mut Wheel<(u64, u64)>, random: &mut Random) {
            assert_eq!(wheel.len(), self.due.len());
            let next = wheel.next_deadline();
            assert_eq!(next.is_none(), self.due.is_empty());
            if let (Some(next), Some(&(tick, _))) = (next, self.due.keys().next()) {
                assert!(next <= at(tick), "a shard would sleep too long");
            }
            if !self.ended.is_empty() {
                let stale = random.below(self.ended.len() as u64) as usize;
                assert!(!wheel.cancel(self.ended[stale]));
            }
        }

        /// Moves the clock: mostly a little, sometimes by days.
        fn pass_time(&mut self, random: &mut Random) -> Time {
            let bits = if random.below(20) == 0 { 28 } else { 9 };
            self.now += random.magnitude(bits);
            at(self.now) + MILLISECOND / 2
        }
    }

    #[test]
    fn the_wheel_does_what_an_ordered_map_does() {
        for seed in 1..=40 {
            let (mut wheel, mut model, mut random) = (Wheel::new(), Model::default(), Random(seed));
            for _ in 0..2_000 {
                match random.below(8) {
                    0..=4 => {
                        let after = random.magnitude(50);
                        let past = random.magnitude(24);
                        let nanos = (model.now * RESOLUTION_NANOS + after).saturating_sub(past);
                        model.insert(&mut wheel, nanos);
                    }
                    5 => model.cancel(&mut wheel, &mut random),
                    _ => {
                        let now = model.pass_time(&mut random);
                        assert_eq!(fired(&mut wheel, now), model.expire(), "seed {seed}");
                        assert!(wheel.next_deadline().is_none_or(|next| next > now), "a shard would spin");
                    }
                }
                model.check(&mut wheel, &mut random);
            }
        }
    }

    #[test]
    fn cut_short_at_any_place_it_still_fires_all_in_order_of_ticks() {
        for seed in 1..=40 {
            let (mut wheel, mut model, mut random) = (Wheel::new(), Model::default(), Random(seed));
            let (mut out, mut last) = (Vec::new(), 0);
            for _ in 0..1_000 {
                for _ in 0..random.below(6) {
                    let nanos = (model.now + 1) * RESOLUTION_NANOS + random.magnitude(44);
                    model.insert(&mut wheel, nanos);
                }
                if random.below(3) == 0 {
                    model.cancel(&mut wheel, &mut random);
                }
                let now = model.pass_time(&mut random);
                let more = wheel.expire(now, random.below(12) as usize, &mut out);
                for key in out.drain(..) {
                    assert!(last <= key.0 && key.0 <= model.now, "seed {seed}");
                    last = key.0;
                    model.ended.push(model.due.remove(&key).expect("it was armed"));
                }
                assert!(more || model.expire().is_empty(), "seed {seed}: a timer was forgotten");
                model.check(&mut wheel, &mut random);
            }
        }
    }

    #[test]
    fn a_million_timers_come_and_go_in_the_same_memory() {
        const TIMERS: u64 = 1_000_000;
        let (mut wheel, mut random, mut now) = (Wheel::new(), Random(7), 0);
        let mut memory = None;
        for _ in 0..3 {
            let ids: Vec<_> = (0..TIMERS).map(|key| wheel.insert(at(now + 1 + random.below(HOUR)), key)).collect();
            let cancelled = ids.iter().step_by(3).filter(|&&id| wheel.cancel(id)).count();
            assert_eq!(wheel.len(), TIMERS as usize - cancelled);

            now += HOUR;
            let mut out = Vec::new();
            while wheel.expire(at(now), 1024, &mut out) {}
            assert_eq!(out.len(), TIMERS as usize - cancelled);
            assert_eq!((wheel.len(), wheel.occupied), (0, [0; LEVELS as usize]));
            assert_eq!(*memory.get_or_insert(wheel.entries.capacity()), wheel.entries.capacity());
        }
    }
}
