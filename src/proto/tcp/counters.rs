//! What connections count, summed over all of them. Where Linux counts the same, the comment names its counter in
//! `/proc/net/{snmp,netstat}`.

/// The sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Segments sent again (`RetransSegs`).
    pub retransmits: u64,
    /// Fast retransmits begun (`TCPFastRetrans`, one per loss event).
    pub fast_retransmits: u64,
    /// Retransmission timers that ran out (`TCPTimeouts`).
    pub timeouts: u64,
    /// Challenge ACKs sent (`TCPChallengeACK`).
    pub challenge_acks: u64,
    /// Challenge ACKs, and answers to data outside the window, not sent because of their limit (`TCPACKSkippedChallenge`).
    pub challenge_acks_suppressed: u64,
    /// Segments out of order that were kept (`TCPOFOQueue`).
    pub out_of_order: u64,
    /// Segments out of order dropped because as many ranges as may be were there (`TCPOFODrop`).
    pub out_of_order_dropped: u64,
    /// Acknowledgments that were put off and then sent by their timer (`DelayedACKs`).
    pub delayed_acks: u64,
    /// Keepalive probes sent (`TCPKeepAlive`).
    pub keepalive_probes: u64,
    /// Zero-window probes sent (`TCPWinProbe`).
    pub window_probes: u64,
}
