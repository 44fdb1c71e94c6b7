//! When a connection wants to be called: deadlines by kind. What they are for is the connection's business.
//!
//! The loss-related kinds exclude one another and share a slot. Setting one is a store; the engine's wheel finds out on expiry whether the
//! deadline has moved.

use crate::proto::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimerName {
    /// A partial segment was held back long enough.
    Cork,
    /// A delayed acknowledgment is due.
    DelayedAck,
    /// Nobody reads any more and the peer does not finish.
    FinWait2,
    /// The line was silent for long.
    Keepalive,
    /// The peer's window is closed.
    Persist,
    /// Room that a busy connection keeps is given back once it has been quiet.
    Quiet,
    /// Data went unacknowledged.
    Retransmit,
    /// The 4-tuple rests.
    TimeWait,
}

/// The deadlines of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timers {
    retransmit: Option<Instant>,
    persist: Option<Instant>,
    delayed_ack: Option<Instant>,
    keepalive: Option<Instant>,
    fin_wait_2: Option<Instant>,
    cork: Option<Instant>,
    quiet: Option<Instant>,
}

impl Timers {
    pub(crate) fn set(&mut self, name: TimerName, at: Instant) {
        match name {
            TimerName::Retransmit => self.persist = None,
            TimerName::Persist => self.retransmit = None,
            _ => {}
        }
        if let Some(slot) = self.slot(name) {
            *slot = Some(at);
        }
    }

    pub(crate) fn clear(&mut self, name: TimerName) {
        if let Some(slot) = self.slot(name) {
            *slot = None;
        }
    }

    pub(crate) fn is_set(&mut self, name: TimerName) -> bool {
        self.slot(name).is_some_and(|slot| slot.is_some())
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<(TimerName, Instant)> {
        self.all().into_iter().filter_map(|(name, at)| Some((name, at?))).min_by_key(|(_, at)| *at)
    }

    /// Takes the earliest deadline if it is due.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<TimerName> {
        let (name, _) = self.next().filter(|(_, at)| *at <= now)?;
        self.clear(name);
        Some(name)
    }

    /// The timer that `netstat -o` would show: a delayed ACK or a cork is none.
    pub(crate) fn shown(&self) -> Option<(TimerName, Instant)> {
        let shown = [
            (TimerName::Retransmit, self.retransmit),
            (TimerName::Persist, self.persist),
            (TimerName::FinWait2, self.fin_wait_2),
            (TimerName::Keepalive, self.keepalive),
        ];
        shown.into_iter().find_map(|(name, at)| Some((name, at?)))
    }

    const fn all(&self) -> [(TimerName, Option<Instant>); 7] {
        [
            (TimerName::Retransmit, self.retransmit),
            (TimerName::Persist, self.persist),
            (TimerName::DelayedAck, self.delayed_ack),
            (TimerName::Keepalive, self.keepalive),
            (TimerName::FinWait2, self.fin_wait_2),
            (TimerName::Cork, self.cork),
            (TimerName::Quiet, self.quiet),
        ]
    }

    const fn slot(&mut self, name: TimerName) -> Option<&mut Option<Instant>> {
        match name {
            TimerName::Cork => Some(&mut self.cork),
            TimerName::DelayedAck => Some(&mut self.delayed_ack),
            TimerName::FinWait2 => Some(&mut self.fin_wait_2),
            TimerName::Keepalive => Some(&mut self.keepalive),
            TimerName::Persist => Some(&mut self.persist),
            TimerName::Quiet => Some(&mut self.quiet),
            TimerName::Retransmit => Some(&mut self.retransmit),
            TimerName::TimeWait => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_taken_when_due() {
        let mut timers = Timers::default();
        timers.set(TimerName::Keepalive, Instant::from_nanos(20));
        timers.set(TimerName::DelayedAck, Instant::from_nanos(10));
        assert_eq!(timers.take_expired(Instant::from_nanos(9)), None);
        assert_eq!(timers.take_expired(Instant::from_nanos(20)), Some(TimerName::DelayedAck));
        assert_eq!(timers.take_expired(Instant::from_nanos(20)), Some(TimerName::Keepalive));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn retransmission_and_persistence_exclude_each_other() {
        let mut timers = Timers::default();
        timers.set(TimerName::Retransmit, Instant::from_nanos(5));
        timers.set(TimerName::Persist, Instant::from_nanos(7));
        assert!(!timers.is_set(TimerName::Retransmit));
    }
}
