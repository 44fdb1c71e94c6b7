//! The receiving half of a packet socket, which also keeps the facts about the link.

use super::super::interface::Watch;
use super::super::sys::{mmsg, option};
use super::super::{Counts, Notify, Readiness, Received, Receiver};
use super::{Shared, facts};
use crate::proto::Link;
use bytes::BytesMut;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// The receiving half of a packet socket.
#[derive(Debug)]
pub(super) struct PacketReceiver {
    shared: Arc<Shared>,
    watch: Watch,
}

impl PacketReceiver {
    /// A receiver that begins with `link`.
    pub(super) fn new(shared: Arc<Shared>, link: Link) -> Self {
        Self { shared, watch: Watch::new(link) }
    }

    fn refresh(&mut self) {
        let Shared { socket, index, .. } = &*self.shared;
        let link = facts::link(socket.as_fd(), *index).map(|link| self.shared.complete_facts(link));
        self.watch.update(link, || facts::settle(socket.as_fd(), *index));
        if let Ok(drops) = option::take_drops(socket.as_fd()) {
            self.shared.interface.counters.overflowed.add(u64::from(drops));
        }
    }
}

impl Receiver for PacketReceiver {
    fn link(&mut self) -> (Link, u64) {
        if self.watch.is_due(&self.shared.interface) {
            self.refresh();
        }
        self.watch.link()
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        self.shared.interface.receive(buffer, |front, buffer| mmsg::receive(self.shared.socket.as_fd(), front, buffer))
    }

    fn readiness(&mut self, _notify: Notify) -> Readiness {
        Readiness::Descriptor(self.shared.socket.as_raw_fd())
    }

    fn counts(&self) -> Counts {
        self.shared.interface.counters.snapshot()
    }
}
