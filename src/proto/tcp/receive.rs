//! The receive sequence space, what has arrived in it, and the window that we announce (RFC 9293 §3.3.1, §3.8.6; RFC 7323 §2.3).
//!
//! ```text
//!        1             2             3
//!   -----------|---------------|----------
//!           rcv.nxt     edge = rcv.nxt + rcv.wnd
//!   1 received in order    2 may arrive (ranges of it are here already)    3 may not arrive yet
//! ```
//!
//! The announced right edge never moves left (SHLD-14). What is kept is charged to the receive buffer. It knows nothing of timers or of when to
//! acknowledge.

use super::buffer::{Payload, Pool, Queue, Ranges};
use crate::proto::wire::{SackBlocks, Segment, SeqNum};

/// The receiver of one connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) irs: SeqNum,
    pub(crate) nxt: SeqNum,
    /// The greatest right edge ever announced.
    edge: SeqNum,
    /// Rcv.Wind.Shift.
    scale: u8,
    finished: bool,
    /// Where FIN stands, once it was seen ahead of missing data.
    fin: Option<SeqNum>,
    /// RCV.UP: the end of urgent data.
    urgent: Option<SeqNum>,
    queue: Queue,
    ranges: Option<Box<Ranges>>,
    ranges_max: usize,
}

/// What a segment's text did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Bytes that became readable.
    pub(crate) delivered: u32,
    /// Something is missing before it, or it closed a gap, or it was here already: the sender needs to know.
    pub(crate) disorder: bool,
    /// Out of order, and as many ranges as may be are there already: some of it was dropped.
    pub(crate) refused: bool,
}

impl Receiver {
    pub(crate) fn new(irs: SeqNum, scale: u8, window: u32, ranges_max: usize) -> Self {
        let nxt = irs + 1;
        Self {
            irs,
            nxt,
            edge: nxt + window,
            scale,
            finished: false,
            fin: None,
            urgent: None,
            queue: Queue::new(),
            ranges: None,
            ranges_max,
        }
    }

    /// RCV.WND: bytes from `rcv.nxt` to the announced edge.
    pub(crate) fn window(&self) -> u32 {
        self.edge.since(self.nxt)
    }

    pub(crate) const fn scale(&self) -> u8 {
        self.scale
    }

    pub(crate) fn readable(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(crate) fn out_of_order(&self) -> usize {
        self.ranges.as_ref().map_or(0, |ranges| ranges.bytes())
    }

    /// Takes text at `seq`, which lies inside the window. `capacity` is the receive buffer: islands of a few bytes may not cost more than it.
    pub(crate) fn on_text(&mut self, seq: SeqNum, mut payload: Payload<'_>, capacity: u32, pool: &mut Pool) -> Accepted {
        let mut accepted = Accepted::default();
        let overlap = self.nxt.since(seq) as usize;
        if overlap > 0 {
            accepted.disorder = true;
            payload.trim_front(overlap);
        }
        let seq = seq.max(self.nxt);
        let end = self.fin.map_or(self.edge, |fin| fin.min(self.edge));
        payload.truncate(end.since(seq) as usize);
        if payload.is_empty() {
            return accepted;
        }
        if seq == self.nxt && !self.has_gaps() {
            accepted.delivered = self.append(payload, pool);
            return accepted;
        }
        accepted.disorder = true;
        if seq != self.nxt && !self.has_memory(capacity) {
            accepted.refused = true;
            return accepted;
        }
        let ranges_max = self.ranges_max;
        let ranges = self.ranges.get_or_insert_with(|| Box::new(Ranges::new(ranges_max)));
        accepted.refused = ranges.insert(seq, payload, pool).refused;
        accepted.delivered = self.take_ready(pool);
        accepted
    }

    /// Their FIN stands at `seq`. The first one counts.
    pub(crate) fn on_fin(&mut self, seq: SeqNum) {
        self.fin.get_or_insert(seq);
    }

    /// Steps over FIN if everything before it is here; true the first time.
    pub(crate) fn take_fin(&mut self) -> bool {
        let reached = !self.finished && self.fin == Some(self.nxt);
        if reached {
            self.finished = true;
            self.nxt += 1;
            self.edge = self.edge.max(self.nxt);
            self.ranges = None; // everything before FIN is here
        }
        reached
    }

    /// An urgent pointer arrived; true if it announces more urgent data than was known (RFC 9293 §3.8.5).
    pub(crate) fn on_urgent(&mut self, segment: &Segment) -> bool {
        let end = segment.seq + u32::from(segment.urgent);
        let advances = self.nxt < end && self.urgent.is_none_or(|known| known < end);
        if advances {
            self.urgent = Some(end);
        }
        advances
    }

    /// Urgent bytes that are still to be read or to arrive.
    pub(crate) fn urgent_left(&self) -> u32 {
        let read = self.nxt.back(u32::try_from(self.queue.len()).unwrap_or(u32::MAX));
        self.urgent.map_or(0, |end| end.since(read))
    }

    /// Reads into `buffer`.
    pub(crate) fn read(&mut self, buffer: &mut [u8], pool: &mut Pool) -> usize {
        let read = self.queue.read(buffer, pool);
        if self.queue.is_empty() {
            self.queue.release(pool);
        }
        if self.urgent_left() == 0 {
            self.urgent = None;
        }
        read
    }

    pub(crate) fn peek(&self, buffer: &mut [u8]) -> usize {
        self.queue.copy_to(0, buffer)
    }

    /// The window field for the next segment; announces it. `capacity` is the receive buffer, `mss` the largest segment expected.
    pub(crate) fn announce(&mut self, capacity: u32, mss: u32) -> u16 {
        self.edge = self.edge_with(capacity, mss);
        let rounded = self.window().next_multiple_of(1 << self.scale);
        // Rounding up keeps the announced edge from moving left (RFC 7323 §2.4). What it gives away is accepted, so it must end: many tiny
        // segments would otherwise move the edge without limit while nobody reads.
        if self.charge() + rounded as usize <= (capacity + capacity / 4) as usize {
            self.edge = self.nxt + rounded;
        }
        u16::try_from(self.window() >> self.scale).unwrap_or(u16::MAX)
    }

    /// True if the window that could be announced is worth a segment of its own: at least twice what the peer still has.
    pub(crate) fn window_update_is_due(&self, capacity: u32, mss: u32) -> bool {
        let possible = self.edge_with(capacity, mss).since(self.nxt);
        !self.finished && possible > self.window() && possible / 2 >= self.window()
    }

    /// SACK blocks, most recent first (RFC 2018 §4).
    pub(crate) fn sack_blocks(&self) -> SackBlocks {
        self.ranges.as_ref().map_or_else(SackBlocks::default, |ranges| ranges.blocks())
    }

    pub(crate) fn has_gaps(&self) -> bool {
        self.ranges.as_ref().is_some_and(|ranges| !ranges.is_empty())
    }

    /// Takes what is readable out of a connection that ends.
    pub(crate) fn take_queue(&mut self) -> Queue {
        std::mem::replace(&mut self.queue, Queue::new())
    }

    /// True if nothing is here and more memory is kept than an idle connection may.
    pub(crate) fn has_spare_room(&self) -> bool {
        self.queue.has_spare_room() || (self.ranges.is_some() && !self.has_gaps())
    }

    /// Gives that memory back.
    pub(crate) fn shrink(&mut self) {
        self.queue.shrink();
        if !self.has_gaps() {
            self.ranges = None;
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.queue.clear(pool);
        if let Some(mut ranges) = self.ranges.take() {
            ranges.clear(pool);
        }
    }

    /// Memory that is held, in bytes.
    pub(crate) fn charge(&self) -> usize {
        self.queue.charge() + self.ranges.as_ref().map_or(0, |ranges| ranges.charge())
    }

    /// True if something out of order may still be kept: blocks cost at most twice the bytes in them, unless these are scattered.
    fn has_memory(&self, capacity: u32) -> bool {
        let kept = self.queue.len() + self.out_of_order();
        self.charge() <= (capacity as usize).max(2 * kept) + SCATTERED_BYTES
    }

    /// Where the edge would stand: free space in whole units of the scale, but moved only by a worthwhile step (RFC 9293 §3.8.6.2.2).
    fn edge_with(&self, capacity: u32, mss: u32) -> SeqNum {
        let charge = u32::try_from(self.charge()).unwrap_or(u32::MAX);
        let announceable = u32::from(u16::MAX) << self.scale;
        let free = (capacity.saturating_sub(charge) >> self.scale << self.scale).min(announceable);
        let candidate = self.nxt + free;
        let step = mss.min(capacity / 2).max(1);
        if candidate.distance(self.edge) >= i32::try_from(step).unwrap_or(i32::MAX) { candidate } else { self.edge }
    }

    fn append(&mut self, payload: Payload<'_>, pool: &mut Pool) -> u32 {
        let len = u32::try_from(payload.len()).expect("cut to the window");
        self.queue.push(payload, pool);
        self.nxt += len;
        len
    }

    fn take_ready(&mut self, pool: &mut Pool) -> u32 {
        let mut delivered = 0;
        while let Some(queue) = self.ranges.as_mut().and_then(|ranges| ranges.take_ready(self.nxt, pool)) {
            let len = u32::try_from(queue.len()).expect("cut to the window");
            self.queue.append(queue, pool);
            self.nxt += len;
            delivered += len;
        }
        // An empty set of ranges stays: where there was disorder there will be more.
        delivered
    }
}

/// What scattered bytes may cost beyond the receive buffer: 4 KiB, less the block and the record that the last of them brings.
const SCATTERED_BYTES: usize = 3 << 10;
