//! An Ethernet hub in virtual time: every frame of a host reaches all others at once, and is written down in words.

use std::time::Duration;

use synfin::proto::wire::ethernet::{EtherType, Header};
use synfin::proto::wire::icmp::Message;
use synfin::proto::wire::ip::HEADER_LEN_MAX;
use synfin::proto::wire::{Address, IpHeader, arp, ndp};
use synfin::proto::{Cidr, Config, Engine, Frame, Instant, Link, MacAddress, Medium, TxFrame, cut};

/// The hosts, and what they have said.
pub(crate) struct Hub {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Engine>,
    /// Hosts that hear nothing and are not heard.
    pub(crate) unplugged: Vec<usize>,
    log: Vec<(Instant, usize, String)>,
}

impl Hub {
    /// Hosts with these addresses, each text one host's, parted by blanks.
    pub(crate) fn new(config: &Config, hosts: &[&str]) -> Self {
        let mut hub = Self { now: START, hosts: vec![], unplugged: vec![], log: vec![] };
        hosts.iter().for_each(|addresses| hub.add(config, addresses));
        hub
    }

    /// One more host, which begins now.
    pub(crate) fn add(&mut self, config: &Config, addresses: &str) {
        let index = self.hosts.len();
        let mut engine = Engine::new(config.clone(), [u8::try_from(index).expect("few hosts"); 32], self.now);
        for cidr in addresses.split(' ') {
            assert!(engine.add_address(self.now, cidr.parse::<Cidr>().expect("a literal")));
        }
        engine.set_link(self.now, Some(link(mac(index))));
        self.hosts.push(engine);
    }

    /// Lets this much time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while self.exchange() {}
            let next = self.hosts.iter().filter_map(Engine::deadline).min().filter(|at| *at <= end);
            let Some(next) = next else { break };
            // A deadline may be early: time goes on all the same.
            self.now = next.max(self.now + Duration::from_nanos(1));
            let now = self.now;
            self.hosts.iter_mut().for_each(|engine| engine.advance(now));
        }
        self.now = end;
        self.hosts.iter_mut().for_each(|engine| engine.advance(end));
        while self.exchange() {}
    }

    /// Lets host `to` hear a frame.
    pub(crate) fn hear(&mut self, to: usize, frame: &[u8]) {
        self.hosts[to].receive(self.now, Frame::borrowed(frame));
    }

    /// What was said since the last call: milliseconds since the start, and what.
    pub(crate) fn said(&mut self, host: usize) -> Vec<(u64, String)> {
        self.take(host, |what| !what.starts_with("report"))
    }

    /// The same, but reports of groups and nothing else.
    pub(crate) fn reported(&mut self, host: usize) -> Vec<(u64, String)> {
        self.take(host, |what| what.starts_with("report"))
    }

    fn take(&mut self, host: usize, wanted: impl Fn(&str) -> bool) -> Vec<(u64, String)> {
        let (said, rest) = std::mem::take(&mut self.log).into_iter().partition(|(_, who, what)| *who == host && wanted(what));
        self.log = rest;
        let said: Vec<(Instant, usize, String)> = said;
        said.into_iter().map(|(at, _, what)| (u64::try_from((at - START).as_millis()).expect("short"), what)).collect()
    }

    fn exchange(&mut self) -> bool {
        let mut any = false;
        for from in 0..self.hosts.len() {
            let mut frames: Vec<TxFrame> = Vec::new();
            let _ = self.hosts[from].transmit(self.now, &mut frames);
            frames.iter_mut().for_each(cut::complete);
            for frame in frames {
                any = true;
                let bytes = frame.to_vec();
                self.log.push((self.now, from, words(&bytes)));
                for to in (0..self.hosts.len()).filter(|to| *to != from) {
                    if !self.unplugged.contains(&from) && !self.unplugged.contains(&to) {
                        self.hosts[to].receive(self.now, Frame::borrowed(&bytes));
                    }
                }
            }
        }
        any
    }
}

/// The Ethernet address of a host.
pub(crate) fn mac(index: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, u8::try_from(index).expect("few hosts")])
}

/// The link of a host on the hub.
pub(crate) fn link(mac: MacAddress) -> Link {
    Link::new(Medium::Ethernet(mac), 1500).with_sharing(true)
}

/// An ARP packet of the host at `from`, to all.
pub(crate) fn arp(operation: arp::Operation, from: MacAddress, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let header = Header { source: from, destination: MacAddress::BROADCAST, ethertype: EtherType::Arp };
    let packet =
        arp::Packet { operation, sender_mac: from, sender: sender.into(), target_mac: MacAddress::default(), target: target.into() };
    [&header.emit()[..], &packet.emit()].concat()
}

/// A neighbour advertisement of the host at `from` for `target`, to all: news, not an answer.
pub(crate) fn advertisement(from: MacAddress, target: Address) -> Vec<u8> {
    let all = ndp::all_nodes();
    let news = ndp::Advertisement { target, router: false, solicited: false, overrides: true, target_mac: Some(from) };
    let mut message = [0; ndp::MESSAGE_LEN_MAX];
    let len = news.emit(target, all, &mut message);
    let link = Header { source: from, destination: ndp::multicast_mac(all), ethertype: EtherType::Ipv6 };
    let ip = IpHeader { source: target, destination: all, protocol: 58, hop_limit: ndp::HOP_LIMIT, traffic_class: 0 };
    let mut header = [0; HEADER_LEN_MAX];
    let header_len = ip.emit(0, len, &mut header);
    [&link.emit()[..], &header[..header_len], &message[..len]].concat()
}

/// A frame in words.
fn words(bytes: &[u8]) -> String {
    let link = Header::parse(bytes).expect("an Ethernet frame");
    let to_all = if link.destination.is_multicast() { " to all" } else { "" };
    let rest = &bytes[14..];
    if link.ethertype == EtherType::Arp {
        let packet = arp::Packet::parse(rest).expect("an ARP packet");
        let arp::Packet { sender, target, .. } = packet;
        return match packet.operation {
            arp::Operation::Request if sender.is_unspecified() => format!("probe {target}{to_all}"),
            arp::Operation::Request if sender == target => format!("announce {target}{to_all}"),
            arp::Operation::Request => format!("ask {target} from {sender}{to_all}"),
            arp::Operation::Reply => format!("answer {sender}{to_all}"),
        };
    }
    let (header, payload) = IpHeader::parse(rest).expect("an IP packet");
    let message = &rest[payload];
    if header.protocol == 58 && matches!(message[0], 131 | 143) {
        assert_eq!((rest[6], rest[7], &rest[40..48]), (0, 1, &[58, 0, 5, 2, 0, 0, 1, 0][..]), "hop limit 1 and a router alert");
        let group = |octets: &[u8]| <[u8; 16]>::try_from(octets).expect("an address");
        let show = |octets: &[u8]| std::net::Ipv6Addr::from(group(octets)).to_string();
        let groups = if message[0] == 131 {
            format!("in one {}", show(&message[8..24]))
        } else {
            let word = if message[8] == 4 { "join" } else { "in" };
            let groups: Vec<_> = message[8..].chunks(20).map(|record| show(&record[4..])).collect();
            format!("{word} {}", groups.join(" "))
        };
        return format!("report {} {groups}", header.source);
    }
    match Message::parse(&header, message) {
        Ok(Message::NeighborSolicitation(question)) if header.source == Address::ANY => format!("probe {}{to_all}", question.target),
        Ok(Message::NeighborSolicitation(question)) => format!("ask {} from {}{to_all}", question.target, header.source),
        Ok(Message::NeighborAdvertisement(answer)) if answer.solicited => format!("answer {}{to_all}", answer.target),
        Ok(Message::NeighborAdvertisement(answer)) => format!("announce {}{to_all}", answer.target),
        _ => format!("packet {} to {}", header.source, header.destination),
    }
}

const START: Instant = Instant::from_nanos(1_000_000_000);
