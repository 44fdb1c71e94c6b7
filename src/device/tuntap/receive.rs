//! The receiving half of a TUN or TAP interface, which also keeps the facts about the link.

use super::super::sys::tuntap;
use super::super::{Counts, Notify, Readiness, Received, Receiver, network_down, virtio};
use super::attach::{Framing, Shared, is_link_down};
use crate::proto::{Checksum, Link};
use bytes::BytesMut;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The receiving half.
#[derive(Debug)]
pub(super) struct TunReceiver {
    shared: Arc<Shared>,
    link: Link,
    version: u64,
    turns: u64,
}

impl TunReceiver {
    /// A receiver that begins with `link`.
    pub(super) fn new(shared: Arc<Shared>, link: Link) -> Self {
        Self { shared, link, version: 0, turns: 0 }
    }

    fn is_due(&mut self) -> bool {
        self.turns += 1;
        let is_stale = self.shared.is_stale.load(Ordering::Relaxed) && self.shared.is_stale.swap(false, Ordering::Relaxed);
        is_stale || !self.link.up || self.turns.is_multiple_of(REFRESH_TURNS)
    }

    fn refresh(&mut self) {
        // An interface that is gone carries nothing.
        let link = self.shared.link().unwrap_or(Link { up: false, ..self.link });
        if link != self.link {
            if link.up && !self.link.up {
                self.shared.settle();
            }
            self.link = link;
            self.version += 1;
        }
    }

    /// One frame with what its header says; none for one that was dropped and counted.
    fn receive_raw(&self, buffer: &mut BytesMut) -> io::Result<Option<Received>> {
        let before = buffer.len();
        let mut header = [0; virtio::HEADER_LEN];
        let front = match self.shared.framing {
            Framing::Virtio => &mut header[..],
            Framing::Plain => &mut [],
        };
        let front_len = front.len();
        let arrival = tuntap::receive(self.shared.tun.as_fd(), front, buffer)?;
        let counters = &self.shared.counters;
        if arrival.is_truncated || arrival.len <= front_len {
            let counter = if arrival.is_truncated { &counters.truncated } else { &counters.malformed };
            counter.add(1);
            buffer.truncate(before);
            return Ok(None);
        }
        let received = match self.shared.framing {
            Framing::Virtio => virtio::decode(header),
            Framing::Plain => Received { checksum: Checksum::Unknown, segment_size: 0 },
        };
        counters.on_received(arrival.len - front_len, received.segment_size);
        Ok(Some(received))
    }
}

impl Receiver for TunReceiver {
    fn link(&mut self) -> (Link, u64) {
        if self.is_due() {
            self.refresh();
        }
        (self.link, self.version)
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        // Each turn of the loop takes a frame out of the interface's queue, so that it ends with the queue.
        loop {
            match self.receive_raw(buffer) {
                Ok(Some(received)) => return Ok(received),
                Ok(None) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    // The frame is gone: the kernel had no virtio header for it.
                    self.shared.counters.malformed.add(1);
                }
                Err(error) if is_link_down(&error) => {
                    self.shared.is_stale.store(true, Ordering::Relaxed);
                    return Err(network_down());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn readiness(&mut self, _notify: Notify) -> Readiness {
        Readiness::Descriptor(self.shared.tun.as_raw_fd())
    }

    fn counts(&self) -> Counts {
        self.shared.counters.snapshot()
    }
}

/// How often the facts are read while nothing is wrong, in turns, as for a packet socket: a raised MTU is nowhere else to be seen.
const REFRESH_TURNS: u64 = 1024;
