//! Facts about a network interface, asked and set through `ioctl` (netdevice(7)). Works in any network namespace, which `/sys` does not:
//! a mounted `/sys` shows the namespace that it was mounted in.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of an interface name, with the zero that ends it.
pub(in crate::device) const NAME_LEN_MAX: usize = libc::IFNAMSIZ;

/// The kernel's `struct ifreq`: a name, and a value that the request gives a meaning.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::device) struct Request {
    name: [u8; NAME_LEN_MAX],
    value: [u8; 24],
}

const _: () = assert!(size_of::<Request>() >= size_of::<libc::ifreq>() && align_of::<Request>() >= align_of::<libc::ifreq>());

impl Request {
    /// A request about the interface `name`; none for a name that no interface can have.
    pub(in crate::device) fn new(name: &str) -> Option<Self> {
        let mut request = Self::default();
        let is_possible = !name.is_empty() && name.len() < NAME_LEN_MAX && !name.bytes().any(|byte| byte == 0 || byte == b'/');
        is_possible.then(|| request.name[..name.len()].copy_from_slice(name.as_bytes()))?;
        Some(request)
    }

    /// The index of the interface.
    pub(in crate::device) fn index(self, socket: BorrowedFd<'_>) -> io::Result<u32> {
        Ok(u32::from_ne_bytes(self.ask(socket, libc::SIOCGIFINDEX)?.first()))
    }

    /// The name that the interface with this index has now.
    pub(in crate::device) fn by_index(socket: BorrowedFd<'_>, index: u32) -> io::Result<Self> {
        let mut request = Self::default();
        request.value[..4].copy_from_slice(&index.to_ne_bytes());
        Ok(Self { name: request.ask(socket, libc::SIOCGIFNAME)?.name, value: [0; 24] })
    }

    /// The largest packet in bytes, without the link header.
    pub(in crate::device) fn mtu(self, socket: BorrowedFd<'_>) -> io::Result<u32> {
        Ok(u32::from_ne_bytes(self.ask(socket, libc::SIOCGIFMTU)?.first()))
    }

    /// Sets the largest packet in bytes.
    #[cfg(feature = "lab")]
    pub(in crate::device) fn set_mtu(mut self, socket: BorrowedFd<'_>, mtu: u32) -> io::Result<()> {
        self.value[..4].copy_from_slice(&mtu.to_ne_bytes());
        self.ask(socket, libc::SIOCSIFMTU).map(drop)
    }

    /// The hardware type (`ARPHRD_…`) and the first six bytes of the hardware address.
    pub(in crate::device) fn hardware_address(self, socket: BorrowedFd<'_>) -> io::Result<(u16, [u8; 6])> {
        let value = self.ask(socket, libc::SIOCGIFHWADDR)?.value;
        let [kind @ .., a, b, c, d, e, f] = *value.first_chunk::<8>().expect("24 bytes");
        Ok((u16::from_ne_bytes(kind), [a, b, c, d, e, f]))
    }

    /// The flags (`IFF_…`) of the interface.
    pub(in crate::device) fn flags(self, socket: BorrowedFd<'_>) -> io::Result<u16> {
        let [low, high, ..] = self.ask(socket, libc::SIOCGIFFLAGS)?.first();
        Ok(u16::from_ne_bytes([low, high]))
    }

    /// Sets the flags (`IFF_…`) of the interface.
    #[cfg(feature = "lab")]
    pub(in crate::device) fn set_flags(mut self, socket: BorrowedFd<'_>, flags: u16) -> io::Result<()> {
        self.value[..2].copy_from_slice(&flags.to_ne_bytes());
        self.ask(socket, libc::SIOCSIFFLAGS).map(drop)
    }

    /// The value of an ethtool command that answers with one integer (`ETHTOOL_G…`).
    pub(in crate::device) fn ethtool(self, socket: BorrowedFd<'_>, command: u32) -> io::Result<u32> {
        self.ethtool_value(socket, [command, 0]).map(|[_, value]| value)
    }

    /// Sets a value by an ethtool command that takes one integer (`ETHTOOL_S…`).
    #[cfg(feature = "lab")]
    pub(in crate::device) fn set_ethtool(self, socket: BorrowedFd<'_>, command: u32, value: u32) -> io::Result<()> {
        self.ethtool_value(socket, [command, value]).map(drop)
    }

    /// Attaches a TUN/TAP descriptor to the interface of this name, which is created if there is none. `flags` are the kind and its options
    /// (`IFF_TAP`, `IFF_NO_PI`, …). Says what the interface is called.
    pub(in crate::device) fn attach(mut self, tun: BorrowedFd<'_>, flags: u16) -> io::Result<Self> {
        self.value[..2].copy_from_slice(&flags.to_ne_bytes());
        Ok(Self { name: self.call(tun, libc::TUNSETIFF)?.name, value: [0; 24] })
    }

    /// The interface that a TUN/TAP descriptor is attached to, and the flags that it was attached with.
    pub(in crate::device) fn attached(tun: BorrowedFd<'_>) -> io::Result<(Self, u16)> {
        let request = Self::default().call(tun, libc::TUNGETIFF)?;
        let [low, high, ..] = request.first();
        Ok((Self { name: request.name, value: [0; 24] }, u16::from_ne_bytes([low, high])))
    }

    fn ethtool_value(mut self, socket: BorrowedFd<'_>, mut command_and_value: [u32; 2]) -> io::Result<[u32; 2]> {
        let address = (&raw mut command_and_value).expose_provenance();
        self.value[..size_of::<usize>()].copy_from_slice(&address.to_ne_bytes());
        // SAFETY: the kernel reads and writes one `ifreq`, which `self` is at least as large and aligned as (asserted above), and through the
        // pointer in it one `ethtool_value`, two 32-bit integers, which `command_and_value` is; both live on this frame until the call ends.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut self) })?;
        Ok(command_and_value)
    }

    fn ask(self, socket: BorrowedFd<'_>, request: u64) -> io::Result<Self> {
        self.call(socket, libc::Ioctl::try_from(request).map_err(|_| io::ErrorKind::InvalidInput)?)
    }

    /// Makes a request that reads and writes nothing beyond the `ifreq`. Called with the constants above only.
    fn call(mut self, socket: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<Self> {
        // SAFETY: the requests made in this file read and write one `ifreq`, which `self` is at least as large and aligned as (asserted
        // above); it lives on this frame until the call ends. Any descriptor is allowed: one that is no socket gets an error.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut self) })?;
        Ok(self)
    }

    fn first(&self) -> [u8; 4] {
        *self.value.first_chunk().expect("24 bytes")
    }

    /// The interface's name.
    pub(in crate::device) fn name(&self) -> String {
        let len = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN_MAX);
        String::from_utf8_lossy(&self.name[..len]).into_owned()
    }
}

/// The request that carries an ethtool command.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// Ethtool commands (linux/ethtool.h); the command that sets an offload is the one that gets it, plus one.
pub(in crate::device) mod ethtool {
    /// Has the interface a carrier? Before it answers, the kernel brings what depends on that up to date.
    pub(in crate::device) const GET_LINK: u32 = 0x0a;
    /// Are checksums completed by the interface?
    pub(in crate::device) const GET_TX_CHECKSUM: u32 = 0x16;
    /// Are TCP super-packets cut by the interface?
    pub(in crate::device) const GET_TSO: u32 = 0x1e;
    /// Are super-packets cut in software just before the interface?
    pub(in crate::device) const GET_GSO: u32 = 0x23;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn loopback_is_known_by_name_and_index() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let lo = Request::new("lo").expect("a name");
        let index = lo.index(socket.as_fd()).expect("an index");
        assert_eq!(Request::by_index(socket.as_fd(), index).expect("a name").name(), "lo");
        assert_eq!(lo.hardware_address(socket.as_fd()).expect("an address"), (libc::ARPHRD_LOOPBACK, [0; 6]));
        assert!(lo.mtu(socket.as_fd()).expect("an MTU") >= 1500);
        assert_ne!(i32::from(lo.flags(socket.as_fd()).expect("flags")) & libc::IFF_LOOPBACK, 0);
        assert!(lo.ethtool(socket.as_fd(), ethtool::GET_GSO).expect("an answer") <= 1);
    }

    #[test]
    fn unknown_interface_is_no_device() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let error = Request::new("synfin-none").expect("a name").index(socket.as_fd()).expect_err("no such interface");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn socket_is_no_tun() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        assert!(Request::attached(socket.as_fd()).is_err());
        assert!(Request::new("synfin-none").expect("a name").attach(socket.as_fd(), 1).is_err());
    }

    #[test]
    fn impossible_names_make_no_request() {
        assert!(["", "a/b", "a\0b", "sixteen-letters!"].into_iter().all(|name| Request::new(name).is_none()));
        assert!(Request::new("fifteen-letters").is_some());
    }
}
