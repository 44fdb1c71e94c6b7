//! The host under test: one engine on a link without Ethernet, whose other end is whoever calls.
//!
//! It knows frames and time. What the segments mean is the caller's business.

use std::net::SocketAddr;

use synfin::proto::wire::{Address, IpHeader, OptionLayout, Segment, Sum, ip, tcp};
use synfin::proto::{Config, Engine, Frame, Instant, Link, Medium, Transmit, TxFrame, cut};

/// Which version of IP the link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The host's address and port.
    pub(crate) fn host(self, port: u16) -> SocketAddr {
        self.address(1, port)
    }

    /// The peer's address and port.
    pub(crate) fn peer(self, port: u16) -> SocketAddr {
        self.address(2, port)
    }

    fn address(self, host: u8, port: u16) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::from(([10, 0, 0, host], port)),
            Self::V6 => SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)], port)),
        }
    }

    /// With it a full segment is 1460 bytes in both families.
    const fn mtu(self) -> u16 {
        match self {
            Self::V4 => 1500,
            Self::V6 => 1520,
        }
    }
}

/// A segment with its payload and, in place of parsed options, possibly raw ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packet {
    pub(crate) header: Segment,
    pub(crate) payload: Vec<u8>,
    /// Option bytes that replace those of the header.
    pub(crate) raw_options: Option<Vec<u8>>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    pub(crate) family: Family,
    pub(crate) between: Between,
}

/// What stands between the engine and its peer: nothing, unless a test plants a deviation there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Between {
    /// What the engine gets of a segment that the peer sent.
    pub(crate) inbound: fn(Packet) -> Option<Packet>,
    /// What the peer gets of a segment that the engine sent.
    pub(crate) outbound: fn(Packet) -> Option<Packet>,
}

impl Default for Between {
    fn default() -> Self {
        Self { inbound: Some, outbound: Some }
    }
}

impl Host {
    pub(crate) fn new(config: &Config, family: Family) -> Self {
        let mut engine = Engine::new(config.clone(), [7; 32], START);
        engine.set_link(START, Some(Link::new(Medium::Ip, family.mtu())));
        engine.add_address(START, format!("{}/24", family.host(0).ip()).parse().expect("an address and a prefix"));
        Self { engine, now: START, family, between: Between::default() }
    }

    /// A segment from the peer arrives.
    pub(crate) fn receive(&mut self, packet: &Packet) {
        let Some(packet) = (self.between.inbound)(packet.clone()) else { return };
        let bytes = self.frame(&packet);
        self.engine.receive(self.now, Frame::borrowed(&bytes));
    }

    /// What the engine has to send now.
    pub(crate) fn sent(&mut self) -> Vec<Packet> {
        let mut frames: Vec<TxFrame> = Vec::new();
        assert_eq!(self.engine.transmit(self.now, &mut frames), Transmit::Idle, "a vector takes everything");
        let mut sent = Vec::new();
        for frame in &frames {
            sent.extend(cut::cut(frame).map(|mut segment| {
                cut::complete(&mut segment);
                parse(&segment.to_vec())
            }));
        }
        sent.into_iter().filter_map(self.between.outbound).collect()
    }

    /// Moves the clock to the engine's next deadline and fires it, if it is not after `limit`; otherwise answers false.
    pub(crate) fn step(&mut self, limit: Instant) -> bool {
        let Some(deadline) = self.engine.deadline().filter(|deadline| *deadline <= limit) else { return false };
        self.now = self.now.max(deadline);
        self.engine.advance(self.now);
        true
    }

    /// A segment of the peer as bytes.
    pub(crate) fn frame(&self, packet: &Packet) -> Vec<u8> {
        let mut segment = packet.header;
        segment.payload_len = 0;
        let mut header = [0; tcp::HEADER_LEN_MAX];
        let mut header_len = segment.emit(OptionLayout::Linux, &mut header);
        if let Some(raw) = &packet.raw_options {
            header_len = tcp::HEADER_LEN + raw.len().next_multiple_of(4);
            header[tcp::HEADER_LEN..].fill(0);
            header[tcp::HEADER_LEN..][..raw.len()].copy_from_slice(raw);
            header[12] = u8::try_from(header_len / 4).expect("at most 15") << 4;
        }
        let (source, destination) = (Address::new(self.family.peer(0).ip()), Address::new(self.family.host(0).ip()));
        let length = header_len + packet.payload.len();
        let sum = Sum::pseudo_header(source, destination, ip::protocol::TCP, u32::try_from(length).expect("a small packet"));
        header[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.partial());
        let below = IpHeader { source, destination, protocol: ip::protocol::TCP, hop_limit: 64, traffic_class: 0 };
        let mut ip_header = [0; ip::HEADER_LEN_MAX];
        let ip_len = below.emit(0, length, &mut ip_header);
        let mut frame = TxFrame::new();
        frame.put_header(&ip_header[..ip_len]);
        frame.put_header(&header[..header_len]);
        frame.put_view(packet.payload.clone().into()).expect("the first view");
        frame.transport_offset = u8::try_from(ip_len).expect("at most 40");
        cut::complete(&mut frame);
        frame.to_vec()
    }
}

/// When every test begins.
pub(crate) const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// Takes a frame of the engine apart; every length and checksum must be right.
fn parse(bytes: &[u8]) -> Packet {
    let (header, range) = IpHeader::parse(bytes).expect("the engine sends IP packets");
    assert_eq!(range.end, bytes.len(), "the IP length counts every byte");
    let bytes = &bytes[range];
    let length = u32::try_from(bytes.len()).expect("a packet");
    let sum = Sum::pseudo_header(header.source, header.destination, ip::protocol::TCP, length) + Sum::of(bytes);
    assert!(sum.is_intact(), "the TCP checksum is right");
    let (segment, header_len) = Segment::parse(bytes).expect("the engine sends TCP segments");
    Packet { header: segment, payload: bytes[header_len..].to_vec(), raw_options: None }
}
