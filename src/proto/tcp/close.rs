//! How connections end, and what the application's calls answer.
//!
//! A [`CloseReason`] is sticky: it is set once, says who ended the connection, and outlives it. The mapping to `errno` stands at the crate's
//! edge, not here.

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// We aborted it.
    #[error("the connection was aborted locally")]
    Aborted,
    /// Another host on the link has the address that the connection was to come from.
    #[error("another host has the local address")]
    AddressInUse,
    /// Both sides closed in good order.
    #[error("the connection was closed by both sides")]
    Finished,
    /// The next hop, or a router, said that the host cannot be reached.
    #[error("the host cannot be reached")]
    HostUnreachable,
    /// Keepalive probes went unanswered.
    #[error("keepalive probes went unanswered")]
    KeepaliveTimeout,
    /// The link that it went over is gone for good.
    #[error("the network interface is gone")]
    NetworkDown,
    /// There is no route, or a router said so.
    #[error("the network cannot be reached")]
    NetworkUnreachable,
    /// A router said that an administrator forbids it.
    #[error("an administrator forbids the connection")]
    Prohibited,
    /// The host said that it does not speak TCP.
    #[error("the host does not speak TCP")]
    ProtocolUnreachable,
    /// The peer answered our SYN with a reset.
    #[error("the peer refused the connection")]
    Refused,
    /// The peer reset the connection.
    #[error("the peer reset the connection")]
    Reset,
    /// The peer reset the connection after it had sent FIN: what we write has no reader (Linux: EPIPE).
    #[error("the peer closed the connection and reset it")]
    ResetAfterFin,
    /// Retransmissions, or the handshake's, went unanswered.
    #[error("retransmissions went unanswered")]
    RetransmissionTimeout,
    /// Data stayed unacknowledged for longer than the user timeout.
    #[error("data stayed unacknowledged for longer than the user timeout")]
    UserTimeout,
}

/// Why `listen` failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another listener has the address and port.
    #[error("the address is in use")]
    AddressInUse,
    /// The address is not ours.
    #[error("the address is not one of this stack's")]
    AddressNotAvailable,
    /// No ephemeral port is free.
    #[error("no ephemeral port is free")]
    NoPorts,
    /// The configured number of sockets exists already.
    #[error("too many sockets")]
    TooMany,
}

/// Why `connect` failed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The 4-tuple is in use.
    #[error("the connection exists already")]
    AddressInUse,
    /// The local address is not ours.
    #[error("the local address is not one of this stack's")]
    AddressNotAvailable,
    /// Local and remote address are of different families.
    #[error("local and remote address are of different families")]
    FamilyMismatch,
    /// Nobody can be at that address: broadcast, multicast (RFC 9293 MUST-46), or another host's 127/8.
    #[error("no connection can be made to that address")]
    InvalidRemote,
    /// There is no route, or the link is gone for good.
    #[error("the network cannot be reached")]
    NetworkUnreachable,
    /// No ephemeral port is free towards this destination.
    #[error("no ephemeral port is free")]
    NoPorts,
    /// Port 0, where nobody listens.
    #[error("port 0 refuses every connection")]
    Refused,
    /// The configured number of connections exists already.
    #[error("too many connections")]
    TooMany,
}

/// Why `accept` has nothing to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The link is gone for good; told once. What this host connects to itself is accepted still.
    #[error("the network interface is gone")]
    NetworkDown,
    /// The socket is not a listener.
    #[error("the socket does not listen")]
    NotListening,
    /// No connection is waiting.
    #[error("no connection is waiting")]
    WouldBlock,
}

/// The answer to "is it connected?" while it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectedError {
    /// It never will be.
    #[error(transparent)]
    Closed(CloseReason),
    /// The socket is unknown or a listener.
    #[error("the socket is not a connection")]
    NotConnected,
    /// The handshake is under way.
    #[error("the handshake is under way")]
    WouldBlock,
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Our half is closed, or the end was reported before.
    #[error("the connection takes no more data")]
    BrokenPipe,
    /// The connection ended; reported once.
    #[error(transparent)]
    Closed(CloseReason),
    /// The socket is unknown or a listener.
    #[error("the socket is not a connection")]
    NotConnected,
    /// The send buffer is full, or the handshake is under way.
    #[error("the send buffer is full")]
    WouldBlock,
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The connection ended; reported once, after which reads find the end of the stream.
    #[error(transparent)]
    Closed(CloseReason),
    /// The socket is unknown or a listener.
    #[error("the socket is not a connection")]
    NotConnected,
    /// Nothing has arrived.
    #[error("nothing has arrived")]
    WouldBlock,
}

/// Why a half could not be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The socket is unknown, a listener, or no longer connected.
    #[error("the socket is not connected")]
    NotConnected,
}
