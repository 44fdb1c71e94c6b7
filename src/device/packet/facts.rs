//! What the kernel says of an interface: its link, and what it can do for us. Asked by index, so that a renamed interface stays known and a
//! new one that took over the name is not mistaken for it.

use super::super::sys::ioctl::{Request, ethtool};
use crate::proto::{Link, MacAddress, Medium};
use std::io;
use std::os::fd::BorrowedFd;

/// What an interface says that it does for its senders. Information only: the kernel makes up for what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offloads {
    /// It completes checksums.
    pub checksum: bool,
    /// It cuts TCP super-packets (TSO).
    pub segmentation: bool,
    /// The kernel keeps super-packets whole until just before it (GSO).
    pub generic_segmentation: bool,
}

/// The offloads of the interface; what it doesn't say it doesn't have.
pub(super) fn offloads(socket: BorrowedFd<'_>, index: u32) -> io::Result<Offloads> {
    let request = Request::by_index(socket, index)?;
    let is_on = |command| request.ethtool(socket, command).is_ok_and(|value| value != 0);
    Ok(Offloads {
        checksum: is_on(ethtool::GET_TX_CHECKSUM),
        segmentation: is_on(ethtool::GET_TSO),
        generic_segmentation: is_on(ethtool::GET_GSO),
    })
}

/// The link, without what the socket adds to it.
///
/// # Errors
/// `ENODEV` when the interface is gone; [`Unsupported`](io::ErrorKind::Unsupported) when it has no Ethernet header.
pub(super) fn link(socket: BorrowedFd<'_>, index: u32) -> io::Result<Link> {
    let request = Request::by_index(socket, index)?;
    let (kind, address) = request.hardware_address(socket)?;
    if kind != libc::ARPHRD_ETHER && kind != libc::ARPHRD_LOOPBACK {
        let text = format!("interface {} has no Ethernet header (hardware type {kind}): use a TUN or raw IP device", request.name());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    link_of(socket, request, Medium::Ethernet(MacAddress(address)))
}

/// The link of an interface whose frames are known to begin with `medium`: its MTU, and whether it carries frames.
pub(in crate::device) fn link_of(socket: BorrowedFd<'_>, request: Request, medium: Medium) -> io::Result<Link> {
    // The loopback's MTU is one more than fits.
    let mtu = u16::try_from(request.mtu(socket)?).unwrap_or(u16::MAX);
    let flags = i32::from(request.flags(socket)?);
    let mut link = Link::new(medium, mtu).with_sharing(true);
    link.up = flags & IS_UP == IS_UP;
    Ok(link)
}

/// Waits until an interface that has a carrier sends: the kernel attaches its queue some time later, and loses in silence what comes before.
pub(in crate::device) fn settle(socket: BorrowedFd<'_>, index: u32) {
    // An interface that can't say is taken at its flags' word.
    let _ = Request::by_index(socket, index).and_then(|request| request.ethtool(socket, ethtool::GET_LINK));
}

/// Set up by its administrator, and with a carrier.
const IS_UP: i32 = libc::IFF_UP | libc::IFF_RUNNING;
