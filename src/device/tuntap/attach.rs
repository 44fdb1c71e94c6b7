//! A descriptor of `/dev/net/tun`, attached to an interface: how it comes to be, what both halves share, and errors with their remedies.

use super::super::interface::{Framing, Interface};
use super::super::packet::{link_of, settle};
use super::super::sys::{ioctl::Request, tuntap};
use super::super::{Counters, virtio};
use super::packet_information;
use crate::proto::{Link, MacAddress, Medium};
use socket2::SockRef;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

/// What an interface carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ethernet frames.
    Tap,
    /// IP packets.
    Tun,
}

/// A device that has not been split.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    pub(super) name: String,
}

/// What both halves use.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tun: File,
    pub(super) interface: Interface,
    /// A socket to ask about the interface with, by its index.
    socket: UnixDatagram,
    index: u32,
    medium: Medium,
}

impl Attached {
    /// Attaches a descriptor of its own to the interface `name`.
    pub(super) fn open(name: &str, kind: Kind) -> io::Result<Self> {
        let request = Request::new(name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no interface can be called {name:?}")))?;
        let tun = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(CLONE_PATH)
            .map_err(|error| explain_open(&error))?;
        let request = request.attach(tun.as_fd(), kind.flag() | NO_PI | VNET_HDR).map_err(|error| explain_attach(name, kind, &error))?;
        Self::new(tun, request, kind, Framing::Virtio)
    }

    /// Takes over a descriptor that somebody else has attached.
    pub(super) fn from_fd(fd: OwnedFd, kind: Kind) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let (request, flags) = Request::attached(fd.as_fd()).map_err(|error| {
            invalid(format!("the descriptor is not attached to a TUN or TAP interface (TUNGETIFF, TUNSETIFF): {error}"))
        })?;
        let name = request.name();
        check_flags(&name, flags, kind).map_err(invalid)?;
        let index = request.index(UnixDatagram::unbound()?.as_fd());
        // An interface in another network namespace is refused below; a kernel that doesn't say is believed.
        if index.and_then(packet_information::of).is_ok_and(|answer| answer == Some(true)) {
            return Err(invalid(has_packet_information(&name)));
        }
        SockRef::from(&fd).set_nonblocking(true)?;
        let framing = if flags & VNET_HDR == 0 { Framing::Plain } else { Framing::Virtio };
        Self::new(File::from(fd), request, kind, framing)
    }

    /// The live counters.
    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.interface.counters)
    }

    fn new(tun: File, request: Request, kind: Kind, framing: Framing) -> io::Result<Self> {
        let name = request.name();
        if framing == Framing::Virtio {
            tuntap::set_header_len(tun.as_fd(), virtio::HEADER_LEN)?;
            // A kernel that refuses them completes and cuts what it hands over.
            let _ = tuntap::set_offload(tun.as_fd(), libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6);
        }
        let socket = UnixDatagram::unbound()?;
        let elsewhere = |error| io::Error::new(io::ErrorKind::NotFound, format!("{name} is not in this network namespace: {error}"));
        let index = request.index(socket.as_fd()).map_err(elsewhere)?;
        let medium = match kind {
            Kind::Tun => Medium::Ip,
            Kind::Tap => Medium::Ethernet(own_address(request.hardware_address(socket.as_fd())?.1)?),
        };
        let shared = Shared { tun, interface: Interface::new(framing, FALLEN), socket, index, medium };
        shared.settle();
        Ok(Self { link: shared.link()?, shared: Arc::new(shared), name })
    }
}

impl Shared {
    /// The facts about the link now.
    ///
    /// # Errors
    /// `ENODEV` when the interface is gone; [`NotFound`](io::ErrorKind::NotFound) when it is in another network namespace.
    pub(super) fn link(&self) -> io::Result<Link> {
        let request = Request::by_index(self.socket.as_fd(), self.index).map_err(|error| match Request::attached(self.tun.as_fd()) {
            // It was moved to another network namespace, and may come back.
            Ok(_) => io::ErrorKind::NotFound.into(),
            Err(_) => error,
        })?;
        // Frames with a partial checksum come from this machine alone: they say so in a header that no network carries.
        let has_header = self.interface.framing == Framing::Virtio;
        Ok(link_of(self.socket.as_fd(), request, self.medium)?.with_segmentation(has_header).with_trusted_partial(has_header))
    }

    /// Waits until an interface that has come up sends.
    pub(super) fn settle(&self) {
        settle(self.socket.as_fd(), self.index);
    }
}

impl Kind {
    const fn flag(self) -> u16 {
        match self {
            Self::Tap => TAP,
            Self::Tun => TUN,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tap => "TAP",
            Self::Tun => "TUN",
        }
    }
}

/// Fails unless frames come and go as `kind` says, with nothing but a virtio-net header before them.
fn check_flags(name: &str, flags: u16, kind: Kind) -> Result<(), String> {
    if flags & (TUN | TAP) != kind.flag() {
        return Err(format!("{name} is no {} interface: its descriptor was attached with flags {flags:#x}", kind.name()));
    }
    // The kernel says IFF_NOFILTER with the same bit, so that it is only missing where a filter is attached too.
    if flags & NO_PI == 0 {
        return Err(has_packet_information(name));
    }
    Ok(())
}

fn has_packet_information(name: &str) -> String {
    format!("the descriptor of {name} was attached without IFF_NO_PI, so that four bytes stand before each frame: attach it with that flag")
}

/// An address for our side of a TAP: locally administered, for one station, and not the one that the kernel has.
fn own_address(kernel: [u8; 6]) -> io::Result<MacAddress> {
    let mut address = [0; 6];
    getrandom::fill(&mut address).map_err(io::Error::other)?;
    address[0] = address[0] & !0b11 | 0b10;
    if address == kernel {
        address[5] ^= 1;
    }
    Ok(MacAddress(address))
}

fn explain_open(error: &io::Error) -> io::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "sudo modprobe tun (in a container: docker run --device /dev/net/tun --cap-add NET_ADMIN)"
        }
        Some(libc::EACCES | libc::EPERM) => "sudo chmod 0666 /dev/net/tun, or run it as root",
        _ => "TUN and TAP interfaces come from there",
    };
    let kind = if error.raw_os_error() == Some(libc::ENODEV) { io::ErrorKind::NotFound } else { error.kind() };
    io::Error::new(kind, format!("opening {CLONE_PATH}: {error}; {remedy}"))
}

fn explain_attach(name: &str, kind: Kind, error: &io::Error) -> io::Error {
    let mode = if kind == Kind::Tap { "tap" } else { "tun" };
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM) => format!("it needs CAP_NET_ADMIN, or once: sudo ip tuntap add dev {name} mode {mode} user $USER vnet_hdr"),
        Some(libc::EBUSY) => format!("another program is attached to it, or it is no TUN or TAP: ip -details link show {name}"),
        Some(libc::EINVAL) => format!("it exists with another mode, or with several queues: ip -details link show {name}"),
        _ => "its parameters are in the kernel's Documentation/networking/tuntap.rst".into(),
    };
    io::Error::new(error.kind(), format!("attaching to {} interface {name}: {error}; {remedy}", kind.name()))
}

/// The errors of an interface that is down (`EIO`, `ENETDOWN`) or gone (`EBADFD`, `ENODEV`; `EFAULT` for who reads meanwhile).
const FALLEN: &[libc::c_int] = &[libc::EIO, libc::ENETDOWN, libc::EBADFD, libc::ENODEV, libc::EFAULT];

/// Where descriptors come from.
const CLONE_PATH: &str = "/dev/net/tun";

/// Flags of an attachment (linux/if_tun.h): packets, frames, nothing before them, but a virtio-net header.
const TUN: u16 = 0x0001;
const TAP: u16 = 0x0002;
const NO_PI: u16 = 0x1000;
const VNET_HDR: u16 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::namespace::{self, Veth};
    use crate::device::tests::super_frame;
    use crate::device::{Device, Tap, Tun};
    use std::collections::VecDeque;

    #[test]
    fn own_address_is_local_and_not_the_kernels() {
        let MacAddress(address) = own_address([2; 6]).expect("randomness");
        assert_eq!(address[0] & 0b11, 0b10);
        assert_ne!(address, own_address(address).expect("randomness").0);
    }

    #[test]
    fn refusals_name_the_remedy() {
        let open = |errno| explain_open(&io::Error::from_raw_os_error(errno));
        assert_eq!(open(libc::ENODEV).kind(), io::ErrorKind::NotFound);
        assert!(open(libc::ENOENT).to_string().contains("modprobe tun"));
        assert!(open(libc::EACCES).to_string().contains("chmod 0666 /dev/net/tun"));
        let attach = |errno| explain_attach("tap7", Kind::Tap, &io::Error::from_raw_os_error(errno));
        assert_eq!(attach(libc::EPERM).kind(), io::ErrorKind::PermissionDenied);
        assert!(attach(libc::EPERM).to_string().contains("ip tuntap add dev tap7 mode tap user $USER vnet_hdr"));
        assert_eq!(attach(libc::EBUSY).kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(attach(libc::EINVAL).kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn flags_decide() {
        let check = |flags| check_flags("tap7", flags, Kind::Tap);
        assert!(check(TAP | NO_PI).is_ok() && check(TAP | NO_PI | VNET_HDR).is_ok());
        assert!(check(TAP | VNET_HDR).expect_err("packet information").contains("IFF_NO_PI"));
        assert!(check(TUN | NO_PI).expect_err("a TUN").contains("tap7 is no TAP interface"));
    }

    #[test]
    fn other_descriptor_is_refused() {
        let socket = UnixDatagram::unbound().expect("a socket");
        let error = Attached::from_fd(socket.into(), Kind::Tun).expect_err("a socket");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("not attached to a TUN or TAP interface"));
    }

    #[test]
    fn descriptor_without_virtio_header_has_its_frames_cut() {
        namespace::test_with_tun("device::tuntap::attach::tests::descriptor_without_virtio_header_has_its_frames_cut", || {
            let veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
            let tap = Tap::from_fd(descriptor("tap0", TAP | NO_PI)).expect("a TAP");
            assert_eq!(tap.name(), "tap0");
            assert!(!tap.link().up && !tap.link().segments_v4 && !tap.link().trusts_partial);
            let (mut receiver, mut transmitter) = Box::new(tap).split();
            let mut frames = VecDeque::from([super_frame(0, 1), super_frame(0, 2)]);
            assert_eq!(transmitter.transmit(&mut frames).expect_err("it is down").kind(), io::ErrorKind::NetworkDown);
            assert_eq!((frames.len(), receiver.counts().link_down), (0, 2));

            veth.up("tap0").expect("it is down");
            assert!(receiver.link().0.up);
            transmitter.transmit(&mut VecDeque::from([super_frame(1000, 2500)])).expect("room");
            let counts = receiver.counts();
            assert_eq!((counts.cut, counts.sent_frames, counts.sent_super, counts.refused), (1, 3, 0, 0));
            veth.down("tap0").expect("it is up");
            assert_eq!(
                transmitter.transmit(&mut VecDeque::from([super_frame(0, 1)])).expect_err("down").kind(),
                io::ErrorKind::NetworkDown
            );
            assert!(!receiver.link().0.up);
        });
    }

    #[test]
    fn descriptor_with_packet_information_is_refused() {
        namespace::test_with_tun("device::tuntap::attach::tests::descriptor_with_packet_information_is_refused", || {
            let errors = [
                Tap::from_fd(descriptor("tap0", TAP | VNET_HDR)).expect_err("it has"),
                Tun::from_fd(descriptor("tun0", TUN)).expect_err("it has"),
            ];
            for error in errors {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert!(error.to_string().contains("without IFF_NO_PI"), "{error}");
            }
        });
    }

    #[test]
    fn descriptor_of_another_mode_is_refused() {
        namespace::test_with_tun("device::tuntap::attach::tests::descriptor_of_another_mode_is_refused", || {
            let error = Tun::from_fd(descriptor("tap0", TAP | NO_PI)).expect_err("a TAP");
            assert!(error.to_string().contains("tap0 is no TUN interface"), "{error}");
            let tun = Tun::from_fd(descriptor("tun0", TUN | NO_PI | VNET_HDR)).expect("a TUN");
            assert!(tun.link().segments_v6 && tun.link().medium == Medium::Ip);
            let error = Tun::open("tun0").expect_err("it is taken");
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
            assert_eq!(Tap::open("tun0").expect_err("a TUN").kind(), io::ErrorKind::InvalidInput);
        });
    }

    fn descriptor(name: &str, flags: u16) -> OwnedFd {
        let tun = OpenOptions::new().read(true).write(true).open(CLONE_PATH).expect("opened before");
        Request::new(name).expect("a name").attach(tun.as_fd(), flags).expect("root inside");
        tun.into()
    }
}
