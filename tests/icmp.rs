//! Forged ICMP and blind attacks (RFC 5927, RFC 5961): every type and code in every state, with quotations inside and outside of what is in
//! flight, and what one connection tells of another: nothing.

#[path = "support/effort.rs"]
mod effort;
#[path = "support/packet.rs"]
mod packet;
#[path = "support/peer.rs"]
mod peer;

use std::net::SocketAddr;

use synfin::proto::wire::{Address, Flags, IpHeader, Options, Segment, SeqNum, Sum, Timestamps, ip};
use synfin::proto::{Checksum, Config, DropReason, State};

use crate::peer::{Connection, Peer, Said};

/// The ends of both families: the engine's, then the peer's.
const FAMILIES: [[&str; 2]; 2] = [["10.0.0.1:7", "10.0.0.2:40000"], ["[fd00::1]:7", "[fd00::2]:40000"]];

const STATES: [State; 9] = [
    State::SynSent,
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

fn modern() -> Options {
    Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 999, echo: 0 }),
        ..Options::default()
    }
}

/// A peer of this family, and a connection in `state`; where that is possible, with 100 bytes in flight.
fn in_state(ends: [&str; 2], state: State) -> (Peer, Connection) {
    let mut peer = Peer::new(&Config::default());
    [peer.host, peer.remote] = ends.map(|text| text.parse().expect("a literal"));
    let connection = peer.in_state(state, 40_000, SeqNum(u32::MAX - 2), modern());
    if let (State::Established | State::CloseWait, Some(socket)) = (state, connection.socket) {
        peer.engine.send(peer.now, socket, &[7; 100]).expect("a test sets this up");
        assert!(!peer.hear().is_empty(), "{state} has something in flight");
    }
    assert!(peer.engine.netstat(peer.now).iter().any(|row| row.state == state), "{state}");
    (peer, connection)
}

/// An error that quotes the first bytes of a segment from `host` to `peer` at `seq`.
fn error([kind, code]: [u8; 2], host: SocketAddr, peer: SocketAddr, seq: SeqNum) -> Vec<u8> {
    let [own, other] = [host, peer].map(|end| Address::new(end.ip()));
    let mut header = [0; ip::HEADER_LEN_MAX];
    let quoted = IpHeader { source: own, destination: other, protocol: ip::protocol::TCP, hop_limit: 1, traffic_class: 0 };
    let len = quoted.emit(0, 1400, &mut header);
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend(600u16.to_be_bytes());
    message.extend(&header[..len]);
    message.extend([host.port().to_be_bytes(), peer.port().to_be_bytes()].concat());
    message.extend(seq.0.to_be_bytes());
    let protocol = if host.is_ipv4() { ip::protocol::ICMP } else { ip::protocol::ICMPV6 };
    let mut sum = Sum::of(&message);
    if !host.is_ipv4() {
        sum = sum + Sum::pseudo_header(other, own, protocol, u32::try_from(message.len()).expect("small"));
    }
    message[2..4].copy_from_slice(&sum.complete());
    let below = IpHeader { source: other, destination: own, protocol, hop_limit: 64, traffic_class: 0 };
    let len = below.emit(0, message.len(), &mut header);
    [&header[..len], &message].concat()
}

/// Every type with every code that means something somewhere, and some that do not.
fn kinds() -> impl Iterator<Item = [u8; 2]> {
    let codes = u8::try_from(effort::count(16, 255)).expect("a byte");
    (0..=255).flat_map(move |kind| (0..=codes).map(move |code| [kind, code]))
}

/// Whether it reports a path MTU, which a connection obeys.
fn is_too_big(host: SocketAddr, kind: [u8; 2]) -> bool {
    if host.is_ipv4() { kind == [3, 4] } else { kind[0] == 2 }
}

fn snapshot(peer: &Peer, connection: &Connection) -> String {
    let info = connection.socket.and_then(|socket| peer.engine.info(socket));
    format!("{:?} {info:?}", peer.engine.netstat(peer.now))
}

/// R5927-1. Quotations just before and after what is in flight, and far away.
#[test]
fn errors_about_nothing_in_flight_change_nothing() {
    for (ends, state) in FAMILIES.into_iter().flat_map(|ends| STATES.map(|state| (ends, state))) {
        let (mut peer, connection) = in_state(ends, state);
        let before = snapshot(&peer, &connection);
        let opening = matches!(state, State::SynSent | State::SynReceived);
        let una = if opening { SeqNum(connection.expected.0.wrapping_sub(1)) } else { connection.expected };
        for kind in kinds() {
            for far in [u32::MAX, 101, 1 << 20, 1 << 31, 3 << 30] {
                let packet = error(kind, connection.host, connection.peer, SeqNum(una.0.wrapping_add(far)));
                let said = peer.inject(&packet, Checksum::Unknown);
                assert!(said.is_empty(), "{state}: {kind:?} at {far:#x} drew {said:?}");
            }
        }
        let after = snapshot(&peer, &connection);
        assert!(after == before, "{state}, {ends:?}: {before} became {after}");
    }
}

/// R5927-1. Once synchronised, no error about a segment in flight does more than to be remembered; a path MTU alone is obeyed.
#[test]
fn errors_about_what_is_in_flight_end_no_connection() {
    let synchronised = STATES.into_iter().filter(|state| *state != State::SynSent);
    for (ends, state) in FAMILIES.into_iter().flat_map(|ends| synchronised.clone().map(move |state| (ends, state))) {
        let (mut peer, connection) = in_state(ends, state);
        let before = format!("{:?}", peer.engine.netstat(peer.now));
        let una = if state == State::SynReceived { SeqNum(connection.expected.0.wrapping_sub(1)) } else { connection.expected };
        for kind in kinds().filter(|kind| !is_too_big(connection.host, *kind)) {
            let said = peer.inject(&error(kind, connection.host, connection.peer, una), Checksum::Unknown);
            assert!(said.is_empty(), "{state}: {kind:?} drew {said:?}");
            assert_eq!(format!("{:?}", peer.engine.netstat(peer.now)), before, "{state}: {kind:?}");
        }
        peer.inject(&error([3, 4], connection.host, connection.peer, una), Checksum::Unknown);
        peer.inject(&error([2, 0], connection.host, connection.peer, una), Checksum::Unknown);
        let later = peer.pass(std::time::Duration::from_millis(900));
        assert!(later.iter().all(|(said, _)| !said.flags.has(Flags::RST)), "{state}: {later:?}");
        assert!(peer.engine.netstat(peer.now).iter().any(|row| row.state == state), "{state} outlives a path MTU");
    }
}

/// RFC 1122 §4.2.3.9: of what quotes our SYN, only destination unreachable ends the handshake.
#[test]
fn only_destination_unreachable_ends_a_handshake() {
    for ends in FAMILIES {
        for kind in kinds() {
            let (mut peer, connection) = in_state(ends, State::SynSent);
            let iss = SeqNum(connection.expected.0.wrapping_sub(1));
            peer.inject(&error(kind, connection.host, connection.peer, iss), Checksum::Unknown);
            let lives = peer.engine.netstat(peer.now).iter().any(|row| row.state == State::SynSent);
            let unreachable = if connection.host.is_ipv4() { 3 } else { 1 };
            assert!(lives || kind[0] == unreachable, "{kind:?} ended the handshake");
            let port = if connection.host.is_ipv4() { [3, 3] } else { [1, 4] };
            assert!(!lives || kind != port, "nobody listens there, and it goes on");
        }
    }
}

/// A listener is no connection: no quotation of its SYN,ACKs or of anything else touches it.
#[test]
fn errors_do_not_touch_a_listener() {
    for ends in FAMILIES {
        let mut peer = Peer::new(&Config::default());
        let [host, remote] = ends.map(|text| text.parse().expect("a literal"));
        let before = format!("{:?}", peer.engine.netstat(peer.now));
        for kind in kinds() {
            assert!(peer.inject(&error(kind, host, remote, SeqNum(5)), Checksum::Unknown).is_empty());
        }
        assert_eq!(format!("{:?}", peer.engine.netstat(peer.now)), before);
        assert_eq!(peer.open(40_000, SeqNum(5), modern()).socket.map(|socket| peer.engine.state(socket)), Some(Some(State::Established)));
    }
}

/// 300 segments of each kind that a blind attacker may send, and all that is said to them.
fn battery(peer: &mut Peer, connection: &Connection) -> Vec<Vec<Said>> {
    let at = |offset: u32, flags| Segment { seq: SeqNum(connection.nxt.0.wrapping_add(offset)), ..connection.segment(flags) };
    let (reset, syn, data) = (Flags::RST, Flags::SYN, Flags::ACK);
    [(reset, 1, &b""[..]), (syn, 1, b""), (data, 1 << 31, b"x"), (data, 3 << 30, b"x")]
        .map(|(flags, offset, text)| (0..300).flat_map(|step| peer.say(connection, at(offset + step, flags), text)).collect())
        .to_vec()
}

/// R5961-1 R5961-8.
#[test]
fn three_hundred_guesses_draw_one_challenge() {
    for flags in [Flags::RST, Flags::SYN] {
        let (mut peer, connection) = in_state(FAMILIES[0], State::Established);
        let said: Vec<Said> = (1..=300)
            .flat_map(|guess| peer.say(&connection, Segment { seq: connection.nxt + guess, ..connection.segment(flags) }, &[]))
            .collect();
        assert!(said.len() == 1 && said[0].0.flags == Flags::ACK, "{flags}: {said:?}");
    }
    let (mut peer, connection) = in_state(FAMILIES[0], State::Established);
    let said: usize = (0..300)
        .map(|at| peer.say(&connection, Segment { seq: connection.nxt.back(100_000 + at), ..connection.segment(Flags::ACK) }, b"old").len())
        .sum();
    assert!((1..=10).contains(&said), "{said} answers to 300 segments outside of the window");
    assert_eq!(peer.engine.stats().drops.of(DropReason::OutsideWindow), 300);
}

/// R5961-8, and the lesson of CVE-2016-5696: what is said to one connection does not depend on what another one was sent.
#[test]
fn one_connection_tells_nothing_of_another() {
    let answers = |attacked: bool| {
        let mut peer = Peer::new(&Config::default());
        let [one, other] = [40_000, 40_001].map(|port| peer.open(port, SeqNum(5), modern()));
        if attacked {
            let said = battery(&mut peer, &one);
            assert!(said.iter().flatten().count() > 0, "the attack is noticed");
            for kind in kinds() {
                peer.inject(&error(kind, one.host, one.peer, one.expected), Checksum::Unknown);
            }
        }
        battery(&mut peer, &other)
    };
    assert_eq!(answers(true), answers(false));
}

/// A packet of `protocol` from the peer of a family, with this payload.
fn packet_of(ends: [&str; 2], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [destination, source] = ends.map(|text| Address::new(text.parse::<SocketAddr>().expect("a literal").ip()));
    let mut header = [0; ip::HEADER_LEN_MAX];
    let below = IpHeader { source, destination, protocol, hop_limit: 64, traffic_class: 0 };
    let len = below.emit(0, payload.len(), &mut header);
    [&header[..len], payload].concat()
}

/// A datagram with its checksum.
fn datagram(ends: [&str; 2], text: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + text.len()).expect("small");
    let mut bytes = [&[0x30, 0x39, 0x82, 0x9a][..], &len.to_be_bytes(), &[0, 0], text].concat();
    let [own, other] = ends.map(|text| Address::new(text.parse::<SocketAddr>().expect("a literal").ip()));
    let sum = Sum::pseudo_header(other, own, 17, u32::from(len)) + Sum::of(&bytes);
    bytes[6..8].copy_from_slice(&sum.complete());
    packet_of(ends, 17, &bytes)
}

/// What is said to a packet: ICMP messages, their IP headers and checksums looked at.
fn complaints(peer: &mut Peer, packet: &[u8]) -> Vec<Vec<u8>> {
    peer.engine.receive(peer.now, synfin::proto::Frame::borrowed(packet));
    let said = peer.hear_packets();
    said.iter()
        .map(|said| {
            let (header, range) = IpHeader::parse(said).expect("an IP packet");
            let message = &said[range];
            let mut sum = Sum::of(message);
            if !header.source.is_v4() {
                sum = sum + Sum::pseudo_header(header.source, header.destination, 58, u32::try_from(message.len()).expect("small"));
            }
            assert!(sum.is_intact() && [1, 58].contains(&header.protocol), "{header:?}");
            message.to_vec()
        })
        .collect()
}

/// RFC 1122 §3.2.2.1, RFC 4443 §3.1 and §3.4.
#[test]
fn who_speaks_no_tcp_is_told() {
    let [v4, v6] = FAMILIES;
    let long = [7; 1400];
    for (packet, expected, quoted) in [
        (datagram(v4, b"hello"), [3, 3, 0], 33),
        (datagram(v4, &long), [3, 3, 0], 548),
        (datagram(v6, b"hello"), [1, 4, 0], 53),
        (datagram(v6, &long), [1, 4, 0], 1232),
        (packet_of(v4, 132, b"sctp"), [3, 2, 0], 24),
        (packet_of(v6, 132, b"sctp"), [4, 1, 6], 44),
        (packet_of(v6, 60, &[132, 0, 1, 4, 0, 0, 0, 0, 1, 2]), [4, 1, 40], 50),
    ] {
        let mut peer = Peer::new(&Config::default());
        let said = complaints(&mut peer, &packet);
        let [message] = &said[..] else { panic!("{expected:?}: {said:?}") };
        assert_eq!([message[0], message[1], message[7]], expected);
        assert_eq!(message[8..], packet[..quoted]);
        assert_eq!(peer.engine.stats().drops.of(DropReason::UnknownProtocol), 1);
    }
}

/// RFC 1122 §3.2.2: to nothing that is damaged or that nobody sent, and within a limit that is each source's own.
#[test]
fn few_complaints_and_none_to_what_is_damaged() {
    let [v4, v6] = FAMILIES;
    let damaged = |mut packet: Vec<u8>| {
        *packet.last_mut().expect("bytes") ^= 1;
        packet
    };
    let mut peer = Peer::new(&Config::default());
    for packet in [damaged(datagram(v4, b"hello")), damaged(datagram(v6, b"hello")), packet_of(v4, 17, b"short"), packet_of(v6, 59, b"")] {
        assert!(complaints(&mut peer, &packet).is_empty(), "{packet:02x?}");
    }
    let told = |peer: &mut Peer, ends| (0..300).map(|_| complaints(peer, &datagram(ends, b"x")).len()).sum::<usize>();
    assert_eq!([told(&mut peer, v4), told(&mut peer, [v4[0], "10.0.0.3:1"]), told(&mut peer, v4)], [5, 5, 0]);
    assert_eq!(peer.engine.stats().icmp_errors_suppressed, 295 + 295 + 300);
}
