//! Rows of the compliance ledger that no transcript can show: addresses, checksums, IP headers, ICMP, the neighbour below, jumps of the clock.
//!
//! The engine is driven frame by frame, as bytes.

#[path = "conformance_runner/host.rs"]
mod host;

use std::net::SocketAddr;
use std::time::Duration;

use host::{Family, Host, Packet, START};
use synfin::proto::wire::{Address, Flags, IpHeader, OptionLayout, Options, Segment, SeqNum, Sum, Timestamps, ip};
use synfin::proto::{
    CloseReason, Config, ConnectError, DropReason, Engine, Frame, Instant, Link, MacAddress, Medium, SocketId, SocketOption, State,
    TxFrame, cut,
};

const PORT: u16 = 80;
const PEER_PORT: u16 = 40_000;
const PEER_ISS: SeqNum = SeqNum(u32::MAX - 10);

fn host(family: Family) -> Host {
    Host::new(&Config::default(), family)
}

fn segment(flags: Flags, seq: SeqNum, ack: SeqNum) -> Packet {
    let header = Segment { source_port: PEER_PORT, destination_port: PORT, seq, ack, flags, window: 60_000, ..Segment::default() };
    Packet { header, ..Packet::default() }
}

fn text(seq: SeqNum, ack: SeqNum, payload: &[u8]) -> Packet {
    let mut packet = segment(Flags::ACK, seq, ack);
    packet.header.payload_len = u32::try_from(payload.len()).expect("a few bytes");
    packet.payload = payload.to_vec();
    packet
}

/// The peer's SYN, with an answer and an acknowledgment: the accepted connection and our first number.
fn establish(host: &mut Host) -> (SocketId, SeqNum) {
    let listener = host.engine.listen(host.now, host.family.host(PORT), 8).expect("the port is free");
    host.receive(&segment(Flags::SYN, PEER_ISS, SeqNum(0)));
    let iss = host.sent()[0].header.seq;
    host.receive(&segment(Flags::ACK, PEER_ISS + 1, iss + 1));
    (host.engine.accept(host.now, listener).expect("the handshake is complete").0, iss)
}

/// A SYN of ours on its way.
fn connect(host: &mut Host) -> SocketId {
    let (remote, local) = (host.family.peer(PEER_PORT), host.family.host(PORT));
    host.engine.connect(host.now, remote, Some(local), None).expect("the 4-tuple is free")
}

/// What the engine sends, as bytes on the wire.
fn bytes_sent(host: &mut Host) -> Vec<Vec<u8>> {
    let mut frames: Vec<TxFrame> = Vec::new();
    let _ = host.engine.transmit(host.now, &mut frames);
    let complete = |mut frame: TxFrame| {
        cut::complete(&mut frame);
        frame.to_vec()
    };
    frames.into_iter().map(complete).collect()
}

fn dropped(host: &Host, reason: DropReason) -> u64 {
    host.engine.stats().drops.of(reason)
}

/// RFC 1071, word by word, over RFC 9293 §3.1's pseudo header.
fn reference_sum(packet: &[u8]) -> u16 {
    let v4 = packet[0] >> 4 == 4;
    let (addresses, tcp) = if v4 { (&packet[12..20], &packet[20..]) } else { (&packet[8..40], &packet[40..]) };
    let length = u32::try_from(tcp.len()).expect("a short packet").to_be_bytes();
    let covered = [addresses, &length, &[0, 6], tcp].concat();
    let mut sum: u32 = covered.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// MUST-2.
#[test]
fn every_segment_leaves_with_its_checksum() {
    for family in Family::ALL {
        let mut host = host(family);
        let (id, _) = establish(&mut host);
        host.engine.send(host.now, id, b"odd").unwrap();
        let mut frames = bytes_sent(&mut host);
        host.engine.abort(host.now, id);
        frames.extend(bytes_sent(&mut host));
        connect(&mut host);
        frames.extend(bytes_sent(&mut host));
        assert_eq!(frames.len(), 3, "data, RST, SYN");
        frames.iter().for_each(|frame| assert_eq!(reference_sum(frame), 0xffff, "{frame:x?}"));
    }
}

/// MUST-3.
#[test]
fn a_wrong_checksum_drops_in_silence() {
    for family in Family::ALL {
        let mut host = host(family);
        let (id, iss) = establish(&mut host);
        let intact = host.frame(&text(PEER_ISS + 1, iss + 1, b"hello"));
        let tcp = intact.len() - 25;
        for bit in 0..25 * 8 {
            let mut frame = intact.clone();
            frame[tcp + bit / 8] ^= 1 << (bit % 8);
            host.engine.receive(host.now, Frame::borrowed(&frame));
            assert_eq!(host.sent().len(), 0, "bit {bit}");
        }
        assert_eq!(dropped(&host, DropReason::BadTcpChecksum), 25 * 8);
        host.engine.receive(host.now, Frame::borrowed(&intact));
        assert_eq!(host.engine.recv(host.now, id, &mut [0; 10]), Ok(5));
    }
}

/// MUST-43, MUST-44, MUST-45.
#[test]
fn the_local_address_is_chosen_by_the_caller_or_by_the_route_and_stays() {
    let mut engine = host(Family::V4).engine;
    for address in ["10.0.0.9/24", "172.16.0.1/16"] {
        engine.add_address(START, address.parse().unwrap());
    }
    let remote = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let chosen = engine.connect(START, remote("10.0.0.2:7"), Some(remote("10.0.0.9:0")), None).unwrap();
    let routed = engine.connect(START, remote("172.16.3.4:7"), None, None).unwrap();
    assert_eq!(engine.local_addr(chosen).unwrap().ip(), remote("10.0.0.9:0").ip());
    let before = engine.local_addr(routed);
    assert_eq!(before.unwrap().ip(), remote("172.16.0.1:0").ip());
    engine.add_address(START, "172.16.3.1/24".parse().unwrap());
    assert_eq!(engine.local_addr(routed), before);
    let foreign = engine.connect(START, remote("10.0.0.2:7"), Some(remote("10.0.0.77:0")), None);
    assert_eq!(foreign, Err(ConnectError::AddressNotAvailable));
}

/// MUST-46.
#[test]
fn nobody_connects_to_a_group() {
    for (family, addresses) in [
        (Family::V4, &["10.0.0.255:7", "255.255.255.255:7", "224.0.0.1:7", "239.1.2.3:7"][..]),
        (Family::V6, &["[ff02::1]:7", "[ff0e::1234]:7"]),
    ] {
        let mut engine = host(family).engine;
        for address in addresses {
            let error = engine.connect(START, address.parse().unwrap(), None, None);
            assert_eq!(error, Err(ConnectError::InvalidRemote), "{address}");
        }
    }
}

/// A SYN between any two addresses.
fn syn_between(source: &str, destination: &str) -> Vec<u8> {
    let [source, destination] = [source, destination].map(|text| Address::new(text.parse().expect("an address")));
    let mut header = [0; synfin::proto::wire::tcp::HEADER_LEN_MAX];
    let len = segment(Flags::SYN, PEER_ISS, SeqNum(0)).header.emit(OptionLayout::Linux, &mut header);
    let sum = Sum::pseudo_header(source, destination, ip::protocol::TCP, u32::try_from(len).expect("a header")) + Sum::of(&header[..len]);
    header[16..18].copy_from_slice(&sum.complete());
    packet_between(source, destination, ip::protocol::TCP, &header[..len])
}

fn packet_between(source: Address, destination: Address, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let below = IpHeader { source, destination, protocol, hop_limit: 64, traffic_class: 0 };
    let mut out = [0; ip::HEADER_LEN_MAX];
    let len = below.emit(0, payload.len(), &mut out);
    [&out[..len], payload].concat()
}

/// MUST-57, MUST-63, R4987-6.
#[test]
fn a_syn_from_nobody_or_to_everybody_is_ignored() {
    let cases = [
        (Family::V4, "0.0.0.0", "10.0.0.1"),
        (Family::V4, "224.0.0.1", "10.0.0.1"),
        (Family::V4, "255.255.255.255", "10.0.0.1"),
        (Family::V4, "10.0.0.255", "10.0.0.1"),
        (Family::V4, "127.0.0.1", "10.0.0.1"),
        (Family::V4, "10.0.0.1", "10.0.0.1"),
        (Family::V4, "10.0.0.2", "10.0.0.255"),
        (Family::V4, "10.0.0.2", "255.255.255.255"),
        (Family::V4, "10.0.0.2", "224.0.0.1"),
        (Family::V6, "::", "fd00::1"),
        (Family::V6, "ff02::1", "fd00::1"),
        (Family::V6, "::1", "fd00::1"),
        (Family::V6, "fd00::2", "ff02::1"),
    ];
    for (family, source, destination) in cases {
        let mut host = host(family);
        let any: SocketAddr = if family == Family::V4 { ([0, 0, 0, 0], PORT).into() } else { "[::]:80".parse().unwrap() };
        host.engine.listen(host.now, any, 8).unwrap();
        host.engine.receive(host.now, Frame::borrowed(&syn_between(source, destination)));
        assert_eq!(host.sent().len(), 0, "{source} to {destination}");
        assert_eq!(host.engine.stats().drops.total(), 1, "{source} to {destination}");
        let good = if family == Family::V4 { syn_between("10.0.0.2", "10.0.0.1") } else { syn_between("fd00::2", "fd00::1") };
        host.engine.receive(host.now, Frame::borrowed(&good));
        assert_eq!(host.sent().len(), 1);
    }
}

/// MUST-58, MUST-59.
#[test]
fn what_is_queued_shares_one_acknowledgment() {
    let mut host = host(Family::V4);
    let (_, iss) = establish(&mut host);
    for place in 0..3 {
        host.receive(&text(PEER_ISS + 1 + 5 * place, iss + 1, b"hello"));
    }
    let acknowledged: Vec<SeqNum> = host.sent().iter().map(|packet| packet.header.ack).collect();
    assert_eq!(acknowledged, [PEER_ISS + 16]);
}

/// MUST-48, MUST-49, SHLD-21, SHLD-22, SHLD-23.
#[test]
fn hop_limit_and_traffic_class_are_what_was_asked_for() {
    for family in Family::ALL {
        let mut host = host(family);
        let (id, iss) = establish(&mut host);
        let mut seen = Vec::new();
        let mut watch = |host: &mut Host| {
            for frame in bytes_sent(host) {
                let (header, _) = IpHeader::parse(&frame).unwrap();
                seen.push((header.hop_limit, header.traffic_class));
            }
        };
        host.engine.send(host.now, id, b"before").unwrap();
        watch(&mut host);
        assert!(host.engine.set_option(host.now, id, SocketOption::HopLimit(7)));
        assert!(host.engine.set_option(host.now, id, SocketOption::TrafficClass(0xb8)));
        host.receive(&text(PEER_ISS + 1, iss + 7, b"data"));
        watch(&mut host);
        host.engine.send(host.now, id, b"lost").unwrap();
        watch(&mut host);
        assert!(host.step(host.now + Duration::from_secs(1)), "a retransmission");
        watch(&mut host);
        host.engine.abort(host.now, id);
        watch(&mut host);
        assert_eq!(seen, [(64, 0), (7, 0xb8), (7, 0xb8), (7, 0xb8), (7, 0xb8)]);
    }
}

/// MUST-67, SHLD-6, R8504-5.
#[test]
fn the_announced_mss_fits_the_link() {
    for (family, mtu, configured, announced) in [
        (Family::V4, 1500, None, 1460),
        (Family::V4, 9000, None, 8960),
        (Family::V4, 1500, Some(9000), 1460),
        (Family::V4, 1500, Some(500), 500),
        (Family::V6, 1280, None, 1220),
        (Family::V6, 1280, Some(1460), 1220),
    ] {
        let mut config = Config::default();
        config.mss = configured;
        let mut host = Host::new(&config, family);
        host.engine.set_link(host.now, Some(Link::new(Medium::Ip, mtu)));
        connect(&mut host);
        let syn = host.sent();
        assert_eq!(syn[0].header.options.mss, Some(announced), "{family:?}, MTU {mtu}, knob {configured:?}");
    }
}

/// MUST-69.
#[test]
fn options_fill_their_words() {
    let options = |bits: u8| {
        let mut options = Options {
            mss: (bits & 1 > 0).then_some(1460),
            window_scale: (bits & 2 > 0).then_some(7),
            sack_permitted: bits & 4 > 0,
            timestamps: (bits & 8 > 0).then_some(Timestamps { value: 1, echo: 2 }),
            ..Options::default()
        };
        if bits & 16 > 0 {
            options.sack.push(synfin::proto::wire::SackBlock { left: SeqNum(1), right: SeqNum(2) });
        }
        options
    };
    for layout in [OptionLayout::Linux, OptionLayout::FreeBsd] {
        for bits in 0..32 {
            let mut dirty = [0xee; synfin::proto::wire::options::OPTIONS_LEN_MAX];
            let len = options(bits).emit(layout, &mut dirty);
            assert_eq!(len % 4, 0);
            assert_eq!(Options::parse(&dirty[..len]), options(bits), "nothing but options, no-operations and zeros");
            assert!(!dirty[..len].contains(&0xee), "every byte is written");
        }
    }
}

/// An ICMP error about `packet`, which the engine sent.
fn icmp_error(host: &Host, (kind, code): (u8, u8), packet: &[u8]) -> Vec<u8> {
    assert_eq!(host.family, Family::V4);
    let mut message = [&[kind, code, 0, 0, 0, 0, 0, 0], &packet[..28]].concat();
    let checksum = Sum::of(&message).complete();
    message[2..4].copy_from_slice(&checksum);
    let [source, destination] = [host.family.peer(0), host.family.host(0)].map(|address| Address::new(address.ip()));
    packet_between(source, destination, ip::protocol::ICMP, &message)
}

const HOST_UNREACHABLE: (u8, u8) = (3, 1);
const PORT_UNREACHABLE: (u8, u8) = (3, 3);
const SOURCE_QUENCH: (u8, u8) = (4, 0);
const TIME_EXCEEDED: (u8, u8) = (11, 0);

/// MUST-54, MUST-55, MUST-56, R5927-1, SHLD-26: while connecting.
#[test]
fn an_error_about_our_syn_ends_the_attempt() {
    let attempt = |error: (u8, u8), alter: fn(&mut Vec<u8>)| {
        let mut host = host(Family::V4);
        let id = connect(&mut host);
        let mut syn = bytes_sent(&mut host).remove(0);
        alter(&mut syn);
        let error = icmp_error(&host, error, &syn);
        host.engine.receive(host.now, Frame::borrowed(&error));
        (host.engine.close_reason(id), dropped(&host, DropReason::BadIcmp))
    };
    assert_eq!(attempt(PORT_UNREACHABLE, |_| ()), (Some(CloseReason::Refused), 0));
    assert_eq!(attempt(HOST_UNREACHABLE, |_| ()), (Some(CloseReason::HostUnreachable), 0));
    assert_eq!(attempt(TIME_EXCEEDED, |_| ()), (None, 0));
    assert_eq!(attempt(SOURCE_QUENCH, |_| ()), (None, 1));
    assert_eq!(attempt(PORT_UNREACHABLE, |syn| syn[24] ^= 1), (None, 1), "another sequence number");
    assert_eq!(attempt(PORT_UNREACHABLE, |syn| syn[21] ^= 1), (None, 1), "another port");
}

/// MUST-54, MUST-55, MUST-56, R5927-1, R5927-2, SHLD-25, SHLD-26: once connected.
#[test]
fn errors_end_no_connection_but_explain_its_time_out() {
    let mut host = host(Family::V4);
    let (id, iss) = establish(&mut host);
    host.engine.send(host.now, id, b"lost").unwrap();
    let data = bytes_sent(&mut host).remove(0);
    let mut old = data.clone();
    old[24..28].copy_from_slice(&iss.0.to_be_bytes());
    for (error, quoted) in [(PORT_UNREACHABLE, &old), (SOURCE_QUENCH, &data), (PORT_UNREACHABLE, &data), (HOST_UNREACHABLE, &data)] {
        let error = icmp_error(&host, error, quoted);
        host.engine.receive(host.now, Frame::borrowed(&error));
        assert_eq!((host.engine.state(id), host.sent().len()), (Some(State::Established), 0));
    }
    assert_eq!(dropped(&host, DropReason::BadIcmp), 2, "of what is not in flight, and Source Quench");
    while host.step(START + Duration::from_secs(2000)) {
        host.sent();
    }
    assert_eq!(host.engine.close_reason(id), Some(CloseReason::HostUnreachable));
}

/// R6056-3.
#[test]
fn ephemeral_ports_are_nobody_else_s() {
    let mut config = Config::default();
    config.ephemeral_ports = 40_000..=40_009;
    let mut host = Host::new(&config, Family::V4);
    host.engine.listen(host.now, host.family.host(40_003), 8).unwrap();
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..9 {
        let id = host.engine.connect(host.now, host.family.peer(7), None, None).unwrap();
        ports.insert(host.engine.local_addr(id).unwrap().port());
    }
    assert!(ports.len() == 9 && !ports.contains(&40_003), "{ports:?}");
    assert_eq!(host.engine.connect(host.now, host.family.peer(7), None, None), Err(ConnectError::NoPorts));
    assert!(host.engine.connect(host.now, host.family.peer(8), None, None).is_ok(), "another destination");
}

/// R6191-7: in the same instant, when the clock of initial numbers has not moved.
#[test]
fn a_reopened_tuple_begins_beyond_the_old_connection() {
    let mut host = host(Family::V4);
    let (id, iss) = establish(&mut host);
    host.engine.shutdown(host.now, id).unwrap();
    assert_eq!(host.sent().len(), 1, "our FIN");
    let old_end = iss + 2;
    host.receive(&segment(Flags::FIN | Flags::ACK, PEER_ISS + 1, old_end));
    assert_eq!((host.sent().len(), host.engine.state(id)), (1, Some(State::TimeWait)));
    host.receive(&segment(Flags::SYN, PEER_ISS + 100, SeqNum(0)));
    let answer = host.sent().remove(0).header;
    assert!(answer.flags == Flags::SYN | Flags::ACK && old_end + 65_535 < answer.seq, "{answer:?}");
}

/// HW-14.
#[test]
fn after_a_jump_of_the_clock_every_timer_fires_once() {
    for family in Family::ALL {
        let mut host = host(family);
        let (id, _) = establish(&mut host);
        connect_elsewhere(&mut host);
        host.engine.send(host.now, id, b"lost").unwrap();
        assert_eq!(host.sent().len(), 2);
        host.now = host.now + Duration::from_secs(300);
        for again in [2, 0, 0] {
            host.engine.advance(host.now);
            assert_eq!(host.sent().len(), again, "the data and the SYN, each once");
        }
    }
}

fn connect_elsewhere(host: &mut Host) -> SocketId {
    let remote = host.family.peer(PEER_PORT + 1);
    host.engine.connect(host.now, remote, None, None).expect("a free port")
}

/// An engine on Ethernet, whose peer's hardware address is known.
fn ethernet() -> (Engine, Vec<u8>) {
    let own = MacAddress([2, 0, 0, 0, 0, 1]);
    let mut engine = Engine::new(Config::default(), [7; 32], START);
    engine.set_link(START, Some(Link::new(Medium::Ethernet(own), 1500)));
    engine.add_address(START, "10.0.0.1/24".parse().expect("an address and a prefix"));
    let ends = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let arp = [&ends[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &ends[6..], &[10, 0, 0, 2], &ends[..6], &[10, 0, 0, 1]].concat();
    (engine, arp)
}

/// MUST-20, SHLD-10: after R1 = 3 retransmissions the neighbour is asked whether it is still there; not before.
#[test]
fn after_r1_the_next_hop_is_doubted() {
    let (mut engine, arp) = ethernet();
    let mut now = START;
    engine.connect(now, "10.0.0.2:7".parse().unwrap(), Some("10.0.0.1:80".parse().unwrap()), None).unwrap();
    let sent = |engine: &mut Engine, now: Instant| -> Vec<Vec<u8>> {
        let mut frames: Vec<TxFrame> = Vec::new();
        let _ = engine.transmit(now, &mut frames);
        frames.iter().map(TxFrame::to_vec).collect()
    };
    assert_eq!(sent(&mut engine, now).len(), 2, "the address is announced, the neighbour asked for");
    engine.receive(now, Frame::borrowed(&arp));
    let syn = sent(&mut engine, now).remove(0);
    let iss = u32::from_be_bytes([syn[38], syn[39], syn[40], syn[41]]);
    let answer = Segment { source_port: 7, destination_port: 80, ..segment(Flags::SYN | Flags::ACK, PEER_ISS, SeqNum(iss) + 1).header };
    let peer = host(Family::V4);
    let answer = [&arp[..12], &[8, 0], &peer.frame(&Packet { header: answer, ..Packet::default() })[..]].concat();
    engine.receive(now, Frame::borrowed(&answer));
    assert_eq!(sent(&mut engine, now).len(), 1, "the acknowledgment");
    let id = engine.netstat(now)[0].socket.unwrap();
    engine.send(now, id, b"lost").unwrap();
    assert_eq!(sent(&mut engine, now).len(), 1);
    let (mut retransmissions, mut questions_after) = (0, None);
    while questions_after.is_none() && retransmissions < 6 {
        now = now.max(engine.deadline().unwrap());
        engine.advance(now);
        for frame in sent(&mut engine, now) {
            match frame[12..14] {
                [8, 6] => questions_after = Some(retransmissions),
                _ => retransmissions += 1,
            }
        }
    }
    assert!(matches!(questions_after, Some(3..)), "{questions_after:?} retransmissions before the question");
}
