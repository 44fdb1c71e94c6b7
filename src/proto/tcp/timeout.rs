//! Time passes: what each timer of a connection does when it expires (RFC 6298 §5, RFC 9293 §3.8).

use std::time::Duration;

use super::close::CloseReason;
use super::config::Config;
use super::congestion::{Loss, Repeat};
use super::connection::{Connection, Holding, Probe, Reader};
use super::context::Context;
use super::timers::TimerName;
use crate::proto::Instant;
use crate::proto::wire::Segment;

/// What the engine is to do after a connection's timers ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Timeout {
    /// Ask the connection for output.
    Speak,
    /// The same; and the path may be dead: R1 retransmissions went unanswered (RFC 9293 MUST-20).
    Suspect,
    /// The connection is over; this reset tells the peer.
    Reset(Segment),
}

impl Connection {
    /// Runs every timer that is due.
    pub(crate) fn on_time(&mut self, cx: &mut Context<'_>) -> Timeout {
        let mut outcome = Timeout::Speak;
        while let Some(name) = self.timers.take_expired(cx.now) {
            match name {
                TimerName::Cork => self.holding = Holding::Released,
                TimerName::DelayedAck => {
                    cx.counters.delayed_acks += 1;
                    self.ack.on_delay_over();
                }
                TimerName::FinWait2 => self.die(CloseReason::Finished),
                TimerName::Keepalive => {
                    if let Some(reset) = self.on_keepalive(cx) {
                        outcome = Timeout::Reset(reset);
                    }
                }
                TimerName::Persist => self.on_persist(cx),
                TimerName::Retransmit => {
                    self.on_retransmission_timeout(cx);
                    if self.retransmits == cx.config.retries_r1 {
                        outcome = Timeout::Suspect;
                    }
                }
                TimerName::Quiet => self.on_quiet(cx),
                TimerName::TimeWait => {}
            }
        }
        self.check_invariants();
        outcome
    }

    /// Sees to it that a connection that falls quiet gives back what it keeps for being busy.
    pub(crate) fn watch_for_quiet(&mut self, now: Instant) {
        if self.has_spare_room() && !self.timers.is_set(TimerName::Quiet) {
            self.timers.set(TimerName::Quiet, now + QUIET);
        }
    }

    fn on_quiet(&mut self, cx: &Context<'_>) {
        let quiet_at = self.last_received.max(self.last_sent) + QUIET;
        if quiet_at > cx.now {
            self.timers.set(TimerName::Quiet, quiet_at);
        } else {
            self.snd.shrink();
            self.rcv.shrink();
            self.recovery.shrink();
        }
    }

    fn has_spare_room(&self) -> bool {
        self.snd.has_spare_room() || self.rcv.has_spare_room() || self.recovery.has_spare_room()
    }

    /// RFC 6298 §5.4–5.6, RFC 9293 §3.8.3.
    fn on_retransmission_timeout(&mut self, cx: &mut Context<'_>) {
        if self.snd.flight() == 0 {
            return;
        }
        let since = *self.unanswered_since.get_or_insert_with(|| self.recovery.oldest_sent_at().unwrap_or(cx.now));
        if self.retransmits > 0
            && let Some(reason) = self.gives_up(cx, since)
        {
            self.die(reason);
            return;
        }
        let repeat = if self.retransmits == 0 { Repeat::First } else { Repeat::Again };
        let in_flight = self.recovery.pipe(self.snd.flight());
        self.retransmits += 1;
        cx.counters.timeouts += 1;
        self.congestion.on_timeout(Loss { now: cx.now, in_flight }, repeat);
        self.recovery.on_timeout(self.snd.nxt);
        self.rtt.back_off();
        let rto = self.options.user_timeout.map_or(Duration::MAX, |limit| remaining(limit, cx.now - since)).min(self.rtt.rto());
        self.timers.set(TimerName::Retransmit, cx.now + rto);
    }

    /// Why a connection whose data has gone unacknowledged since then is given up, if it is. What a window that shrank to zero has left
    /// stranded is a probe: answers keep the connection alive (RFC 9293 SHLD-17), but for the user's own limit.
    fn gives_up(&self, cx: &Context<'_>, since: Instant) -> Option<CloseReason> {
        if let Some(limit) = self.options.user_timeout {
            return (cx.now - since >= limit).then_some(CloseReason::UserTimeout);
        }
        let stranded = self.snd.window() == 0;
        if stranded && self.last_sent <= self.last_received {
            return None;
        }
        let silent_since = if stranded { since.max(self.last_received) } else { since };
        let limit = patience(cx.config, self.retries_max(cx.config));
        (cx.now - silent_since >= limit).then(|| self.timed_out())
    }

    /// What a router has said explains the silence better than the silence itself.
    fn timed_out(&self) -> CloseReason {
        self.soft_error.unwrap_or(CloseReason::RetransmissionTimeout)
    }

    fn retries_max(&self, config: &Config) -> u32 {
        if self.reader == Reader::Gone { config.orphan_retries } else { config.retries }
    }

    /// A closed window is asked about at growing intervals, and never given up while the peer answers (MUST-36, MUST-37, SHLD-30).
    fn on_persist(&mut self, cx: &mut Context<'_>) {
        if self.snd.flight() > 0 || (self.snd.unsent() == 0 && !self.snd.fin_is_unsent()) {
            return;
        }
        if self.probes == 0 {
            self.unanswered_since = Some(cx.now);
        }
        let silent = self.unanswered_since.map_or(Duration::ZERO, |since| cx.now - since);
        if self.probes > 0 && self.options.user_timeout.is_some_and(|limit| silent >= limit) {
            self.die(CloseReason::UserTimeout);
            return;
        }
        if self.probes >= self.retries_max(cx.config) {
            self.die(self.timed_out());
            return;
        }
        self.probes += 1;
        cx.counters.window_probes += 1;
        self.probe_due = Some(if self.snd.usable_window() > 0 { Probe::Partial } else { Probe::Bare });
        self.rtt.back_off();
        self.timers.set(TimerName::Persist, cx.now + self.rtt.rto());
    }

    /// Two people on a bad line: after a long silence one asks whether the other still hears (RFC 9293 §3.8.4).
    fn on_keepalive(&mut self, cx: &mut Context<'_>) -> Option<Segment> {
        let times = self.options.keepalive_times;
        let silent = cx.now - self.last_received;
        if self.snd.flight() > 0 || self.snd.unsent() > 0 {
            // Retransmissions probe the line already (MUST-26).
            self.timers.set(TimerName::Keepalive, cx.now + times.idle);
            return None;
        }
        if silent < times.idle {
            self.arm_keepalive();
            return None;
        }
        let unheard = match self.options.user_timeout {
            Some(limit) => self.probes > 0 && silent >= limit,
            None => self.probes >= times.count,
        };
        if unheard {
            let reset = self.reset_segment(cx.now);
            self.die(CloseReason::KeepaliveTimeout);
            return Some(reset);
        }
        self.probes += 1;
        cx.counters.keepalive_probes += 1;
        self.probe_due = Some(Probe::Bare);
        self.timers.set(TimerName::Keepalive, cx.now + times.interval);
        None
    }
}

/// How long `retries` retransmissions take from the minimum RTO on, doubled each time up to the maximum: the time after which Linux gives up,
/// whatever the RTO really was.
fn patience(config: &Config, retries: u32) -> Duration {
    let (mut total, mut rto) = (Duration::ZERO, config.rto_min);
    for _ in 0..=retries {
        total = total.saturating_add(rto);
        rto = (rto * 2).min(config.rto_max);
    }
    total
}

/// How long a connection is quiet before it is taken for idle.
const QUIET: Duration = Duration::from_secs(1);

/// The rest of a limit, but never nothing: a timer that is set again must not fire at once for ever.
fn remaining(limit: Duration, elapsed: Duration) -> Duration {
    limit.saturating_sub(elapsed).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHLD-11: more than 100 s. SHLD-10: R1 is at least three retransmissions.
    #[test]
    fn patience_is_what_linux_documents() {
        assert_eq!(patience(&Config::default(), 15), Duration::from_millis(924_600));
        assert!(Config::default().retries_r1 >= 3 && Config::rfc().retries_r1 >= 3);
        assert!(patience(&Config::rfc(), Config::rfc().retries) >= Duration::from_secs(100));
    }
}
