//! Sleeping, by the clock of the current stack: real time, or a simulation's.
//!
//! These work on any executor: inside a [`Runtime`](crate::Runtime) its thread keeps the timers, elsewhere the thread of the
//! [current](crate::Stack::current) stack does. They are rounded up to a millisecond.
//!
//! ```
//! use std::time::Duration;
//!
//! # futures::executor::block_on(async {
//! let start = synfin::time::Instant::now();
//! synfin::time::sleep(Duration::from_millis(2)).await;
//! assert!(start.elapsed() >= Duration::from_millis(2));
//!
//! let never = std::future::pending::<()>();
//! assert!(synfin::time::timeout(Duration::from_millis(2), never).await.is_err());
//! # });
//! ```

use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Sub};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Either, select};

use super::Stack;
use super::timer::TimerKey;
use crate::proto;

/// A point in time, by the clock of the stack that is current when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(proto::Instant);

impl Instant {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self(super::current::now())
    }

    /// Time since then, or zero.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Self::now().duration_since(*self)
    }

    /// Time from `earlier` to `self`, or zero.
    #[must_use]
    pub fn duration_since(&self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

/// Waits for a while.
///
/// # Panics
/// If no stack is current and the lazy loopback cannot be started: no thread to keep the time.
///
/// # Cancel safety
/// Nothing is lost; a later call waits anew.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::on(&keeper(), duration)
}

/// Waits until `deadline`.
///
/// # Panics
/// As [`sleep`].
///
/// # Cancel safety
/// Nothing is lost.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { stack: keeper(), at: deadline.0, key: None }
}

/// Waits for `future`, but no longer than `duration`.
///
/// # Errors
/// [`Elapsed`] if the time was up first; the future is dropped.
///
/// # Cancel safety
/// That of `future`.
///
/// # Panics
/// As [`sleep`].
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    match select(pin!(future), sleep(duration)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(Elapsed),
    }
}

/// The time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline has elapsed")]
pub struct Elapsed;

impl From<Elapsed> for io::Error {
    fn from(_: Elapsed) -> Self {
        io::ErrorKind::TimedOut.into()
    }
}

/// The future of [`sleep`]. It ends at once if its stack is dead.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Sleep {
    stack: Stack,
    at: proto::Instant,
    key: Option<TimerKey>,
}

impl Sleep {
    /// Waits by the clock of `stack`.
    pub(crate) fn on(stack: &Stack, duration: Duration) -> Self {
        Self { at: stack.shard().now() + duration, stack: stack.clone(), key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { stack, at, key } = &mut *self;
        let shard = stack.shard();
        if shard.now() >= *at {
            return Poll::Ready(());
        }
        let mut waker = Some(context.waker().clone());
        // Both the waker that is replaced and the one that is not needed are dropped when the lock is free.
        let parked = shard.call(|core, _| match *key {
            Some(registered) if core.timers.is_registered(registered, context.waker()) => None,
            Some(registered) => waker.take().and_then(|waker| core.timers.replace(registered, waker)),
            None => {
                *key = waker.take().map(|waker| core.timers.insert(*at, waker));
                None
            }
        });
        if parked.is_ok() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            _ = self.stack.shard().call(|core, _| core.timers.cancel(key));
        }
    }
}

fn keeper() -> Stack {
    Stack::current().expect("a process that can start a thread has a stack to keep its time")
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn sleeps_end_in_order_of_their_deadlines() {
        let start = Instant::now();
        let order = std::sync::Mutex::new(Vec::new());
        let nap = async |millis: u64| {
            sleep_until(start + Duration::from_millis(millis)).await;
            order.lock().expect("no panic").push(millis);
        };
        block_on(futures::future::join3(nap(30), nap(10), nap(20)));
        assert_eq!(*order.lock().expect("no panic"), [10, 20, 30]);
        assert!(start.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn an_answer_in_time_is_passed_on() {
        assert_eq!(block_on(timeout(Duration::from_secs(60), async { 7 })), Ok(7));
        assert_eq!(io::Error::from(Elapsed).kind(), io::ErrorKind::TimedOut);
    }
}
