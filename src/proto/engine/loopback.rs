//! Segments from this host to itself: a queue that the outermost call drains, so that nothing receives from within receiving.
//!
//! Every segment, timer and state is real; only the bytes of the headers are not written, since their reader sits next to their writer. The
//! payload is shared, not copied.

use std::collections::VecDeque;

use super::Engine;
use super::arrival::Arrival;
use crate::proto::link::TxFrame;
use crate::proto::tcp::buffer::{Payload, Views};
use crate::proto::wire::{Segment, Tuple};

/// A segment on its way to ourselves.
#[derive(Debug)]
pub(super) struct Looped {
    /// Seen from the receiving side.
    pub(super) tuple: Tuple,
    pub(super) segment: Segment,
    /// Its views are the payload.
    pub(super) frame: TxFrame,
}

/// The queue. It is as long as what one call lets connections send before it drains.
pub(super) type Queue = VecDeque<Looped>;

impl Engine {
    /// Takes one looped segment in; false when there was none.
    pub(super) fn receive_looped(&mut self) -> bool {
        let Some(looped) = self.loopback.pop_front() else { return false };
        let before = self.trace_looped(&looped);
        let Looped { tuple, segment, frame } = looped;
        self.stats.frames_looped += 1;
        let text = Payload::Views(Views::new(frame.views()));
        self.receive_segment(Arrival { tuple, segment, from: None }, text);
        self.trace_end(before);
        true
    }
}
