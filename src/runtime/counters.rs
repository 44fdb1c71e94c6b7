//! What the runtime counts of its own doings: how often a bound bit, a lease paid, a thread was woken.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one shard.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) capture_lost: Counter,
    pub(crate) device_full: Counter,
    pub(crate) driver_wakeups: Counter,
    pub(crate) egress_full: Counter,
    pub(crate) frames_lost_in: Counter,
    pub(crate) frames_lost_out: Counter,
    pub(crate) leases: Counter,
    pub(crate) loopback_handed_over: Counter,
    pub(crate) passthrough_lost: Counter,
    pub(crate) spins: Counter,
    pub(crate) spins_paid: Counter,
}

impl Live {
    /// What they show.
    pub(crate) fn snapshot(&self) -> Counters {
        let Self {
            capture_lost,
            device_full,
            driver_wakeups,
            egress_full,
            frames_lost_in,
            frames_lost_out,
            leases,
            loopback_handed_over,
            passthrough_lost,
            spins,
            spins_paid,
        } = self;
        Counters {
            capture_lost: capture_lost.value(),
            device_full: device_full.value(),
            driver_wakeups: driver_wakeups.value(),
            egress_full: egress_full.value(),
            frames_lost_in: frames_lost_in.value(),
            frames_lost_out: frames_lost_out.value(),
            leases: leases.value(),
            loopback_handed_over: loopback_handed_over.value(),
            passthrough_lost: passthrough_lost.value(),
            spins: spins.value(),
            spins_paid: spins_paid.value(),
        }
    }
}

/// What a stack's runtime has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Frames and comments that a capture has not: its queue was full, or its file could not be written.
    pub capture_lost: u64,
    /// The device had no room for a frame.
    pub device_full: u64,
    /// The driver's thread woke from its sleep.
    pub driver_wakeups: u64,
    /// The queue of 256 frames or 1 MiB before the device was full.
    pub egress_full: u64,
    /// Frames that the device announced and failed to hand over.
    pub frames_lost_in: u64,
    /// Frames that the device refused for another reason than want of room.
    pub frames_lost_out: u64,
    /// A task received frames on its own thread, or tried to.
    pub leases: u64,
    /// A call left loopback frames to the driver's thread, to come back in bounded time.
    pub loopback_handed_over: u64,
    /// A packet that a passthrough's sink refused.
    pub passthrough_lost: u64,
    /// A task spun before it parked.
    pub spins: u64,
    /// A spin ended with a frame.
    pub spins_paid: u64,
}
