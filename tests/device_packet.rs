//! A packet socket against the Linux kernel, over a veth pair in a network namespace of the test's own: datagrams, super-packets both ways
//! with and without offloads, a link that goes down and comes back, an interface that goes away.

use bytes::{Bytes, BytesMut};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpStream, UdpSocket};
use std::time::Duration;
use synfin::device::namespace::{self, Switch, Veth};
use synfin::device::{Device, Notify, PacketSocket, Readiness, Received, Receiver, Transmitter};
use synfin::proto::link::RECEIVE_ROOM;
use synfin::proto::wire::{Address, Sum};
use synfin::proto::{Checksum, Medium, TxFrame};

/// How long the kernel may take to do what it does at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);
const MSS: u16 = 1460;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

#[test]
fn datagrams_pass_both_ways_and_only_for_us() {
    namespace::test("datagrams_pass_both_ways_and_only_for_us", || {
        let (_veth, mut wire) = open(&["10.9.0.2"]);
        let kernel = UdpSocket::bind("10.9.0.1:7000").expect("the kernel's address");
        for (stranger, len) in [("10.9.0.3:7001", 5), ("10.9.0.2:7001", 6)] {
            kernel.send_to(&vec![b'x'; len], stranger).expect("queued until the neighbour answers");
            wire.answer_arp();
        }
        let (frame, received) = wire.receive_ipv4(17);
        assert_eq!(
            (&frame[30..34], &frame[42..48]),
            (&[10, 9, 0, 2][..], &b"xxxxxx"[..]),
            "the datagram for the other address is filtered"
        );
        assert_eq!(received.segment_size, 0);

        let mut reply = wire.ipv4_frame([10, 9, 0, 2], 17, &[&7001u16.to_be_bytes()[..], &7000u16.to_be_bytes(), &[0, 13, 0, 0]].concat());
        reply.put_view(Bytes::from_static(b"reply")).expect("room");
        wire.send(reply);
        kernel.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut buffer = [0; 100];
        assert_eq!(kernel.recv_from(&mut buffer).expect("the reply"), (5, "10.9.0.2:7001".parse().expect("an address")));
        assert_eq!(wire.receiver.counts().truncated, 0);
    });
}

#[test]
fn neighbour_solicitation_reaches_its_group() {
    namespace::test("neighbour_solicitation_reaches_its_group", || {
        let (veth, mut wire) = open(&["fd09::12:3456"]);
        veth.address("syn0", "fd09::1/64").expect("an address");
        let kernel = UdpSocket::bind("[fd09::1]:7000").expect("the kernel's address");
        kernel.send_to(b"hello", "[fd09::12:3456]:7001").expect("queued until the neighbour answers");
        let (frame, _) = wire.receive_until(|frame| frame[12..14] == [0x86, 0xdd]);
        let target: Ipv6Addr = "fd09::12:3456".parse().expect("an address");
        assert_eq!((frame[20], frame[54], &frame[62..78]), (58, 135, &target.octets()[..]));
    });
}

#[test]
fn super_packets_pass_both_ways() {
    namespace::test("super_packets_pass_both_ways", || super_packets(Switch::On));
}

#[test]
fn super_packets_leave_without_offloads_too() {
    namespace::test("super_packets_leave_without_offloads_too", || super_packets(Switch::Off));
}

/// Connects the kernel's TCP to a handshake made by hand, then sends 40 segments each way in as few frames as possible.
fn super_packets(offloads: Switch) {
    let (veth, mut wire) = open(&["10.9.0.2"]);
    veth.set_offloads("syn1", offloads).expect("veth has them");
    veth.set_offloads("syn0", offloads).expect("veth has them");
    let len = 40 * usize::from(MSS);
    let pattern: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    let (expected, to_kernel) = (pattern.clone(), Bytes::from(pattern.clone()));
    let kernel = std::thread::spawn(move || {
        let mut stream = TcpStream::connect("10.9.0.2:80").expect("the handshake below");
        stream.write_all(&pattern).expect("acknowledged below");
        let mut read = vec![0; len];
        stream.read_exact(&mut read).expect("sent below");
        read
    });
    wire.answer_arp();

    let (syn, _) = wire.receive_ipv4(6);
    let port = u16::from_be_bytes([syn[34], syn[35]]);
    let mut next = u32::from_be_bytes([syn[38], syn[39], syn[40], syn[41]]).wrapping_add(1);
    wire.send_tcp(port, [1000, next], SYN | ACK, Bytes::new());

    let (mut bytes, mut largest, mut checksums) = (Vec::new(), 0, Vec::new());
    while bytes.len() < len {
        let (frame, received) = wire.receive_ipv4(6);
        let payload = &frame[34 + usize::from(frame[46] >> 4) * 4..14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))];
        if payload.is_empty() {
            continue;
        }
        let seq = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
        if seq == next {
            bytes.extend_from_slice(payload);
            next = next.wrapping_add(u32::try_from(payload.len()).expect("a frame"));
            largest = largest.max(payload.len());
            checksums.push(received.checksum);
        }
        assert!(payload.len() <= usize::from(MSS) || received.segment_size == MSS, "a super-packet says its segment size");
        wire.send_tcp(port, [1001, next], ACK, Bytes::new());
    }
    assert_eq!(bytes, expected);
    match offloads {
        Switch::On => {
            assert!(largest > usize::from(MSS), "the kernel sent nothing in one piece");
            assert!(checksums.iter().all(|checksum| *checksum == Checksum::Partial));
            assert!(wire.receiver.counts().received_super > 0);
        }
        Switch::Off => {
            assert_eq!(largest, usize::from(MSS));
            assert!(checksums.iter().all(|checksum| *checksum == Checksum::Unknown));
        }
    }

    wire.send_tcp(port, [1001, next], ACK | PSH, to_kernel);
    assert_eq!(kernel.join().expect("no panic"), expected);
    let counts = wire.receiver.counts();
    assert_eq!((counts.sent_super, counts.cut, counts.no_buffer, counts.refused), (1, 0, 0, 0));
}

#[test]
fn link_goes_down_and_comes_back() {
    namespace::test("link_goes_down_and_comes_back", || {
        let (veth, mut wire) = open(&["10.9.0.2"]);
        let (link, before) = wire.receiver.link();
        assert!(link.up && link.segments_v4 && link.segments_v6 && link.trusts_partial);

        veth.down("syn1").expect("it is up");
        let mut frames: VecDeque<_> = (0..3).map(|_| wire.ipv4_frame([10, 9, 0, 2], 253, b"lost")).collect();
        assert_eq!(wire.transmitter.transmit(&mut frames).expect_err("down").kind(), io::ErrorKind::NetworkDown);
        assert!(frames.is_empty());
        assert_eq!(wire.receiver.counts().link_down, 3);
        let (link, after) = wire.receiver.link();
        assert!(!link.up && after > before);

        veth.up("syn1").expect("it is down");
        assert!(wire.receiver.link().0.up);
        let frame = wire.ipv4_frame([10, 9, 0, 2], 253, b"sent");
        wire.send(frame);
        let mut buffer = BytesMut::with_capacity(RECEIVE_ROOM);
        // The fall is reported at most once more; the kernel may ask who sent what it does not understand.
        let errors: Vec<_> = (0..10).filter_map(|_| wire.receiver.receive(&mut buffer).err()).map(|error| error.kind()).collect();
        assert!(errors.iter().filter(|kind| **kind == io::ErrorKind::NetworkDown).count() <= 1);
        assert_eq!(errors.last(), Some(&io::ErrorKind::WouldBlock));
    });
}

#[test]
fn removed_interface_is_a_link_that_is_gone() {
    namespace::test("removed_interface_is_a_link_that_is_gone", || {
        let (veth, mut wire) = open(&["10.9.0.2"]);
        veth.delete().expect("it is there");
        let veth = Veth::create("syn0", "syn1", 1500).expect("another pair of the same names");
        let mut frames = VecDeque::from([wire.ipv4_frame([10, 9, 0, 2], 253, b"lost")]);
        assert_eq!(wire.transmitter.transmit(&mut frames).expect_err("gone").kind(), io::ErrorKind::NetworkDown);
        let (link, version) = wire.receiver.link();
        assert!(!link.up && link.gone, "a namesake is another interface");
        assert_eq!(wire.receiver.link(), (link, version));
        drop(veth);
    });
}

#[test]
fn frame_beyond_the_mtu_is_dropped_and_counted() {
    namespace::test("frame_beyond_the_mtu_is_dropped_and_counted", || {
        let (_veth, mut wire) = open(&["10.9.0.2"]);
        let mut frame = wire.ipv4_frame([10, 9, 0, 2], 253, &[]);
        frame.put_view(Bytes::from(vec![0; 1481])).expect("room");
        wire.send(frame);
        assert_eq!(wire.receiver.counts().oversize, 1);
        assert_eq!(wire.receiver.counts().sent_frames, 0);
    });
}

#[test]
fn errors_name_the_remedy() {
    namespace::test("errors_name_the_remedy", || {
        let _veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
        let error = PacketSocket::open("syn9", &[]).expect_err("no such interface");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().ends_with("there are: lo, syn0, syn1"), "{error}");
    });
}

/// The kernel has 10.9.0.1 on syn0; a packet socket for `addresses` stands on syn1.
fn open(addresses: &[&str]) -> (Veth, Wire) {
    let veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
    veth.address("syn0", "10.9.0.1/24").expect("an address");
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
    let socket = PacketSocket::open("syn1", &addresses).expect("a socket");
    assert!(socket.offloads().expect("an interface").segmentation);
    let Medium::Ethernet(own) = socket.link().medium else { panic!("a veth is Ethernet") };
    let kernel = PacketSocket::open("syn0", &[]).expect("a socket").link().medium;
    let Medium::Ethernet(kernel) = kernel else { panic!("a veth is Ethernet") };
    let (mut receiver, transmitter) = Box::new(socket).split();
    let Readiness::Descriptor(descriptor) = receiver.readiness(Notify::new(|| {})) else { panic!("a packet socket is a descriptor") };
    let poll = Poll::new().expect("a poller");
    poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE).expect("it can be polled");
    (veth, Wire { poll, receiver, transmitter, own: own.0, kernel: kernel.0 })
}

/// Our end of the veth pair, as a hand-driven host.
struct Wire {
    poll: Poll,
    receiver: Box<dyn Receiver>,
    transmitter: Box<dyn Transmitter>,
    own: [u8; 6],
    kernel: [u8; 6],
}

impl Wire {
    fn receive_until(&mut self, is_wanted: impl Fn(&[u8]) -> bool) -> (BytesMut, Received) {
        let mut buffer = BytesMut::with_capacity(RECEIVE_ROOM);
        loop {
            buffer.clear();
            buffer.reserve(RECEIVE_ROOM);
            match self.receiver.receive(&mut buffer) {
                Ok(received) if is_wanted(&buffer) => return (buffer, received),
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    let mut events = Events::with_capacity(1);
                    self.poll.poll(&mut events, Some(PATIENCE)).expect("a poller");
                    assert!(!events.is_empty(), "the frame never came");
                }
            }
        }
    }

    fn receive_ipv4(&mut self, protocol: u8) -> (BytesMut, Received) {
        self.receive_until(|frame| frame[12..14] == [8, 0] && frame[23] == protocol)
    }

    /// Waits for an ARP request and claims the address.
    fn answer_arp(&mut self) {
        let (request, _) = self.receive_until(|frame| frame[12..14] == [8, 6] && frame[21] == 1);
        let mut reply = TxFrame::new();
        reply.put_header(
            &[&request[6..12], &self.own, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &self.own, &request[38..42], &request[22..32]].concat(),
        );
        reply.network_offset = 14;
        self.send(reply);
    }

    fn send(&mut self, frame: TxFrame) {
        self.transmitter.transmit(&mut VecDeque::from([frame])).expect("room");
    }

    /// A frame from `source` to the kernel whose header ends with `transport`; the length is filled in by [`finish`].
    fn ipv4_frame(&self, source: [u8; 4], protocol: u8, transport: &[u8]) -> TxFrame {
        let ip = [&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0], &source[..], &[10, 9, 0, 1]].concat();
        let mut frame = TxFrame::new();
        frame.put_header(&[&self.kernel, &self.own, &[8, 0][..], &ip, transport].concat());
        frame.network_offset = 14;
        let payload = if protocol == 17 { 5 } else { 0 };
        finish(&mut frame, payload);
        frame
    }

    /// Sends to the kernel's `port`; with SYN, the maximum segment size goes along.
    fn send_tcp(&mut self, port: u16, [seq, ack]: [u32; 2], flags: u8, payload: Bytes) {
        let [high, low] = MSS.to_be_bytes();
        let mss = [2, 4, high, low];
        let (options, header_words) = if flags & SYN != 0 { (&mss[..], 6) } else { (&[][..], 5) };
        let tcp = [
            &[0, 80][..],
            &port.to_be_bytes(),
            &seq.to_be_bytes(),
            &ack.to_be_bytes(),
            &[header_words << 4, flags, 0xff, 0xff, 0, 0, 0, 0],
            options,
        ]
        .concat();
        let mut frame = self.ipv4_frame([10, 9, 0, 2], 6, &tcp);
        finish(&mut frame, payload.len());
        let address = |last| Address::new(IpAddr::from([10, 9, 0, last]));
        let sum = Sum::pseudo_header(address(2), address(1), 6, u32::try_from(tcp.len() + payload.len()).expect("a frame")).partial();
        frame.header_mut()[50..52].copy_from_slice(&sum);
        (frame.transport_offset, frame.segment_size) = (34, MSS);
        frame.put_view(payload).expect("room");
        self.send(frame);
    }
}

/// Writes the total length and the checksum of the IPv4 header.
fn finish(frame: &mut TxFrame, payload_len: usize) {
    let header = frame.header_mut();
    let total = u16::try_from(header.len() - 14 + payload_len).expect("a frame");
    header[16..18].copy_from_slice(&total.to_be_bytes());
    header[24..26].fill(0);
    let sum = Sum::of(&header[14..34]).complete();
    header[24..26].copy_from_slice(&sum);
}
