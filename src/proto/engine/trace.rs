//! A bounded record of frames, state changes and drops, for whoever writes captures. Off unless asked for, and then one branch per frame.
//!
//! ```text
//!   receive, looped ──► record opens ─► state changes and drops become its notes ─► record closes
//!   a call, a timer ──► notes wait for the frame that they cause; when nothing more is to be sent, they are a record without a frame
//! ```
//!
//! A segment may move a connection through several states (RFC 9293 §3.10.7.4 acts on the acknowledgment before the FIN): each is a note.
//! It must not know: files, formats, clocks. Names of states are RFC 9293 §3.3.2's.

use std::collections::VecDeque;

use super::Engine;
use super::loopback::Looped;
use super::stats::{DropReason, Drops};
use crate::proto::Instant;
use crate::proto::cut::complete;
use crate::proto::link::{Checksum, Frame, Medium, TxFrame};
use crate::proto::tcp::state::State;
use crate::proto::wire::ip::protocol;
use crate::proto::wire::tcp::{CHECKSUM_OFFSET, HEADER_LEN};
use crate::proto::wire::{Address, IpHeader, Sum, Tuple};

/// A frame that the engine took in or handed out, and what it did.
#[derive(Clone, Debug)]
pub struct Record {
    /// When, by the engine's time.
    pub at: Instant,
    /// Which way it went.
    pub side: Side,
    /// What it caused, oldest first; before that, what calls and timers caused since the record before.
    pub notes: Vec<Note>,
    content: Content,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the link.
    In,
    /// To the link.
    Out,
    /// From this host to itself: an IP packet, of which only the payload ever existed outside of this record.
    Loopback,
    /// Nowhere: there is no frame, only notes.
    Nowhere,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A connection or a listener changed its state.
    State {
        /// Which; a listener's peer is unspecified, with port 0.
        tuple: Tuple,
        /// From this state.
        old: State,
        /// To this one.
        new: State,
    },
    /// The frame, or a part of it, went no further.
    Dropped(DropReason),
}

/// `10.9.0.1:80 10.9.0.2:40000 LISTEN -> SYN-RECEIVED`, our side first; `0.0.0.0:80 * CLOSED -> LISTEN`; or `dropped: no-socket`.
impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::State { tuple, old, new } if tuple.remote.is_unspecified() => write!(f, "{} * {old} -> {new}", tuple.local_addr()),
            Self::State { tuple, old, new } => write!(f, "{} {} {old} -> {new}", tuple.local_addr(), tuple.remote_addr()),
            Self::Dropped(reason) => write!(f, "dropped: {reason}"),
        }
    }
}

impl Record {
    /// The frame as it would stand on a wire: partial checksums that its receiver believes are completed; a super-packet is one packet. Without
    /// a frame it is empty.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        match &self.content {
            Content::Nothing => Vec::new(),
            Content::Arrived { bytes, packet: None } => bytes.clone(),
            Content::Arrived { bytes, packet: Some(offset) } => completed(bytes.clone(), *offset),
            Content::Built(frame) => {
                let mut frame = frame.clone();
                complete(&mut frame);
                frame.to_vec()
            }
        }
    }

    fn len(&self) -> usize {
        match &self.content {
            Content::Nothing => 0,
            Content::Arrived { bytes, .. } => bytes.len(),
            Content::Built(frame) => frame.len(),
        }
    }
}

impl Engine {
    /// Records from now on; [`drain_trace`](Self::drain_trace) takes the records out.
    pub fn start_trace(&mut self) {
        self.trace.get_or_insert_default();
    }

    /// Appends the records since the last call to `records`, and answers how many frames and notes found no room: up to 1024 frames of 8 MiB
    /// are kept. Notes wait for the next frame as long as there is [more to send](Self::wants_transmit).
    pub fn drain_trace(&mut self, records: &mut VecDeque<Record>) -> u64 {
        if !self.wants_transmit() {
            self.close_trace();
        }
        let Some(trace) = &mut self.trace else { return 0 };
        records.append(&mut trace.records);
        trace.bytes = 0;
        std::mem::take(&mut trace.lost)
    }

    /// Notes that wait for a frame wait no longer: they become a record without one.
    pub fn close_trace(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.close(self.now);
        }
    }

    /// A frame arrives. The answer belongs to [`trace_end`](Self::trace_end).
    pub(super) fn trace_arrival(&mut self, frame: &Frame<'_>) -> Option<Drops> {
        let trace = self.trace.as_mut()?;
        let believed = frame.checksum == Checksum::Partial && self.link.is_some_and(|link| link.trusts_partial);
        let offset = match self.link.map(|link| link.medium) {
            Some(Medium::Ethernet(_)) => crate::proto::wire::ethernet::HEADER_LEN,
            Some(Medium::Ip) | None => 0,
        };
        let content = Content::Arrived { bytes: frame.bytes.as_slice().to_vec(), packet: believed.then_some(offset) };
        trace.open(self.now, Side::In, content);
        Some(self.stats.drops)
    }

    /// A segment from ourselves arrives. The answer belongs to [`trace_end`](Self::trace_end).
    pub(super) fn trace_looped(&mut self, looped: &Looped) -> Option<Drops> {
        self.trace.as_ref()?;
        let packet = Box::new(self.looped_packet(looped));
        self.trace.as_mut()?.open(self.now, Side::Loopback, Content::Built(packet));
        Some(self.stats.drops)
    }

    /// What arrived has had its effect.
    pub(super) fn trace_end(&mut self, before: Option<Drops>) {
        if let (Some(trace), Some(before)) = (&mut self.trace, before) {
            for ((reason, old), (_, new)) in before.iter().zip(self.stats.drops.iter()) {
                (old..new).for_each(|_| trace.note(Note::Dropped(reason)));
            }
            trace.is_open = false;
        }
    }

    /// A frame leaves.
    pub(super) fn trace_departure(&mut self, frame: &TxFrame) {
        if let Some(trace) = &mut self.trace {
            trace.open(self.now, Side::Out, Content::Built(Box::new(frame.clone())));
            trace.is_open = false;
        }
    }

    /// A listener came or went.
    pub(super) fn trace_listener(&mut self, local: Address, port: u16, old: State, new: State) {
        let remote = if local.is_v4() { Address::ANY_V4 } else { Address::ANY };
        self.trace_change(Tuple { local, remote, local_port: port, remote_port: 0 }, old, new);
    }

    /// A connection without a socket changed its state.
    pub(super) fn trace_change(&mut self, tuple: Tuple, old: State, new: State) {
        if let Some(trace) = &mut self.trace {
            trace.note(Note::State { tuple, old, new });
        }
    }

    /// The socket in slot `index` is in this state, and may have been in another.
    pub(super) fn trace_state(&mut self, index: u32, tuple: Tuple, new: State) {
        let Some(trace) = &mut self.trace else { return };
        let Some(entry) = self.sockets.get_mut(index as usize) else { return };
        let mut old = std::mem::replace(&mut entry.traced, new);
        while old != new {
            let next = next_state(old, new);
            trace.note(Note::State { tuple, old, new: next });
            old = next;
        }
    }
}

/// The records that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Trace {
    records: VecDeque<Record>,
    bytes: usize,
    /// Notes belong to the last record.
    is_open: bool,
    /// Notes that wait for a record.
    pending: Vec<Note>,
    lost: u64,
}

impl Trace {
    /// Nothing follows that the waiting notes could belong to.
    fn close(&mut self, now: Instant) {
        if !self.pending.is_empty() {
            self.open(now, Side::Nowhere, Content::Nothing);
            self.is_open = false;
        }
    }

    fn open(&mut self, at: Instant, side: Side, content: Content) {
        let record = Record { at, side, notes: Vec::new(), content };
        self.is_open = self.records.len() < RECORDS_MAX && self.bytes + record.len() <= BYTES_MAX;
        if self.is_open {
            self.bytes += record.len();
            self.records.push_back(Record { notes: std::mem::take(&mut self.pending), ..record });
        } else {
            self.lost += 1;
        }
    }

    fn note(&mut self, note: Note) {
        let notes = match self.records.back_mut() {
            Some(record) if self.is_open => &mut record.notes,
            _ => &mut self.pending,
        };
        if notes.len() < NOTES_MAX {
            notes.push(note);
        } else {
            self.lost += 1;
        }
    }
}

#[derive(Clone, Debug)]
enum Content {
    /// No frame.
    Nothing,
    /// As it came; its TCP checksum is to be completed in the IP packet that begins at `packet`.
    Arrived { bytes: Vec<u8>, packet: Option<usize> },
    /// As the engine made it.
    Built(Box<TxFrame>),
}

/// The state after `old` on the way to `new`, in the order of RFC 9293 §3.10.7.4: a handshake is complete before anything is closed, and an
/// acknowledgment counts before the FIN beside it.
const fn next_state(old: State, new: State) -> State {
    match (old, new) {
        (State::SynSent | State::SynReceived, State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck) => {
            State::Established
        }
        (State::Established, State::FinWait2 | State::Closing) => State::FinWait1,
        (State::Established, State::LastAck) => State::CloseWait,
        (State::FinWait1, State::TimeWait) => State::FinWait2,
        _ => new,
    }
}

fn completed(mut bytes: Vec<u8>, offset: usize) -> Vec<u8> {
    let packet = bytes.get_mut(offset..).unwrap_or_default();
    if let Ok((IpHeader { protocol: protocol::TCP, .. }, range)) = IpHeader::parse(packet)
        && range.len() >= HEADER_LEN
    {
        let checksum = Sum::of(&packet[range.clone()]).complete();
        packet[range][CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&checksum);
    }
    bytes
}

/// Frames that wait to be taken: four times what the egress queue holds.
const RECORDS_MAX: usize = 1024;

/// Bytes of them: twice what one call of `transmit` takes in from the loopback, 64 packets of 64 KiB.
const BYTES_MAX: usize = 8 << 20;

/// Notes of a record. One frame changes the state of one connection; a timer may end many.
const NOTES_MAX: usize = 1024;
