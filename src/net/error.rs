//! The one mapping from the engine's answers to `io::Error`: the numbers that Linux gives, and with them the kinds that tokio's users know.
//!
//! An error with an operating system's number allocates nothing.

use std::io;

use crate::proto::{AcceptError, CloseReason, ConnectError, ConnectedError, ListenError, RecvError, SendError, ShutdownError};

/// Why a connection ended, as the call that learns of it reports it.
pub(crate) fn closed(reason: CloseReason) -> io::Error {
    errno(match reason {
        CloseReason::Aborted => libc::ECONNABORTED,
        CloseReason::AddressInUse => libc::EADDRINUSE,
        CloseReason::Finished => libc::ENOTCONN,
        CloseReason::HostUnreachable => libc::EHOSTUNREACH,
        CloseReason::KeepaliveTimeout | CloseReason::RetransmissionTimeout | CloseReason::UserTimeout => libc::ETIMEDOUT,
        CloseReason::NetworkDown => libc::ENETDOWN,
        CloseReason::NetworkUnreachable => libc::ENETUNREACH,
        CloseReason::Prohibited => libc::EACCES,
        CloseReason::ProtocolUnreachable => libc::ENOPROTOOPT,
        CloseReason::Refused => libc::ECONNREFUSED,
        CloseReason::Reset => libc::ECONNRESET,
        CloseReason::ResetAfterFin => libc::EPIPE,
    })
}

pub(crate) fn accept(error: AcceptError) -> io::Error {
    match error {
        AcceptError::NetworkDown => errno(libc::ENETDOWN),
        AcceptError::NotListening => errno(libc::EINVAL),
        AcceptError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    }
}

pub(crate) fn connect(error: ConnectError) -> io::Error {
    errno(match error {
        ConnectError::AddressInUse => libc::EADDRINUSE,
        ConnectError::AddressNotAvailable | ConnectError::NoPorts => libc::EADDRNOTAVAIL,
        ConnectError::FamilyMismatch => libc::EAFNOSUPPORT,
        ConnectError::InvalidRemote | ConnectError::NetworkUnreachable => libc::ENETUNREACH,
        ConnectError::Refused => libc::ECONNREFUSED,
        ConnectError::TooMany => libc::ENOBUFS,
    })
}

pub(crate) fn connected(error: ConnectedError) -> io::Error {
    match error {
        ConnectedError::Closed(reason) => closed(reason),
        ConnectedError::NotConnected => not_connected(),
        ConnectedError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    }
}

pub(crate) fn listen(error: ListenError) -> io::Error {
    errno(match error {
        ListenError::AddressInUse | ListenError::NoPorts => libc::EADDRINUSE,
        ListenError::AddressNotAvailable => libc::EADDRNOTAVAIL,
        ListenError::TooMany => libc::ENOBUFS,
    })
}

pub(crate) fn receive(error: RecvError) -> io::Error {
    match error {
        RecvError::Closed(reason) => closed(reason),
        RecvError::NotConnected => not_connected(),
        RecvError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    }
}

pub(crate) fn send(error: SendError) -> io::Error {
    match error {
        SendError::BrokenPipe | SendError::NotConnected => errno(libc::EPIPE),
        SendError::Closed(reason) => closed(reason),
        SendError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    }
}

/// Closing what is closed already is no error, as with tokio.
pub(crate) const fn shutdown(result: Result<(), ShutdownError>) -> io::Result<()> {
    match result {
        Ok(()) | Err(ShutdownError::NotConnected) => Ok(()),
    }
}

pub(crate) fn not_connected() -> io::Error {
    errno(libc::ENOTCONN)
}

pub(crate) fn invalid() -> io::Error {
    errno(libc::EINVAL)
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_those_of_the_kernel() {
        let kinds = [
            (CloseReason::Aborted, io::ErrorKind::ConnectionAborted),
            (CloseReason::AddressInUse, io::ErrorKind::AddrInUse),
            (CloseReason::HostUnreachable, io::ErrorKind::HostUnreachable),
            (CloseReason::KeepaliveTimeout, io::ErrorKind::TimedOut),
            (CloseReason::NetworkDown, io::ErrorKind::NetworkDown),
            (CloseReason::NetworkUnreachable, io::ErrorKind::NetworkUnreachable),
            (CloseReason::Prohibited, io::ErrorKind::PermissionDenied),
            (CloseReason::Refused, io::ErrorKind::ConnectionRefused),
            (CloseReason::Reset, io::ErrorKind::ConnectionReset),
            (CloseReason::ResetAfterFin, io::ErrorKind::BrokenPipe),
            (CloseReason::RetransmissionTimeout, io::ErrorKind::TimedOut),
            (CloseReason::UserTimeout, io::ErrorKind::TimedOut),
        ];
        for (reason, kind) in kinds {
            assert_eq!(closed(reason).kind(), kind, "{reason:?}");
        }
        assert_eq!(listen(ListenError::AddressInUse).kind(), io::ErrorKind::AddrInUse);
        assert_eq!(connect(ConnectError::NoPorts).kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(send(SendError::NotConnected).kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(receive(RecvError::NotConnected).kind(), io::ErrorKind::NotConnected);
        assert_eq!(accept(AcceptError::NotListening).kind(), io::ErrorKind::InvalidInput);
    }
}
