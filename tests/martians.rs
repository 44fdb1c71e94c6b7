//! Martians and lies: what cannot have come from an honest host is dropped in silence, before any state is made, and counted by name.
//!
//! Each row is a SYN for a listener with one thing wrong, over Ethernet; the same SYN without the fault is answered. Malformed TCP options,
//! which are no reason to drop, have transcripts; malformed device headers are the devices' unit tests.

#[path = "support/packet.rs"]
mod packet;

use std::net::SocketAddr;

use synfin::proto::stats::DropReason;
use synfin::proto::wire::{Flags, Segment, SeqNum, Sum};
use synfin::proto::{Cidr, Config, Engine, Frame, Instant, Link, MacAddress, Medium, TxFrame, cut};

const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const PEER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const PORT: u16 = 7;

struct Host {
    engine: Engine,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut engine = Engine::new(Config::default(), [3; 32], now);
        engine.set_link(now, Some(Link::new(Medium::Ethernet(OWN), 1500)));
        for cidr in ["10.0.0.1/24", "10.0.0.9/24", "fd00::1/64", "fd00::9/64"] {
            assert!(engine.add_address(now, cidr.parse::<Cidr>().expect("a literal")));
        }
        engine.listen(now, SocketAddr::new("::".parse().expect("a literal"), PORT), 8).expect("a free port");
        let mut host = Self { engine, now };
        // The announcements of its addresses.
        host.say();
        host
    }

    /// Takes a frame in; answers with the flags of what that draws.
    fn hear(&mut self, frame: &[u8]) -> Vec<Flags> {
        self.engine.receive(self.now, Frame::borrowed(frame));
        self.say().into_iter().map(|frame| packet::parse(&frame[14..]).1.flags).collect()
    }

    /// What the host has to say, as it stands on the wire.
    fn say(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let _ = self.engine.transmit(self.now, &mut frames);
        frames.iter_mut().for_each(cut::complete);
        frames.iter().map(TxFrame::to_vec).collect()
    }
}

/// Asserts that the frame is dropped for this reason and for no other, draws nothing and leaves nothing.
#[track_caller]
fn assert_dropped(name: &str, frame: &[u8], reason: DropReason) {
    let mut host = Host::new();
    let sockets = host.engine.netstat(host.now).len();
    assert_eq!(host.hear(frame), [], "{name}: an answer");
    let counted: Vec<_> = host.engine.stats().drops.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [(reason, 1)], "{name}");
    assert_eq!(host.engine.netstat(host.now).len(), sockets, "{name}: something is left");
    assert_eq!(host.hear(&syn("10.0.0.2", "10.0.0.1")), [Flags::SYN | Flags::ACK], "{name}: an honest SYN is served afterwards");
}

fn syn(source: &str, destination: &str) -> Vec<u8> {
    let at = |text: &str, port| SocketAddr::new(text.parse().expect("a literal"), port);
    let segment = Segment { seq: SeqNum(1000), flags: Flags::SYN, window: 60_000, ..Segment::default() };
    ethernet(&packet::packet(at(source, 40_000), at(destination, PORT), &segment, &[]))
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&OWN.0[..], &PEER.0, &kind, packet].concat()
}

/// An IPv4 SYN whose header was changed by `change`, with its checksum made right again.
fn syn_v4(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = syn("10.0.0.2", "10.0.0.1").split_off(14);
    change(&mut packet);
    let header_len = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
    packet[10..12].fill(0);
    let sum = Sum::of(&packet[..header_len]).complete();
    packet[10..12].copy_from_slice(&sum);
    ethernet(&packet)
}

/// An IPv4 SYN with these option bytes in its header.
fn syn_with_options(options: &[u8]) -> Vec<u8> {
    syn_v4(|packet| {
        packet.splice(20..20, options.iter().copied());
        packet[0] = 0x45 + u8::try_from(options.len() / 4).expect("a nibble");
        let len = u16::try_from(packet.len()).expect("short");
        packet[2..4].copy_from_slice(&len.to_be_bytes());
    })
}

/// An IPv6 SYN behind these extension headers, whose last one names TCP itself.
fn syn_behind(first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut packet = syn("fd00::2", "fd00::1").split_off(14);
    packet.splice(40..40, extensions.iter().copied());
    packet[6] = first;
    let len = u16::try_from(packet.len() - 40).expect("short");
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    ethernet(&packet)
}

#[test]
fn addresses_that_nobody_has() {
    let cases = [
        ("10.0.0.1", "10.0.0.1", DropReason::Land),
        ("fd00::1", "fd00::1", DropReason::Land),
        ("10.0.0.9", "10.0.0.1", DropReason::OwnSource),
        ("fd00::9", "fd00::1", DropReason::OwnSource),
        ("10.0.0.255", "10.0.0.1", DropReason::GroupSource),
        ("255.255.255.255", "10.0.0.1", DropReason::GroupSource),
        ("224.0.0.1", "10.0.0.1", DropReason::GroupSource),
        ("239.255.255.255", "10.0.0.1", DropReason::GroupSource),
        ("ff02::1", "fd00::1", DropReason::GroupSource),
        ("127.0.0.1", "10.0.0.1", DropReason::LoopbackSource),
        ("127.255.0.1", "10.0.0.1", DropReason::LoopbackSource),
        ("::1", "fd00::1", DropReason::LoopbackSource),
        ("0.0.0.0", "10.0.0.1", DropReason::ReservedSource),
        ("0.1.2.3", "10.0.0.1", DropReason::ReservedSource),
        ("240.0.0.1", "10.0.0.1", DropReason::ReservedSource),
        ("255.255.255.254", "10.0.0.1", DropReason::ReservedSource),
        ("::", "fd00::1", DropReason::ReservedSource),
        ("10.0.0.2", "10.0.0.255", DropReason::NotForUs),
        ("10.0.0.2", "255.255.255.255", DropReason::NotForUs),
        ("10.0.0.2", "224.0.0.1", DropReason::NotForUs),
        ("10.0.0.2", "127.0.0.1", DropReason::NotForUs),
        ("10.0.0.2", "10.0.0.3", DropReason::NotForUs),
        ("fd00::2", "ff02::1", DropReason::NotForUs),
        ("fd00::2", "::1", DropReason::NotForUs),
    ];
    for (source, destination, reason) in cases {
        assert_dropped(&format!("{source} to {destination}"), &syn(source, destination), reason);
    }
}

#[test]
fn addresses_in_disguise() {
    let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 2]].concat();
    for at in [8, 24] {
        let mut packet = syn("fd00::2", "fd00::1").split_off(14);
        packet[at..at + 16].copy_from_slice(&mapped);
        assert_dropped(&format!("a mapped address at {at}"), &ethernet(&packet), DropReason::MappedAddress);
    }
}

#[test]
fn frames_that_are_not_for_an_ip_host() {
    let good = syn("10.0.0.2", "10.0.0.1");
    let tagged = |tag: [u8; 2]| [&good[..12], &tag, &[0, 5], &good[12..]].concat();
    for tag in [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]] {
        assert_dropped("a VLAN tag", &tagged(tag), DropReason::VlanTag);
    }
    assert_dropped("an EtherType of somebody else", &tagged([0x88, 0xcc]), DropReason::UnknownEtherType);
    for len in [1, 13] {
        assert_dropped("a stump", &good[..len], DropReason::BadEthernet);
    }
    let mut from_a_group = good.clone();
    from_a_group[6] |= 1;
    assert_dropped("an Ethernet source that is a group", &from_a_group, DropReason::GroupSource);
    let mut for_another = good;
    for_another[5] = 77;
    assert_dropped("another host's Ethernet address", &for_another, DropReason::NotForUs);
}

#[test]
fn ipv4_headers_that_lie() {
    let length = |len: u16| syn_v4(|packet| packet[2..4].copy_from_slice(&len.to_be_bytes()));
    let fragment = |field: u16| syn_v4(|packet| packet[6..8].copy_from_slice(&field.to_be_bytes()));
    let mut bad_checksum = syn("10.0.0.2", "10.0.0.1");
    bad_checksum[24] ^= 1;
    let cases = [
        ("total length of nothing", length(0), DropReason::IpLength),
        ("total length below the header", length(19), DropReason::IpLength),
        ("total length beyond the frame", length(41), DropReason::IpLength),
        ("total length that cuts the TCP header", length(39), DropReason::BadTcpChecksum),
        ("a first fragment", fragment(0x2000), DropReason::Fragment),
        ("a later fragment", fragment(0x0001), DropReason::Fragment),
        ("a last fragment beyond 64 KiB", fragment(0x1fff), DropReason::Fragment),
        ("header length of four words", syn_v4(|packet| packet[0] = 0x44), DropReason::BadIpHeader),
        ("header length beyond the packet", syn_v4(|packet| packet[0] = 0x4f), DropReason::BadIpHeader),
        ("version five", syn_v4(|packet| packet[0] = 0x55), DropReason::BadIpHeader),
        ("a wrong header checksum", bad_checksum, DropReason::BadIpChecksum),
        ("a loose source route", syn_with_options(&[131, 7, 4, 10, 0, 0, 9, 0]), DropReason::SourceRoute),
        ("a strict source route", syn_with_options(&[137, 7, 4, 10, 0, 0, 9, 0]), DropReason::SourceRoute),
        ("an option without length", syn_with_options(&[1, 1, 1, 7]), DropReason::BadIpHeader),
        ("an option of length zero", syn_with_options(&[7, 0, 0, 0]), DropReason::BadIpHeader),
        ("an option beyond the header", syn_with_options(&[7, 9, 4, 0]), DropReason::BadIpHeader),
        ("a protocol of somebody else", syn_v4(|packet| packet[9] = 17), DropReason::UnknownProtocol),
    ];
    for (name, frame, reason) in cases {
        assert_dropped(name, &frame, reason);
    }
}

#[test]
fn ipv6_headers_that_lie() {
    let one = [6, 0, 1, 4, 0, 0, 0, 0];
    let more = [60, 0, 1, 4, 0, 0, 0, 0];
    let chain = |len: usize| [more.repeat(len - 1), one.to_vec()].concat();
    let routing = |kind: u8, left: u8| syn_behind(43, &[6, 0, kind, left, 0, 0, 0, 0]);
    let cases = [
        ("nine extension headers", syn_behind(60, &chain(9)), DropReason::ExtensionChain),
        ("hop-by-hop options in the middle", syn_behind(60, &[&[0, 0, 1, 4, 0, 0, 0, 0], &one[..]].concat()), DropReason::ExtensionChain),
        ("routing header of type zero", routing(0, 1), DropReason::SourceRoute),
        ("routing header with hops left", routing(4, 2), DropReason::SourceRoute),
        ("a first fragment", syn_behind(44, &[6, 0, 0, 1, 0, 0, 0, 9]), DropReason::Fragment),
        ("a later fragment", syn_behind(44, &[6, 0, 0, 8, 0, 0, 0, 9]), DropReason::Fragment),
        ("an option that forbids being ignored", syn_behind(60, &[6, 0, 0x9e, 4, 0, 0, 0, 0]), DropReason::BadIpHeader),
        ("no next header", syn_behind(59, &[]), DropReason::UnknownProtocol),
    ];
    for (name, frame, reason) in cases {
        assert_dropped(name, &frame, reason);
    }
    let mut long = syn("fd00::2", "fd00::1");
    long[18..20].copy_from_slice(&100u16.to_be_bytes());
    assert_dropped("payload length beyond the frame", &long, DropReason::IpLength);
}

#[test]
fn harmless_oddities_are_served() {
    for frame in [
        syn_with_options(&[1, 1, 1, 0]),
        syn_with_options(&[148, 4, 0, 0]),
        syn_behind(60, &[6, 0, 1, 4, 0, 0, 0, 0]),
        [syn("10.0.0.2", "10.0.0.1"), vec![0xaa; 6]].concat(),
    ] {
        let mut host = Host::new();
        assert_eq!(host.hear(&frame), [Flags::SYN | Flags::ACK]);
        assert_eq!(host.engine.stats().drops.total(), 0, "{:02x?}", &frame[14..]);
    }
}
