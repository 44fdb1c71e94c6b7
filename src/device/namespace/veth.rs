//! A pair of virtual interfaces: what goes into one comes out of the other.

use super::super::sys::ioctl::{Request, ethtool};
use super::netlink;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::{fs, io};

/// A pair of virtual interfaces in the caller's network namespace. Both go when one does, or with the namespace; dropping the value leaves
/// them.
#[derive(Debug)]
pub struct Veth {
    names: [String; 2],
    socket: UnixDatagram,
}

/// A setting with two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

impl Veth {
    /// Creates the interfaces `first` and `second` with an MTU of `mtu` bytes, and sets both up. Neither has an address, and the kernel gives
    /// neither an IPv6 address of its own.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) for a name that is taken, [`PermissionDenied`](io::ErrorKind::PermissionDenied)
    /// without `CAP_NET_ADMIN`.
    pub fn create(first: &str, second: &str, mtu: u16) -> io::Result<Self> {
        netlink::create_veth([first, second], u32::from(mtu))?;
        let veth = Self { names: [first.into(), second.into()], socket: UnixDatagram::unbound()? };
        for name in &veth.names {
            veth.forget_link_local(name)?;
            veth.up(name)?;
        }
        Ok(veth)
    }

    /// Moves an interface into the network namespace of the process `pid`, such as one that began [beside](super::begin_beside) this one. There it
    /// is down and has no address until it is [adopted](Self::adopt); it goes with that namespace, and its peer with it.
    ///
    /// # Errors
    /// As [`up`](Self::up); for a process that is no more as well.
    pub fn give(&self, name: &str, pid: u32) -> io::Result<()> {
        netlink::move_link(request(name)?.index(self.socket.as_fd())?, pid)
    }

    /// Takes over an interface that another process has [given](Self::give) to this one, and sets it up.
    ///
    /// # Errors
    /// As [`up`](Self::up): it must be there already.
    pub fn adopt(name: &str) -> io::Result<Self> {
        let veth = Self { names: [name.into(), name.into()], socket: UnixDatagram::unbound()? };
        veth.forget_link_local(name)?;
        veth.up(name)?;
        Ok(veth)
    }

    /// Gives an interface an address, such as `10.9.0.1/24` or `fd09::1/64`, usable at once.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no address with a prefix length.
    pub fn address(&self, name: &str, cidr: &str) -> io::Result<()> {
        let parsed = cidr.split_once('/').and_then(|(address, prefix)| Some((address.parse::<IpAddr>().ok()?, prefix.parse().ok()?)));
        let Some((address, prefix)) = parsed else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{cidr:?} is no address with a prefix length")));
        };
        netlink::add_address(request(name)?.index(self.socket.as_fd())?, address, prefix)
    }

    /// Sets an interface up. Once both are, frames pass.
    ///
    /// # Errors
    /// [`io::Error`] as the system gives it, for an unknown interface for example.
    pub fn up(&self, name: &str) -> io::Result<()> {
        self.change_flags(name, |flags| flags | IS_UP)?;
        // The kernel attaches the queue of an interface some time after its carrier has come, and loses in silence what is sent before;
        // asked for the carrier, it does so at once.
        self.names.iter().try_for_each(|name| request(name)?.ethtool(self.socket.as_fd(), ethtool::GET_LINK).map(drop))
    }

    /// Sets an interface down. The other one loses its carrier.
    ///
    /// # Errors
    /// As [`up`](Self::up).
    pub fn down(&self, name: &str) -> io::Result<()> {
        self.change_flags(name, |flags| flags & !IS_UP)
    }

    /// Lets an interface complete checksums and take super-packets, or not.
    ///
    /// # Errors
    /// As [`up`](Self::up).
    pub fn set_offloads(&self, name: &str, switch: Switch) -> io::Result<()> {
        // Super-packets depend on checksums, so those are first to come and last to go.
        let mut commands = [ethtool::GET_TX_CHECKSUM, ethtool::GET_GSO, ethtool::GET_TSO];
        if switch == Switch::Off {
            commands.reverse();
        }
        let request = request(name)?;
        commands.into_iter().try_for_each(|get| request.set_ethtool(self.socket.as_fd(), get + 1, u32::from(switch == Switch::On)))
    }

    /// Changes the MTU of an interface, in bytes.
    ///
    /// # Errors
    /// As [`up`](Self::up); [`InvalidInput`](io::ErrorKind::InvalidInput) for an MTU that the interface can't have.
    pub fn set_mtu(&self, name: &str, mtu: u16) -> io::Result<()> {
        request(name)?.set_mtu(self.socket.as_fd(), u32::from(mtu))
    }

    /// Keeps the kernel from giving an interface an IPv6 address and from speaking of it, so that a stack's frames are the only ones.
    fn forget_link_local(&self, name: &str) -> io::Result<()> {
        match fs::write(format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode"), "1") {
            // No IPv6 here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            answer => answer,
        }
    }

    /// Deletes both interfaces.
    ///
    /// # Errors
    /// As [`up`](Self::up).
    pub fn delete(self) -> io::Result<()> {
        let [first, _] = &self.names;
        self.remove(first)
    }

    /// Deletes an interface, which may be another one; of a pair, both.
    ///
    /// # Errors
    /// As [`up`](Self::up).
    pub fn remove(&self, name: &str) -> io::Result<()> {
        netlink::delete_link(request(name)?.index(self.socket.as_fd())?)
    }

    fn change_flags(&self, name: &str, change: impl FnOnce(u16) -> u16) -> io::Result<()> {
        let request = request(name)?;
        let flags = request.flags(self.socket.as_fd())?;
        request.set_flags(self.socket.as_fd(), change(flags))
    }
}

fn request(name: &str) -> io::Result<Request> {
    Request::new(name).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no interface can be called {name:?}")))
}

/// The flag of an interface that is up (`IFF_UP`).
const IS_UP: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{host, namespace};

    #[test]
    fn pair_comes_with_addresses_and_goes() {
        namespace::test("device::namespace::veth::tests::pair_comes_with_addresses_and_goes", || {
            let veth = Veth::create("syn0", "syn1", 1400).expect("a pair");
            assert_eq!(host::interface_names().expect("a list"), ["lo", "syn0", "syn1"]);
            for cidr in ["10.9.0.1/24", "fd09::1/64"] {
                veth.address("syn0", cidr).expect("an address");
                let address = cidr.split_once('/').expect("a prefix").0;
                assert_eq!(host::owner_of(address.parse().expect("an address")).expect("a list"), Some("syn0".into()));
                std::net::UdpSocket::bind((address, 0)).expect("usable at once");
            }
            assert_eq!(request("syn1").and_then(|request| request.mtu(veth.socket.as_fd())).expect("an MTU"), 1400);
            veth.set_mtu("syn1", 1280).expect("a veth takes it");
            assert_eq!(request("syn1").and_then(|request| request.mtu(veth.socket.as_fd())).expect("an MTU"), 1280);
            assert_eq!(veth.set_mtu("syn1", 20).expect_err("below the least").kind(), io::ErrorKind::InvalidInput);
            assert_eq!(Veth::create("syn0", "syn2", 1500).expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
            veth.delete().expect("they are there");
            assert_eq!(host::interface_names().expect("a list"), ["lo"]);
        });
    }

    #[test]
    fn two_kernels_speak_over_a_pair() {
        const NAME: &str = "device::namespace::veth::tests::two_kernels_speak_over_a_pair";
        const BESIDE: &str = "SYNFIN_TEST_BESIDE";
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        if std::env::var_os(BESIDE).is_some() {
            // A byte says that the interface is there.
            io::stdin().read_exact(&mut [0]).expect("the signal");
            assert_eq!(host::interface_names().expect("a list"), ["lo", "syn1"]);
            let veth = Veth::adopt("syn1").expect("an end");
            veth.address("syn1", "10.9.0.2/24").expect("an address");
            TcpStream::connect("10.9.0.1:7").expect("the other kernel listens").write_all(b"hello").expect("room");
            return;
        }
        namespace::test(NAME, || {
            let veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
            veth.address("syn0", "10.9.0.1/24").expect("an address");
            let listener = TcpListener::bind("10.9.0.1:7").expect("a free port");
            let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
            command.args([NAME, "--exact", "--test-threads=1"]).env(BESIDE, "1").stdin(std::process::Stdio::piped());
            namespace::begin_beside(&mut command);
            let mut child = command.spawn().expect("root inside");
            veth.give("syn1", child.id()).expect("it lives");
            assert_eq!(host::interface_names().expect("a list"), ["lo", "syn0"]);
            child.stdin.take().expect("a pipe").write_all(b"!").expect("it listens");
            let (mut stream, peer) = listener.accept().expect("it calls");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("UTF-8");
            assert_eq!((text.as_str(), peer.ip().to_string().as_str()), ("hello", "10.9.0.2"));
            assert!(child.wait().expect("it ends").success());
        });
    }

    #[test]
    fn offloads_and_flags_follow_their_switch() {
        namespace::test("device::namespace::veth::tests::offloads_and_flags_follow_their_switch", || {
            let veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
            let request = request("syn0").expect("a name");
            let value = |command| request.ethtool(veth.socket.as_fd(), command).expect("an answer");
            for (switch, expected) in [(Switch::Off, 0), (Switch::On, 1)] {
                veth.set_offloads("syn0", switch).expect("veth has them");
                assert_eq!([ethtool::GET_TX_CHECKSUM, ethtool::GET_TSO, ethtool::GET_GSO].map(value), [expected; 3]);
            }
            let is_up = || request.flags(veth.socket.as_fd()).expect("flags") & IS_UP != 0;
            veth.down("syn0").expect("it is up");
            assert!(!is_up());
            veth.up("syn0").expect("it is down");
            assert!(is_up());
        });
    }
}
