//! What applications do with sockets. Every call returns at once; `WouldBlock` is an answer, and a signal follows when it would not.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;

use super::Engine;
use super::ports::Destination;
use super::slot::find_connection;
use super::slot::{Armed, Entry, ListenerSocket, Owner, Slot, SocketId, Way};
use crate::proto::Instant;
use crate::proto::tcp::Timeout;
use crate::proto::tcp::close::{AcceptError, CloseReason, ConnectError, ConnectedError, ListenError, RecvError, SendError, ShutdownError};
use crate::proto::tcp::connection::Release;
use crate::proto::tcp::context::Events;
use crate::proto::tcp::handshake::{Open, Opening};
use crate::proto::tcp::socket::SocketOptions;
use crate::proto::tcp::state::State;
use crate::proto::wire::ip::{is_loopback, is_multicast};
use crate::proto::wire::{Address, Segment, Tuple};

impl Engine {
    /// Waits for connections to `local`. Port 0 takes an ephemeral port; `0.0.0.0` stands for every IPv4 address, `[::]` for every address of
    /// both families. At most `backlog` + 1 established connections wait to be accepted, as on Linux; a backlog is capped by
    /// [`Config::backlog_max`](crate::proto::Config::backlog_max).
    ///
    /// # Errors
    /// [`ListenError`]; nothing has changed then.
    pub fn listen(&mut self, now: Instant, local: SocketAddr, backlog: u32) -> Result<SocketId, ListenError> {
        self.tick(now);
        let address = Address::new(local.ip());
        if !address.is_unspecified() && !self.routes.is_local(address) {
            return Err(ListenError::AddressNotAvailable);
        }
        if self.sockets.len() >= self.config.connections_max {
            return Err(ListenError::TooMany);
        }
        let port = match local.port() {
            0 => {
                let wanted = Destination { local: address, remote: Address::ANY, remote_port: 0 };
                let Self { ports, listeners, .. } = self;
                ports.next(&wanted, |port| !listeners.has_conflict(address, port)).ok_or(ListenError::NoPorts)?
            }
            port => port,
        };
        let listener = self.listeners.listen(address, port, backlog).map_err(|_| ListenError::AddressInUse)?;
        let socket =
            ListenerSocket { id: listener, local: address, port, options: None, lost_link: self.is_link_gone() && !is_loopback(address) };
        let id = self.insert(Owner::Handle, Way::Nowhere, Slot::Listener(Box::new(socket)));
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.set_socket(id.index);
        }
        self.trace_listener(address, port, State::Closed, State::Listen);
        Ok(id)
    }

    /// Takes the oldest connection that waits, and its peer's address.
    ///
    /// # Errors
    /// [`AcceptError`]
    pub fn accept(&mut self, now: Instant, listener: SocketId) -> Result<(SocketId, SocketAddr), AcceptError> {
        self.tick(now);
        self.check(listener).ok_or(AcceptError::NotListening)?;
        let Slot::Listener(socket) = &mut self.sockets[listener.index as usize].slot else { return Err(AcceptError::NotListening) };
        let queue = self.listeners.get_mut(socket.id).ok_or(AcceptError::NotListening)?;
        let Some(index) = queue.pop_accepted() else {
            let lost_link = std::mem::take(&mut socket.lost_link);
            return Err(if lost_link { AcceptError::NetworkDown } else { AcceptError::WouldBlock });
        };
        let entry = self.sockets.get_mut(index as usize).expect("a queued connection keeps its slot until it is accepted");
        entry.owner = Owner::Handle;
        let peer = match &entry.slot {
            Slot::Connection(connection) => connection.tuple().remote_addr(),
            Slot::Remains(remains) => remains.tuple.remote_addr(),
            Slot::Listener(_) | Slot::Opening(_) => return Err(AcceptError::NotListening),
        };
        Ok((SocketId { shard: self.shard, index, generation: entry.generation }, peer))
    }

    /// Begins a connection to `remote`; [`connected`](Self::connected) tells how it went. Without `local` the address is chosen by route and
    /// the port at random; a `local` port of 0 is chosen too.
    ///
    /// # Errors
    /// [`ConnectError`] for what can be known without asking anybody.
    pub fn connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local: Option<SocketAddr>,
        options: Option<SocketOptions>,
    ) -> Result<SocketId, ConnectError> {
        self.tick(now);
        let mut destination = Address::new(remote.ip());
        if destination.is_unspecified() {
            destination = super::route::loopback(destination);
        }
        let way = self.check_destination(destination, remote.port())?;
        if self.sockets.len() >= self.config.connections_max {
            return Err(ConnectError::TooMany);
        }
        let source = self.source_address(destination, local)?;
        let tuple = self.choose_tuple(Destination { local: source, remote: destination, remote_port: remote.port() }, local)?;
        let hash = self.hash.hash(&tuple);
        let iss = self.isn.at(self.now, &tuple);
        // RFC 6191: a tuple that still rests begins beyond its old numbers.
        let resting = self.time_waits.find(hash, &tuple);
        let iss = match resting.and_then(|id| Some((id, self.time_waits.reusable_for_connect(self.now, id)?))) {
            Some((id, old)) => {
                self.time_waits.reuse(id);
                self.trace_change(tuple, State::TimeWait, State::Closed);
                iss.max(old.iss_min)
            }
            None => iss,
        };
        let open = Open {
            tuple,
            iss,
            timestamp_offset: self.isn.timestamp_offset(&tuple),
            options: options.map_or_else(|| Arc::clone(&self.defaults), Arc::new),
            path: self.path_to(destination, way),
        };
        let id = self.insert(Owner::Handle, way, Slot::Opening(Box::new(Opening::new(open, self.now))));
        self.connections.insert(hash, id.index);
        self.stats.active_opens += 1;
        self.settle(id.index);
        Ok(id)
    }

    /// How the handshake of [`connect`](Self::connect) went.
    ///
    /// # Errors
    /// [`ConnectedError::WouldBlock`] while it is under way; a [`CloseReason`] if it failed, or if the connection has ended since.
    pub fn connected(&self, id: SocketId) -> Result<(), ConnectedError> {
        match self.entry(id).map(|entry| &entry.slot) {
            Some(Slot::Connection(_)) => Ok(()),
            Some(Slot::Opening(_)) => Err(ConnectedError::WouldBlock),
            // What was established once can still be read from; the end shows there.
            Some(Slot::Remains(remains)) if remains.info.is_some() => Ok(()),
            Some(Slot::Remains(remains)) => Err(ConnectedError::Closed(remains.reason)),
            Some(Slot::Listener(_)) | None => Err(ConnectedError::NotConnected),
        }
    }

    /// Queues as much of `data` as the send buffer takes and returns how much that is.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn send(&mut self, now: Instant, id: SocketId, data: &[u8]) -> Result<usize, SendError> {
        self.send_vectored(now, id, &[IoSlice::new(data)])
    }

    /// [`send`](Self::send) from several slices, in order.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn send_vectored(&mut self, now: Instant, id: SocketId, data: &[IoSlice<'_>]) -> Result<usize, SendError> {
        self.tick(now);
        self.check(id).ok_or(SendError::NotConnected)?;
        let (sockets, mut cx) = self.split();
        let connection = match &mut sockets[id.index as usize].slot {
            Slot::Connection(connection) => connection,
            Slot::Opening(_) => return Err(SendError::WouldBlock),
            Slot::Remains(remains) => return Err(remains.send()),
            Slot::Listener(_) => return Err(SendError::NotConnected),
        };
        let mut sent = 0;
        for slice in data {
            match connection.send(&mut cx, slice) {
                Ok(written) => sent += written,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
            if sent > 0 && connection.is_write_blocked() {
                break;
            }
        }
        self.settle(id.index);
        Ok(sent)
    }

    /// Reads what has arrived into `buffer`. 0 is the end of the stream, unless `buffer` is empty.
    ///
    /// # Errors
    /// [`RecvError`]
    pub fn recv(&mut self, now: Instant, id: SocketId, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.tick(now);
        self.check(id).ok_or(RecvError::NotConnected)?;
        let (sockets, cx) = self.split();
        let received = match &mut sockets[id.index as usize].slot {
            Slot::Connection(connection) => connection.recv(buffer, cx.pool)?,
            Slot::Opening(_) => return Err(RecvError::WouldBlock),
            Slot::Remains(remains) => return remains.recv(buffer, cx.pool),
            Slot::Listener(_) => return Err(RecvError::NotConnected),
        };
        if received > 0 {
            self.settle(id.index);
        }
        Ok(received)
    }

    /// [`recv`](Self::recv) into several slices, in order.
    ///
    /// # Errors
    /// [`RecvError`]
    pub fn recv_vectored(&mut self, now: Instant, id: SocketId, buffers: &mut [IoSliceMut<'_>]) -> Result<usize, RecvError> {
        let mut received = 0;
        for buffer in buffers.iter_mut().filter(|buffer| !buffer.is_empty()) {
            match self.recv(now, id, buffer) {
                Ok(read) => {
                    received += read;
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if received == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(received)
    }

    /// Copies what has arrived into `buffer` and leaves it there.
    ///
    /// # Errors
    /// [`RecvError`]
    pub fn peek(&mut self, id: SocketId, buffer: &mut [u8]) -> Result<usize, RecvError> {
        match self.entry_mut(id).map(|entry| &mut entry.slot) {
            Some(Slot::Connection(connection)) => connection.peek(buffer),
            Some(Slot::Opening(_)) => Err(RecvError::WouldBlock),
            Some(Slot::Remains(remains)) => remains.peek(buffer),
            Some(Slot::Listener(_)) | None => Err(RecvError::NotConnected),
        }
    }

    /// Half-close: FIN follows what was written; reading goes on. Again is no error.
    ///
    /// # Errors
    /// [`ShutdownError`]
    pub fn shutdown(&mut self, now: Instant, id: SocketId) -> Result<(), ShutdownError> {
        self.tick(now);
        match self.entry_mut(id).map(|entry| &mut entry.slot) {
            Some(Slot::Connection(connection)) => connection.shutdown(),
            Some(Slot::Remains(remains)) if remains.reason == CloseReason::Finished => return Ok(()),
            Some(Slot::Listener(_) | Slot::Opening(_) | Slot::Remains(_)) | None => return Err(ShutdownError::NotConnected),
        }
        self.settle(id.index);
        Ok(())
    }

    /// The application will read no more than what has arrived. Nothing is sent.
    ///
    /// # Errors
    /// [`ShutdownError`]
    pub fn shutdown_read(&mut self, now: Instant, id: SocketId) -> Result<(), ShutdownError> {
        self.tick(now);
        match self.entry_mut(id).map(|entry| &mut entry.slot) {
            Some(Slot::Connection(connection)) => connection.shutdown_read(),
            Some(Slot::Remains(_)) => return Ok(()),
            Some(Slot::Listener(_) | Slot::Opening(_)) | None => return Err(ShutdownError::NotConnected),
        }
        self.settle(id.index);
        Ok(())
    }

    /// Resets the connection and drops what is queued in both directions (RFC 9293 §3.10.5). The name stays valid until it is released.
    pub fn abort(&mut self, now: Instant, id: SocketId) {
        self.tick(now);
        if self.check(id).is_some() {
            self.abort_socket(id.index, CloseReason::Aborted);
        }
    }

    /// The application drops the socket. A connection with unread data, or with zero linger, is reset; any other delivers what was written
    /// and closes in the background. A listener's waiting connections are reset. The name is dead afterwards.
    pub fn release(&mut self, now: Instant, id: SocketId) {
        self.tick(now);
        if self.check(id).is_none() {
            return;
        }
        let index = id.index;
        let entry = &mut self.sockets[index as usize];
        entry.owner = Owner::Nobody;
        entry.events = Events::NONE;
        match &mut entry.slot {
            Slot::Connection(connection) => match connection.release(self.now, &self.config) {
                Release::Linger => self.settle(index),
                Release::Reset => self.abort_socket(index, CloseReason::Aborted),
            },
            Slot::Opening(_) => self.abort_socket(index, CloseReason::Aborted),
            Slot::Remains(_) => self.remove_socket(index),
            Slot::Listener(_) => self.close_listener(index),
        }
    }

    /// Fires every timer that is due. Calling it again changes nothing.
    pub fn advance(&mut self, now: Instant) {
        self.tick(now);
        while let Some(timer) = self.wheel.pop_due(self.now) {
            let entry = self.sockets.get_mut(timer.key as usize).filter(|entry| entry.generation == timer.generation);
            let Some(entry) = entry else { continue };
            entry.armed.remove(timer.deadline);
            self.on_socket_time(timer.key);
        }
        self.advance_half_open();
        while let Some(tuple) = self.time_waits.pop_due(self.now) {
            self.trace_change(tuple, State::TimeWait, State::Closed);
        }
        self.advance_neighbors();
        self.advance_addresses();
        self.advance_reports();
    }

    fn on_socket_time(&mut self, index: u32) {
        let (sockets, mut cx) = self.split();
        let now = cx.now;
        let Some(entry) = sockets.get_mut(index as usize) else { return };
        if entry.retry_at.is_some_and(|at| at <= now) {
            entry.retry_at = None;
        }
        match &mut entry.slot {
            Slot::Connection(connection) => {
                let tuple = *connection.tuple();
                match connection.on_time(&mut cx) {
                    Timeout::Speak => {}
                    Timeout::Suspect => self.suspect(index),
                    Timeout::Reset(segment) => self.reply_to_peer(tuple, Some(segment), index),
                }
                self.settle(index);
            }
            Slot::Opening(opening) => match opening.on_time(now, cx.config) {
                None => self.settle(index),
                Some(reason) => {
                    self.count_end(reason);
                    self.bury(index, reason);
                }
            },
            Slot::Listener(_) | Slot::Remains(_) => {}
        }
    }

    pub(super) fn abort_socket(&mut self, index: u32, reason: CloseReason) {
        let (sockets, cx) = self.split();
        let Some(entry) = sockets.get_mut(index as usize) else { return };
        let (tuple, reset): (Tuple, Option<Segment>) = match &mut entry.slot {
            Slot::Connection(connection) => (*connection.tuple(), connection.abort(cx.now, reason, cx.pool)),
            Slot::Opening(opening) => (*opening.tuple(), opening.abort()),
            Slot::Listener(_) | Slot::Remains(_) => return,
        };
        self.reply_to_peer(tuple, reset, index);
        self.count_end(reason);
        self.bury(index, reason);
    }

    fn close_listener(&mut self, index: u32) {
        let Some(Entry { slot: Slot::Listener(socket), .. }) = self.sockets.try_remove(index as usize) else { return };
        for half_open in self.syn_cache.remove_all_of(socket.id) {
            self.trace_change(half_open.tuple, State::SynReceived, State::Closed);
        }
        self.trace_listener(socket.local, socket.port, State::Listen, State::Closed);
        let Some(mut listener) = self.listeners.remove(socket.id) else { return };
        while let Some(queued) = listener.pop_accepted() {
            if let Some(entry) = self.sockets.get_mut(queued as usize) {
                entry.owner = Owner::Nobody;
                match entry.slot {
                    Slot::Remains(_) => self.remove_socket(queued),
                    _ => self.abort_socket(queued, CloseReason::Aborted),
                }
            }
        }
    }

    pub(super) fn insert(&mut self, owner: Owner, way: Way, slot: Slot) -> SocketId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let entry = Entry {
            generation,
            owner,
            events: Events::NONE,
            ready: false,
            armed: Armed::default(),
            retry_at: None,
            way,
            traced: State::Closed,
            slot,
        };
        let index = u32::try_from(self.sockets.insert(entry)).expect("connections_max is below 2^32");
        SocketId { shard: self.shard, index, generation }
    }

    pub(super) fn entry(&self, id: SocketId) -> Option<&Entry> {
        self.sockets.get(id.index as usize).filter(|entry| entry.generation == id.generation && id.shard == self.shard)
    }

    pub(super) fn entry_mut(&mut self, id: SocketId) -> Option<&mut Entry> {
        let shard = self.shard;
        self.sockets.get_mut(id.index as usize).filter(|entry| entry.generation == id.generation && id.shard == shard)
    }

    /// `Some` if the name is alive.
    fn check(&self, id: SocketId) -> Option<()> {
        self.entry(id).map(|_| ())
    }

    fn check_destination(&self, destination: Address, port: u16) -> Result<Way, ConnectError> {
        if is_multicast(destination) || self.routes.is_broadcast(destination) {
            return Err(ConnectError::InvalidRemote);
        }
        if port == 0 {
            return Err(ConnectError::Refused);
        }
        match self.way_to(destination) {
            Way::Nowhere => Err(ConnectError::NetworkUnreachable),
            Way::Link(_) if self.is_link_gone() => Err(ConnectError::NetworkUnreachable),
            way => Ok(way),
        }
    }

    fn source_address(&self, destination: Address, local: Option<SocketAddr>) -> Result<Address, ConnectError> {
        let chosen = || self.routes.source_for(destination).ok_or(ConnectError::NetworkUnreachable);
        let Some(local) = local else { return chosen() };
        let address = Address::new(local.ip());
        if local.ip().is_unspecified() {
            let same_family = address == Address::ANY || address.is_v4() == destination.is_v4();
            return if same_family { chosen() } else { Err(ConnectError::FamilyMismatch) };
        }
        if address.is_v4() != destination.is_v4() {
            return Err(ConnectError::FamilyMismatch);
        }
        let from_here = self.routes.is_local(address) && (!is_loopback(address) || self.way_to(destination) == Way::Loopback);
        if from_here { Ok(address) } else { Err(ConnectError::AddressNotAvailable) }
    }

    fn choose_tuple(&mut self, destination: Destination, local: Option<SocketAddr>) -> Result<Tuple, ConnectError> {
        let Destination { local: address, remote, remote_port } = destination;
        let tuple = |local_port| Tuple { local: address, remote, local_port, remote_port };
        let Self { ports, listeners, connections, sockets, syn_cache, time_waits, hash, now, .. } = self;
        let is_free = |tuple: &Tuple| {
            let hash = hash.hash(tuple);
            find_connection(connections, sockets, hash, tuple).is_none()
                && syn_cache.find(hash, tuple).is_none()
                && time_waits.find(hash, tuple).is_none_or(|id| time_waits.reusable_for_connect(*now, id).is_some())
        };
        if let Some(port) = local.map(|local| local.port()).filter(|port| *port != 0) {
            return if is_free(&tuple(port)) { Ok(tuple(port)) } else { Err(ConnectError::AddressInUse) };
        }
        let port = ports.next(&destination, |port| !listeners.has_conflict(address, port) && is_free(&tuple(port)));
        port.map(tuple).ok_or(ConnectError::NoPorts)
    }
}
