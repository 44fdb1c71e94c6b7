//! Sockets by number: a slot holds an opening, a connection, a listener, or what remains for the application when the protocol is done.

use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use super::demux::Index;
use super::listener::ListenerId;

use crate::proto::Instant;
use crate::proto::tcp::buffer::{Pool, Queue};
use crate::proto::tcp::close::{CloseReason, RecvError, SendError};
use crate::proto::tcp::connection::Connection;
use crate::proto::tcp::context::Events;
use crate::proto::tcp::handshake::Opening;
use crate::proto::tcp::info::Info;
use crate::proto::tcp::socket::SocketOptions;
use crate::proto::tcp::state::State;
use crate::proto::wire::{Address, Tuple};

/// The name of a socket: a shard, a slot in it, and how often the slot was used. A stale name is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    pub(super) shard: u16,
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl SocketId {
    /// The slot's number within its shard, below [`Config::connections_max`](crate::proto::Config::connections_max).
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The shard.
    #[must_use]
    pub const fn shard(self) -> u16 {
        self.shard
    }
}

impl std::fmt::Display for SocketId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}.{}", self.shard, self.index, self.generation)
    }
}

/// A slot and what the engine remembers about it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) generation: u32,
    pub(super) owner: Owner,
    /// Edges that the owner has not been told of.
    pub(super) events: Events,
    /// It stands in the queue of those that may have something to send.
    pub(super) ready: bool,
    /// The earliest entry of the wheel that speaks for it.
    pub(super) armed: Armed,
    /// When to try the next hop again.
    pub(super) retry_at: Option<Instant>,
    pub(super) way: Way,
    /// The state that a trace has last shown.
    pub(super) traced: State,
    pub(super) slot: Slot,
}

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The application.
    Handle,
    /// A listener's accept queue: the slot of the listener.
    Queue(u32),
    /// Nobody: it closes in the background.
    Nobody,
}

/// Where a connection's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Loopback,
    /// To this neighbour on the link.
    Link(Address),
    /// Nowhere at present.
    Nowhere,
}

#[derive(Debug)]
pub(super) enum Slot {
    Connection(Box<Connection>),
    Listener(Box<ListenerSocket>),
    Opening(Box<Opening>),
    Remains(Box<Remains>),
}

/// The wheel's entries for one socket, the earliest first. Entries are never cancelled, so whoever forgets one arms it again: a delayed
/// acknowledgment every 40 ms before a keepalive in two hours would leave a hundred thousand of them. Three are as many as there are orders of
/// magnitude between TCP's timers; of four, the second goes, which is not far off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Armed([Option<Instant>; 3]);

/// Whether a deadline needs an entry of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Addition {
    /// An entry that is there already fires in time.
    Covered,
    /// It is earlier than all of them.
    New,
}

impl Armed {
    /// Takes note of `deadline`.
    pub(super) fn add(&mut self, deadline: Instant) -> Addition {
        let [first, second, third] = self.0;
        if first.is_some_and(|armed| armed <= deadline) {
            return Addition::Covered;
        }
        self.0 = [Some(deadline), first, third.or(second)];
        Addition::New
    }

    /// The entry with this deadline fired.
    pub(super) fn remove(&mut self, deadline: Instant) {
        let mut left = self.0.into_iter().flatten().filter(|armed| *armed != deadline);
        self.0 = [left.next(), left.next(), left.next()];
    }
}

/// The slot of the opening or connection with this 4-tuple.
pub(super) fn find_connection(connections: &Index, sockets: &Slab<Entry>, hash: u64, tuple: &Tuple) -> Option<u32> {
    connections.find(hash, |index| match sockets.get(index as usize).map(|entry| &entry.slot) {
        Some(Slot::Connection(connection)) => connection.tuple() == tuple,
        Some(Slot::Opening(opening)) => opening.tuple() == tuple,
        Some(Slot::Listener(_) | Slot::Remains(_)) | None => false,
    })
}

/// The application's side of a listener.
#[derive(Debug)]
pub(super) struct ListenerSocket {
    pub(super) id: ListenerId,
    pub(super) local: Address,
    pub(super) port: u16,
    /// What was set for the connections that it accepts.
    pub(super) options: Option<Arc<SocketOptions>>,
    /// The link is gone, and nobody has been told yet.
    pub(super) lost_link: bool,
}

impl ListenerSocket {
    pub(super) const fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.local.ip(), self.port)
    }
}

/// What outlives a connection for its application: no byte that arrived in order is lost to a state change.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) tuple: Tuple,
    pub(super) options: Arc<SocketOptions>,
    pub(super) reason: CloseReason,
    pub(super) reported: bool,
    pub(super) queue: Queue,
    /// The last snapshot; none for an opening that failed.
    pub(super) info: Option<Box<Info>>,
}

impl Remains {
    /// What is left to read, then the reason once, then the end of the stream.
    pub(super) fn recv(&mut self, buffer: &mut [u8], pool: &mut Pool) -> Result<usize, RecvError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.queue.read(buffer, pool) {
            0 => self.end_of_stream(),
            read => Ok(read),
        }
    }

    pub(super) fn peek(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        match self.queue.copy_to(0, buffer) {
            0 if buffer.is_empty() => Ok(0),
            0 => self.end_of_stream(),
            peeked => Ok(peeked),
        }
    }

    /// The reason once, then a broken pipe.
    pub(super) fn send(&mut self) -> SendError {
        match self.reason {
            CloseReason::Finished | CloseReason::ResetAfterFin => {
                self.reported = true;
                SendError::BrokenPipe
            }
            reason => self.take_error().map_or(SendError::BrokenPipe, |_| SendError::Closed(reason)),
        }
    }

    /// The reason, the first time.
    pub(super) fn take_error(&mut self) -> Option<CloseReason> {
        let fresh = !std::mem::replace(&mut self.reported, true);
        (fresh && self.reason != CloseReason::Finished).then_some(self.reason)
    }

    pub(super) fn levels(&self) -> Events {
        let end = Events::READABLE | Events::WRITABLE | Events::READ_CLOSED | Events::WRITE_CLOSED;
        if self.reason == CloseReason::Finished { end } else { end | Events::ERROR }
    }

    fn end_of_stream(&mut self) -> Result<usize, RecvError> {
        // Linux: what a peer that had sent FIN does afterwards is the writer's concern.
        if self.reason == CloseReason::ResetAfterFin {
            return Ok(0);
        }
        self.take_error().map_or(Ok(0), |reason| Err(RecvError::Closed(reason)))
    }
}

/// Something happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Which.
    pub socket: SocketId,
    /// What, since the last signal for it.
    pub events: Events,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_deadline_is_armed_once_however_often_a_near_one_fires() {
        let (mut armed, mut entries) = (Armed::default(), 0);
        let at = Instant::from_nanos;
        for round in 1..1000 {
            for deadline in [at(1_000_000), at(round * 100 + 90), at(round * 100 + 10), at(round * 100 + 5)] {
                entries += u32::from(armed.add(deadline) == Addition::New);
            }
            for deadline in [at(round * 100 + 5), at(round * 100 + 10), at(round * 100 + 90)] {
                armed.remove(deadline);
                entries += u32::from(armed.add(at(1_000_000)) == Addition::New);
            }
        }
        assert_eq!(entries, 1 + 3 * 999);
    }
}
