//! One direction between two ends in a process: a bounded queue that tells whoever waits at either end.
//!
//! Nothing is lost in it: a full pipe refuses, and says so once there is room. Announcements are edges: "no longer empty" to the reader,
//! "half empty again" to a writer that was refused. No waker is cloned, dropped or woken under the lock.

use super::Notify;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A bounded queue with two ends.
#[derive(Debug)]
pub(super) struct Pipe<T> {
    state: Mutex<State<T>>,
    capacity: usize,
}

/// A device's hold on a pipe, which closes it when dropped: the other end shall see that nobody is here any more.
#[derive(Debug)]
pub(super) struct End<T>(Arc<Pipe<T>>);

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    is_open: bool,
    /// A writer has been refused since the last announcement of room.
    was_refused: bool,
    reader: Ear,
    writer: Ear,
}

/// Who is to be told.
#[derive(Debug, Default)]
enum Ear {
    #[default]
    Nobody,
    /// A task that waits once.
    Task(Waker),
    /// A device's owner, who is told each time.
    Owner(Notify),
}

/// Why nothing was put in; the item comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused<T> {
    /// The other end is gone.
    Closed(T),
    /// The queue is full.
    Full(T),
}

/// Why nothing was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nothing {
    /// The other end is gone and the queue is empty.
    Closed,
    /// The queue is empty.
    Empty,
}

impl<T> Pipe<T> {
    /// An empty pipe of `capacity` items.
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { queue: VecDeque::new(), is_open: true, was_refused: false, reader: Ear::Nobody, writer: Ear::Nobody };
        Self { state: Mutex::new(state), capacity }
    }

    /// Puts an item in.
    pub(super) fn push(&self, item: T) -> Result<(), Refused<T>> {
        let mut state = self.lock();
        if !state.is_open {
            return Err(Refused::Closed(item));
        }
        if state.queue.len() >= self.capacity {
            state.was_refused = true;
            return Err(Refused::Full(item));
        }
        state.queue.push_back(item);
        let ear = if state.queue.len() == 1 { state.reader.take() } else { Ear::Nobody };
        drop(state);
        ear.tell();
        Ok(())
    }

    /// Takes the oldest item out.
    pub(super) fn pop(&self) -> Result<T, Nothing> {
        let mut state = self.lock();
        let Some(item) = state.queue.pop_front() else {
            return Err(if state.is_open { Nothing::Empty } else { Nothing::Closed });
        };
        let has_room = state.was_refused && state.queue.len() <= self.capacity / 2;
        let ear = if has_room { state.on_room() } else { Ear::Nobody };
        drop(state);
        ear.tell();
        Ok(item)
    }

    /// Puts in as many of `items`, from the front, as there is room for; says how many. The items behind stay.
    pub(super) fn push_many(&self, items: &mut VecDeque<T>) -> Result<usize, Refused<()>> {
        let mut state = self.lock();
        if !state.is_open {
            return Err(Refused::Closed(()));
        }
        let was_empty = state.queue.is_empty();
        let count = items.len().min(self.capacity.saturating_sub(state.queue.len()));
        state.was_refused |= count < items.len();
        state.queue.extend(items.drain(..count));
        let ear = if was_empty && count > 0 { state.reader.take() } else { Ear::Nobody };
        let is_refused = count == 0 && !items.is_empty();
        drop(state);
        ear.tell();
        if is_refused { Err(Refused::Full(())) } else { Ok(count) }
    }

    /// Takes up to `max` of the oldest items out, to the end of `items`; says how many.
    pub(super) fn pop_many(&self, items: &mut Vec<T>, max: usize) -> Result<usize, Nothing> {
        let mut state = self.lock();
        if state.queue.is_empty() {
            return Err(if state.is_open { Nothing::Empty } else { Nothing::Closed });
        }
        let count = state.queue.len().min(max);
        items.extend(state.queue.drain(..count));
        let has_room = state.was_refused && state.queue.len() <= self.capacity / 2;
        let ear = if has_room { state.on_room() } else { Ear::Nobody };
        drop(state);
        ear.tell();
        Ok(count)
    }

    /// Takes the oldest item out, or leaves the task's waker; the last one left is the one told.
    pub(super) fn poll_pop(&self, context: &Context<'_>) -> Poll<Result<T, Nothing>> {
        self.poll_taking(context, Self::pop)
    }

    /// As [`pop_many`](Self::pop_many), or leaves the task's waker.
    pub(super) fn poll_pop_many(&self, context: &Context<'_>, items: &mut Vec<T>, max: usize) -> Poll<Result<usize, Nothing>> {
        self.poll_taking(context, |pipe| pipe.pop_many(items, max))
    }

    fn poll_taking<R>(&self, context: &Context<'_>, mut take: impl FnMut(&Self) -> Result<R, Nothing>) -> Poll<Result<R, Nothing>> {
        match take(self) {
            Err(Nothing::Empty) => {}
            answer => return Poll::Ready(answer),
        }
        let waker = context.waker().clone();
        let mut state = self.lock();
        let previous = std::mem::replace(&mut state.reader, Ear::Task(waker));
        drop(state);
        drop(previous);
        // An item may have come before the waker was in place.
        match take(self) {
            Err(Nothing::Empty) => Poll::Pending,
            answer => Poll::Ready(answer),
        }
    }

    /// Ready once [`push`](Self::push) may succeed or the pipe is closed; otherwise leaves the task's waker.
    pub(super) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let mut state = self.lock();
        let is_ready = !state.is_open || state.queue.len() < self.capacity;
        if is_ready {
            return Poll::Ready(());
        }
        state.was_refused = true;
        let previous = std::mem::replace(&mut state.writer, Ear::Task(waker));
        drop(state);
        drop(previous);
        Poll::Pending
    }

    /// Tells `notify` from now on whenever the empty pipe has got an item.
    pub(super) fn tell_reader(&self, notify: Notify) {
        let previous = std::mem::replace(&mut self.lock().reader, Ear::Owner(notify));
        drop(previous);
    }

    /// Tells `notify` from now on whenever a pipe that refused has room.
    pub(super) fn tell_writer(&self, notify: Notify) {
        let previous = std::mem::replace(&mut self.lock().writer, Ear::Owner(notify));
        drop(previous);
    }

    /// Closes the pipe from either end: nothing more goes in; what is in it can still be taken out.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_open = false;
        let ears = [state.reader.take(), state.on_room()];
        drop(state);
        ears.into_iter().for_each(Ear::tell);
    }

    /// True until either end has closed it.
    pub(super) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Every critical section above leaves the queue whole, so a panic of another thread says nothing about it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> End<T> {
    /// Holds `pipe`.
    pub(super) fn new(pipe: &Arc<Pipe<T>>) -> Self {
        Self(Arc::clone(pipe))
    }

    /// The pipe itself, without a hold on it.
    pub(super) fn pipe(&self) -> Arc<Pipe<T>> {
        Arc::clone(&self.0)
    }
}

impl<T> Deref for End<T> {
    type Target = Pipe<T>;

    fn deref(&self) -> &Pipe<T> {
        &self.0
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> State<T> {
    fn on_room(&mut self) -> Ear {
        self.was_refused = false;
        self.writer.take()
    }
}

impl Ear {
    /// Whom to tell now; an owner stays to be told again.
    fn take(&mut self) -> Self {
        match self {
            Self::Owner(notify) => Self::Owner(notify.clone()),
            Self::Nobody | Self::Task(_) => std::mem::take(self),
        }
    }

    fn tell(self) {
        match self {
            Self::Nobody => {}
            Self::Task(waker) => waker.wake(),
            Self::Owner(notify) => notify.wake(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn counting() -> (Notify, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        let notify = Notify::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (notify, seen)
    }

    #[test]
    fn reader_is_told_only_when_the_queue_was_empty() {
        let pipe = Pipe::new(4);
        let (notify, told) = counting();
        pipe.tell_reader(notify);
        pipe.push(1).expect("room");
        pipe.push(2).expect("room");
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert_eq!((pipe.pop(), pipe.pop(), pipe.pop()), (Ok(1), Ok(2), Err(Nothing::Empty)));
        pipe.push(3).expect("room");
        assert_eq!(told.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn refused_writer_is_told_once_half_is_free() {
        let pipe = Pipe::new(4);
        let (notify, told) = counting();
        pipe.tell_writer(notify);
        (0..4).for_each(|item| pipe.push(item).expect("room"));
        assert_eq!(pipe.push(4), Err(Refused::Full(4)));
        pipe.pop().expect("four items");
        assert_eq!(told.load(Ordering::Relaxed), 0);
        pipe.pop().expect("three items");
        pipe.pop().expect("two items");
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn closed_pipe_gives_out_what_it_holds() {
        let pipe = Pipe::new(4);
        pipe.push(1).expect("room");
        pipe.close();
        assert_eq!(pipe.push(2), Err(Refused::Closed(2)));
        assert_eq!((pipe.pop(), pipe.pop()), (Ok(1), Err(Nothing::Closed)));
    }

    #[test]
    fn waiting_task_is_woken_by_an_item_and_by_the_end() {
        let pipe = Pipe::new(4);
        let mut pending = tokio_test::task::spawn(std::future::poll_fn(|context| pipe.poll_pop(context)));
        assert!(pending.poll().is_pending());
        pipe.push(7).expect("room");
        assert!(pending.is_woken());
        assert_eq!(pending.poll(), Poll::Ready(Ok(7)));
        let mut pending = tokio_test::task::spawn(std::future::poll_fn(|context| pipe.poll_pop(context)));
        assert!(pending.poll().is_pending());
        pipe.close();
        assert!(pending.is_woken());
        assert_eq!(pending.poll(), Poll::Ready(Err(Nothing::Closed)));
    }
}
