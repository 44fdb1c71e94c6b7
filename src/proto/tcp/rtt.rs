//! The round-trip time and the retransmission timeout (RFC 6298), in whole nanoseconds.
//!
//! It sits below recovery and congestion, which both ask it. Karn's rule (RFC 6298 §3), that an ambiguous sample never gets here, is the
//! caller's. No clock: durations come in, durations go out.

use std::time::Duration;

/// The shortest sample, in nanoseconds: a loopback answers in the same instant, and a round-trip time of zero would make rates infinite.
const SAMPLE_MIN: u64 = 1_000;

/// Doublings after which every timeout is at its maximum; more would only overflow.
const BACKOFF_MAX: u8 = 32;

/// The bounds of the timeout, from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Before the first sample (RFC 6298 §2.1).
    pub(crate) initial: Duration,
    /// The least that the variance term adds to the smoothed round-trip time. Linux puts its floor there and not, as RFC 6298 §2.4, below the
    /// sum: on a steady path the timeout then stays a whole floor above the round-trip time, however long that is.
    pub(crate) min: Duration,
    /// Above no timeout, backed off or not (RFC 6298 §2.5).
    pub(crate) max: Duration,
}

/// SRTT, RTTVAR and RTO of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimator {
    /// Zero before the first sample.
    srtt_nanos: u64,
    rttvar_nanos: u64,
    min_nanos: u64,
    initial_micros: u32,
    floor_micros: u32,
    max_micros: u32,
    backoff: u8,
}

impl Estimator {
    /// Without a sample yet.
    #[must_use]
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            srtt_nanos: 0,
            rttvar_nanos: 0,
            min_nanos: u64::MAX,
            initial_micros: micros(bounds.initial),
            floor_micros: micros(bounds.min),
            max_micros: micros(bounds.max),
            backoff: 0,
        }
    }

    /// Takes the time between a segment that was sent once and its acknowledgment (RFC 6298 §2.2, §2.3). The backoff stays as it is.
    pub(crate) fn on_sample(&mut self, sample: Duration) {
        let sample = nanos(sample).max(SAMPLE_MIN);
        self.min_nanos = self.min_nanos.min(sample);
        if self.srtt_nanos == 0 {
            self.srtt_nanos = sample;
            self.rttvar_nanos = sample / 2;
            return;
        }
        let error = self.srtt_nanos.abs_diff(sample);
        self.rttvar_nanos = self.rttvar_nanos - self.rttvar_nanos / 4 + error / 4;
        self.srtt_nanos = self.srtt_nanos - self.srtt_nanos / 8 + sample / 8;
    }

    /// The timer expired: the timeout doubles (RFC 6298 §5.5).
    pub(crate) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
    }

    /// Data that was never retransmitted has been acknowledged: the doublings are over.
    pub(crate) const fn reset_back_off(&mut self) {
        self.backoff = 0;
    }

    /// The SYN's timer expired: the timeout of the first data is at least three seconds, unless a sample comes (RFC 6298 §5.7).
    pub(crate) fn on_handshake_timeout(&mut self) {
        self.initial_micros = self.initial_micros.max(3_000_000);
    }

    /// The timeout to arm now, doublings included.
    #[must_use]
    pub(crate) fn rto(&self) -> Duration {
        let base = nanos(self.base_rto());
        let doubled = if base.leading_zeros() <= u32::from(self.backoff) { u64::MAX } else { base << self.backoff };
        Duration::from_nanos(doubled.min(self.max()))
    }

    /// The timeout without doublings.
    #[must_use]
    pub(crate) fn base_rto(&self) -> Duration {
        let rto = match self.srtt_nanos {
            0 => u64::from(self.initial_micros) * 1000,
            srtt => srtt.saturating_add(self.rttvar_nanos.saturating_mul(4).max(u64::from(self.floor_micros) * 1000)),
        };
        Duration::from_nanos(rto.min(self.max()))
    }

    /// The smoothed round-trip time, after the first sample.
    #[must_use]
    pub(crate) fn srtt(&self) -> Option<Duration> {
        (self.srtt_nanos != 0).then(|| Duration::from_nanos(self.srtt_nanos))
    }

    /// The smoothed mean deviation; zero before the first sample.
    #[must_use]
    pub(crate) const fn rttvar(&self) -> Duration {
        Duration::from_nanos(self.rttvar_nanos)
    }

    /// The shortest sample so far.
    #[must_use]
    pub(crate) fn min_rtt(&self) -> Option<Duration> {
        (self.min_nanos != u64::MAX).then(|| Duration::from_nanos(self.min_nanos))
    }

    fn max(&self) -> u64 {
        u64::from(self.max_micros) * 1000
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Bounds are kept in microseconds, up to 71 minutes, to keep the estimator small.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

const _: () = assert!(size_of::<Estimator>() <= 48);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn estimator() -> Estimator {
        Estimator::new(Bounds { initial: MS(1000), min: MS(200), max: MS(120_000) })
    }

    #[test]
    fn the_first_sample_sets_both_and_the_next_moves_them() {
        let mut rtt = estimator();
        assert_eq!((rtt.srtt(), rtt.min_rtt(), rtt.rto()), (None, None, MS(1000)));
        rtt.on_sample(MS(400));
        assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.rto()), (Some(MS(400)), MS(200), MS(1200)));
        rtt.on_sample(MS(800));
        assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.rto()), (Some(MS(450)), MS(250), MS(1450)));
        assert_eq!(rtt.min_rtt(), Some(MS(400)));
    }

    /// R6298-8.
    #[test]
    fn a_steady_path_keeps_the_floor_above_its_round_trip_time() {
        let mut rtt = estimator();
        (0..200).for_each(|_| rtt.on_sample(MS(300)));
        assert!(rtt.rto() >= MS(499) && rtt.rto() <= MS(501), "{:?}", rtt.rto());
    }

    #[test]
    fn backing_off_doubles_up_to_the_maximum_and_survives_samples() {
        let mut rtt = estimator();
        for expected in [2000, 4000, 8000, 16_000, 32_000, 64_000, 120_000, 120_000] {
            rtt.back_off();
            assert_eq!(rtt.rto(), MS(expected));
        }
        (0..100).for_each(|_| rtt.back_off());
        assert_eq!((rtt.rto(), rtt.base_rto()), (MS(120_000), MS(1000)));
        rtt.on_sample(MS(100));
        assert_eq!(rtt.rto(), MS(120_000));
        rtt.reset_back_off();
        assert_eq!(rtt.rto(), MS(300));
    }

    #[test]
    fn a_lost_syn_leaves_three_seconds_for_the_first_data() {
        let mut rtt = estimator();
        rtt.on_handshake_timeout();
        assert_eq!(rtt.rto(), MS(3000));
    }

    proptest::proptest! {
        #[test]
        fn no_sample_leads_out_of_bounds(samples in proptest::collection::vec(proptest::num::u64::ANY, 1..50), doublings in 0..40) {
            let mut rtt = estimator();
            samples.iter().for_each(|sample| rtt.on_sample(Duration::from_nanos(*sample)));
            (0..doublings).for_each(|_| rtt.back_off());
            proptest::prop_assert!(rtt.rto() >= MS(200) && rtt.rto() <= MS(120_000));
            proptest::prop_assert!(rtt.srtt() >= rtt.min_rtt().map(|min| min * 7 / 8));
        }
    }
}
