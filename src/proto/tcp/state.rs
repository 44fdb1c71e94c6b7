//! The eleven states by name (RFC 9293 §3.3.2). No code branches on them: they are derived for people, tests and `netstat`.

/// A connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No connection.
    Closed,
    /// Waiting for a SYN.
    Listen,
    /// Our SYN is on its way.
    SynSent,
    /// SYNs have crossed; our SYN is not acknowledged yet.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// Our FIN is queued or on its way.
    FinWait1,
    /// Our FIN is acknowledged; they may still send.
    FinWait2,
    /// Their FIN has arrived; we may still send.
    CloseWait,
    /// Both FINs have crossed; ours is not acknowledged yet.
    Closing,
    /// Our FIN answers theirs and is not acknowledged yet.
    LastAck,
    /// Done; the 4-tuple rests until old segments have died.
    TimeWait,
}

impl State {
    /// Every state, in the RFC's order.
    pub const ALL: [Self; 11] = [
        Self::Listen,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
        Self::Closed,
    ];

    /// The RFC's name: `FIN-WAIT-1`.
    #[must_use]
    pub const fn rfc_name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        }
    }

    /// The name that `netstat` prints: `FIN_WAIT1`, `SYN_RECV`.
    #[must_use]
    pub const fn netstat_name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSE",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::CloseWait => "CLOSE_WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
        }
    }
}

/// The RFC's name.
impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.rfc_name())
    }
}
