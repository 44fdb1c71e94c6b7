//! Two hosts, one wire, one virtual clock: whoever has something to do next does it next.
//!
//! Each host counts time from an epoch of its own, as two machines do. The world hashes everything that leaves a host, so that two runs can be
//! compared by one number. Applications are the caller's: the world stops for them whenever something happened.

use std::time::Duration;

use synfin::proto::{Checksum, Engine, Frame, FrameBytes, Instant};

use crate::wire::Wire;

/// Two hosts and what lies between them.
#[derive(Debug)]
pub(crate) struct World {
    /// Since the world began.
    pub(crate) now: Duration,
    pub(crate) hosts: [Engine; 2],
    /// Each host's own time when the world began.
    pub(crate) epochs: [Instant; 2],
    pub(crate) wire: Wire,
    /// Frames arrive in buffers of their own, or are lent.
    pub(crate) lending: Lending,
    pub(crate) trace: Trace,
}

/// How frames are handed to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lending {
    Borrowed,
    Owned,
}

impl World {
    /// The time as host `index` counts it.
    pub(crate) fn time_of(&self, index: usize) -> Instant {
        self.epochs[index] + self.now
    }

    /// Sends what the hosts have to say.
    pub(crate) fn transmit(&mut self) {
        for index in 0..2 {
            let now = self.time_of(index);
            let mut frames = Vec::new();
            while self.hosts[index].wants_transmit() {
                let before = frames.len();
                let _ = self.hosts[index].transmit(now, &mut frames);
                if frames.len() == before {
                    break;
                }
            }
            for frame in &frames {
                self.trace.mix(u64::try_from(self.now.as_nanos()).expect("less than centuries"));
                self.trace.mix(index as u64);
                self.trace.mix_bytes(frame.header());
                frame.views().iter().for_each(|view| self.trace.mix_bytes(view));
                self.wire.send(self.now, index, frame);
            }
        }
    }

    /// When something happens next without the applications' doing.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        let deadlines = self.hosts.iter().zip(&self.epochs).filter_map(|(host, epoch)| Some(host.deadline()? - *epoch));
        deadlines.chain(self.wire.next_at()).min()
    }

    /// Goes on to `at`, which is not beyond the next event, and lets it happen.
    pub(crate) fn step(&mut self, at: Duration) {
        self.now = self.now.max(at);
        while let Some(arrival) = self.wire.take(self.now) {
            let now = self.time_of(arrival.to);
            let owned;
            let bytes = match self.lending {
                Lending::Borrowed => FrameBytes::Borrowed(&arrival.bytes),
                Lending::Owned => {
                    owned = bytes::Bytes::from(arrival.bytes);
                    FrameBytes::Owned(owned)
                }
            };
            let frame = Frame { bytes, checksum: Checksum::Unknown, segment_size: arrival.segment_size };
            self.hosts[arrival.to].receive(now, frame);
        }
        for index in 0..2 {
            let now = self.time_of(index);
            if self.hosts[index].deadline().is_some_and(|deadline| deadline <= now) {
                self.hosts[index].advance(now);
                let next = self.hosts[index].deadline();
                assert!(next.is_none_or(|deadline| deadline > now), "advance left a deadline that is due: {next:?} at {now:?}");
            }
        }
        self.transmit();
    }

    /// Lets everything happen until `end`.
    pub(crate) fn pass(&mut self, end: Duration) {
        self.transmit();
        while let Some(at) = self.next_at().filter(|at| *at <= end) {
            self.step(at);
        }
        self.now = end;
    }
}

/// FNV-1a over everything that happened: equal runs have equal traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace(pub(crate) u64);

impl Trace {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn mix(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    pub(crate) fn mix_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.mix(u64::from(*byte)));
        self.mix(bytes.len() as u64);
    }
}
