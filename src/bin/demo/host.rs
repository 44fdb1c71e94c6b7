//! An engine and what it says of a connection: the left or right column of the ladder.

use crate::ladder::View;
use crate::packet::{Ends, Side};
use crate::track::{Space, Tracker};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use synfin::proto::{Engine, Instant, SocketId, State};

/// An engine, and the connections it has shown: what remains of one is asked for by the name that its socket had.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) engine: Engine,
    shown: BTreeMap<(SocketAddr, SocketAddr), Option<SocketId>>,
}

impl Host {
    pub(crate) const fn new(engine: Engine) -> Self {
        Self { engine, shown: BTreeMap::new() }
    }

    /// What the engine's table and snapshots say of the connection between these ends (left, right). A handshake has no snapshot yet: its
    /// numbers are those that the wire has shown.
    pub(crate) fn view(&mut self, now: Instant, side: Side, ends: Option<Ends>, tracker: &Tracker) -> View {
        let Some(ends) = ends else { return View::default() };
        let (local, remote) = if side == Side::Left { ends } else { (ends.1, ends.0) };
        if !self.engine.is_local(local.ip()) {
            return View { state: "(nobody)".to_owned(), space: None };
        }
        let rows = self.engine.netstat(now);
        let row = rows.iter().find(|row| row.local == local && row.remote == Some(remote));
        let listens = rows.iter().any(|row| row.remote.is_none() && row.local.port() == local.port());
        let state = match row {
            Some(row) => {
                let shown = self.shown.entry((local, remote)).or_default();
                *shown = row.socket.or(*shown);
                row.state
            }
            None if listens && !self.shown.contains_key(&(local, remote)) => State::Listen,
            None => State::Closed,
        };
        let info = self.shown.get(&(local, remote)).copied().flatten().and_then(|id| self.engine.info(id));
        let space = info.map(|info| Space {
            una: Some(info.snd_una.0.wrapping_sub(info.iss.0)),
            next: info.snd_nxt.0.wrapping_sub(info.iss.0),
            received: Some(info.rcv_nxt.0.wrapping_sub(info.irs.0)),
        });
        View { state: state.rfc_name().to_owned(), space: space.or_else(|| tracker.space(side, ends)) }
    }
}
