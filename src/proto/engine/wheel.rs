//! A hierarchical timer wheel, exact to the nanosecond.
//!
//! ```text
//!   level 0   64 slots of 2^18 ns (262 us)   |..#.....#...|   the current slot holds what is due within this tick, or overdue
//!   level 1   64 slots of 2^24 ns (17 ms)    |......#.....|   a slot is emptied into the level below when the time reaches it
//!   ...
//!   level 7   16 slots of 2^60 ns (36 years)
//! ```
//!
//! An entry stands at the level of the highest six bits in which its tick differs from the current one; so every entry of a lower level is due
//! before every entry of a higher one, and the first slot in use of the lowest level in use holds the earliest. Arming costs O(1); an entry
//! moves at most seven times before it fires.
//!
//! Nothing is ever cancelled: whoever owns a key re-checks on expiry what it wanted, by generation and deadline, and arms again. Keys are all
//! it knows.

use crate::proto::Instant;

/// A tick in nanoseconds, as a power of two: a quarter of a millisecond, finer than any timer of TCP.
const TICK_SHIFT: u32 = 18;

/// Six bits of the tick number per level.
const LEVEL_SHIFT: u32 = 6;
const SLOTS: usize = 1 << LEVEL_SHIFT;

/// 64 - 18 bits of tick number need eight levels: the whole range of an [`Instant`], so that nothing overflows.
const LEVELS: usize = 8;

/// Entries that an emptied slot may keep room for: 4 KiB, at most 2 MiB over all slots.
const IDLE_ENTRIES: usize = 256;

/// Slots of this many levels, up to 73 minutes ahead, begin with room for this many entries: 16 KiB.
const ROOMY_LEVELS: usize = 4;
const ROOM: usize = 4;

/// Something that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    /// When.
    pub(crate) deadline: Instant,
    /// Whose.
    pub(crate) key: u32,
    /// The owner's generation when it was armed.
    pub(crate) generation: u32,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// `slots[level * SLOTS + index]`.
    slots: Vec<Slot>,
    /// Per level, a bit for each slot that is not empty.
    in_use: [u64; LEVELS],
    /// The current tick.
    tick: u64,
    /// Taken out of the wheel and not yet handed over, the earliest last.
    due: Vec<Timer>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    timers: Vec<Timer>,
    /// The earliest deadline in `timers`.
    earliest: Instant,
}

impl Slot {
    const EMPTY: Self = Self { timers: Vec::new(), earliest: Instant::FAR_FUTURE };
}

impl Wheel {
    /// An empty wheel that stands at `now`.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        // The slots that TCP's timers use have room from the first day: no segment pays for the first use of one.
        let room = |index| if index < ROOMY_LEVELS * SLOTS { ROOM } else { 0 };
        let slots = (0..LEVELS * SLOTS).map(|index| Slot { timers: Vec::with_capacity(room(index)), ..Slot::EMPTY }).collect();
        Self { slots, in_use: [0; LEVELS], tick: tick(now), due: Vec::with_capacity(ROOM), len: 0 }
    }

    /// Entries, stale ones included.
    #[must_use]
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry. A deadline in the past is due at once.
    pub(crate) fn arm(&mut self, timer: Timer) {
        self.len += 1;
        self.place(timer);
    }

    /// Takes the next entry whose deadline is at or before `now`, the earliest first.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        while self.due.is_empty() {
            let earliest = self.earliest_in_slots().filter(|earliest| *earliest <= now)?;
            self.turn_to(tick(earliest));
            self.collect_due(now);
        }
        self.len -= 1;
        self.due.pop()
    }

    /// Calls `fire` for every entry whose deadline is at or before `now`, the earliest first.
    #[cfg(test)]
    pub(crate) fn advance(&mut self, now: Instant, mut fire: impl FnMut(Timer)) {
        while let Some(timer) = self.pop_due(now) {
            fire(timer);
        }
    }

    /// The earliest deadline, exactly.
    #[must_use]
    pub(crate) fn next(&self) -> Option<Instant> {
        let due = self.due.last().map(|timer| timer.deadline);
        due.into_iter().chain(self.earliest_in_slots()).min()
    }

    fn earliest_in_slots(&self) -> Option<Instant> {
        let (level, in_use) = self.in_use.iter().enumerate().find(|(_, in_use)| **in_use != 0)?;
        Some(self.slots[level * SLOTS + in_use.trailing_zeros() as usize].earliest)
    }

    fn place(&mut self, timer: Timer) {
        let tick = tick(timer.deadline).max(self.tick);
        let level = (tick ^ self.tick).checked_ilog2().unwrap_or(0) / LEVEL_SHIFT;
        let index = slot_index(tick, level);
        self.in_use[level as usize] |= 1 << index;
        let slot = &mut self.slots[level as usize * SLOTS + index];
        slot.earliest = slot.earliest.min(timer.deadline);
        slot.timers.push(timer);
    }

    /// Moves the current tick forward, to that of the earliest entry: slots in between are empty, those on the way down are emptied into lower
    /// levels.
    fn turn_to(&mut self, target: u64) {
        let Some(level) = (target.max(self.tick) ^ self.tick).checked_ilog2().map(|bit| bit / LEVEL_SHIFT) else { return };
        self.tick = target;
        for level in (1..=level).rev() {
            let index = slot_index(target, level);
            self.in_use[level as usize] &= !(1 << index);
            let slot = &mut self.slots[level as usize * SLOTS + index];
            slot.earliest = Instant::FAR_FUTURE;
            let mut timers = std::mem::take(&mut slot.timers);
            timers.drain(..).for_each(|timer| self.place(timer));
            timers.shrink_to(IDLE_ENTRIES);
            self.slots[level as usize * SLOTS + index].timers = timers;
        }
    }

    /// Takes what is due out of the current slot.
    fn collect_due(&mut self, now: Instant) {
        let index = slot_index(self.tick, 0);
        let slot = &mut self.slots[index];
        self.due.extend(slot.timers.extract_if(.., |timer| timer.deadline <= now));
        self.due.sort_unstable_by(|left, right| right.cmp(left));
        slot.earliest = slot.timers.iter().map(|timer| timer.deadline).min().unwrap_or(Instant::FAR_FUTURE);
        if slot.timers.is_empty() {
            slot.timers.shrink_to(IDLE_ENTRIES);
            self.in_use[0] &= !(1 << index);
        }
    }
}

const fn tick(instant: Instant) -> u64 {
    instant.as_nanos() >> TICK_SHIFT
}

const fn slot_index(tick: u64, level: u32) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "six bits are left")]
    let index = ((tick >> (level * LEVEL_SHIFT)) & (SLOTS as u64 - 1)) as usize;
    index
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    #[test]
    fn a_nanosecond_early_is_too_early() {
        let mut wheel = Wheel::new(Instant::START);
        let deadline = Instant::from_nanos(1_000_000_007);
        wheel.arm(Timer { deadline, key: 1, generation: 2 });
        assert_eq!(wheel.pop_due(Instant::from_nanos(1_000_000_006)), None);
        assert_eq!(wheel.next(), Some(deadline));
        assert_eq!(wheel.pop_due(deadline), Some(Timer { deadline, key: 1, generation: 2 }));
        assert_eq!((wheel.next(), wheel.len()), (None, 0));
    }

    #[test]
    fn the_end_of_time_has_a_slot() {
        let mut wheel = Wheel::new(Instant::START);
        let timer = Timer { deadline: Instant::FAR_FUTURE, key: 0, generation: 0 };
        wheel.arm(timer);
        assert_eq!((wheel.next(), wheel.pop_due(Instant::FAR_FUTURE)), (Some(Instant::FAR_FUTURE), Some(timer)));
    }

    #[test]
    fn an_emptied_slot_keeps_little() {
        let mut wheel = Wheel::new(Instant::START);
        (0..100_000).for_each(|key| wheel.arm(Timer { deadline: Instant::from_nanos(5_000_000_000), key, generation: 0 }));
        let mut fired = 0;
        wheel.advance(Instant::from_nanos(6_000_000_000), |_| fired += 1);
        assert_eq!(fired, 100_000);
        assert!(wheel.slots.iter().all(|slot| slot.timers.capacity() <= IDLE_ENTRIES));
    }

    proptest::proptest! {
        #[test]
        fn it_fires_what_a_heap_fires(start in 1u64..1 << 40,
                                      steps in proptest::collection::vec((0u32..62, proptest::num::u64::ANY, 0u32..5, proptest::bool::ANY), 1..100)) {
            let mut now = Instant::from_nanos(start);
            let mut wheel = Wheel::new(now);
            let mut heap = BinaryHeap::new();
            let mut key = 0;
            for (bits, random, arms, exactly_next) in steps {
                for arm in 0..arms {
                    let ahead = random.rotate_left(arm * 13) & ((1 << bits) - 1);
                    let deadline = Instant::from_nanos(now.as_nanos().saturating_add(ahead).saturating_sub(1000));
                    key += 1;
                    wheel.arm(Timer { deadline, key, generation: key });
                    heap.push(Reverse(Timer { deadline, key, generation: key }));
                }
                now = match wheel.next() {
                    Some(next) if exactly_next => now.max(next),
                    _ => Instant::from_nanos(now.as_nanos().saturating_add(random & ((1 << (bits / 2)) - 1))),
                };
                proptest::prop_assert_eq!(wheel.next(), heap.peek().map(|Reverse(timer)| timer.deadline));
                while let Some(timer) = wheel.pop_due(now) {
                    proptest::prop_assert_eq!(Some(Reverse(timer)), heap.pop());
                }
                proptest::prop_assert!(heap.peek().is_none_or(|Reverse(timer)| timer.deadline > now));
                proptest::prop_assert_eq!((wheel.len(), wheel.next()), (heap.len(), heap.peek().map(|Reverse(timer)| timer.deadline)));
            }
        }
    }
}
