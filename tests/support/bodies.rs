//! What the fuzz targets run, over bytes from wherever: libFuzzer, or the seeded smoke tests. A body panics on a defect and on nothing else.
//!
//! Each returns how many frames it put before an engine.

use std::time::Duration;

use synfin::proto::wire::{self, Flags, Options, SackBlock, Segment, SeqNum, Timestamps};
use synfin::proto::{Checksum, Config, MacAddress, SocketOption, State};

use crate::packet;
use crate::peer::{Connection, Peer, Said};

/// Choices, read from bytes; zeros when they are used up.
#[derive(Debug)]
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_off_first() {
            Some(byte) => *byte,
            None => 0,
        }
    }

    fn half(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn word(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = usize::from(self.half()) % (most + 1);
        (0..len).map(|_| self.byte()).collect()
    }
}

/// Every parser over the same bytes; what parses is written and parsed again.
pub(crate) fn parsers(data: &[u8]) -> u64 {
    let _ = wire::ethernet::Header::parse(data);
    let _ = wire::arp::Packet::parse(data);
    let options = Options::parse(&data[..data.len().min(40)]);
    assert!(options.sack.as_slice().len() <= 4);
    if let Ok((header, range)) = wire::IpHeader::parse(data) {
        let text = data.get(range).expect("the range lies in the packet");
        let _ = wire::icmp::Message::parse(&header, text);
        let _ = Segment::parse(text);
    }
    if let Ok((segment, len)) = Segment::parse(data) {
        let mut out = [0; wire::tcp::HEADER_LEN_MAX];
        let again = segment.emit(wire::OptionLayout::Linux, &mut out);
        assert!(len <= data.len() && again % 4 == 0);
        let (reread, _) = Segment::parse(&out[..again]).expect("what we write we can read");
        assert_eq!((reread.seq, reread.ack, reread.flags, reread.window), (segment.seq, segment.ack, segment.flags, segment.window));
        assert!(!reread.options.malformed);
    }
    0
}

/// Bytes as one frame, on Ethernet and as a bare IP packet, with every claim about their checksum.
pub(crate) fn frame(data: &[u8]) -> u64 {
    let mut bare = Peer::new(&Config::default());
    for checksum in [Checksum::Unknown, Checksum::Partial, Checksum::Verified] {
        let said = bare.inject(data, checksum);
        assert!(said.len() <= 1, "one frame drew {} answers", said.len());
    }
    let medium = synfin::proto::Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1]));
    // On a link that others share, the addresses are tentative now.
    let link = synfin::proto::Link::new(medium, 1500).with_sharing(data.len().is_multiple_of(2));
    bare.engine.set_link(bare.now, Some(link));
    bare.engine.receive(bare.now, synfin::proto::Frame { checksum: Checksum::Verified, ..synfin::proto::Frame::borrowed(data) });
    let mut frames = Vec::new();
    let _ = bare.engine.transmit(bare.now, &mut frames);
    let stats = bare.engine.stats();
    assert!(stats.frames_in == 4 && stats.drops.total() <= 4, "every frame is counted once: {stats:?}");
    4
}

/// Connections in every state, and segments, application calls and time in any order.
pub(crate) fn conversation(data: &[u8]) -> u64 {
    let mut choices = Choices(data);
    let mut config = Config::default();
    config.receive_buffer = choices.pick(&[1, 536, 4096, 65_536, 2 << 20]);
    config.send_buffer = choices.pick(&[1, 536, 65_536, 2 << 20]);
    config.reassembly_ranges = usize::from(choices.pick(&[1u8, 4, 128]));
    let mut talk = Talk { peer: Peer::new(&config), connections: Vec::new(), heard: Vec::new(), frames: 0 };
    talk.begin(&mut choices);
    while !choices.is_empty() {
        talk.step(&mut choices);
    }
    talk.frames
}

/// A conversation under way.
struct Talk {
    peer: Peer,
    connections: Vec<Connection>,
    /// Packets of the engine's own, to be mutated.
    heard: Vec<Vec<u8>>,
    frames: u64,
}

const STATES: [State; 10] = [
    State::Established,
    State::Established,
    State::SynReceived,
    State::SynSent,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

impl Talk {
    fn begin(&mut self, choices: &mut Choices<'_>) {
        for port in 0..u16::from(choices.byte() % 4) + 1 {
            let (state, iss) = (choices.pick(&STATES), SeqNum(choices.pick(&[0, u32::MAX - 3, (1 << 31) - 2, 77])));
            let options = syn_options(choices);
            self.connections.push(self.peer.in_state(state, 1000 + port, iss, options));
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 16 {
            0 => {
                let bytes = choices.bytes(100);
                self.inject(&bytes, Checksum::Verified, None);
            }
            1 => self.mutated(choices),
            2 | 3 => self.call(choices),
            4 => {
                let nanos = u64::from(choices.word()) << choices.pick(&[0, 4, 8]);
                self.peer.pass(Duration::from_nanos(nanos));
            }
            5 => self.garbled_header(choices),
            _ => self.segment(choices),
        }
        assert!(self.peer.engine.socket_count() < 4096);
        assert!(self.heard.len() < 100_000);
    }

    /// A segment of a connection, near where it should be.
    fn segment(&mut self, choices: &mut Choices<'_>) {
        let connection = choices_of(choices, &self.connections);
        let info = connection.socket.and_then(|socket| self.peer.engine.info(socket));
        let (seq, ack) = info.as_ref().map_or((connection.nxt, connection.expected), |info| (info.rcv_nxt, info.snd_una));
        let mut segment =
            connection.segment(Flags(choices.pick(&[0x10, 0x10, 0x10, 0x18, 0x11, 0x02, 0x04, 0x14, 0x12, 0x00, 0x30, 0xff, 0x29])));
        segment.seq = near(choices, seq);
        segment.ack = near(choices, ack);
        if choices.byte().is_multiple_of(8) {
            segment.flags = Flags(choices.byte());
        }
        segment.window = choices.pick(&[0, 1, 2, 536, 60_000, 65_535]);
        segment.urgent = choices.pick(&[0, 0, 1, 5, 65_535]);
        segment.options = segment_options(choices, segment.options, ack);
        let payload = vec![choices.byte(); usize::from(choices.pick(&[0u16, 0, 1, 2, 100, 1400]))];
        self.inject(&packet::packet(connection.peer, connection.host, &segment, &payload), Checksum::Unknown, Some(segment));
    }

    /// A header whose lengths and options are anything, under a right checksum.
    fn garbled_header(&mut self, choices: &mut Choices<'_>) {
        let connection = choices_of(choices, &self.connections);
        let mut header = [0; 60];
        let len = connection.segment(Flags(choices.byte())).emit(wire::OptionLayout::Linux, &mut header);
        header[..2].copy_from_slice(&connection.peer.port().to_be_bytes());
        header[2..4].copy_from_slice(&connection.host.port().to_be_bytes());
        let options = choices.bytes(40);
        header[20..20 + options.len()].copy_from_slice(&options);
        header[12] = choices.byte();
        self.inject(
            &packet::with_header(connection.peer, connection.host, &header[..len + options.len().min(60 - len)], &[]),
            Checksum::Unknown,
            None,
        );
    }

    /// Something that the engine said, sent back with a few bytes changed, cut off or added.
    fn mutated(&mut self, choices: &mut Choices<'_>) {
        let Some(mut bytes) = self.heard.get(usize::from(choices.half()) % self.heard.len().max(1)).cloned() else { return };
        if bytes.len() > 20 && bytes[0] >> 4 == 4 {
            let (source, destination) = bytes[12..20].split_at_mut(4);
            source.swap_with_slice(destination);
        }
        for _ in 0..choices.byte() % 4 {
            let at = usize::from(choices.half()) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (choices.byte() % 8);
            }
        }
        match choices.byte() % 4 {
            0 => bytes.truncate(usize::from(choices.byte())),
            1 => bytes.extend(choices.bytes(64)),
            _ => {}
        }
        self.inject(&bytes, Checksum::Verified, None);
    }

    fn inject(&mut self, frame: &[u8], checksum: Checksum, segment: Option<Segment>) {
        self.frames += 1;
        let before = *self.peer.engine.stats();
        self.peer.engine.receive(self.peer.now, synfin::proto::Frame { checksum, ..synfin::proto::Frame::borrowed(frame) });
        let packets = self.peer.hear_packets();
        let after = self.peer.engine.stats();
        assert_eq!(after.frames_in, before.frames_in + 1);
        assert!(after.drops.total() <= before.drops.total() + 1, "one frame was dropped twice");
        let said: Vec<Said> = packets
            .iter()
            .filter(|packet| packet.get(9) == Some(&6))
            .map(|packet| packet::parse(packet))
            .map(|(_, said, text)| (said, text))
            .collect();
        if let Some(segment) = segment {
            judge(&segment, &said);
        }
        if self.heard.len() < 64 {
            self.heard.extend(packets);
        }
    }

    fn call(&mut self, choices: &mut Choices<'_>) {
        let Peer { engine, now, listener, .. } = &mut self.peer;
        let at = usize::from(choices.byte()) % self.connections.len();
        if self.connections[at].socket.is_none() {
            self.connections[at].socket = engine.accept(*now, *listener).ok().map(|(socket, _)| socket);
        }
        let Some(socket) = self.connections[at].socket else { return };
        let mut buffer = vec![0; usize::from(choices.half())];
        match choices.byte() % 12 {
            0..3 => drop(engine.send(*now, socket, &buffer)),
            3..6 => drop(engine.recv(*now, socket, &mut buffer)),
            6 => drop(engine.peek(socket, &mut buffer)),
            7 => drop(engine.shutdown(*now, socket)),
            8 => engine.abort(*now, socket),
            9 => engine.release(*now, socket),
            10 => drop(engine.set_option(*now, socket, SocketOption::ReceiveBuffer(choices.word()))),
            _ => drop(engine.set_option(
                *now,
                socket,
                choices.pick(&[SocketOption::Cork(true), SocketOption::Cork(false), SocketOption::Keepalive(true)]),
            )),
        }
        self.peer.hear();
        while self.peer.engine.next_signal().is_some() {}
    }
}

/// What no answer may be, whatever was asked (RFC 9293 §3.10.7).
fn judge(segment: &Segment, said: &[Said]) {
    let resets: Vec<&Segment> = said.iter().map(|(said, _)| said).filter(|said| said.flags.has(Flags::RST)).collect();
    assert!(resets.is_empty() || !segment.flags.has(Flags::RST), "a reset drew a reset");
    assert!(resets.len() <= 1, "one segment drew {} resets", resets.len());
    let bare = said.iter().filter(|(said, text)| text.is_empty() && !said.flags.has_any(Flags::FIN | Flags::RST)).count();
    assert!(bare <= 2, "one segment drew {bare} bare answers: {said:?}");
    if segment.flags.has(Flags::SYN) && !segment.flags.has_any(Flags::ACK | Flags::RST) {
        assert!(said.len() <= 4, "a SYN drew {} packets", said.len());
    }
    for (said, text) in said {
        assert!(said.flags.has(Flags::ACK) || said.flags.has_any(Flags::RST | Flags::SYN), "a segment without ACK: {said:?}");
        assert!(!said.flags.has(Flags::SYN) || (text.is_empty() && !said.flags.has_any(Flags::FIN | Flags::RST)), "{said:?}");
    }
}

fn choices_of(choices: &mut Choices<'_>, connections: &[Connection]) -> Connection {
    connections[usize::from(choices.byte()) % connections.len()]
}

/// `base`, or a number that is likely to be at an edge.
fn near(choices: &mut Choices<'_>, base: SeqNum) -> SeqNum {
    match choices.byte() % 8 {
        0..3 => base,
        3 => base + u32::from(choices.byte()),
        4 => base.back(u32::from(choices.byte())),
        5 => base + u32::from(choices.half()),
        6 => base + choices.pick(&[1 << 31, (1 << 31) - 1, 65_535, 65_536, u32::MAX]),
        _ => SeqNum(choices.word()),
    }
}

fn syn_options(choices: &mut Choices<'_>) -> Options {
    Options {
        mss: choices.pick(&[None, Some(0), Some(1), Some(48), Some(536), Some(1460), Some(65_535)]),
        window_scale: choices.pick(&[None, Some(0), Some(7), Some(14), Some(255)]),
        sack_permitted: choices.byte().is_multiple_of(2),
        timestamps: (choices.byte().is_multiple_of(2)).then_some(Timestamps { value: 999, echo: 0 }),
        ..Options::default()
    }
}

/// Timestamps from any time, and blocks that lie.
fn segment_options(choices: &mut Choices<'_>, mut options: Options, ack: SeqNum) -> Options {
    if let Some(timestamps) = &mut options.timestamps {
        timestamps.value = near(choices, SeqNum(timestamps.value)).0;
        timestamps.echo = near(choices, SeqNum(timestamps.echo)).0;
    }
    for _ in 0..choices.byte() % 4 {
        let left = near(choices, ack);
        options.sack.push(SackBlock { left, right: near(choices, left) });
    }
    if options.timestamps.is_some() {
        options.sack.truncate(3);
    }
    options
}
