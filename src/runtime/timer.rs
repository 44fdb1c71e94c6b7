//! Who waits for which instant: a heap of wakers for `sleep`, beside the engine's own timers.
//!
//! It lives under the shard's lock, and follows the rule of [`readiness`](super::readiness): no waker is cloned, dropped or woken in here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

use slab::Slab;

use super::readiness::Wakes;
use crate::proto::Instant;

/// The sleeping tasks of one shard. Bounded by the futures that exist; cancelled entries are swept when they outnumber the living.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    sleepers: Slab<Sleeper>,
    sequence: u64,
}

/// Names a sleeping task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: usize,
    sequence: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Instant,
    sequence: u64,
    slot: usize,
}

#[derive(Debug)]
struct Sleeper {
    sequence: u64,
    waker: Option<Waker>,
}

impl Timers {
    /// Wakes the task at `at`.
    pub(crate) fn insert(&mut self, at: Instant, waker: Waker) -> TimerKey {
        self.sequence += 1;
        let sequence = self.sequence;
        let slot = self.sleepers.insert(Sleeper { sequence, waker: Some(waker) });
        if self.heap.len() > 2 * self.sleepers.len() + SWEEP_SLACK {
            let Self { heap, sleepers, .. } = self;
            heap.retain(|Reverse(entry)| sleepers.get(entry.slot).is_some_and(|sleeper| sleeper.sequence == entry.sequence));
        }
        self.heap.push(Reverse(Entry { at, sequence, slot }));
        TimerKey { slot, sequence }
    }

    /// True if the key's waker is still to be woken and wakes the same task.
    pub(crate) fn is_registered(&self, key: TimerKey, waker: &Waker) -> bool {
        let sleeper = self.sleepers.get(key.slot).filter(|sleeper| sleeper.sequence == key.sequence);
        sleeper.and_then(|sleeper| sleeper.waker.as_ref()).is_some_and(|registered| registered.will_wake(waker))
    }

    /// Gives the sleeper another waker and hands back the one that it had.
    pub(crate) fn replace(&mut self, key: TimerKey, waker: Waker) -> Option<Waker> {
        match self.sleepers.get_mut(key.slot).filter(|sleeper| sleeper.sequence == key.sequence) {
            Some(sleeper) => sleeper.waker.replace(waker),
            None => Some(waker),
        }
    }

    /// The task no longer waits; hands back its waker.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        if self.sleepers.get(key.slot)?.sequence != key.sequence {
            return None;
        }
        self.sleepers.remove(key.slot).waker
    }

    /// When the next task is to be woken.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if self.is_live(entry) {
                return Some(entry.at);
            }
            self.heap.pop();
        }
        None
    }

    /// Moves the wakers of all whose time has come into `wakes`; false if there are more.
    pub(crate) fn fire(&mut self, now: Instant, wakes: &mut Wakes) -> bool {
        while let Some(Reverse(entry)) = self.heap.peek().copied() {
            if self.is_live(&entry) {
                if entry.at > now {
                    break;
                }
                if !wakes.take(&mut self.sleepers[entry.slot].waker) {
                    return false;
                }
            }
            self.heap.pop();
        }
        true
    }

    /// Moves every waker into `wakes`; false if there are more.
    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) -> bool {
        self.sleepers.iter_mut().all(|(_, sleeper)| wakes.take(&mut sleeper.waker))
    }

    fn is_live(&self, entry: &Entry) -> bool {
        self.sleepers.get(entry.slot).is_some_and(|sleeper| sleeper.sequence == entry.sequence && sleeper.waker.is_some())
    }
}

/// Cancelled entries that are not worth a sweep.
const SWEEP_SLACK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn the_earliest_living_timer_is_the_deadline() {
        let mut timers = Timers::default();
        let early = timers.insert(at(10), Waker::noop().clone());
        timers.insert(at(20), Waker::noop().clone());
        assert_eq!(timers.deadline(), Some(at(10)));
        assert!(timers.cancel(early).is_some());
        assert!(timers.cancel(early).is_none());
        assert_eq!(timers.deadline(), Some(at(20)));
    }

    #[test]
    fn only_what_is_due_fires() {
        let mut timers = Timers::default();
        for nanos in [30, 10, 20] {
            timers.insert(at(nanos), Waker::noop().clone());
        }
        let mut wakes = Wakes::default();
        assert!(timers.fire(at(9), &mut wakes));
        assert!(wakes.is_empty());
        assert!(timers.fire(at(20), &mut wakes));
        assert!(!wakes.is_empty());
        assert_eq!(timers.deadline(), Some(at(30)));
    }

    #[test]
    fn cancelled_timers_are_swept() {
        let mut timers = Timers::default();
        for nanos in 0..10_000 {
            let key = timers.insert(at(1_000_000 + nanos), Waker::noop().clone());
            timers.cancel(key);
        }
        assert!(timers.heap.len() <= SWEEP_SLACK + 2, "{} entries", timers.heap.len());
    }

    #[test]
    fn a_reused_slot_is_not_the_old_timer() {
        let mut timers = Timers::default();
        // The static one's table of functions may exist twice in a program, that of its clones doesn't.
        let waker = Waker::noop().clone();
        let old = timers.insert(at(1), Waker::noop().clone());
        timers.cancel(old);
        let new = timers.insert(at(2), waker.clone());
        assert_eq!(old.slot, new.slot);
        assert!(timers.cancel(old).is_none());
        assert!(timers.is_registered(new, &waker));
        assert!(!timers.is_registered(old, &waker));
    }
}
