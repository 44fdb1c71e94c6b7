//! An impaired wire between two hosts, in memory and in virtual time: loss, duplication, reordering, corruption, delay, a bounded queue.
//!
//! ```text
//!   TxFrame ─► cut? ─► completed ─► bottleneck (rate, queue) ─► lost? twice? late? damaged? ─► arrival
//! ```
//!
//! Every choice comes from one seed. It must not know what the frames mean, except where their headers begin.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use synfin::proto::{TxFrame, cut};

use crate::rng::Rng;

/// What a direction does to frames. Chances are in permille.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Impairment {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    pub(crate) corrupt: u64,
    /// One way.
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
}

/// Whether super-packets travel as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cutting {
    BeforeTheWire,
    Never,
}

/// How fast the wire is and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bottleneck {
    pub(crate) bytes_per_ms: u64,
    /// How long the last frame of a full queue waits; a frame that would wait longer is lost.
    pub(crate) queue: Duration,
}

/// A frame at the far end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival {
    /// Since the wire was made.
    pub(crate) at: Duration,
    /// Frames that arrive at once keep their order.
    serial: u64,
    /// Which host: 0 or 1.
    pub(crate) to: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) segment_size: u16,
}

/// What the wire has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) carried: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
}

/// The wire.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) impairment: Impairment,
    pub(crate) tally: Tally,
    rng: Rng,
    cutting: Cutting,
    bottleneck: Bottleneck,
    /// When the last frame of each direction has left the bottleneck.
    busy_until: [Duration; 2],
    serial: u64,
    in_flight: BinaryHeap<Reverse<Arrival>>,
}

impl Wire {
    pub(crate) fn new(seed: u64, impairment: Impairment, cutting: Cutting, bottleneck: Bottleneck) -> Self {
        let rng = Rng::new(seed ^ 0x77_69_72_65);
        let (tally, busy_until, in_flight) = (Tally::default(), [Duration::ZERO; 2], BinaryHeap::new());
        Self { impairment, tally, rng, cutting, bottleneck, busy_until, serial: 0, in_flight }
    }

    /// Takes a frame of host `from` at time `now`.
    pub(crate) fn send(&mut self, now: Duration, from: usize, frame: &TxFrame) {
        match self.cutting {
            Cutting::BeforeTheWire => cut::cut(frame).for_each(|segment| self.send_one(now, from, segment, 0)),
            Cutting::Never => self.send_one(now, from, frame.clone(), frame.segment_size),
        }
    }

    /// When the next frame arrives.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.in_flight.peek().map(|Reverse(arrival)| arrival.at)
    }

    /// The frame that has arrived first, if one has by `now`.
    pub(crate) fn take(&mut self, now: Duration) -> Option<Arrival> {
        self.next_at().filter(|at| *at <= now)?;
        self.in_flight.pop().map(|Reverse(arrival)| arrival)
    }

    fn send_one(&mut self, now: Duration, from: usize, mut frame: TxFrame, segment_size: u16) {
        let transport = usize::from(frame.transport_offset);
        let network = usize::from(frame.network_offset);
        cut::complete(&mut frame);
        let mut bytes = frame.to_vec();
        let start = self.busy_until[from].max(now);
        let Impairment { loss, duplicate, reorder, corrupt, delay, jitter } = self.impairment;
        self.tally.carried += 1;
        if start - now > self.bottleneck.queue || self.rng.chance(loss) {
            self.tally.lost += 1;
            return;
        }
        let nanos = bytes.len() as u64 * 1_000_000 / self.bottleneck.bytes_per_ms;
        self.busy_until[from] = start + Duration::from_nanos(nanos);
        // ARP and NDP carry no checksum that every flip breaks: only TCP is damaged.
        if transport > 0 && self.rng.chance(corrupt) {
            self.tally.corrupted += 1;
            let at = usize::try_from(self.rng.between(network as u64, bytes.len() as u64 - 1)).expect("an index");
            bytes[at] ^= 1 << self.rng.below(8);
        }
        let mut at = self.busy_until[from] + delay;
        if self.rng.chance(reorder) {
            self.tally.reordered += 1;
            at += Duration::from_nanos(self.rng.below(nanos_of(jitter) + 1));
        }
        if self.rng.chance(duplicate) {
            self.tally.duplicated += 1;
            let late = Duration::from_nanos(self.rng.below(nanos_of(jitter) + 1));
            self.push(at + late, 1 - from, bytes.clone(), segment_size);
        }
        self.push(at, 1 - from, bytes, segment_size);
    }

    fn push(&mut self, at: Duration, to: usize, bytes: Vec<u8>, segment_size: u16) {
        self.serial += 1;
        self.in_flight.push(Reverse(Arrival { at, serial: self.serial, to, bytes, segment_size }));
    }
}

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a delay of less than centuries")
}
