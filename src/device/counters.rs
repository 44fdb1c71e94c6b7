//! What a device counts: every frame, and every bound that bit. Shared by both halves and by whoever watches.
//!
//! Counters are relaxed atomics: each is exact, but a snapshot of several is not one instant.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The figures of a device at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The live counters of a device, shared by its halves.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            /// The figures now.
            #[must_use]
            pub fn snapshot(&self) -> Counts {
                Counts { $($name: self.$name.value(),)* }
            }
        }
    };
}

counters! {
    /// Frames sent; a super-packet counts once.
    sent_frames,
    /// Bytes sent, link header included.
    sent_bytes,
    /// Super-packets among the frames sent.
    sent_super,
    /// Frames received; a super-packet counts once.
    received_frames,
    /// Bytes received, link header included.
    received_bytes,
    /// Super-packets among the frames received.
    received_super,
    /// Super-packets that the device cut itself because the link doesn't.
    cut,
    /// Times the link was full and frames had to wait.
    link_full,
    /// Frames lost because the link had no buffer (`ENOBUFS`).
    no_buffer,
    /// Times super-packets were given up because the link kept refusing them.
    super_off,
    /// Frames dropped because they are longer than the link takes.
    oversize,
    /// Frames dropped because the system refused them for another reason.
    refused,
    /// Frames lost because the link was down.
    link_down,
    /// Incoming frames dropped because they didn't fit the receive buffer.
    truncated,
    /// Incoming frames dropped because the system could not describe them.
    malformed,
    /// Incoming frames that the system dropped because its receive queue was full.
    overflowed,
}

impl Counters {
    /// Counts a frame that has been sent.
    pub(super) fn on_sent(&self, len: usize, is_super: bool) {
        self.sent_frames.add(1);
        self.sent_bytes.add(len as u64);
        self.sent_super.add(u64::from(is_super));
    }

    /// Counts a frame that has been received.
    pub(super) fn on_received(&self, len: usize, segment_size: u16) {
        self.received_frames.add(1);
        self.received_bytes.add(len as u64);
        self.received_super.add(u64::from(segment_size != 0));
    }
}

/// One figure that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub(super) fn add(&self, count: u64) {
        // Most additions of zero or to rare counters: skipping them keeps the cache line of the common ones quiet.
        if count != 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_shows_what_was_counted() {
        let counters = Counters::default();
        counters.on_sent(1500, false);
        counters.on_sent(64_000, true);
        counters.on_received(60, 0);
        counters.no_buffer.add(2);
        let expected = Counts {
            sent_frames: 2,
            sent_bytes: 65_500,
            sent_super: 1,
            received_frames: 1,
            received_bytes: 60,
            no_buffer: 2,
            ..Counts::default()
        };
        assert_eq!(counters.snapshot(), expected);
    }
}
