//! What follows from any change to a socket: its owner is told, its timer is armed, its output is asked for, and if it is over it goes.

use std::sync::Arc;

use super::Engine;
use super::reply::{Reply, SegmentReply};
use super::route::NextHop;
use super::slot::{Addition, Entry, Owner, Remains, Slot, Way};
use super::time_wait::Remnant;
use super::wheel::Timer;
use crate::proto::Instant;
use crate::proto::tcp::buffer::Queue;
use crate::proto::tcp::close::CloseReason;
use crate::proto::tcp::connection::{Connection, End, Rest};
use crate::proto::tcp::context::{Context, Events};
use crate::proto::tcp::halves::Ending;
use crate::proto::tcp::info::Info;
use crate::proto::tcp::state::State;
use crate::proto::wire::{Address, Segment, Tuple};

impl Engine {
    /// To be called after every change to the socket in slot `index`.
    pub(super) fn settle(&mut self, index: u32) {
        let Some(entry) = self.sockets.get_mut(index as usize) else { return };
        let (events, deadline, end, tuple, state) = match &mut entry.slot {
            Slot::Connection(connection) => {
                connection.watch_for_quiet(self.now);
                (connection.take_events(), connection.deadline(), connection.end(), *connection.tuple(), connection.state())
            }
            Slot::Opening(opening) => (Events::NONE, opening.deadline(), None, *opening.tuple(), opening.state()),
            Slot::Listener(_) | Slot::Remains(_) => return,
        };
        let deadline = deadline.into_iter().chain(entry.retry_at).min();
        self.signal(index, events);
        if let Some(end) = end {
            self.end_connection(index, end);
            return;
        }
        self.trace_state(index, tuple, state);
        if let Some(deadline) = deadline {
            self.arm(index, deadline);
        }
        self.schedule(index);
    }

    /// Tells the owner, if it is the application.
    pub(super) fn signal(&mut self, index: u32, events: Events) {
        let Some(entry) = self.sockets.get_mut(index as usize) else { return };
        if events.is_empty() || entry.owner != Owner::Handle {
            return;
        }
        if entry.events.is_empty() {
            self.signals.push_back(index);
        }
        entry.events |= events;
    }

    /// Puts the socket into the queue of those that are asked for output.
    pub(super) fn schedule(&mut self, index: u32) {
        let Some(entry) = self.sockets.get_mut(index as usize) else { return };
        if !std::mem::replace(&mut entry.ready, true) {
            self.ready.push_back(index);
        }
    }

    /// One entry of the wheel speaks for a socket. A later deadline is found out when it fires; only an earlier one needs another entry.
    pub(super) fn arm(&mut self, index: u32, deadline: Instant) {
        let Some(entry) = self.sockets.get_mut(index as usize) else { return };
        if entry.armed.add(deadline) == Addition::New {
            self.wheel.arm(Timer { deadline, key: index, generation: entry.generation });
        }
    }

    /// The connection's protocol side is over.
    fn end_connection(&mut self, index: u32, end: End) {
        let Some(Entry { slot: Slot::Connection(connection), .. }) = self.sockets.get_mut(index as usize) else { return };
        let tuple = *connection.tuple();
        let cx = Context { now: self.now, config: &self.config, pool: &mut self.pool, counters: &mut self.stats.tcp };
        let reason = match end {
            End::Dead(reason) => {
                self.count_dead(reason);
                self.bury(index, reason);
                return;
            }
            End::Finished(ending) => {
                let last_ack = connection.last_ack(&cx);
                let Rest { snd_nxt, rcv_nxt, ts_recent, window } = connection.rest();
                self.reply_to_peer(tuple, last_ack, index);
                if ending == Ending::TimeWait {
                    self.stats.time_wait += 1;
                    self.trace_state(index, tuple, State::TimeWait);
                    let ended = self.time_waits.add(self.now, Remnant { tuple, snd_nxt, rcv_nxt, ts_recent, window });
                    ended.into_iter().for_each(|tuple| self.trace_change(tuple, State::TimeWait, State::Closed));
                }
                CloseReason::Finished
            }
        };
        self.count_end(reason);
        self.bury(index, reason);
    }

    /// Takes an opening or a connection out of the demultiplexer. What the application still needs of it remains.
    pub(super) fn bury(&mut self, index: u32, reason: CloseReason) {
        let Some(entry) = self.sockets.get_mut(index as usize) else { return };
        let remains = match &mut entry.slot {
            Slot::Connection(connection) => remains_of(connection, reason),
            Slot::Opening(opening) => Remains {
                tuple: *opening.tuple(),
                options: Arc::clone(opening.options()),
                reason,
                reported: false,
                queue: Queue::new(),
                info: None,
            },
            Slot::Listener(_) | Slot::Remains(_) => return,
        };
        let tuple = remains.tuple;
        let hash = self.hash.hash(&tuple);
        self.connections.remove(hash, index);
        let events = remains.levels();
        let mut old = std::mem::replace(&mut entry.slot, Slot::Remains(Box::new(remains)));
        if let Slot::Connection(connection) = &mut old {
            connection.give_back(&mut self.pool);
        }
        let owner = entry.owner;
        if entry.traced != State::TimeWait {
            self.trace_state(index, tuple, State::Closed);
        }
        if owner == Owner::Nobody {
            self.remove_socket(index);
        } else {
            self.signal(index, events);
        }
    }

    /// Counts how an established connection died: what a router said is only ever the reason of a time-out.
    fn count_dead(&mut self, reason: CloseReason) {
        let by_somebody = matches!(reason, CloseReason::Aborted | CloseReason::Finished | CloseReason::Reset | CloseReason::ResetAfterFin);
        self.stats.aborts_on_timeout += u64::from(!by_somebody);
    }

    /// Counts how a socket ended.
    pub(super) fn count_end(&mut self, reason: CloseReason) {
        match reason {
            CloseReason::KeepaliveTimeout | CloseReason::RetransmissionTimeout | CloseReason::UserTimeout => {
                self.stats.aborts_on_timeout += 1
            }
            CloseReason::AddressInUse
            | CloseReason::HostUnreachable
            | CloseReason::NetworkUnreachable
            | CloseReason::Prohibited
            | CloseReason::ProtocolUnreachable
            | CloseReason::Refused => self.stats.failed_opens += 1,
            CloseReason::Aborted | CloseReason::Finished | CloseReason::NetworkDown | CloseReason::Reset | CloseReason::ResetAfterFin => {}
        }
    }

    /// Frees a slot.
    pub(super) fn remove_socket(&mut self, index: u32) {
        if let Some(Entry { slot: Slot::Remains(mut remains), .. }) = self.sockets.try_remove(index as usize) {
            remains.queue.clear(&mut self.pool);
        }
    }

    /// A segment of our own for a connection whose socket will not be asked any more.
    pub(super) fn reply_to_peer(&mut self, tuple: Tuple, segment: Option<Segment>, index: u32) {
        let Some(segment) = segment else { return };
        let options = self.sockets.get(index as usize).and_then(|entry| match &entry.slot {
            Slot::Connection(connection) => Some(connection.options()),
            Slot::Opening(opening) => Some(opening.options()),
            Slot::Listener(_) | Slot::Remains(_) => None,
        });
        let class =
            options.map_or((self.config.hop_limit, self.config.traffic_class), |options| (options.hop_limit, options.traffic_class));
        let (hop_limit, traffic_class) = class;
        let reply = SegmentReply { tuple, segment, hop_limit, traffic_class, to: None };
        self.replies.push(Reply::Segment(reply), &mut self.stats);
    }

    /// Link, addresses or gateway changed: every connection's way is looked up again.
    pub(super) fn refresh_ways(&mut self) {
        let indices: Vec<u32> = self.sockets.iter().filter_map(|(index, _)| u32::try_from(index).ok()).collect();
        for index in indices {
            let tuple = match &self.sockets[index as usize].slot {
                Slot::Connection(connection) => *connection.tuple(),
                Slot::Opening(opening) => *opening.tuple(),
                Slot::Listener(_) | Slot::Remains(_) => continue,
            };
            let way = self.way_to(tuple.remote);
            let path = self.path_to(tuple.remote, way);
            let entry = &mut self.sockets[index as usize];
            entry.way = way;
            match &mut entry.slot {
                Slot::Connection(connection) => connection.set_path(path),
                Slot::Opening(opening) => opening.set_path(path),
                Slot::Listener(_) | Slot::Remains(_) => {}
            }
            self.schedule(index);
        }
    }

    /// Where packets to `remote` go. Without a link there is only the loopback.
    pub(super) fn way_to(&self, remote: Address) -> Way {
        match self.routes.next_hop(remote) {
            NextHop::Loopback => Way::Loopback,
            NextHop::OnLink(address) | NextHop::Gateway(address) if self.link.is_some() => Way::Link(address),
            NextHop::OnLink(_) | NextHop::Gateway(_) | NextHop::Unreachable => Way::Nowhere,
        }
    }
}

fn remains_of(connection: &mut Connection, reason: CloseReason) -> Remains {
    let info = Info::of(connection);
    Remains {
        tuple: *connection.tuple(),
        options: Arc::clone(connection.options()),
        reason,
        reported: false,
        queue: connection.take_receive_queue(),
        info: Some(Box::new(Info { state: State::Closed, timer: None, ..info })),
    }
}
