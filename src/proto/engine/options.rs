//! What applications ask and set: readiness, addresses, options, snapshots.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Engine;
use super::slot::{Slot, SocketId};
use crate::proto::Instant;
use crate::proto::tcp::close::CloseReason;
use crate::proto::tcp::congestion::{Congestion, Controller};
use crate::proto::tcp::context::Events;
use crate::proto::tcp::info::Info;
use crate::proto::tcp::socket::{SocketOption, SocketOptions};
use crate::proto::tcp::state::State;

impl Engine {
    /// What is ready now. A dead name is ready for everything: whatever is tried will say so.
    #[must_use]
    pub fn events(&self, id: SocketId) -> Events {
        match self.entry(id).map(|entry| &entry.slot) {
            Some(Slot::Connection(connection)) => connection.levels(),
            Some(Slot::Listener(socket)) => match self.listeners.get(socket.id) {
                Some(listener) if listener.accept_queue_len() == 0 => Events::NONE,
                _ => Events::READABLE,
            },
            Some(Slot::Opening(_)) => Events::NONE,
            Some(Slot::Remains(remains)) => remains.levels(),
            None => Events::READABLE | Events::WRITABLE | Events::READ_CLOSED | Events::WRITE_CLOSED | Events::ERROR,
        }
    }

    /// Why the connection ended, the first time it is asked (`SO_ERROR`).
    pub fn take_error(&mut self, id: SocketId) -> Option<CloseReason> {
        match self.entry_mut(id).map(|entry| &mut entry.slot) {
            Some(Slot::Remains(remains)) => remains.take_error(),
            _ => None,
        }
    }

    /// Why the connection ended, however often it is asked.
    #[must_use]
    pub fn close_reason(&self, id: SocketId) -> Option<CloseReason> {
        match self.entry(id).map(|entry| &entry.slot) {
            Some(Slot::Remains(remains)) => Some(remains.reason),
            _ => None,
        }
    }

    /// Our address and port.
    #[must_use]
    pub fn local_addr(&self, id: SocketId) -> Option<SocketAddr> {
        Some(match &self.entry(id)?.slot {
            Slot::Connection(connection) => connection.tuple().local_addr(),
            Slot::Listener(socket) => socket.local_addr(),
            Slot::Opening(opening) => opening.tuple().local_addr(),
            Slot::Remains(remains) => remains.tuple.local_addr(),
        })
    }

    /// The peer's address and port, also after the connection's end. None for a listener.
    #[must_use]
    pub fn peer_addr(&self, id: SocketId) -> Option<SocketAddr> {
        Some(match &self.entry(id)?.slot {
            Slot::Connection(connection) => connection.tuple().remote_addr(),
            Slot::Opening(opening) => opening.tuple().remote_addr(),
            Slot::Remains(remains) => remains.tuple.remote_addr(),
            Slot::Listener(_) => return None,
        })
    }

    /// The socket's options; none for a listener on which nothing was set.
    #[must_use]
    pub fn options(&self, id: SocketId) -> Option<&SocketOptions> {
        Some(match &self.entry(id)?.slot {
            Slot::Connection(connection) => connection.options(),
            Slot::Listener(socket) => socket.options.as_deref()?,
            Slot::Opening(opening) => opening.options(),
            Slot::Remains(remains) => &remains.options,
        })
    }

    /// Sets one option; on a listener, for the connections that it will accept. False if the name is dead.
    pub fn set_option(&mut self, now: Instant, id: SocketId, option: SocketOption) -> bool {
        self.tick(now);
        let defaults = Arc::clone(&self.defaults);
        let Some(entry) = self.entry_mut(id) else { return false };
        match &mut entry.slot {
            Slot::Connection(connection) => connection.set_option(option),
            Slot::Listener(socket) => Arc::make_mut(socket.options.get_or_insert(defaults)).set(option),
            Slot::Opening(opening) => opening.options_mut().set(option),
            Slot::Remains(remains) => Arc::make_mut(&mut remains.options).set(option),
        }
        self.settle(id.index);
        true
    }

    /// Gives a connection a congestion controller of the caller's own; false if there is no such connection.
    pub fn set_controller(&mut self, id: SocketId, controller: Box<dyn Controller>) -> bool {
        match self.entry_mut(id).map(|entry| &mut entry.slot) {
            Some(Slot::Connection(connection)) => {
                connection.set_congestion(Congestion::Custom(controller));
                true
            }
            _ => false,
        }
    }

    /// The RFC's state. What remains of an ended connection is CLOSED, even while its 4-tuple rests in TIME-WAIT.
    #[must_use]
    pub fn state(&self, id: SocketId) -> Option<State> {
        Some(match &self.entry(id)?.slot {
            Slot::Connection(connection) => connection.state(),
            Slot::Listener(_) => State::Listen,
            Slot::Opening(opening) => opening.state(),
            Slot::Remains(remains) => {
                let hash = self.hash.hash(&remains.tuple);
                if self.time_waits.find(hash, &remains.tuple).is_some() { State::TimeWait } else { State::Closed }
            }
        })
    }

    /// A snapshot of a connection: of a live one now, of an ended one as it was last. None for listeners and openings.
    #[must_use]
    pub fn info(&self, id: SocketId) -> Option<Info> {
        match &self.entry(id)?.slot {
            Slot::Connection(connection) => Some(Info::of(connection)),
            Slot::Remains(remains) => remains.info.as_deref().cloned(),
            Slot::Listener(_) | Slot::Opening(_) => None,
        }
    }
}
