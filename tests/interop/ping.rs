//! Echo requests from the kernel's side (RFC 792, RFC 4443 §4.1), through raw sockets, which the root of a namespace may open; and what becomes
//! of datagrams.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{KERNEL, Lab, PATIENCE, SYNFIN, Wire, over_every_wire};

/// Identifier and sequence number, then data.
const BODY: &[u8] = b"\x53\x59\x00\x01does anybody hear me?";

over_every_wire! {
    an_echo_request_is_answered_in_both_families
    a_datagram_is_refused_in_both_families
}

fn an_echo_request_is_answered_in_both_families(wire: Wire) {
    let _lab = Lab::over(wire);
    let mut v4 = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("root may");
    // The kernel hands IPv4 headers over with the message, and leaves the checksum to the sender.
    let request = [&[8, 0][..], &checksum(8).to_be_bytes(), BODY].concat();
    let reply = exchange(&mut v4, &request, 0);
    assert_eq!((reply[20], &reply[24..]), (0, BODY));

    let mut v6 = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).expect("root may");
    let reply = exchange(&mut v6, &[&[128, 0, 0, 0][..], BODY].concat(), 1);
    assert_eq!(&reply[4..], BODY);
}

/// RFC 1122 §3.2.2.1: a program that sends datagrams to us learns at once that nobody reads them.
fn a_datagram_is_refused_in_both_families(wire: Wire) {
    let _lab = Lab::over(wire);
    for (own, kernel) in SYNFIN.into_iter().zip(KERNEL) {
        let socket = UdpSocket::bind((kernel, 0)).expect("the kernel's address");
        socket.connect((own, 9)).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send(b"anybody?").expect("sent");
        assert_eq!(socket.recv(&mut [0; 9]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused), "{own}");
    }
}

/// Sends the request and reads until the reply comes: neighbour discovery passes through the same socket.
fn exchange(socket: &mut Socket, request: &[u8], family: usize) -> Vec<u8> {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send_to(request, &SocketAddr::new(SYNFIN[family], 0).into()).expect("sent");
    let mut buffer = [0; 1500];
    loop {
        let len = socket.read(&mut buffer).expect("the reply");
        let message = if family == 0 { &buffer[20..len] } else { &buffer[..len] };
        if matches!(message[0], 0 | 129) {
            return buffer[..len].to_vec();
        }
    }
}

/// The checksum (RFC 1071) of an ICMP message with this type and [`BODY`].
fn checksum(kind: u8) -> u16 {
    let mut bytes = vec![kind, 0];
    bytes.extend_from_slice(BODY);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}
