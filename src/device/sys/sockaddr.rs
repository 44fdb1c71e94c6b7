//! Binding a packet socket to an interface (packet(7)).

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Binds a packet socket to the interface with this index, for frames of every protocol. From here on frames come in.
pub(in crate::device) fn bind_to_interface(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::sa_family_t::try_from(libc::AF_PACKET).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_protocol: ALL_PROTOCOLS.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads `len` bytes at the pointer, which are `address`, alive until the call ends. A descriptor of another kind gets
    // an error.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// Every protocol (`ETH_P_ALL`), as a packet socket's address has it.
const ALL_PROTOCOLS: u16 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn other_sockets_are_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        assert!(bind_to_interface(socket.as_fd(), 1).is_err());
    }
}
