//! Socket options whose value is an integer, and the drop counter of a packet socket.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an option to an integer.
pub(in crate::device) fn set(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads at most `len` bytes at the pointer, which are `value`, alive until the call ends. An option that wants more
    // gets an error.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) }).map(drop)
}

/// Asks the interface with this index to let frames for a multicast Ethernet address in, as long as the socket is open.
pub(in crate::device) fn join_multicast(socket: BorrowedFd<'_>, index: u32, address: [u8; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = address;
    let request = libc::packet_mreq {
        mr_ifindex: index.cast_signed(),
        mr_type: u16::try_from(libc::PACKET_MR_MULTICAST).map_err(|_| io::ErrorKind::InvalidInput)?,
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    };
    let len = libc::socklen_t::try_from(size_of_val(&request)).map_err(|_| io::ErrorKind::InvalidInput)?;
    let value = (&raw const request).cast();
    // SAFETY: the kernel reads at most `len` bytes at the pointer, which are `request`, alive until the call ends.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, value, len) }).map(drop)
}

/// How many frames a packet socket's full receive queue has dropped since the last call.
pub(in crate::device) fn take_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // `struct tpacket_stats`: packets, drops.
    let mut statistics = [0u32; 2];
    let mut len = libc::socklen_t::try_from(size_of_val(&statistics)).map_err(|_| io::ErrorKind::InvalidInput)?;
    let value = (&raw mut statistics).cast();
    // SAFETY: the kernel writes at most `len` bytes at `value`, which are `statistics`, and one `socklen_t`; both live until the call ends.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut len) })?;
    Ok(statistics[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn option_is_set() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BROADCAST, 1).expect("a known option");
        assert!(socket.broadcast().expect("an answer"));
        assert!(take_drops(socket.as_fd()).is_err());
    }
}
