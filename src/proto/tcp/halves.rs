//! Closing as a product of two halves, from which the RFC's state names are derived (RFC 9293 §3.3.2).
//!
//! ```text
//!   ours \ theirs        Open            Finished
//!   Open                 ESTABLISHED     CLOSE-WAIT
//!   Closing              FIN-WAIT-1      CLOSING, or LAST-ACK if they finished first
//!   Closed               FIN-WAIT-2      TIME-WAIT, or gone if they finished first
//! ```
//!
//! Half-close is thus not a feature but the model: either half can end while the other lives on.

use super::state::State;

/// Our half: what we may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// Data may be written.
    Open,
    /// Our FIN is queued or in flight.
    Closing,
    /// Our FIN is acknowledged.
    Closed,
}

/// Their half: what may still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theirs {
    /// Data may arrive.
    Open,
    /// Their FIN has arrived, and everything before it.
    Finished,
}

/// How a connection's protocol side ends in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Ending {
    /// We closed first, or both at once: the 4-tuple must rest.
    TimeWait,
    /// They closed first: nothing is left to wait for.
    Gone,
}

/// Both halves, and who finished first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Halves {
    ours: Ours,
    theirs: Theirs,
    they_finished_first: bool,
}

impl Halves {
    /// Both open: ESTABLISHED.
    pub(crate) const fn open() -> Self {
        Self { ours: Ours::Open, theirs: Theirs::Open, they_finished_first: false }
    }

    pub(crate) const fn ours(self) -> Ours {
        self.ours
    }

    pub(crate) const fn theirs(self) -> Theirs {
        self.theirs
    }

    /// The user asked for no more sending. Only the first call changes anything.
    pub(crate) fn on_shutdown(&mut self) {
        if self.ours == Ours::Open {
            self.ours = Ours::Closing;
        }
    }

    /// Our FIN was acknowledged.
    pub(crate) fn on_fin_acknowledged(&mut self) {
        debug_assert_eq!(self.ours, Ours::Closing, "only a FIN that was sent can be acknowledged");
        self.ours = Ours::Closed;
    }

    /// Their FIN arrived in order.
    pub(crate) fn on_fin_received(&mut self) {
        if self.theirs == Theirs::Open {
            self.theirs = Theirs::Finished;
            self.they_finished_first = self.ours == Ours::Open;
        }
    }

    /// How the connection ends, once both halves have.
    pub(crate) fn ending(self) -> Option<Ending> {
        match self.state() {
            State::TimeWait => Some(Ending::TimeWait),
            State::Closed => Some(Ending::Gone),
            _ => None,
        }
    }

    /// The RFC's name for the pair.
    pub(crate) const fn state(self) -> State {
        match (self.ours, self.theirs, self.they_finished_first) {
            (Ours::Open, Theirs::Open, _) => State::Established,
            (Ours::Open, Theirs::Finished, _) => State::CloseWait,
            (Ours::Closing, Theirs::Open, _) => State::FinWait1,
            (Ours::Closing, Theirs::Finished, false) => State::Closing,
            (Ours::Closing, Theirs::Finished, true) => State::LastAck,
            (Ours::Closed, Theirs::Open, _) => State::FinWait2,
            (Ours::Closed, Theirs::Finished, false) => State::TimeWait,
            (Ours::Closed, Theirs::Finished, true) => State::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(steps: &[fn(&mut Halves)]) -> Vec<State> {
        let mut halves = Halves::open();
        steps
            .iter()
            .map(|step| {
                step(&mut halves);
                halves.state()
            })
            .collect()
    }

    #[test]
    fn we_close_first() {
        let steps: &[fn(&mut Halves)] = &[Halves::on_shutdown, Halves::on_fin_acknowledged, Halves::on_fin_received];
        assert_eq!(walk(steps), [State::FinWait1, State::FinWait2, State::TimeWait]);
    }

    #[test]
    fn they_close_first() {
        let steps: &[fn(&mut Halves)] = &[Halves::on_fin_received, Halves::on_shutdown, Halves::on_fin_acknowledged];
        assert_eq!(walk(steps), [State::CloseWait, State::LastAck, State::Closed]);
    }

    #[test]
    fn both_close_at_once() {
        let steps: &[fn(&mut Halves)] = &[Halves::on_shutdown, Halves::on_fin_received, Halves::on_fin_acknowledged];
        assert_eq!(walk(steps), [State::FinWait1, State::Closing, State::TimeWait]);
    }
}
