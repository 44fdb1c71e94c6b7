//! What an engine counts. Every drop has a reason with a name, every bound a counter for when it bites.
//!
//! Counters only grow, and belong to one engine; no answer to a peer depends on one (a shared counter that a peer can observe is a side
//! channel).

pub use super::neighbor::Counters as NeighborCounters;
pub use super::time_wait::TimeWaitCounters;
pub use crate::proto::tcp::buffer::blocks::PoolCounters;
pub use crate::proto::tcp::counters::Counters;

/// Declares the reasons once: as an enum, as a list and as names.
macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $reason:ident = $name:literal,)+) => {
        /// Why a frame, packet or segment went no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DropReason {
            $($(#[doc = $doc])+ $reason,)+
        }

        impl DropReason {
            /// All of them, in the order of their names.
            pub const ALL: &[Self] = &[$(Self::$reason),+];

            /// The reason's name, in kebab-case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// The accept queue of the listener is full.
    AcceptQueueFull = "accept-queue-full",
    /// An ARP packet that is malformed or claims an address it can't have.
    BadArp = "bad-arp",
    /// An Ethernet header that is cut off.
    BadEthernet = "bad-ethernet",
    /// An ICMP message that is malformed, or quotes nothing of ours.
    BadIcmp = "bad-icmp",
    /// The IPv4 header's checksum is wrong.
    BadIpChecksum = "bad-ip-checksum",
    /// An IP header that is malformed or whose lengths lie.
    BadIpHeader = "bad-ip-header",
    /// A message of neighbour or listener discovery that is malformed or came from beyond the link.
    BadNdp = "bad-ndp",
    /// The TCP checksum is wrong.
    BadTcpChecksum = "bad-tcp-checksum",
    /// A TCP header that is malformed.
    BadTcpHeader = "bad-tcp-header",
    /// There are as many connections as may be.
    ConnectionsFull = "connections-full",
    /// More IPv6 extension headers than anybody needs, or one in the wrong place.
    ExtensionChain = "extension-chain",
    /// A fragment: reassembly is off.
    Fragment = "fragment",
    /// A source that is a group: multicast, broadcast, or the broadcast address of a network of ours.
    GroupSource = "group-source",
    /// The last ACK of a handshake that acknowledges something else.
    HandshakeAck = "handshake-ack",
    /// Flags that no sane sender combines.
    IllegalFlags = "illegal-flags",
    /// The length in an IP header is shorter than the header or longer than what came.
    IpLength = "ip-length",
    /// Source and destination are the same address of ours.
    Land = "land",
    /// The link is down or there is none.
    LinkDown = "link-down",
    /// A source in 127.0.0.0/8 or ::1, which no wire carries.
    LoopbackSource = "loopback-source",
    /// An IPv4-mapped IPv6 address on the wire.
    MappedAddress = "mapped-address",
    /// A segment of an established connection without ACK.
    NoAck = "no-ack",
    /// A segment for no connection and no listener.
    NoSocket = "no-socket",
    /// Somebody else's address.
    NotForUs = "not-for-us",
    /// An acknowledgment of what was never sent, or is too old (RFC 5961 §5).
    OutsideAck = "outside-ack",
    /// Sequence numbers outside the window.
    OutsideWindow = "outside-window",
    /// A source that is an address of ours: somebody else uses it, or says so.
    OwnSource = "own-source",
    /// A packet for others, of which too many wait to be taken.
    PassthroughFull = "passthrough-full",
    /// A timestamp from the past (RFC 7323 §5).
    Paws = "paws",
    /// An answer would have been one too many.
    RateLimited = "rate-limited",
    /// A source in 0.0.0.0/8 or 240.0.0.0/4, or the unspecified address.
    ReservedSource = "reserved-source",
    /// A reset that is not exactly in place (RFC 5961 §3), or in TIME-WAIT (RFC 1337).
    Reset = "reset",
    /// A source route with hops left (RFC 5095, RFC 7126 §4.3).
    SourceRoute = "source-route",
    /// The SYN cache has no room.
    SynCacheFull = "syn-cache-full",
    /// A SYN within a connection (RFC 5961 §4).
    SynInConnection = "syn-in-connection",
    /// The listener has as many half-open connections as its backlog.
    SynQueueFull = "syn-queue-full",
    /// A segment for a connection in TIME-WAIT that asks nothing new.
    TimeWait = "time-wait",
    /// Timestamps were negotiated, and a segment has none (RFC 7323 §3.2).
    TimestampMissing = "timestamp-missing",
    /// An EtherType that is neither IP nor ARP.
    UnknownEtherType = "unknown-ether-type",
    /// Neither TCP nor ICMP.
    UnknownProtocol = "unknown-protocol",
    /// Data for a connection that nobody reads any more.
    Unread = "unread",
    /// A frame with a VLAN tag, which the link ought to have taken off.
    VlanTag = "vlan-tag",
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Drops by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drops {
    counts: [u64; DropReason::ALL.len()],
}

impl Drops {
    /// Counts one.
    pub(crate) fn count(&mut self, reason: DropReason) {
        self.counts[reason as usize] += 1;
    }

    /// How many there were for this reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.counts[reason as usize]
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().copied().zip(self.counts)
    }
}

impl Default for Drops {
    fn default() -> Self {
        Self { counts: [0; DropReason::ALL.len()] }
    }
}

/// The counters of an engine. Where Linux counts the same, the comment names its counter in `/proc/net/{snmp,netstat}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames taken in.
    pub frames_in: u64,
    /// Frames handed to the link or to oneself.
    pub frames_out: u64,
    /// Frames taken in that stood for more than one segment.
    pub super_frames_in: u64,
    /// Frames handed out that stood for more than one segment.
    pub super_frames_out: u64,
    /// Frames to oneself; they count neither as in nor as out.
    pub frames_looped: u64,
    /// TCP segments taken in (`InSegs`).
    pub segments_in: u64,
    /// TCP segments handed out, without retransmissions' second count (`OutSegs`).
    pub segments_out: u64,
    /// Segments of connections that went nowhere: the neighbour does not answer, or another host has our address.
    pub segments_unheard: u64,
    /// Payload bytes taken in order.
    pub bytes_in: u64,
    /// Payload bytes sent for the first time.
    pub bytes_out: u64,
    /// Resets that ended or refused something (`EstabResets`, `AttemptFails`).
    pub resets_in: u64,
    /// Resets sent (`OutRsts`).
    pub resets_out: u64,
    /// Resets that would have been too many in a second.
    pub resets_suppressed: u64,
    /// ICMP errors not sent because their source had its share.
    pub icmp_errors_suppressed: u64,
    /// Answers without a socket (resets, SYN,ACKs, ARP, echo replies) that had no room or no way.
    pub replies_dropped: u64,
    /// ARP packets and neighbour advertisements in which another host claims an address of ours.
    pub address_conflicts: u64,
    /// Announcements that answered such a claim.
    pub address_defences: u64,
    /// Reports of the IPv6 groups that this host listens to.
    pub listener_reports: u64,
    /// Connections begun by this side (`ActiveOpens`).
    pub active_opens: u64,
    /// Handshakes completed that a peer began (`PassiveOpens`).
    pub passive_opens: u64,
    /// Handshakes that failed (`AttemptFails`).
    pub failed_opens: u64,
    /// SYNs taken in for a listener.
    pub syns_in: u64,
    /// SYN,ACKs sent again (`TCPSynRetrans`).
    pub syn_ack_retransmits: u64,
    /// SYNs answered by a cookie (`SyncookiesSent`).
    pub syn_cookies_sent: u64,
    /// Cookies that came back (`SyncookiesRecv`).
    pub syn_cookies_received: u64,
    /// Acknowledgments that could have brought a cookie and brought none that is valid (`SyncookiesFailed`).
    pub syn_cookies_failed: u64,
    /// Half-open connections given up.
    pub half_open_timeouts: u64,
    /// SYNs and last ACKs that found an accept queue full (`ListenOverflows`).
    pub listen_overflows: u64,
    /// SYNs and last ACKs that a listener dropped for whatever reason (`ListenDrops`).
    pub listen_drops: u64,
    /// Connections that went to TIME-WAIT (`TW`).
    pub time_wait: u64,
    /// Connections given up: no acknowledgment, no keepalive answer, or user timeout (`TCPAbortOnTimeout`).
    pub aborts_on_timeout: u64,
    /// Connections and handshakes that ended because the link is gone for good.
    pub aborts_on_link_gone: u64,
    /// Packets for others that were kept for whoever wants them.
    pub packets_passed: u64,
    /// Path MTUs lowered because a router said so.
    pub path_mtu_updates: u64,
    /// Path MTUs forgotten before their time, for another destination's.
    pub path_mtu_evictions: u64,
    /// What connections count.
    pub tcp: Counters,
    /// Drops by reason.
    pub drops: Drops,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_sorted_and_lead_to_their_counter() {
        let names: Vec<String> = DropReason::ALL.iter().map(ToString::to_string).collect();
        assert!(names.is_sorted_by(|left, right| left < right), "{names:?}");
        let mut drops = Drops::default();
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let kebab: String = format!("{reason:?}")
                .char_indices()
                .flat_map(|(at, letter)| (at > 0 && letter.is_uppercase()).then_some('-').into_iter().chain(letter.to_lowercase()))
                .collect();
            assert_eq!(reason.name(), kebab);
            (0..=index).for_each(|_| drops.count(*reason));
        }
        assert!(drops.iter().zip(1..).all(|((reason, count), expected)| count == expected && drops.of(reason) == expected));
        assert_eq!(drops.total(), (1..=DropReason::ALL.len() as u64).sum());
    }
}
