//! What is not for the stack, from the kernel's side: datagrams and other protocols arrive in the sink whole and with their checksums; TCP and
//! what the stack answers itself do not.

use std::cell::Cell;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use futures::executor::block_on;
use socket2::{Domain, Protocol, Socket, Type};
use synfin::Stack;
use synfin::proto::wire::{Address, Sum};
use synfin::proto::{DropReason, Passed};

use crate::lab::{KERNEL, Lab, PATIENCE, SYNFIN, Wire, over_every_wire, wait_for};

over_every_wire! {
    datagrams_of_the_kernel_arrive_in_the_sink
    what_the_stack_needs_stays_with_it
    packets_for_a_full_sink_are_counted
}

/// Longer than the MTU takes: the kernel sends fragments.
const LONG: usize = 2000;

fn datagrams_of_the_kernel_arrive_in_the_sink(wire: Wire) {
    let (Lab { stack, .. }, packets) = open(wire);
    for (family, header_len) in [(0, 20), (1, 40)] {
        let kernel = UdpSocket::bind((KERNEL[family], 5353)).expect("the kernel's address");
        kernel.send_to(b"who is there?", (SYNFIN[family], 53)).expect("sent");
        let Passed { bytes, segment_size, .. } = next(&packets);
        let datagram = &bytes[header_len..];
        assert_eq!((&datagram[..4], &datagram[8..], segment_size), (&[20, 233, 0, 53][..], &b"who is there?"[..], 0));
        // All of these wires carry datagrams whose checksum is not complete.
        let [from, to] = [KERNEL, SYNFIN].map(|addresses| Address::new(addresses[family]));
        let pseudo_header = Sum::pseudo_header(from, to, 17, u32::try_from(datagram.len()).expect("short"));
        assert!((pseudo_header + Sum::of(datagram)).is_intact());

        let answer = turned_round(&bytes, header_len);
        // The kernel's neighbour is asked for first.
        wait_for("an answer that leaves", || match stack.send_packet(answer.clone().into()) {
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                false
            }
            Ok(()) => true,
        });
        kernel.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut read = [0; 100];
        let (len, from) = kernel.recv_from(&mut read).expect("the answer");
        assert_eq!((&read[..len], from), (&b"who is there?"[..], SocketAddr::new(SYNFIN[family], 53)));

        kernel.send_to(&[7; LONG], (SYNFIN[family], 53)).expect("sent");
        let fragments = [next(&packets).bytes.len(), next(&packets).bytes.len()];
        assert!(fragments.iter().sum::<usize>() >= LONG + 8 + 2 * header_len, "{fragments:?}");
    }
    let stats = stack.stats().expect("the stack lives");
    assert!(packets.try_recv().is_err(), "six packets and nothing else");
    assert!(stats.engine.packets_passed >= 6 && stats.runtime.passthrough_lost == 0, "{stats:?}");
    assert_eq!([DropReason::UnknownProtocol, DropReason::Fragment].map(|reason| stats.engine.drops.of(reason)), [0; 2]);
}

fn what_the_stack_needs_stays_with_it(wire: Wire) {
    let (Lab { stack, .. }, packets) = open(wire);
    let listener = block_on(stack.listen((SYNFIN[0], 80))).expect("a free port");
    let _kernel = std::net::TcpStream::connect((SYNFIN[0], 80)).expect("it listens");
    block_on(listener.accept()).expect("connected");
    assert_eq!(std::net::TcpStream::connect((SYNFIN[0], 81)).expect_err("nobody").kind(), std::io::ErrorKind::ConnectionRefused);

    let mut raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("root may");
    raw.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let to = SocketAddr::new(SYNFIN[0], 0).into();
    raw.send_to(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0], &to).expect("an echo request");
    let mut reply = [0; 100];
    let len = raw.read(&mut reply).expect("the reply");
    assert_eq!(reply[20..len], [0, 0, 0xff, 0xff, 0, 0, 0, 0]);

    // A timestamp request and a protocol that nobody knows are the sink's, in order.
    raw.send_to(&[13, 0, 0xf2, 0xff, 0, 0, 0, 0], &to).expect("a timestamp request");
    let other = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(253))).expect("root may");
    other.send_to(b"experiment", &to).expect("sent");
    assert_eq!(next(&packets).bytes[20..22], [13, 0]);
    let packet = next(&packets).bytes;
    assert_eq!((packet[9], &packet[20..]), (253, &b"experiment"[..]));
    assert!(packets.try_recv().is_err(), "and nothing else");
}

fn packets_for_a_full_sink_are_counted(wire: Wire) {
    let (Lab { stack, .. }, packets) = open(wire);
    let kernel = UdpSocket::bind((KERNEL[0], 0)).expect("the kernel's address");
    let lost = || stack.stats().expect("the stack lives").runtime.passthrough_lost;
    let sent = Cell::new(0);
    wait_for("a full sink", || {
        kernel.send_to(b"again", (SYNFIN[0], 9)).expect("sent");
        sent.set(sent.get() + 1);
        lost() > 5
    });
    // None is on its way that would take the place of one that is read.
    wait_for("the last of them", || lost() + SINK_LEN as u64 == sent.get());
    assert_eq!(std::iter::from_fn(|| packets.try_recv().ok()).count(), SINK_LEN);
    let passed = stack.stats().expect("the stack lives").engine.packets_passed;
    assert!(passed >= SINK_LEN as u64 + 6, "{passed}");
}

fn open(wire: Wire) -> (Lab, Receiver<Passed>) {
    let (sender, packets) = sync_channel(SINK_LEN);
    // What the kernel says of its own accord to groups of hosts (RFC 4861 §6.3.7, RFC 3810) comes whenever it likes.
    let sink = move |packet: Passed| match packet.bytes[24] {
        0xff if packet.bytes[0] >> 4 == 6 => Ok(()),
        _ => sender.try_send(packet).map_err(|_| std::io::ErrorKind::WouldBlock.into()),
    };
    let (veth, device) = wire.open();
    (Lab::around(veth, Stack::builder().device(device).passthrough(sink)), packets)
}

/// The datagram back to its sender: with both addresses and ports exchanged its checksums stay right.
fn turned_round(packet: &[u8], header_len: usize) -> Vec<u8> {
    let address_len = if header_len == 20 { 4 } else { 16 };
    let mut packet = packet.to_vec();
    packet[header_len - 2 * address_len..header_len].rotate_left(address_len);
    packet[header_len..header_len + 4].rotate_left(2);
    packet
}

#[track_caller]
fn next(packets: &Receiver<Passed>) -> Passed {
    packets.recv_timeout(PATIENCE + Duration::from_secs(1)).expect("it is handed on")
}

/// What the sink's queue holds.
const SINK_LEN: usize = 16;
