//! Segments and frames that no socket sends: resets, SYN,ACKs, the last acknowledgment before TIME-WAIT, ARP, NDP, echo replies.
//!
//! They leave before anything else. The queue is bounded; what does not fit is dropped and counted, since whoever wanted it will ask again.

use std::collections::VecDeque;

use super::icmp::{Limiter, Permit};
use super::limits::SourceLimiter;
use super::stats::Stats;
use crate::proto::Instant;
use crate::proto::link::{MacAddress, TxFrame};
use crate::proto::random::TableHash;
use crate::proto::tcp::config::Config;
use crate::proto::wire::{Address, Segment, Tuple};

/// An answer that waits to be sent.
#[derive(Debug)]
pub(super) enum Reply {
    /// A whole frame.
    Frame(Box<TxFrame>),
    /// A segment without payload.
    Segment(SegmentReply),
}

/// A segment without payload, and how it travels.
#[derive(Debug)]
pub(super) struct SegmentReply {
    pub(super) tuple: Tuple,
    pub(super) segment: Segment,
    pub(super) hop_limit: u8,
    pub(super) traffic_class: u8,
    /// Back to where the question came from, without asking the neighbour cache: a spoofed source costs no entry.
    pub(super) to: Option<MacAddress>,
}

/// The queue of answers, and what limits them.
#[derive(Debug)]
pub(super) struct Replies {
    queue: VecDeque<Reply>,
    /// Segments whose next hop was asked for.
    waiting: VecDeque<SegmentReply>,
    resets: SourceLimiter,
    pings: Limiter,
    refusals: SourceLimiter,
}

impl Replies {
    /// `hash` sorts sources into buckets.
    pub(super) fn new(config: &Config, hash: TableHash) -> Self {
        Self {
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
            resets: SourceLimiter::new(config.resets_per_second, hash.clone()),
            refusals: SourceLimiter::new(REFUSALS_PER_SECOND.min(config.icmp_per_second), hash),
            pings: Limiter::new(config.icmp_per_second),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn front(&self) -> Option<&Reply> {
        self.queue.front()
    }

    pub(super) fn pop(&mut self) -> Option<Reply> {
        self.queue.pop_front()
    }

    /// True if the next answer would be dropped.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= REPLIES_MAX
    }

    pub(super) fn push(&mut self, reply: Reply, stats: &mut Stats) {
        if self.is_full() {
            stats.replies_dropped += 1;
        } else {
            self.queue.push_back(reply);
        }
    }

    /// Keeps a segment until its next hop has answered, or has not.
    pub(super) fn wait(&mut self, reply: SegmentReply, stats: &mut Stats) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(reply);
        } else {
            stats.replies_dropped += 1;
        }
    }

    /// Some neighbour has answered, or is given up: all that wait try again.
    pub(super) fn retry(&mut self, stats: &mut Stats) {
        while let Some(reply) = self.waiting.pop_front() {
            self.push(Reply::Segment(reply), stats);
        }
    }

    /// True if one more reset to the stranger `source` is within its limit.
    pub(super) fn may_reset(&mut self, now: Instant, source: Address) -> bool {
        self.resets.take(now, source) == Permit::Granted
    }

    /// True if `source` may be told once more that nobody here speaks its protocol.
    pub(super) fn may_refuse(&mut self, now: Instant, source: Address) -> bool {
        self.refusals.take(now, source) == Permit::Granted
    }

    /// True if one more ping may be answered.
    pub(super) fn may_echo(&mut self, now: Instant) -> bool {
        self.pings.take(now) == Permit::Granted
    }
}

/// ICMP errors per second and bucket of sources, five of them at once: what a trace of a route needs.
const REFUSALS_PER_SECOND: u32 = 100;

/// How many answers may wait.
const REPLIES_MAX: usize = 1024;

/// How many of them may wait for a neighbour: a full accept queue of tokio's size, when its listener is dropped.
const WAITING_MAX: usize = 1024;

/// Who waits for a neighbour on behalf of [`Replies::wait`]: the index of no socket.
pub(super) const WAITER: u32 = u32::MAX;
