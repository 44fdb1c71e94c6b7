//! Every socket as a row: what `netstat -nat` shows, half-open and resting connections included.

use std::net::SocketAddr;
use std::time::Duration;

use super::Engine;
use super::slot::{Slot, SocketId};
use crate::proto::Instant;
use crate::proto::tcp::info::Info;
use crate::proto::tcp::state::State;
use crate::proto::tcp::timers::TimerName;

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// The socket; none for half-open and resting connections.
    pub socket: Option<SocketId>,
    /// Its state.
    pub state: State,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's; none for a listener.
    pub remote: Option<SocketAddr>,
    /// Bytes that have arrived and were not read; of a listener, connections that wait to be accepted.
    pub receive_queue: usize,
    /// Bytes that were written and are not acknowledged; of a listener, its backlog.
    pub send_queue: usize,
    /// The timer that runs, and the time left.
    pub timer: Option<(TimerName, Duration)>,
    /// Consecutive retransmissions.
    pub retransmits: u32,
    /// Congestion window in bytes; zero where there is none.
    pub cwnd: u32,
    /// Smoothed round-trip time; zero where there is none.
    pub srtt: Duration,
}

/// The line as `netstat -nat` prints it.
impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = if self.local.is_ipv4() { "tcp" } else { "tcp6" };
        let local = self.local.to_string();
        let remote = self
            .remote
            .map_or_else(|| if self.local.is_ipv4() { "0.0.0.0:*".to_owned() } else { ":::*".to_owned() }, |remote| remote.to_string());
        let (receive, send, state) = (self.receive_queue, self.send_queue, self.state.netstat_name());
        write!(f, "{protocol:<5} {receive:>6} {send:>6} {local:<23} {remote:<23} {state}")
    }
}

/// The line above the table.
pub const HEADER: &str = "Proto Recv-Q Send-Q Local Address           Foreign Address         State";

impl Engine {
    /// A snapshot of every socket, in the order in which they were made; then half-open, then resting connections.
    #[must_use]
    pub fn netstat(&self, now: Instant) -> Vec<Row> {
        let now = self.now.max(now);
        let sockets = self.sockets.iter().filter_map(|(index, entry)| {
            let index = u32::try_from(index).ok()?;
            let id = SocketId { shard: self.shard, index, generation: entry.generation };
            self.row(id, &entry.slot, now)
        });
        let half_open = self.syn_cache.iter().map(|(key, half_open)| Row {
            timer: self.half_open_due(key).map(|left| (TimerName::Retransmit, left)),
            retransmits: u32::from(half_open.retransmits),
            ..row(State::SynReceived, half_open.tuple.local_addr(), Some(half_open.tuple.remote_addr()))
        });
        let resting = self.time_waits.iter().map(|(tuple, expires)| Row {
            timer: Some((TimerName::TimeWait, expires - now)),
            ..row(State::TimeWait, tuple.local_addr(), Some(tuple.remote_addr()))
        });
        sockets.chain(half_open).chain(resting).collect()
    }

    fn row(&self, id: SocketId, slot: &Slot, now: Instant) -> Option<Row> {
        match slot {
            Slot::Connection(connection) => {
                let info = Info::of(connection);
                Some(Row {
                    socket: Some(id),
                    receive_queue: info.receive_queue,
                    send_queue: info.send_queue,
                    timer: info.timer.map(|(name, at)| (name, at - now)),
                    retransmits: info.retransmits,
                    cwnd: info.cwnd,
                    srtt: info.srtt,
                    ..row(info.state, connection.tuple().local_addr(), Some(connection.tuple().remote_addr()))
                })
            }
            Slot::Listener(socket) => {
                let listener = self.listeners.get(socket.id)?;
                Some(Row {
                    socket: Some(id),
                    receive_queue: listener.accept_queue_len(),
                    send_queue: listener.backlog() as usize,
                    ..row(State::Listen, socket.local_addr(), None)
                })
            }
            Slot::Opening(opening) => Some(Row {
                socket: Some(id),
                send_queue: 1,
                timer: opening.deadline().map(|at| (TimerName::Retransmit, at - now)),
                retransmits: opening.retransmits(),
                ..row(opening.state(), opening.tuple().local_addr(), Some(opening.tuple().remote_addr()))
            }),
            Slot::Remains(_) => None,
        }
    }
}

const fn row(state: State, local: SocketAddr, remote: Option<SocketAddr>) -> Row {
    Row { socket: None, state, local, remote, receive_queue: 0, send_queue: 0, timer: None, retransmits: 0, cwnd: 0, srtt: Duration::ZERO }
}
