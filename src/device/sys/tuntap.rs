//! What a TUN/TAP descriptor needs beyond an interface request: its settings, and frames into fresh memory.

use super::check;
use super::mmsg::Arrival;
use bytes::BytesMut;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Tells the kernel what it need not do to packets for this descriptor (`TUN_F_…`).
pub(in crate::device) fn set_offload(tun: BorrowedFd<'_>, offloads: libc::c_uint) -> io::Result<()> {
    // SAFETY: the argument is a number; the kernel touches no memory of ours. A descriptor that is no TUN/TAP gets an error.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) }).map(drop)
}

/// Sets the length in bytes of the virtio-net header before each frame.
pub(in crate::device) fn set_header_len(tun: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let len = libc::c_int::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads one integer at the pointer, which is `len`, alive until the call ends. A descriptor that is no TUN/TAP gets
    // an error.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) }).map(drop)
}

/// Reads one frame from a descriptor that doesn't block: its first bytes fill `front`, the others are appended to the spare capacity of
/// `buffer`. A frame that leaves no room is taken as truncated, since the kernel doesn't say.
pub(in crate::device) fn receive(tun: BorrowedFd<'_>, front: &mut [u8], buffer: &mut BytesMut) -> io::Result<Arrival> {
    let spare = buffer.spare_capacity_mut();
    let room = front.len() + spare.len();
    let slices = [
        libc::iovec { iov_base: front.as_mut_ptr().cast(), iov_len: front.len() },
        libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len() },
    ];
    // SAFETY: two `iovec`s on this frame point to `front` and to the spare capacity of `buffer`, both borrowed mutably until the end of this
    // function and untouched meanwhile; the kernel writes no more than their lengths and reads nothing.
    let answer = unsafe { libc::readv(tun.as_raw_fd(), slices.as_ptr(), 2) };
    let len = usize::try_from(answer).map_err(|_| io::Error::last_os_error())?;
    assert!(len <= room, "the kernel wrote no more than it was given room for");
    let end = buffer.len() + len.saturating_sub(front.len());
    // SAFETY: the kernel has filled `front`, then the `len - front.len()` first bytes of the spare capacity, which begins at the buffer's
    // length; that they fit is asserted above.
    unsafe { buffer.set_len(end) };
    Ok(Arrival { len, is_truncated: len == room })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn frame_fills_the_front_first() {
        let (left, right) = UnixDatagram::pair().expect("a pair");
        right.set_nonblocking(true).expect("a flag");
        left.send(b"0123456789frame").expect("room");
        let (mut front, mut buffer) = ([0; 10], BytesMut::with_capacity(40));
        buffer.extend_from_slice(b"kept ");
        let arrival = receive(right.as_fd(), &mut front, &mut buffer).expect("a frame");
        assert_eq!(arrival, Arrival { len: 15, is_truncated: false });
        assert_eq!((&front, &buffer[..]), (b"0123456789", &b"kept frame"[..]));
        let error = receive(right.as_fd(), &mut front, &mut buffer).expect_err("nothing more");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

        left.send(&[7; 100]).expect("room");
        let mut short = BytesMut::with_capacity(20);
        assert!(receive(right.as_fd(), &mut front, &mut short).expect("a frame").is_truncated);
        assert_eq!(&short[..], [7; 20]);
    }

    #[test]
    fn socket_takes_no_settings() {
        let socket = UnixDatagram::unbound().expect("a socket");
        assert!(set_offload(socket.as_fd(), 1).is_err() && set_header_len(socket.as_fd(), 10).is_err());
    }
}
