//! Who waits for which socket: wakers, and nothing of the protocol.
//!
//! ```text
//!  entry of a socket:  read slot   one waker, the last poll's        (poll_read, poll_accept, poll_read_ready)
//!                      write slot  one waker, the last poll's        (poll_write, poll_write_ready)
//!                      waiters     a list, unlinked on drop          (readable, writable, ready, accept, peek, connect)
//! ```
//!
//! It lives under the shard's lock together with the engine, so that "try, and register on `WouldBlock`" is one step and no wake-up is lost.
//! No waker is cloned, dropped or woken in here: dropping one can drop a task, and with it a stream whose `Drop` takes the same lock. They
//! come in by value and leave in a [`Wakes`], to be disposed of once the lock is free.

use std::task::Waker;

use slab::Slab;

use crate::proto::{Events, Signal, SocketId};

/// All that wait on one shard. Bounded by the sockets and futures that exist.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    entries: Vec<Option<Entry>>,
    waiters: Slab<Waiter>,
}

/// One of the two single-waker slots of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    /// What wakes this slot.
    pub(crate) fn interest(self) -> Events {
        match self {
            Self::Read => Events::READABLE | Events::READ_CLOSED | Events::ERROR,
            Self::Write => Events::WRITABLE | Events::WRITE_CLOSED | Events::ERROR,
        }
    }
}

/// Names a waiter in the list of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaiterKey(usize);

#[derive(Debug)]
struct Entry {
    id: SocketId,
    read: Option<Waker>,
    write: Option<Waker>,
    first: Option<usize>,
}

#[derive(Debug)]
struct Waiter {
    interest: Events,
    waker: Option<Waker>,
    previous: Option<usize>,
    next: Option<usize>,
}

impl Readiness {
    /// A socket has a handle from now on.
    pub(crate) fn insert(&mut self, id: SocketId) {
        let index = id.index();
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index] = Some(Entry { id, read: None, write: None, first: None });
    }

    /// The socket's handle is gone; its wakers leave in `wakes` to be dropped.
    pub(crate) fn remove(&mut self, id: SocketId) -> [Option<Waker>; 2] {
        let Some(slot) = self.entries.get_mut(id.index()).filter(|slot| slot.as_ref().is_some_and(|entry| entry.id == id)) else {
            return [None, None];
        };
        // A waiter's future borrows the handle, so that the list is empty, but for futures that were leaked: their nodes stay unlinked.
        slot.take().map_or([None, None], |entry| [entry.read, entry.write])
    }

    /// Sockets that have a handle.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        self.entries.iter().flatten().map(|entry| entry.id)
    }

    /// True if the slot holds a waker that wakes the same task: nothing to clone, nothing to store.
    pub(crate) fn is_registered(&self, id: SocketId, direction: Direction, waker: &Waker) -> bool {
        self.entry(id).and_then(|entry| entry.slot(direction)).is_some_and(|registered| registered.will_wake(waker))
    }

    /// Puts a waker into the socket's slot and hands back the one that was there.
    pub(crate) fn register(&mut self, id: SocketId, direction: Direction, waker: Waker) -> Option<Waker> {
        match self.entry_mut(id) {
            Some(entry) => entry.slot_mut(direction).replace(waker),
            None => Some(waker),
        }
    }

    /// Adds a waiter to the socket's list.
    pub(crate) fn link(&mut self, id: SocketId, interest: Events, waker: Waker) -> Option<WaiterKey> {
        let next = self.entry(id)?.first;
        let key = self.waiters.insert(Waiter { interest, waker: Some(waker), previous: None, next });
        if let Some(next) = next {
            self.waiters[next].previous = Some(key);
        }
        self.entry_mut(id)?.first = Some(key);
        Some(WaiterKey(key))
    }

    /// True if the waiter has not been woken and would wake the same task.
    pub(crate) fn is_linked(&self, key: WaiterKey, waker: &Waker) -> bool {
        self.waiters.get(key.0).and_then(|waiter| waiter.waker.as_ref()).is_some_and(|registered| registered.will_wake(waker))
    }

    /// Gives the waiter a new waker and hands back the old one.
    pub(crate) fn relink(&mut self, key: WaiterKey, waker: Waker) -> Option<Waker> {
        match self.waiters.get_mut(key.0) {
            Some(waiter) => waiter.waker.replace(waker),
            None => Some(waker),
        }
    }

    /// Takes the waiter off the list and hands back its waker.
    pub(crate) fn unlink(&mut self, id: SocketId, key: WaiterKey) -> Option<Waker> {
        let waiter = self.waiters.try_remove(key.0)?;
        match waiter.previous {
            Some(previous) => self.waiters[previous].next = waiter.next,
            None => {
                if let Some(entry) = self.entry_mut(id) {
                    entry.first = waiter.next;
                }
            }
        }
        if let Some(next) = waiter.next {
            self.waiters[next].previous = waiter.previous;
        }
        waiter.waker
    }

    /// Moves the wakers of all whom the signal concerns into `wakes`; false if there was no room for one of them: the signal must come again.
    pub(crate) fn on_signal(&mut self, signal: Signal, wakes: &mut Wakes) -> bool {
        let Self { entries, waiters } = self;
        let Some(entry) = entries.get_mut(signal.socket.index()).and_then(Option::as_mut).filter(|entry| entry.id == signal.socket) else {
            return true;
        };
        for direction in [Direction::Read, Direction::Write] {
            if signal.events.has_any(direction.interest()) && !wakes.take(entry.slot_mut(direction)) {
                return false;
            }
        }
        let mut next = entry.first;
        while let Some(waiter) = next.and_then(|key| waiters.get_mut(key)) {
            if signal.events.has_any(waiter.interest) && !wakes.take(&mut waiter.waker) {
                return false;
            }
            next = waiter.next;
        }
        true
    }

    /// Moves wakers of every socket into `wakes`; false if there are more.
    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) -> bool {
        self.entries.iter_mut().flatten().all(|entry| wakes.take(&mut entry.read) && wakes.take(&mut entry.write))
            && self.waiters.iter_mut().all(|(_, waiter)| wakes.take(&mut waiter.waker))
    }

    fn entry(&self, id: SocketId) -> Option<&Entry> {
        self.entries.get(id.index())?.as_ref().filter(|entry| entry.id == id)
    }

    fn entry_mut(&mut self, id: SocketId) -> Option<&mut Entry> {
        self.entries.get_mut(id.index())?.as_mut().filter(|entry| entry.id == id)
    }
}

impl Entry {
    const fn slot(&self, direction: Direction) -> Option<&Waker> {
        match direction {
            Direction::Read => self.read.as_ref(),
            Direction::Write => self.write.as_ref(),
        }
    }

    const fn slot_mut(&mut self, direction: Direction) -> &mut Option<Waker> {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// Wakers on their way out of the lock: a short list without an allocation.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    wakers: [Option<Waker>; WAKES_MAX],
    len: usize,
}

impl Wakes {
    /// Takes the waker out of `slot`, if one is there; false if there is one but no room.
    pub(crate) fn take(&mut self, slot: &mut Option<Waker>) -> bool {
        if slot.is_none() {
            return true;
        }
        let Some(room) = self.wakers.get_mut(self.len) else { return false };
        *room = slot.take();
        self.len += 1;
        true
    }

    /// True if no waker is held.
    #[cfg(test)]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Wakes them all. Never under a lock.
    pub(crate) fn wake(mut self) {
        for waker in self.wakers[..self.len].iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }
}

/// Wakers that leave the lock at once; more of them take another turn of the lock. Sixteen are 256 bytes of stack.
const WAKES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::proto::{Config, Engine, Instant};
    use crate::runtime::sync::Arc;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    /// Socket ids come from an engine: the first is in slot 0, and the released slot is used again under another generation.
    fn socket(engine: &mut Engine) -> SocketId {
        engine.listen(Instant::START, "127.0.0.1:0".parse().expect("an address"), 1).expect("a free port")
    }

    fn engine() -> Engine {
        Engine::new(Config::default(), [7; 32], Instant::START)
    }

    fn signal(readiness: &mut Readiness, socket: SocketId, events: Events) {
        let mut wakes = Wakes::default();
        assert!(readiness.on_signal(Signal { socket, events }, &mut wakes));
        wakes.wake();
    }

    #[test]
    fn the_last_waker_of_a_slot_wins() {
        let (mut readiness, id) = (Readiness::default(), socket(&mut engine()));
        readiness.insert(id);
        let ((first, first_waker), (second, second_waker)) = (counting(), counting());
        assert!(readiness.register(id, Direction::Read, first_waker).is_none());
        assert!(!readiness.is_registered(id, Direction::Read, &second_waker));
        assert!(readiness.register(id, Direction::Read, second_waker).is_some());
        signal(&mut readiness, id, Events::WRITABLE);
        assert_eq!((woken(&first), woken(&second)), (0, 0));
        signal(&mut readiness, id, Events::READABLE);
        signal(&mut readiness, id, Events::READABLE);
        assert_eq!((woken(&first), woken(&second)), (0, 1));
    }

    #[test]
    fn all_waiters_of_an_edge_are_woken_and_the_unlinked_are_not() {
        let (mut readiness, id) = (Readiness::default(), socket(&mut engine()));
        readiness.insert(id);
        let waiters: Vec<_> = (0..5).map(|_| counting()).collect();
        let keys: Vec<_> = waiters
            .iter()
            .map(|(_, waker)| readiness.link(id, Direction::Read.interest(), waker.clone()).expect("the entry exists"))
            .collect();
        for index in [0, 2, 4] {
            assert!(readiness.unlink(id, keys[index]).is_some());
        }
        signal(&mut readiness, id, Events::READ_CLOSED);
        assert_eq!(waiters.iter().map(|(count, _)| woken(count)).collect::<Vec<_>>(), [0, 1, 0, 1, 0]);
        for index in [1, 3] {
            assert!(readiness.unlink(id, keys[index]).is_none(), "a woken waiter holds no waker");
        }
        assert!(readiness.waiters.is_empty());
    }

    #[test]
    fn more_wakers_than_fit_come_in_another_round() {
        let (mut readiness, id) = (Readiness::default(), socket(&mut engine()));
        readiness.insert(id);
        let (count, waker) = counting();
        for _ in 0..WAKES_MAX + 3 {
            readiness.link(id, Direction::Write.interest(), waker.clone());
        }
        let again = Signal { socket: id, events: Events::ERROR };
        let mut wakes = Wakes::default();
        assert!(!readiness.on_signal(again, &mut wakes));
        wakes.wake();
        assert_eq!(woken(&count), WAKES_MAX);
        signal(&mut readiness, id, Events::ERROR);
        assert_eq!(woken(&count), WAKES_MAX + 3);
    }

    #[test]
    fn a_signal_for_an_earlier_owner_of_the_slot_wakes_nobody() {
        let (mut readiness, mut engine) = (Readiness::default(), engine());
        let old = socket(&mut engine);
        readiness.insert(old);
        assert!(readiness.remove(old).iter().all(Option::is_none));
        engine.release(Instant::START, old);
        let new = socket(&mut engine);
        assert_eq!(old.index(), new.index());
        readiness.insert(new);
        let (count, waker) = counting();
        readiness.register(new, Direction::Read, waker);
        signal(&mut readiness, old, Events::ERROR);
        assert!(readiness.remove(old).iter().all(Option::is_none));
        assert_eq!(woken(&count), 0);
        assert_eq!(readiness.sockets().collect::<Vec<_>>(), [new]);
    }
}
