//! What a segment means in its conversation, told from the segments before it and nothing else: its numbers counted from each side's initial
//! sequence number, what it is called, and why it was sent.

use crate::packet::{Ends, Side, Tcp};
use std::collections::BTreeMap;
use std::fmt;
use synfin::proto::wire::{Flags, Segment, SeqNum};

/// Every conversation on the wire, by the addresses of its left and right end.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    conversations: BTreeMap<Ends, [Flow; 2]>,
}

/// What one side has sent.
#[derive(Clone, Debug, Default)]
struct Flow {
    isn: Option<SeqNum>,
    /// After the last sequence number that was sent.
    next: SeqNum,
    /// The last acknowledgment number that was sent.
    ack: Option<SeqNum>,
    /// The peer's last acknowledgment that arrived here.
    acknowledged: Option<SeqNum>,
    /// The last window, in bytes.
    window: u32,
    scale: Option<u8>,
    duplicates: u32,
    /// The number of the frame in which each sequence number was sent last.
    frames: BTreeMap<u32, u64>,
    /// The last segment was a probe.
    is_asking: bool,
}

/// One side's sequence space: SND.UNA, SND.NXT and RCV.NXT, counted from the initial numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) una: Option<u32>,
    pub(crate) next: u32,
    pub(crate) received: Option<u32>,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        f.pad(&format!("{}/{}/{}", number(self.una), self.next, number(self.received)))
    }
}

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ack,
    Data,
    DuplicateAck,
    Fin,
    KeepaliveProbe,
    ProbeAnswer,
    Reset,
    Retransmission,
    Syn,
    SynAck,
    WindowClosed,
    WindowProbe,
    WindowUpdate,
}

/// A segment in the numbers of its conversation.
#[derive(Clone, Debug)]
pub(crate) struct Meaning {
    pub(crate) kind: Kind,
    pub(crate) seq: u32,
    pub(crate) ack: Option<u32>,
    /// The window in bytes, its scale applied.
    pub(crate) window: u32,
    pub(crate) notes: Vec<String>,
}

impl Tracker {
    /// A segment leaves `side` in frame `number`.
    pub(crate) fn on_sent(&mut self, number: u64, side: Side, tcp: &Tcp) -> Meaning {
        let segment = &tcp.segment;
        let flows = self.conversations.entry(tcp.ends(side)).or_default();
        let (own, peer) = split(flows, side);
        if segment.flags.has(Flags::SYN) && own.isn.is_none_or(|isn| isn != segment.seq) {
            *own = Flow { isn: Some(segment.seq), next: segment.seq, acknowledged: own.acknowledged, ..Flow::default() };
            own.scale = segment.options.window_scale;
        }
        let shift = own.scale.filter(|_| peer.scale.is_some() && !segment.flags.has(Flags::SYN)).unwrap_or(0);
        let window = u32::from(segment.window) << shift;
        let kind = kind(own, peer, segment, window);
        let notes = notes(kind, own, peer, segment);
        own.update(kind, number, segment, window);
        peer.is_asking = false;
        let from = |flow: &Flow, seq: SeqNum| flow.isn.map_or(seq.0, |isn| seq.0.wrapping_sub(isn.0));
        let (own, peer) = split(flows, side);
        let ack = segment.flags.has(Flags::ACK).then(|| from(peer, segment.ack));
        Meaning { kind, seq: from(own, segment.seq), ack, window, notes }
    }

    /// A segment that left `side` arrives at the other.
    pub(crate) fn on_arrived(&mut self, side: Side, tcp: &Tcp) {
        if let Some(flows) = self.conversations.get_mut(&tcp.ends(side)) {
            let (_, receiver) = split(flows, side);
            if tcp.segment.flags.has(Flags::ACK) {
                receiver.acknowledged = Some(receiver.acknowledged.map_or(tcp.segment.ack, |before| before.max(tcp.segment.ack)));
            }
        }
    }

    /// The sequence space of `side` as far as the wire tells it.
    pub(crate) fn space(&self, side: Side, ends: Ends) -> Option<Space> {
        let [first, second] = self.conversations.get(&ends)?;
        let (own, peer) = if side == Side::Left { (first, second) } else { (second, first) };
        let isn = own.isn?;
        let una = own.acknowledged.unwrap_or(isn);
        let received = own.ack.zip(peer.isn).map(|(ack, isn)| ack.0.wrapping_sub(isn.0));
        Some(Space { una: Some(una.0.wrapping_sub(isn.0)), next: own.next.0.wrapping_sub(isn.0), received })
    }
}

impl Flow {
    fn update(&mut self, kind: Kind, number: u64, segment: &Segment, window: u32) {
        self.duplicates = if kind == Kind::DuplicateAck { self.duplicates + 1 } else { 0 };
        self.is_asking = matches!(kind, Kind::KeepaliveProbe | Kind::WindowProbe);
        self.window = window;
        if !segment.is_empty() {
            self.frames.insert(segment.seq.0, number);
        }
        self.next = self.next.max(segment.end());
        if segment.flags.has(Flags::ACK) {
            self.ack = Some(segment.ack);
        }
    }
}

fn split(flows: &mut [Flow; 2], side: Side) -> (&mut Flow, &mut Flow) {
    let [left, right] = flows;
    if side == Side::Left { (left, right) } else { (right, left) }
}

fn kind(own: &Flow, peer: &Flow, segment: &Segment, window: u32) -> Kind {
    let flags = segment.flags;
    let is_old = segment.seq < own.next;
    if flags.has(Flags::RST) {
        Kind::Reset
    } else if is_old && segment.is_empty() && segment.seq + 1 == own.next {
        if peer.window == 0 { Kind::WindowProbe } else { Kind::KeepaliveProbe }
    } else if flags.has(Flags::SYN | Flags::ACK) && own.ack.is_none() {
        Kind::SynAck
    } else if is_old && !segment.is_empty() {
        Kind::Retransmission
    } else if flags.has(Flags::SYN) {
        Kind::Syn
    } else if flags.has(Flags::FIN) {
        Kind::Fin
    } else if segment.payload_len > 0 {
        Kind::Data
    } else if peer.is_asking {
        Kind::ProbeAnswer
    } else if window == 0 {
        Kind::WindowClosed
    } else if own.ack == Some(segment.ack) && window > own.window {
        Kind::WindowUpdate
    } else if own.ack == Some(segment.ack) && segment.ack < peer.next {
        Kind::DuplicateAck
    } else {
        Kind::Ack
    }
}

fn notes(kind: Kind, own: &Flow, peer: &Flow, segment: &Segment) -> Vec<String> {
    let options = &segment.options;
    let mut notes = Vec::new();
    match kind {
        Kind::Retransmission => notes.push(match own.frames.get(&segment.seq.0) {
            Some(number) => format!("retransmission of #{number}"),
            None => "retransmission".to_owned(),
        }),
        Kind::DuplicateAck => notes.push(format!("duplicate ACK {}", own.duplicates + 1)),
        Kind::KeepaliveProbe => notes.push("keepalive probe: do you still hear me?".to_owned()),
        Kind::WindowProbe => notes.push("window probe: is there room yet?".to_owned()),
        Kind::ProbeAnswer if segment.window == 0 => notes.push("answer to the probe: still no room".to_owned()),
        Kind::ProbeAnswer => notes.push("answer to the probe: I am here".to_owned()),
        Kind::WindowClosed => notes.push("window closed".to_owned()),
        Kind::WindowUpdate => notes.push("window update".to_owned()),
        Kind::Reset => notes.push("reset".to_owned()),
        Kind::SynAck if segment.seq < own.next => notes.push("the same SYN, now with the ACK of the other".to_owned()),
        Kind::Ack | Kind::Data | Kind::Fin | Kind::Syn | Kind::SynAck => {}
    }
    if matches!(kind, Kind::Syn | Kind::SynAck) && segment.seq >= own.next {
        notes.push(format!("ISN {}", segment.seq.0));
        notes.extend(options.mss.map(|mss| format!("mss {mss}")));
        notes.extend(options.window_scale.map(|shift| format!("wscale {shift}")));
        notes.extend(options.sack_permitted.then(|| "sackOK".to_owned()));
        notes.extend(options.timestamps.map(|_| "TS".to_owned()));
    }
    let relative = |seq: SeqNum| peer.isn.map_or(seq.0, |isn| seq.0.wrapping_sub(isn.0));
    notes.extend(options.sack.as_slice().iter().map(|block| format!("SACK {}-{}", relative(block.left), relative(block.right))));
    notes
}

impl Kind {
    /// One sentence on why such a segment is sent.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Ack => "all bytes below ack have arrived and may be forgotten; win says how many more may come.",
            Self::Data => "bytes, numbered from seq on; the sender keeps them until they are acknowledged.",
            Self::DuplicateAck => "something came, but not what is next: the same ack again asks for the missing piece.",
            Self::Fin => "no more bytes from this side; FIN has a number of its own, so that it can be repeated.",
            Self::KeepaliveProbe => "the line was silent; an old sequence number makes whoever hears it answer.",
            Self::ProbeAnswer => "what is old or does not fit is answered with an ACK, so the asker knows the peer lives.",
            Self::Reset => "the connection is over at once; whoever gets this forgets it.",
            Self::Retransmission => "no acknowledgment came; it may be lost, so it is sent again.",
            Self::Syn => "a connection begins; the sender says its first sequence number, which nobody can guess.",
            Self::SynAck => "the first number was heard; this side says its own.",
            Self::WindowClosed => "the buffer is full because nobody reads: send nothing until told otherwise.",
            Self::WindowProbe => "the window is closed; news of its opening may have been lost, so the sender asks.",
            Self::WindowUpdate => "the application has read; there is room again.",
        }
    }
}
