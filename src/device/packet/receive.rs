//! The receiving half of a packet socket, which also keeps the facts about the link.

use super::super::sys::{mmsg, option};
use super::super::{Counts, Notify, Readiness, Received, Receiver, network_down, virtio};
use super::{Framing, Shared, facts, is_link_down};
use crate::proto::{Checksum, Link};
use bytes::BytesMut;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The receiving half of a packet socket.
#[derive(Debug)]
pub(super) struct PacketReceiver {
    shared: Arc<Shared>,
    link: Link,
    version: u64,
    turns: u64,
}

impl PacketReceiver {
    /// A receiver that begins with `link`.
    pub(super) fn new(shared: Arc<Shared>, link: Link) -> Self {
        Self { shared, link, version: 0, turns: 0 }
    }

    fn is_due(&mut self) -> bool {
        self.turns += 1;
        if self.shared.is_stale.load(Ordering::Relaxed) {
            return self.shared.is_stale.swap(false, Ordering::Relaxed);
        }
        !self.link.up || self.turns.is_multiple_of(REFRESH_TURNS)
    }

    fn refresh(&mut self) {
        let link = match facts::link(self.shared.socket.as_fd(), self.shared.index) {
            Ok(link) => self.shared.complete_facts(link),
            // Gone, or out of reach: either way nothing is carried.
            Err(_) => Link { up: false, ..self.link },
        };
        if link != self.link {
            if link.up && !self.link.up {
                facts::settle(self.shared.socket.as_fd(), self.shared.index);
            }
            self.link = link;
            self.version += 1;
        }
        if let Ok(drops) = option::take_drops(self.shared.socket.as_fd()) {
            self.shared.counters.overflowed.add(u64::from(drops));
        }
    }

    /// One frame with its virtio header, if the socket gives one.
    fn receive_raw(&self, buffer: &mut BytesMut) -> io::Result<Option<Received>> {
        let before = buffer.len();
        let mut header = [0; virtio::HEADER_LEN];
        let front = match self.shared.framing {
            Framing::Virtio => &mut header[..],
            Framing::Plain => &mut [],
        };
        let front_len = front.len();
        let arrival = mmsg::receive(self.shared.socket.as_fd(), front, buffer)?;
        if arrival.is_truncated || arrival.len <= front_len {
            let counters = &self.shared.counters;
            if arrival.is_truncated {
                counters.truncated.add(1)
            } else {
                counters.malformed.add(1)
            }
            buffer.truncate(before);
            return Ok(None);
        }
        let received = match self.shared.framing {
            Framing::Virtio => virtio::decode(header),
            Framing::Plain => Received { checksum: Checksum::Unknown, segment_size: 0 },
        };
        self.shared.counters.on_received(arrival.len - front_len, received.segment_size);
        Ok(Some(received))
    }
}

impl Receiver for PacketReceiver {
    fn link(&mut self) -> (Link, u64) {
        if self.is_due() {
            self.refresh();
        }
        (self.link, self.version)
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        // Each turn of the loop takes a frame out of the socket's queue, so that it ends with the queue.
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
        Readiness::Descriptor(self.shared.socket.as_raw_fd())
    }

    fn counts(&self) -> Counts {
        self.shared.counters.snapshot()
    }
}

/// How often the facts are read while nothing is wrong, in turns: a raised MTU or a lost carrier is nowhere else to be seen. While the link
/// is down they are read at each.
const REFRESH_TURNS: u64 = 1024;
