//! A Linux interface through AF_PACKET (packet(7)): whole Ethernet frames, with super-packets both ways where the kernel has the virtio-net
//! header.
//!
//! | module | what it owns |
//! |---|---|
//! | [`facts`] | what the kernel says of the interface |
//! | [`filter`] | which frames enter |
//! | [`receive`], [`transmit`] | the halves |
//!
//! A plain socket, no ring: measured on veth, `sendmmsg` of super-packets moves twice what a transmit ring does. Queueing disciplines are not
//! bypassed, since then the kernel cuts what the interface can't.

mod facts;
mod filter;
mod receive;
mod transmit;

pub use facts::Offloads;
pub(super) use facts::{link_of, settle};

use super::interface::{Framing, Interface};
use super::sys::{ioctl::Request, option, sockaddr};
use super::{Counters, Device, Receiver, Transmitter, host};
use crate::proto::Link;
use receive::PacketReceiver;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use transmit::PacketTransmitter;

/// An AF_PACKET socket on one interface: a [`Device`].
///
/// Needs the capability `CAP_NET_RAW` in the network namespace of the interface. The addresses must not be the kernel's own
/// ([`host::check_is_free`]).
///
/// # Example
/// ```no_run
/// use synfin::device::PacketSocket;
///
/// let socket = PacketSocket::open("veth0", &["10.9.0.2".parse().unwrap()])?;
/// println!("{:?}, {:?}", socket.link(), socket.offloads());
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct PacketSocket {
    shared: Arc<Shared>,
    link: Link,
    name: String,
}

impl PacketSocket {
    /// Opens the interface `name` for a stack that has `addresses`.
    ///
    /// Only ARP, packets to these addresses and IPv6 neighbour discovery for them enter. An unspecified address, or more than 128 of a
    /// family, lets in every packet of that family. An interface that is down may be opened: its link is reported as down until it comes up.
    ///
    /// # Errors
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) without `CAP_NET_RAW`, [`NotFound`](io::ErrorKind::NotFound) for an unknown
    /// interface, [`Unsupported`](io::ErrorKind::Unsupported) for one without Ethernet headers. The text names the remedy.
    pub fn open(name: &str, addresses: &[IpAddr]) -> io::Result<Self> {
        Self::open_framed(name, addresses, Framing::Virtio)
    }

    /// Sends no super-packets: for an interface that mishandles them.
    #[must_use]
    pub fn without_super_packets(mut self) -> Self {
        self.shared.give_super_up();
        self.link = self.shared.complete_facts(self.link);
        self
    }

    /// The facts about the link when it was opened.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.link
    }

    /// What the interface does for its senders at present.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) when the interface is gone.
    pub fn offloads(&self) -> io::Result<Offloads> {
        facts::offloads(self.shared.socket.as_fd(), self.shared.index).map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))
    }

    /// The live counters, which outlive the device.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.interface.counters)
    }

    fn open_framed(name: &str, addresses: &[IpAddr], wanted: Framing) -> io::Result<Self> {
        let index = index_of(name)?;
        // Protocol zero: nothing enters before the filter is in place and the socket is bound.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None).map_err(explain_socket)?;
        let link = facts::link(socket.as_fd(), index)?;
        let framing = match wanted {
            Framing::Virtio => enable_virtio(socket.as_fd()),
            Framing::Plain => Framing::Plain,
        };
        // Kernels before 4.20 don't know it; there the filter alone rejects our own frames.
        let _ = option::set(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1);
        enlarge(socket.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_QUEUE_BYTES);
        enlarge(socket.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_QUEUE_BYTES);
        filter::attach(&socket, addresses).map_err(|error| explain(name, "attaching a filter", &error))?;
        sockaddr::bind_to_interface(socket.as_fd(), index).map_err(|error| explain(name, "binding", &error))?;
        filter::join_multicasts(&socket, index, addresses).map_err(|error| explain(name, "joining a multicast group", &error))?;

        let shared =
            Shared { socket, index, interface: Interface::new(framing, FALLEN), takes_super: AtomicBool::new(framing == Framing::Virtio) };
        settle(shared.socket.as_fd(), index);
        let link = shared.complete_facts(link);
        Ok(Self { shared: Arc::new(shared), link, name: name.to_owned() })
    }
}

impl Device for PacketSocket {
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        let receiver = PacketReceiver::new(Arc::clone(&self.shared), self.link);
        (Box::new(receiver), Box::new(PacketTransmitter::new(self.shared)))
    }
}

/// What both halves use.
#[derive(Debug)]
struct Shared {
    socket: Socket,
    index: u32,
    interface: Interface,
    /// Super-packets are sent whole.
    takes_super: AtomicBool,
}

impl Shared {
    /// The facts about the interface, with what the socket adds to them.
    fn complete_facts(&self, link: Link) -> Link {
        // Frames with a partial checksum come from this machine alone: a network card has no word for it.
        link.with_segmentation(self.takes_super()).with_trusted_partial(true)
    }

    /// True if the interface carries frames at this moment.
    fn is_up(&self) -> bool {
        facts::link(self.socket.as_fd(), self.index).is_ok_and(|link| link.up)
    }

    fn takes_super(&self) -> bool {
        self.takes_super.load(Ordering::Relaxed)
    }

    fn give_super_up(&self) {
        self.takes_super.store(false, Ordering::Relaxed);
        self.interface.is_stale.store(true, Ordering::Relaxed);
    }
}

fn index_of(name: &str) -> io::Result<u32> {
    let socket = UnixDatagram::unbound()?;
    let answer = Request::new(name).map(|request| request.index(socket.as_fd()));
    if let Some(Ok(index)) = answer {
        return Ok(index);
    }
    let names = host::interface_names().unwrap_or_default().join(", ");
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no interface is called {name:?} in this network namespace; there are: {names}")))
}

fn enable_virtio(socket: BorrowedFd<'_>) -> Framing {
    match option::set(socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1) {
        Ok(()) => Framing::Virtio,
        // Only on systems that resemble Linux; Linux itself has had the header since 2.6.27.
        Err(_) => Framing::Plain,
    }
}

/// Asks for a queue of `bytes`; without the right to exceed the system's limit, for as much as that allows.
fn enlarge(socket: BorrowedFd<'_>, force: libc::c_int, ask: libc::c_int, bytes: libc::c_int) {
    if option::set(socket, libc::SOL_SOCKET, force, bytes).is_err() {
        // A smaller queue drops more under load, and says so in its counter.
        let _ = option::set(socket, libc::SOL_SOCKET, ask, bytes);
    }
}

fn explain_socket(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return io::Error::new(error.kind(), format!("this system gives out no packet sockets: {error}"));
    }
    let program = std::env::current_exe().map_or_else(|_| "PROGRAM".into(), |path| path.display().to_string());
    let text = format!(
        "a packet socket needs the capability CAP_NET_RAW: sudo setcap cap_net_raw+ep {program} \
         (in a container: docker run --cap-add NET_RAW; without any privilege: cargo demo)"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn explain(name: &str, what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} on interface {name}: {error}"))
}

/// The errors of a packet socket whose interface is down (`ENETDOWN`) or gone.
const FALLEN: &[libc::c_int] = &[libc::ENETDOWN, libc::ENXIO, libc::ENODEV];

/// The kernel's queue for frames that arrive: some 100 super-packets.
const RECEIVE_QUEUE_BYTES: libc::c_int = 8 << 20;

/// The kernel's queue for frames that leave: more than the runtime's own (256 frames, 1 MiB).
const SEND_QUEUE_BYTES: libc::c_int = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::namespace::{self, Veth};
    use crate::device::tests::{super_frame, verify};
    use crate::proto::{Checksum, TxFrame, link::RECEIVE_ROOM};
    use bytes::BytesMut;
    use std::collections::VecDeque;

    /// Sends a super-packet of three segments into a veth pair; says what comes out of the other end.
    fn transmit(device: PacketSocket) -> Vec<(BytesMut, Checksum, u16)> {
        let far = PacketSocket::open("syn1", &["10.0.0.2".parse().expect("an address")]).expect("a socket");
        let (mut receiver, _) = Box::new(far).split();
        let counters = device.counters();
        let (_, mut transmitter) = Box::new(device).split();
        let mut frame = super_frame(1000, 2500);
        frame.header_mut()[..6].fill(0xff);
        transmitter.transmit(&mut VecDeque::from([frame])).expect("room");
        assert_eq!(counters.snapshot().sent_frames, counters.snapshot().cut * 2 + 1);
        let mut frames = Vec::new();
        let mut buffer = BytesMut::with_capacity(RECEIVE_ROOM);
        let mut bytes = 0;
        // The kernel may hand frames over a little later.
        while bytes < 2500 {
            let Ok(received) = receiver.receive(&mut buffer) else {
                std::thread::yield_now();
                continue;
            };
            bytes += buffer.len() - 54;
            frames.push((buffer.split(), received.checksum, received.segment_size));
            buffer.reserve(RECEIVE_ROOM);
        }
        frames
    }

    #[test]
    fn plain_frames_leave_cut_and_complete() {
        namespace::test("device::packet::tests::plain_frames_leave_cut_and_complete", || {
            let _veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
            let device = PacketSocket::open_framed("syn0", &[], Framing::Plain).expect("a socket");
            assert!(!device.link().segments_v4 && !device.link().segments_v6);
            let frames = transmit(device);
            assert_eq!(frames.iter().map(|(frame, ..)| frame.len() - 54).collect::<Vec<_>>(), [1000, 1000, 500]);
            for (frame, checksum, segment_size) in frames {
                verify(&frame);
                assert_eq!((checksum, segment_size), (Checksum::Unknown, 0));
            }
        });
    }

    #[test]
    fn segments_leave_partial_without_super_packets() {
        namespace::test("device::packet::tests::segments_leave_partial_without_super_packets", || {
            let _veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
            let frames = transmit(PacketSocket::open("syn0", &[]).expect("a socket").without_super_packets());
            assert_eq!(frames.len(), 3);
            assert!(frames.iter().all(|(_, checksum, segment_size)| (*checksum, *segment_size) == (Checksum::Partial, 0)));
        });
    }

    #[test]
    fn super_packet_arrives_as_it_left() {
        namespace::test("device::packet::tests::super_packet_arrives_as_it_left", || {
            let _veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
            let frames = transmit(PacketSocket::open("syn0", &[]).expect("a socket"));
            let [(bytes, Checksum::Partial, 1000)] = &frames[..] else { panic!("one super-packet: {frames:?}") };
            let expected: TxFrame = super_frame(1000, 2500);
            assert_eq!(bytes[6..], expected.to_vec()[6..]);
        });
    }

    #[test]
    fn missing_privilege_is_explained() {
        let error = explain_socket(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let text = error.to_string();
        let program = std::env::current_exe().expect("a program").display().to_string();
        assert!(text.contains(&format!("sudo setcap cap_net_raw+ep {program}")) && text.contains("--cap-add NET_RAW"), "{text}");
    }
}
