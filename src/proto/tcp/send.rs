//! The send sequence space and the bytes in it (RFC 9293 §3.3.1, §3.8.6).
//!
//! ```text
//!        1          2          3          4
//!   ----------|----------|----------|----------
//!          snd.una    snd.nxt    snd.una + snd.wnd
//!   1 acknowledged   2 in flight   3 may be sent   4 may not be sent yet
//! ```
//!
//! The queue begins at `snd.una`. FIN stands behind its last byte and takes one number. Told of the peer's acknowledgments and windows; knows
//! nothing of loss, congestion or time.

use std::ops::ControlFlow;

use super::buffer::{Pool, Queue};
use crate::proto::wire::{Segment, SeqNum};

/// The sender of one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) iss: SeqNum,
    pub(crate) una: SeqNum,
    pub(crate) nxt: SeqNum,
    wnd: u32,
    wl1: SeqNum,
    wl2: SeqNum,
    /// MAX.SND.WND (RFC 5961 §5.2).
    max_wnd: u32,
    /// Snd.Wind.Shift.
    scale: u8,
    fin: Fin,
    /// The end of the last partial segment sent: while it is unacknowledged, no other one goes out (Minshall's variant of Nagle).
    partial_end: SeqNum,
    queue: Queue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    NotQueued,
    Queued,
    Acknowledged,
}

/// What an acknowledgment covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) bytes: u32,
    pub(crate) fin: bool,
}

impl Sender {
    /// A sender whose SYN is acknowledged.
    pub(crate) fn new(iss: SeqNum, scale: u8, window: u32, syn: &Segment) -> Self {
        let next = iss + 1;
        Self {
            iss,
            una: next,
            nxt: next,
            wnd: window,
            wl1: syn.seq,
            wl2: syn.ack,
            max_wnd: window,
            scale,
            fin: Fin::NotQueued,
            partial_end: iss,
            queue: Queue::new(),
        }
    }

    /// Appends as much as fits into `capacity` bytes and returns how much that is.
    pub(crate) fn write(&mut self, data: &[u8], capacity: u32, pool: &mut Pool) -> usize {
        let accepted = data.len().min(self.room(capacity));
        self.queue.push_copy(&data[..accepted], pool);
        accepted
    }

    /// Bytes that can be written.
    pub(crate) fn room(&self, capacity: u32) -> usize {
        (capacity as usize).saturating_sub(self.queue.len())
    }

    /// FIN follows the last byte.
    pub(crate) fn queue_fin(&mut self) {
        if self.fin == Fin::NotQueued {
            self.fin = Fin::Queued;
        }
    }

    /// True while FIN waits for its first transmission.
    pub(crate) fn fin_is_unsent(&self) -> bool {
        self.fin == Fin::Queued && self.nxt <= self.data_end()
    }

    /// True if FIN is queued or was sent, and is not acknowledged.
    pub(crate) fn fin_is_queued(&self) -> bool {
        self.fin == Fin::Queued
    }

    /// The number behind the last queued byte: FIN's own, if there is one.
    pub(crate) fn data_end(&self) -> SeqNum {
        self.una + self.queued_bytes()
    }

    /// Bytes queued and not acknowledged.
    pub(crate) fn queued_bytes(&self) -> u32 {
        u32::try_from(self.queue.len()).expect("the send buffer is at most 1 GiB")
    }

    /// Bytes queued and never sent.
    pub(crate) fn unsent(&self) -> u32 {
        self.data_end().since(self.nxt)
    }

    /// Numbers sent and not acknowledged, FIN included.
    pub(crate) fn flight(&self) -> u32 {
        self.nxt - self.una
    }

    /// Bytes that the peer's window lets us send beyond `snd.nxt`.
    pub(crate) fn usable_window(&self) -> u32 {
        (self.una + self.wnd).since(self.nxt)
    }

    /// Where a segment without text stands so that the peer takes it: at `snd.nxt`, or at the edge of a window that has shrunk since.
    pub(crate) fn acceptable_seq(&self) -> SeqNum {
        self.nxt.min(self.una + self.wnd)
    }

    pub(crate) const fn window(&self) -> u32 {
        self.wnd
    }

    pub(crate) const fn max_window(&self) -> u32 {
        self.max_wnd
    }

    /// The window that a segment announces, in bytes.
    pub(crate) fn announced(&self, segment: &Segment) -> u32 {
        u32::from(segment.window) << self.scale
    }

    /// Takes an acceptable acknowledgment: `snd.una <= ack <= snd.nxt`.
    pub(crate) fn on_ack(&mut self, ack: SeqNum, pool: &mut Pool) -> Acked {
        debug_assert!(self.una <= ack && ack <= self.nxt, "check_ack lets no other through");
        let fin = self.fin == Fin::Queued && self.data_end() < ack;
        let bytes = (ack - self.una) - u32::from(fin);
        self.queue.advance(bytes as usize);
        if self.queue.is_empty() {
            self.queue.release(pool);
        }
        self.una = ack;
        if fin {
            self.fin = Fin::Acknowledged;
        }
        if self.partial_end < self.una {
            self.partial_end = self.una.back(1);
        }
        Acked { bytes, fin }
    }

    /// Takes the segment's window if the segment is newer than the last one that set it; true if the window changed.
    pub(crate) fn on_window(&mut self, segment: &Segment) -> bool {
        let newer = self.wl1 < segment.seq || (self.wl1 == segment.seq && self.wl2 <= segment.ack) || self.una < segment.ack;
        if !newer {
            return false;
        }
        self.wl1 = segment.seq;
        self.wl2 = segment.ack;
        let announced = self.announced(segment);
        self.max_wnd = self.max_wnd.max(announced);
        std::mem::replace(&mut self.wnd, announced) != announced
    }

    /// True if a partial segment is in flight.
    pub(crate) fn partial_in_flight(&self) -> bool {
        self.una < self.partial_end
    }

    /// New data up to `end` was sent; `partial` if its last segment was not full.
    pub(crate) fn on_sent(&mut self, end: SeqNum, last: Last) {
        self.nxt = self.nxt.max(end);
        if last == Last::Partial {
            self.partial_end = end;
        }
    }

    /// Hands out views of `[seq, seq + len)` until `take` refuses one; returns the bytes handed out.
    pub(crate) fn views(&mut self, seq: SeqNum, len: u32, take: impl FnMut(bytes::Bytes) -> ControlFlow<()>) -> u32 {
        let offset = seq.since(self.una) as usize;
        let taken = self.queue.views(offset, len as usize, take);
        u32::try_from(taken).expect("no more than asked for")
    }

    pub(crate) fn has_spare_room(&self) -> bool {
        self.queue.has_spare_room()
    }

    pub(crate) fn shrink(&mut self) {
        self.queue.shrink();
    }

    /// Drops everything queued: the connection is aborted.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.queue.advance(self.queue.len());
        self.queue.release(pool);
    }

    /// Memory that the queue holds, in bytes.
    pub(crate) fn charge(&self) -> usize {
        self.queue.charge()
    }
}

/// Whether a frame ended with a full segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Full,
    Partial,
}
