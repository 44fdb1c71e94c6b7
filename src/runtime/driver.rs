//! The thread that drives a shard while no task does: it sleeps until a frame, a deadline or a notification, turns the crank, and ends when
//! the last handle is gone and nothing lingers.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::poller::Poller;
use super::shard::{LEASE_PATIENCE, Shard, Turned};
use super::sync::Arc;
use crate::proto::Instant;

/// How a driver waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Asleep, in the operating system's queue.
    #[default]
    Sleeping,
    /// Not at all: one core is given to the stack.
    Busy,
}

/// Starts the thread.
pub(crate) fn spawn(shard: Arc<Shard>, poller: Poller, pace: Pace) -> io::Result<()> {
    std::thread::Builder::new().name("synfin-io".into()).spawn(move || run(&shard, poller, pace)).map(drop)
}

fn run(shard: &Shard, mut poller: Poller, pace: Pace) {
    let _ending = Ending(shard);
    // An error is the end of the stack: its lock is poisoned, or the queue is gone. `Ending` tells everybody.
    while let Ok(turned) = shard.turn() {
        if shard.orphaned.load(Ordering::Acquire) && shard.is_quiescent() != Ok(false) {
            break;
        }
        if sleep(shard, &mut poller, pace, turned).is_err() {
            break;
        }
    }
}

/// Sleeps as long as the turn's result and the deadlines allow.
pub(crate) fn sleep(shard: &Shard, poller: &mut Poller, pace: Pace, turned: Turned) -> io::Result<()> {
    let longest = match turned {
        _ if pace == Pace::Busy => Some(Duration::ZERO),
        Turned::Busy => Some(Duration::ZERO),
        Turned::Idle => None,
        Turned::LeftToLease => Some(LEASE_PATIENCE),
    };
    let until = shard.sleep_until()?;
    let deadline = (until < Instant::FAR_FUTURE).then(|| until - shard.now());
    let woken = poller.wait([longest, deadline].into_iter().flatten().min())?;
    shard.counters.driver_wakeups.add(1);
    if woken.writable {
        shard.on_room()?;
    }
    Ok(())
}

/// Whichever way the thread ends, nobody waits for it for ever.
struct Ending<'a>(&'a Shard);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.die();
    }
}
