//! TAP and TUN devices (the kernel's tuntap.rst): an interface whose one side is the kernel and whose other side is this program, with
//! Ethernet frames or bare IP packets, and super-packets both ways.
//!
//! | module | what it owns |
//! |---|---|
//! | [`attach`] | a descriptor, attached to an interface or taken over; what can go wrong with it |
//! | [`packet_information`] | whether something stands before each frame that must not |
//! | [`receive`], [`transmit`] | the halves |
//!
//! The interface is the administrator's: the kernel's addresses, its routes and whether it is up are set with `ip`.

mod attach;
mod packet_information;
mod receive;
mod transmit;

use super::{Counters, Device, Receiver, Transmitter};
use crate::proto::Link;
use attach::{Attached, Kind};
use receive::TunReceiver;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use transmit::TunTransmitter;

/// A TAP interface, of Ethernet frames: a [`Device`].
///
/// The stack is a neighbour of the kernel on a link of two, with a locally administered hardware address of its own, chosen at random. Its
/// addresses belong to the network that the kernel has on the interface, and must not be the kernel's own.
///
/// # Example
///
/// After `ip tuntap add dev tap0 mode tap user $USER vnet_hdr`, `ip addr add 10.9.0.1/24 dev tap0` and `ip link set tap0 up`:
///
/// ```no_run
/// use synfin::{Stack, device::Tap};
///
/// let stack = Stack::builder().device(Tap::open("tap0")?).address("10.9.0.2/24").start()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Tap(Attached);

impl Tap {
    /// Attaches to the interface `name`, which is created if there is none, and goes with the device unless it is persistent. A `%d` in the
    /// name is a number that the kernel chooses.
    ///
    /// A new interface is down. The link is reported as down until it comes up.
    ///
    /// # Errors
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) without `CAP_NET_ADMIN`, unless the interface is persistent and the user's;
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) when another program has it; [`NotFound`](io::ErrorKind::NotFound) without
    /// `/dev/net/tun`; [`InvalidInput`](io::ErrorKind::InvalidInput) for an impossible name or an interface that is no TAP. The text names
    /// the remedy.
    pub fn open(name: &str) -> io::Result<Self> {
        Attached::open(name, Kind::Tap).map(Self)
    }

    /// Takes over a descriptor of `/dev/net/tun` that is attached to a TAP interface in this network namespace. It is made non-blocking.
    ///
    /// Attached without `IFF_VNET_HDR` it passes no super-packets: the device cuts them. It must have been attached with `IFF_NO_PI`:
    /// where the kernel is older than 4.16 and doesn't say that it wasn't, what arrives is no packet, and dropped.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for any other descriptor, or one that was attached without `IFF_NO_PI`;
    /// [`NotFound`](io::ErrorKind::NotFound) when the interface is in another network namespace.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Attached::from_fd(fd, Kind::Tap).map(Self)
    }

    /// What the interface was called when it was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The facts about the link when it was opened.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.0.link
    }

    /// The live counters, which outlive the device.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.0.counters()
    }
}

impl Device for Tap {
    fn name(&self) -> Option<&str> {
        Some(&self.0.name)
    }

    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        split(self.0)
    }
}

/// A TUN interface, of bare IP packets: a [`Device`].
///
/// There is no hardware address and no neighbour to look for; the kernel routes to the stack what it has a route for. The stack's addresses
/// must not be the kernel's own.
///
/// # Example
///
/// After `ip tuntap add dev tun0 mode tun user $USER vnet_hdr`, `ip addr add 10.9.0.1/24 dev tun0` and `ip link set tun0 up`:
///
/// ```no_run
/// use synfin::{Stack, device::Tun};
///
/// let stack = Stack::builder().device(Tun::open("tun0")?).address("10.9.0.2/24").start()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Tun(Attached);

impl Tun {
    /// Attaches to the interface `name`, as [`Tap::open`].
    ///
    /// # Errors
    /// As [`Tap::open`].
    pub fn open(name: &str) -> io::Result<Self> {
        Attached::open(name, Kind::Tun).map(Self)
    }

    /// Takes over a descriptor that is attached to a TUN interface, as [`Tap::from_fd`].
    ///
    /// # Errors
    /// As [`Tap::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Attached::from_fd(fd, Kind::Tun).map(Self)
    }

    /// What the interface was called when it was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The facts about the link when it was opened.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.0.link
    }

    /// The live counters, which outlive the device.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.0.counters()
    }
}

impl Device for Tun {
    fn name(&self) -> Option<&str> {
        Some(&self.0.name)
    }

    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        split(self.0)
    }
}

fn split(attached: Attached) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
    let receiver = TunReceiver::new(Arc::clone(&attached.shared), attached.link);
    (Box::new(receiver), Box::new(TunTransmitter::new(attached.shared)))
}
