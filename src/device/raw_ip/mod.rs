//! Raw IP sockets (raw(7)): IPv4 packets through the kernel's routing, where neither AF_PACKET nor TUN is possible. The slowest way.
//!
//! | module | what it owns |
//! |---|---|
//! | [`rule`] | the firewall rule that keeps the kernel from resetting our connections |
//! | [`receive`], [`transmit`] | the halves |
//!
//! The kernel owns the address and hands every TCP segment for it to a raw socket as well as to its own TCP, which knows no such connection
//! and answers with RST (RFC 9293 §3.10.7.1). A raw socket gets its copy behind the firewall's input hook, so that only the answer can be
//! stopped: on output, unless it has our mark. It must not know of connections.

mod receive;
mod rule;
mod transmit;

use super::interface::{Framing, Interface};
use super::packet::{link_of, settle};
use super::sys::{ioctl::Request, option};
use super::{Counters, Device, Receiver, Transmitter, host};
use crate::proto::{Link, Medium};
use receive::RawReceiver;
use rule::Rule;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use transmit::RawTransmitter;

/// Raw IP sockets on an IPv4 address that the kernel owns: a [`Device`].
///
/// For places where [`PacketSocket`](super::PacketSocket) and [`Tun`](super::Tun) are not to be had. Give the stack an address that nothing
/// else on this host uses: its TCP belongs to the stack alone, and a service of the kernel's on the same address answers too. The kernel
/// routes, resolves neighbours and answers pings. Packets are no larger than the MTU, and are sent one by one; ICMP errors are read when
/// the stack next looks for segments, at the latest when a timer expires.
///
/// # Example
///
/// After `ip address add 192.0.2.7/24 dev eth0`, as root:
///
/// ```no_run
/// use synfin::{Stack, device::RawIp};
///
/// let device = RawIp::open("192.0.2.7".parse().unwrap())?;
/// let stack = Stack::builder().device(device).address("192.0.2.7/24").start()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct RawIp {
    shared: Arc<Shared>,
    link: Link,
    name: String,
}

impl RawIp {
    /// The mark (`SO_MARK`) of every packet that the device sends. A segment without it comes from the kernel.
    pub const MARK: u32 = 0x7379_6e66;

    /// Opens the device on `address`, and has `nft` drop the kernel's resets from there until the device is dropped.
    ///
    /// The rule stands in a table of its own, `synfin_` and the address. A stack's thread drops its device once the last connection has ended; a
    /// process that ends before that leaves the rule behind, where the next device on the address replaces it. No two devices can share an
    /// address.
    ///
    /// # Errors
    /// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) when the kernel does not own the address;
    /// [`Unsupported`](io::ErrorKind::Unsupported) for IPv6, and where there is no `nft`;
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) without `CAP_NET_RAW`, or when `nft` refuses the rule, which needs
    /// `CAP_NET_ADMIN`. The text names the command that helps.
    pub fn open(address: IpAddr) -> io::Result<Self> {
        Self::new(address, |address| Rule::install(rule::PROGRAM, address).map(Some))
    }

    /// Opens the device on `address` where the rule of [`rule_command`](Self::rule_command), or one like it, is in force already, and leaves
    /// it so.
    ///
    /// With `iptables` it is `iptables -I OUTPUT -s ADDRESS -p tcp --tcp-flags RST RST -m mark ! --mark 0x73796e66 -j DROP`. Without any, the
    /// kernel resets each connection at once.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for those of `nft`.
    pub fn open_behind_rule(address: IpAddr) -> io::Result<Self> {
        Self::new(address, |_| Ok(None))
    }

    /// The shell command that installs the rule for `address`: it drops the resets that the kernel sends from there.
    #[must_use]
    pub fn rule_command(address: Ipv4Addr) -> String {
        rule::command(address)
    }

    /// The interface that has the address.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The facts about the link when it was opened: those of the interface that has the address.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.link
    }

    /// The live counters, which outlive the device.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.interface.counters)
    }

    fn new(address: IpAddr, rule: impl FnOnce(Ipv4Addr) -> io::Result<Option<Rule>>) -> io::Result<Self> {
        let IpAddr::V4(address) = address else {
            let text = format!("{address}: a raw IP device is for IPv4 addresses; for IPv6 open the interface, or a TUN device");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        let name = host::owner_of(address.into())?.ok_or_else(|| {
            let text = format!(
                "the kernel does not own {address}, and a raw IP socket gets no packet for it: sudo ip address add {address}/24 dev INTERFACE"
            );
            io::Error::new(io::ErrorKind::AddrNotAvailable, text)
        })?;
        let tcp = socket(address, Protocol::TCP).and_then(prepare_tcp).map_err(|error| explain(&error))?;
        let icmp = socket(address, Protocol::ICMPV4).and_then(prepare_icmp).map_err(|error| explain(&error))?;
        let request = Request::new(&name).ok_or(io::ErrorKind::InvalidInput)?;
        let index = request.index(tcp.as_fd())?;
        let rule = rule(address)?;
        let shared = Shared { tcp, icmp, interface: Interface::new(Framing::Plain, FALLEN), index, rule };
        Ok(Self { link: shared.link()?, shared: Arc::new(shared), name })
    }
}

impl Device for RawIp {
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        let receiver = RawReceiver::new(Arc::clone(&self.shared), self.link);
        (Box::new(receiver), Box::new(RawTransmitter::new(self.shared)))
    }
}

/// What both halves use.
#[derive(Debug)]
struct Shared {
    tcp: Socket,
    /// Hears ICMP errors alone: the kernel answers pings.
    icmp: Socket,
    interface: Interface,
    index: u32,
    /// In force until both halves are dropped.
    #[expect(dead_code, reason = "it is kept to be dropped")]
    rule: Option<Rule>,
}

impl Shared {
    /// The facts about the link now.
    ///
    /// # Errors
    /// `ENODEV` when the interface is gone.
    fn link(&self) -> io::Result<Link> {
        let link = link_of(self.tcp.as_fd(), Request::by_index(self.tcp.as_fd(), self.index)?, Medium::Ip)?;
        // The kernel has probed the address. What it has merged, and what comes from this host, has a partial checksum.
        Ok(link.with_sharing(false).with_trusted_partial(true))
    }

    /// Waits until an interface that has come up sends.
    fn settle(&self) {
        settle(self.tcp.as_fd(), self.index);
    }
}

/// A raw socket that gets the packets of `protocol` for `address`.
fn socket(address: Ipv4Addr, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(address, 0).into())?;
    Ok(socket)
}

fn prepare_tcp(socket: Socket) -> io::Result<Socket> {
    socket.set_header_included_v4(true)?;
    socket.set_mark(RawIp::MARK)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // The path MTU is the stack's to find out: the kernel's idea of it would fragment or refuse what the stack sends.
    option::set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    Ok(socket)
}

fn prepare_icmp(socket: Socket) -> io::Result<Socket> {
    option::set(socket.as_fd(), libc::SOL_RAW, ICMP_FILTER, !ICMP_ERRORS)?;
    Ok(socket)
}

fn explain(error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "it needs CAP_NET_RAW, and CAP_NET_ADMIN before Linux 5.17: sudo setcap cap_net_raw,cap_net_admin+ep PROGRAM"
        }
        _ => "what a raw socket needs is in raw(7)",
    };
    io::Error::new(error.kind(), format!("opening a raw IP socket: {error}; {remedy}"))
}

/// The errors of an interface that is down or gone.
const FALLEN: &[libc::c_int] = &[libc::ENETDOWN, libc::ENODEV];

/// What may wait in the socket of segments, in bytes of memory; the system's `rmem_max` may allow less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The option that names the ICMP types that a raw socket does not hear (linux/icmp.h).
const ICMP_FILTER: libc::c_int = 1;

/// Destination unreachable, time exceeded, parameter problem (RFC 792), a bit each.
const ICMP_ERRORS: libc::c_int = 1 << 3 | 1 << 11 | 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_used_are_refused() {
        let refusal = |address: &str| RawIp::open(address.parse().expect("an address")).expect_err("refused");
        assert_eq!(refusal("::1").kind(), io::ErrorKind::Unsupported);
        let error = refusal("192.0.2.1");
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("ip address add 192.0.2.1/24"), "{error}");
    }

    #[test]
    fn missing_privilege_is_named() {
        let error = explain(&io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("setcap cap_net_raw,cap_net_admin+ep"), "{error}");
    }
}
