//! A connection as values: what `ss -ti` would print, for ladders, `netstat`, tests and applications.

use std::time::Duration;

use super::connection::Connection;
use super::state::State;
use super::timers::TimerName;
use crate::proto::Instant;
use crate::proto::wire::SeqNum;

/// A snapshot of one connection. Sequence numbers are absolute; windows and queues are in bytes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Info {
    /// The RFC's state.
    pub state: State,
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// Their initial sequence number; zero before their SYN.
    pub irs: SeqNum,
    /// SND.UNA.
    pub snd_una: SeqNum,
    /// SND.NXT.
    pub snd_nxt: SeqNum,
    /// SND.WND.
    pub snd_wnd: u32,
    /// RCV.NXT.
    pub rcv_nxt: SeqNum,
    /// RCV.WND as announced.
    pub rcv_wnd: u32,
    /// Written and not acknowledged.
    pub send_queue: usize,
    /// Written and never sent.
    pub unsent: usize,
    /// Arrived and not read.
    pub receive_queue: usize,
    /// Arrived with something missing before it.
    pub out_of_order: usize,
    /// Memory charged to both buffers.
    pub memory: usize,
    /// Congestion window.
    pub cwnd: u32,
    /// Slow-start threshold.
    pub ssthresh: u32,
    /// Sent, not acknowledged and not believed lost.
    pub in_flight: u32,
    /// Smoothed round-trip time; zero before the first sample.
    pub srtt: Duration,
    /// Its variation.
    pub rttvar: Duration,
    /// The least round-trip time seen; none before the first sample.
    pub min_rtt: Option<Duration>,
    /// Retransmission time-out, back-off included.
    pub rto: Duration,
    /// Consecutive time-outs.
    pub retransmits: u32,
    /// Segments sent again, in total.
    pub total_retransmits: u64,
    /// Unanswered keepalive or window probes.
    pub probes: u32,
    /// Payload of a full-sized segment that we send, options taken off.
    pub mss: u16,
    /// What the peer announced.
    pub peer_mss: u16,
    /// Shift of the window that the peer announces; none without window scaling.
    pub send_scale: Option<u8>,
    /// Shift of the window that we announce; none without window scaling.
    pub receive_scale: Option<u8>,
    /// Timestamps are in use.
    pub timestamps: bool,
    /// SACK is in use.
    pub sack: bool,
    /// The timer that is running.
    pub timer: Option<(TimerName, Instant)>,
    /// Urgent bytes still to be read or to arrive (RFC 9293 MUST-33).
    pub urgent_left: u32,
    /// Payload bytes acknowledged by the peer.
    pub bytes_acknowledged: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Segments sent, super-packets counted by what they are cut into.
    pub segments_sent: u64,
    /// Segments received.
    pub segments_received: u64,
}

impl Info {
    pub(crate) fn of(connection: &Connection) -> Self {
        let Connection { snd, rcv, recovery, congestion, rtt, timers, counters, .. } = connection;
        Self {
            state: connection.state(),
            iss: snd.iss,
            irs: rcv.irs,
            snd_una: snd.una,
            snd_nxt: snd.nxt,
            snd_wnd: snd.window(),
            rcv_nxt: rcv.nxt,
            rcv_wnd: rcv.window(),
            send_queue: snd.queued_bytes() as usize,
            unsent: snd.unsent() as usize,
            receive_queue: rcv.readable(),
            out_of_order: rcv.out_of_order(),
            memory: snd.charge() + rcv.charge(),
            cwnd: congestion.window(),
            ssthresh: congestion.threshold(),
            in_flight: recovery.pipe(snd.flight()),
            srtt: rtt.srtt().unwrap_or_default(),
            rttvar: rtt.rttvar(),
            min_rtt: rtt.min_rtt(),
            rto: rtt.rto(),
            retransmits: connection.retransmits,
            total_retransmits: counters.retransmits,
            probes: connection.probes,
            mss: connection.segment_len_max(),
            peer_mss: connection.negotiated.mss,
            send_scale: connection.negotiated.scales.map(|scales| scales.send),
            receive_scale: connection.negotiated.scales.map(|scales| scales.receive),
            timestamps: connection.clock.is_some(),
            sack: connection.negotiated.sack,
            timer: timers.shown(),
            urgent_left: rcv.urgent_left(),
            bytes_acknowledged: counters.bytes_acknowledged,
            bytes_received: counters.bytes_received,
            segments_sent: counters.segments_sent,
            segments_received: counters.segments_received,
        }
    }
}
