//! Reno: slow start, congestion avoidance, fast recovery (RFC 5681 §3), NewReno's partial acknowledgments (RFC 6582 §3.2), initial window of
//! RFC 6928. Windows grow by bytes acknowledged (RFC 3465), so that splitting ACKs gains nothing.

use super::{Acknowledged, Controller, Loss, Repeat};

/// RFC 5681's controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reno {
    mss: u32,
    initial: u32,
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged in congestion avoidance since cwnd last grew.
    avoided: u32,
}

impl Reno {
    /// A controller in slow start with a window of `segments` times `mss` bytes, capped as RFC 6928 §2 says when it is ten.
    #[must_use]
    pub fn new(mss: u32, segments: u32) -> Self {
        let initial = segments.saturating_mul(mss).min((2 * mss).max(segments.saturating_mul(SEGMENT_OF_RFC_6928)));
        Self { mss, initial, cwnd: initial, ssthresh: u32::MAX, avoided: 0 }
    }

    fn halve(&mut self, in_flight: u32) {
        self.ssthresh = (in_flight / 2).max(2 * self.mss);
        self.avoided = 0;
    }
}

impl Controller for Reno {
    fn name(&self) -> &'static str {
        "reno"
    }

    fn window(&self) -> u32 {
        self.cwnd
    }

    fn threshold(&self) -> u32 {
        self.ssthresh
    }

    fn on_acknowledged(&mut self, event: Acknowledged) {
        if !event.window_limited {
            return;
        }
        if self.cwnd < self.ssthresh {
            // A stretch ACK counts for what it acknowledges; the excess over ssthresh is congestion avoidance's.
            self.cwnd = self.cwnd.saturating_add(event.bytes).min(self.ssthresh.max(self.cwnd)).min(WINDOW_MAX);
        } else {
            self.avoided = self.avoided.saturating_add(event.bytes);
            if self.avoided >= self.cwnd {
                self.avoided -= self.cwnd;
                self.cwnd = self.cwnd.saturating_add(self.mss).min(WINDOW_MAX);
            }
        }
    }

    fn on_duplicate(&mut self, bytes: u32) {
        self.cwnd = self.cwnd.saturating_add(bytes).min(WINDOW_MAX);
    }

    fn on_loss(&mut self, event: Loss) {
        self.halve(event.in_flight);
        self.cwnd = self.ssthresh.saturating_add(3 * self.mss);
    }

    fn on_partial(&mut self, bytes: u32) {
        self.cwnd = self.cwnd.saturating_sub(bytes).max(self.mss);
        if bytes >= self.mss {
            self.cwnd += self.mss;
        }
    }

    fn on_recovered(&mut self, in_flight: u32) {
        self.cwnd = self.ssthresh.min(in_flight.max(self.mss).saturating_add(self.mss));
        self.avoided = 0;
    }

    fn on_timeout(&mut self, event: Loss, repeat: Repeat) {
        if repeat == Repeat::First {
            self.halve(event.in_flight);
        }
        self.cwnd = self.mss;
    }

    fn on_idle(&mut self) {
        self.cwnd = self.cwnd.min(self.initial);
    }

    fn on_mss(&mut self, mss: u32) {
        self.mss = mss.max(1);
        self.cwnd = self.cwnd.max(self.mss);
    }
}

/// The segment size, in bytes, that RFC 6928's ten segments are meant for: 14,600 / 10.
const SEGMENT_OF_RFC_6928: u32 = 1460;

/// No window above RFC 7323's largest, in bytes.
const WINDOW_MAX: u32 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Instant;

    fn acknowledged(bytes: u32) -> Acknowledged {
        Acknowledged { now: Instant::START, bytes, in_flight: 0, rtt: None, window_limited: true }
    }

    const LOSS: Loss = Loss { now: Instant::START, in_flight: 20_000 };

    /// R5681-2, R5681-6.
    #[test]
    fn slow_start_doubles_and_avoidance_adds_one_segment() {
        let mut reno = Reno::new(1000, 10);
        reno.on_acknowledged(acknowledged(10_000));
        assert_eq!(reno.window(), 20_000);
        reno.on_loss(LOSS);
        assert_eq!((reno.threshold(), reno.window()), (10_000, 13_000));
        reno.on_recovered(10_000);
        assert_eq!(reno.window(), 10_000);
        reno.on_acknowledged(acknowledged(9_999));
        assert_eq!(reno.window(), 10_000);
        reno.on_acknowledged(acknowledged(1));
        assert_eq!(reno.window(), 11_000);
    }

    /// R6582-3: what was acknowledged at once must not leave at once.
    #[test]
    fn recovery_ends_without_a_burst() {
        let mut reno = Reno::new(1000, 10);
        reno.on_loss(LOSS);
        reno.on_recovered(0);
        assert_eq!((reno.threshold(), reno.window()), (10_000, 2_000));
    }

    #[test]
    fn a_repeated_timeout_leaves_ssthresh() {
        let mut reno = Reno::new(1000, 10);
        reno.on_timeout(LOSS, Repeat::First);
        reno.on_timeout(Loss { in_flight: 2_000, ..LOSS }, Repeat::Again);
        assert_eq!((reno.threshold(), reno.window()), (10_000, 1_000));
    }

    #[test]
    fn an_idle_sender_starts_anew_and_an_unused_window_does_not_grow() {
        let mut reno = Reno::new(1000, 10);
        reno.on_acknowledged(Acknowledged { window_limited: false, ..acknowledged(10_000) });
        assert_eq!(reno.window(), 10_000);
        reno.on_acknowledged(acknowledged(50_000));
        reno.on_idle();
        assert_eq!(reno.window(), 10_000);
    }
}
