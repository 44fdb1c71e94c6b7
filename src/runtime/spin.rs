//! Whether it pays to spin before sleeping: a memory of how soon frames came of late.
//!
//! It knows nothing of devices and of who spins.

use std::time::Duration;

use crate::proto::Instant;

/// Whether spinning pays at present: it does when the last arrivals came soon after somebody began to wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spin {
    credit: u8,
    barren_since: Option<Instant>,
}

impl Spin {
    /// True if a spin may find something. Never twice without an arrival between.
    pub(crate) const fn is_worthwhile(&self) -> bool {
        self.credit > 0 && self.barren_since.is_none()
    }

    /// Nothing came in time for a spin that began at `start`.
    pub(crate) fn on_barren(&mut self, start: Instant) {
        self.credit = self.credit.saturating_sub(1);
        self.barren_since = Some(start);
    }

    /// Somebody who had begun to wait at `start` parked without having spun.
    pub(crate) fn on_park(&mut self, start: Instant) {
        self.barren_since.get_or_insert(start);
    }

    /// Frames came.
    pub(crate) fn on_arrival(&mut self, now: Instant) {
        match self.barren_since.take() {
            Some(since) if now - since > SPIN_MAX => self.credit = self.credit.saturating_sub(1),
            _ => self.credit = (self.credit + 1).min(CREDIT_MAX),
        }
    }
}

/// Processors that this process may use. A task that spins on the only one keeps its peer from answering.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// How long a task spins: about what a context switch costs. A wait that is longer is cheaper asleep.
pub(super) const SPIN_MAX: Duration = Duration::from_micros(30);

/// Barren spins until spinning stops.
const CREDIT_MAX: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Instant {
        Instant::from_nanos(1_000_000 + micros * 1000)
    }

    #[test]
    fn quick_answers_make_spinning_worthwhile_and_slow_ones_end_it() {
        let mut spin = Spin::default();
        assert!(!spin.is_worthwhile(), "nothing is known yet");
        spin.on_park(micros(0));
        spin.on_arrival(micros(20));
        assert!(spin.is_worthwhile());
        spin.on_barren(micros(50));
        assert!(!spin.is_worthwhile(), "never twice without an arrival");
        spin.on_arrival(micros(500));
        assert!(!spin.is_worthwhile(), "the credit is used up");
    }

    #[test]
    fn credit_is_bounded() {
        let mut spin = Spin::default();
        for n in 0..100 {
            spin.on_arrival(micros(n));
        }
        for n in 0..u64::from(CREDIT_MAX) {
            assert!(spin.is_worthwhile());
            spin.on_barren(micros(1000 + n));
            spin.barren_since = None;
        }
        assert!(!spin.is_worthwhile());
    }
}
