//! The only clock of the crate: real time, or the time that a simulation says it is.
//!
//! Real instants of all stacks in a process share one epoch, so that they may be compared. The engine never sees this module; it is given
//! instants.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::proto::Instant;
use crate::runtime::sync::Arc;

/// Where a shard's time comes from.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The operating system's monotonic clock.
    Real,
    /// A number that whoever drives the shard advances.
    #[cfg_attr(not(test), expect(dead_code, reason = "simulations drive it; a stack runs in real time"))]
    Virtual(VirtualClock),
}

impl Clock {
    /// The present.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Real => real_now(),
            Self::Virtual(clock) => Instant::from_nanos(clock.nanos.load(Ordering::Acquire)),
        }
    }
}

/// A clock that moves only when told to.
#[derive(Clone, Debug)]
pub(crate) struct VirtualClock {
    nanos: Arc<AtomicU64>,
}

#[cfg_attr(not(test), expect(dead_code, reason = "simulations drive it; a stack runs in real time"))]
impl VirtualClock {
    /// A clock that stands at `start`.
    pub(crate) fn new(start: Instant) -> Self {
        Self { nanos: Arc::new(AtomicU64::new(start.as_nanos())) }
    }

    /// Moves it forward to `now`; a time before the present is ignored.
    pub(crate) fn advance_to(&self, now: Instant) {
        self.nanos.fetch_max(now.as_nanos(), Ordering::AcqRel);
    }
}

/// The operating system's monotonic clock, since the process-wide epoch.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
pub(crate) fn real_now() -> Instant {
    let elapsed = epoch().elapsed() + HEADROOM;
    Instant::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

/// What to add to the clock's nanoseconds to get those since the Unix epoch: as of now, so that later steps of the wall clock don't show.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
pub(crate) fn wall_offset(clock: &Clock) -> u64 {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX).saturating_sub(clock.now().as_nanos())
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
fn epoch() -> std::time::Instant {
    static EPOCH: OnceLock<std::time::Instant> = OnceLock::new();
    *EPOCH.get_or_init(std::time::Instant::now)
}

/// What the clock shows at the epoch: enough that subtracting a protocol's time constants from an early instant does not meet zero.
const HEADROOM: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_moves_forward() {
        let first = Clock::Real.now();
        let second = Clock::Real.now();
        assert!(second >= first);
        assert!(first >= Instant::START + HEADROOM);
    }

    #[test]
    fn a_virtual_clock_never_goes_back() {
        let clock = VirtualClock::new(Instant::from_nanos(10));
        clock.advance_to(Instant::from_nanos(20));
        clock.advance_to(Instant::from_nanos(15));
        assert_eq!(Clock::Virtual(clock).now(), Instant::from_nanos(20));
    }
}
