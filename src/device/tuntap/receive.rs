//! The receiving half of a TUN or TAP interface, which also keeps the facts about the link.

use super::super::interface::Watch;
use super::super::sys::tuntap;
use super::super::{Counts, Notify, Readiness, Received, Receiver};
use super::attach::Shared;
use crate::proto::Link;
use bytes::BytesMut;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// The receiving half.
#[derive(Debug)]
pub(super) struct TunReceiver {
    shared: Arc<Shared>,
    watch: Watch,
}

impl TunReceiver {
    /// A receiver that begins with `link`.
    pub(super) fn new(shared: Arc<Shared>, link: Link) -> Self {
        Self { shared, watch: Watch::new(link) }
    }
}

impl Receiver for TunReceiver {
    fn link(&mut self) -> (Link, u64) {
        if self.watch.is_due(&self.shared.interface) {
            self.watch.update(self.shared.link(), || self.shared.settle());
        }
        self.watch.link()
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        self.shared.interface.receive(buffer, |front, buffer| tuntap::receive(self.shared.tun.as_fd(), front, buffer))
    }

    fn readiness(&mut self, _notify: Notify) -> Readiness {
        Readiness::Descriptor(self.shared.tun.as_raw_fd())
    }

    fn counts(&self) -> Counts {
        self.shared.interface.counters.snapshot()
    }
}
