//! A link that is gone for good: its interface was removed, or the other end of its wire dropped. Nothing that waits for it can ever be
//! answered, so that everybody is told at once instead of after fifteen retransmissions; what stays within this host goes on.

use super::Engine;
use super::slot::{Slot, Way};
use crate::proto::tcp::close::CloseReason;
use crate::proto::tcp::context::Events;
use crate::proto::wire::ip::is_loopback;

impl Engine {
    /// True if the link will never carry anything again.
    pub(super) fn is_link_gone(&self) -> bool {
        self.link.is_some_and(|link| link.gone)
    }

    /// Ends what went over the link, and tells the listeners that it could have reached.
    pub(super) fn end_all_on_link(&mut self) {
        let indices: Vec<u32> = self.sockets.iter().filter_map(|(index, _)| u32::try_from(index).ok()).collect();
        for index in indices {
            let entry = &mut self.sockets[index as usize];
            match &mut entry.slot {
                Slot::Connection(_) | Slot::Opening(_) if matches!(entry.way, Way::Link(_)) => {
                    self.stats.aborts_on_link_gone += 1;
                    self.bury(index, CloseReason::NetworkDown);
                }
                Slot::Listener(listener) if !is_loopback(listener.local) => {
                    listener.lost_link = true;
                    self.signal(index, Events::READABLE | Events::ERROR);
                }
                Slot::Connection(_) | Slot::Opening(_) | Slot::Listener(_) | Slot::Remains(_) => {}
            }
        }
    }
}
