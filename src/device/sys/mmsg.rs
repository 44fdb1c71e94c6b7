//! Frames out of many pieces and into fresh memory: `sendmmsg` and `recvmsg`.

use super::check;
use bytes::BytesMut;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many messages one call sends.
pub(in crate::device) const BATCH_MAX: usize = 16;

/// Sends the first [`BATCH_MAX`] of `messages`, each gathered from its slices, without blocking. Says how many left; an error is about the first.
pub(in crate::device) fn send<'a>(socket: BorrowedFd<'_>, messages: impl Iterator<Item = &'a [IoSlice<'a>]>) -> io::Result<usize> {
    // SAFETY: `mmsghdr` is integers and raw pointers, for all of which zero is a value.
    let mut headers: [libc::mmsghdr; BATCH_MAX] = unsafe { mem::zeroed() };
    let mut len = 0;
    for (header, slices) in headers.iter_mut().zip(messages) {
        header.msg_hdr.msg_iov = slices.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_iovlen = slices.len();
        len += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `len` headers are filled in. Each points to as many `iovec`s as it says, since `IoSlice` is ABI compatible with
    // `iovec`, and each of those to initialised bytes, all borrowed for 'a, which outlives this call. The kernel writes to no `iovec` and no
    // payload, only to the headers, which live on this frame; names and control data are null with length zero.
    check(unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), len, flags) })
}

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) struct Arrival {
    /// Bytes of the message, those in front included.
    pub(in crate::device) len: usize,
    /// The message was longer than there was room; the rest of it is lost.
    pub(in crate::device) is_truncated: bool,
}

/// Receives one message without blocking: its first bytes fill `front`, the others are appended to the spare capacity of `buffer`.
pub(in crate::device) fn receive(socket: BorrowedFd<'_>, front: &mut [u8], buffer: &mut BytesMut) -> io::Result<Arrival> {
    let spare = buffer.spare_capacity_mut();
    let room = front.len() + spare.len();
    let mut slices = [
        libc::iovec { iov_base: front.as_mut_ptr().cast(), iov_len: front.len() },
        libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len() },
    ];
    // SAFETY: `msghdr` is integers and raw pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = slices.as_mut_ptr();
    header.msg_iovlen = slices.len();
    // SAFETY: the header points to two `iovec`s on this frame, and they to `front` and to the spare capacity of `buffer`, both borrowed
    // mutably until the end of this function and untouched meanwhile; the kernel writes no more than their lengths and reads nothing. Name
    // and control data are null with length zero.
    let answer = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let len = usize::try_from(answer).map_err(|_| io::Error::last_os_error())?;
    assert!(len <= room, "the kernel wrote no more than it was given room for");
    let end = buffer.len() + len.saturating_sub(front.len());
    // SAFETY: the kernel has filled `front`, then the `len - front.len()` first bytes of the spare capacity, which begins at the buffer's
    // length; that they fit is asserted above.
    unsafe { buffer.set_len(end) };
    Ok(Arrival { len, is_truncated: header.msg_flags & libc::MSG_TRUNC != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    fn slices<'a>(pieces: &'a [&'a [u8]]) -> Vec<IoSlice<'a>> {
        pieces.iter().map(|piece| IoSlice::new(piece)).collect()
    }

    #[test]
    fn gathered_batch_arrives_message_by_message() {
        let (left, right) = UnixDatagram::pair().expect("a pair");
        let (first, second) = (slices(&[b"10-bytes..", b"one", b"", b"two"]), slices(&[b"only front"]));
        assert_eq!(send(left.as_fd(), [&first[..], &second[..]].into_iter()).expect("room"), 2);

        let (mut front, mut buffer) = ([0; 10], BytesMut::with_capacity(100));
        buffer.extend_from_slice(b"kept ");
        let arrival = receive(right.as_fd(), &mut front, &mut buffer).expect("a message");
        assert_eq!(arrival, Arrival { len: 16, is_truncated: false });
        assert_eq!((&front, &buffer[..]), (b"10-bytes..", &b"kept onetwo"[..]));

        let arrival = receive(right.as_fd(), &mut front, &mut buffer).expect("a message");
        assert_eq!((arrival.len, &front, &buffer[..]), (10, b"only front", &b"kept onetwo"[..]));
        let error = receive(right.as_fd(), &mut front, &mut buffer).expect_err("nothing more");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn message_without_room_is_marked() {
        let (left, right) = UnixDatagram::pair().expect("a pair");
        left.send(&[7; 100]).expect("room");
        let mut buffer = BytesMut::with_capacity(40);
        let arrival = receive(right.as_fd(), &mut [], &mut buffer).expect("a message");
        assert!(arrival.is_truncated);
        assert_eq!(&buffer[..], [7; 40]);
    }

    #[test]
    fn batch_has_an_end() {
        let (left, right) = UnixDatagram::pair().expect("a pair");
        let piece = slices(&[b"x"]);
        let many = vec![&piece[..]; BATCH_MAX + 5];
        let sent = send(left.as_fd(), many.into_iter()).expect("room");
        assert!((1..=BATCH_MAX).contains(&sent));
        assert!(receive(right.as_fd(), &mut [], &mut BytesMut::with_capacity(8)).is_ok());
    }
}
