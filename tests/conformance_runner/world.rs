//! What a script plays in: the host, the application's sockets by name, and the connections by their ports.

use std::collections::BTreeMap;

use synfin::proto::wire::SeqNum;
use synfin::proto::{Config, Frame, SocketId};

use super::flow::Flow;
use super::host::{Family, Host, Packet};
use super::icmp::Report;
use super::segment::{Route, Words};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) sockets: BTreeMap<String, Socket>,
    flows: BTreeMap<Ports, Flow>,
}

/// A socket that the application holds or held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    pub(crate) id: SocketId,
    pub(crate) ports: Ports,
    /// Where its next byte stands, read and written, counted from the SYN.
    pub(crate) read_at: i64,
    pub(crate) write_at: i64,
}

/// Our port and the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ports {
    pub(crate) ours: u16,
    pub(crate) peer: u16,
}

impl World {
    pub(crate) fn new(config: &Config, family: Family) -> Self {
        Self { host: Host::new(config, family), sockets: BTreeMap::new(), flows: BTreeMap::new() }
    }

    /// The peer sends.
    pub(crate) fn receive(&mut self, words: &Words) {
        let packet = self.flow(ports_of(words.route)).packet(words);
        self.host.receive(&packet);
    }

    /// A router reports.
    pub(crate) fn report(&mut self, report: &Report) {
        let seq = self.flow(Ports { ours: OUR_PORT, peer: PEER_PORT }).our_absolute(report.seq);
        let packet = report.packet(self.host.family, seq);
        self.host.engine.receive(self.host.now, Frame::borrowed(&packet));
    }

    /// In a script's words, what the engine sent and what the script expects instead, both complete.
    pub(crate) fn compare(&mut self, packet: &Packet, expected: &Words) -> (Words, Words) {
        let wanted = ports_of(expected.route);
        let expected = self.flow(wanted).complete(expected);
        let mut actual = self.words(packet, expected.route.fresh);
        let ports = Ports { ours: packet.header.source_port, peer: packet.header.destination_port };
        if ports != wanted {
            actual.route = Route { our_port: Some(ports.ours), peer_port: Some(ports.peer), fresh: expected.route.fresh };
        }
        (actual, expected)
    }

    /// In a script's words, what the engine sent.
    pub(crate) fn words(&mut self, packet: &Packet, fresh: bool) -> Words {
        let ports = Ports { ours: packet.header.source_port, peer: packet.header.destination_port };
        let flow = self.flow(ports);
        let words = flow.words(packet, fresh);
        flow.on_sent(&words);
        words
    }

    /// The connection between these ports, if any segment or call named it before; a new one otherwise.
    pub(crate) fn flow(&mut self, ports: Ports) -> &mut Flow {
        // In the second family the peer's numbers wrap within the first few segments.
        let peer_iss = match self.host.family {
            Family::V4 => SeqNum(1_000_000),
            Family::V6 => SeqNum(u32::MAX - 150),
        };
        self.flows.entry(ports).or_insert_with(|| Flow::new(ports.ours, ports.peer, peer_iss))
    }
}

fn ports_of(route: Route) -> Ports {
    Ports { ours: route.our_port.unwrap_or(OUR_PORT), peer: route.peer_port.unwrap_or(PEER_PORT) }
}

/// Our port, listening or connecting, unless a script says otherwise.
pub(crate) const OUR_PORT: u16 = 80;

/// The peer's port, unless a script says otherwise.
pub(crate) const PEER_PORT: u16 = 40_000;
