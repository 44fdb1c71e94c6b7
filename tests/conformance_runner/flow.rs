//! One connection's numbers as a script counts them, and as they are on the wire.
//!
//! The peer's first number is the runner's choice; ours is whatever our first SYN carried. Before that, numbers are taken literally, as in a
//! reset that answers a stranger.

use synfin::proto::wire::{Flags, Options, SackBlock, SackBlocks, Segment, SeqNum, Timestamps};

use super::host::Packet;
use super::segment::{OptionWords, Route, Words};

/// The numbers of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    our_port: u16,
    peer_port: u16,
    /// Where the peer's numbers count from, what it will send next, and its last window.
    peer: Side,
    ours: Side,
    /// The right edge that we announced last, as a number of the peer's.
    edge: i64,
    /// What the SYNs offered.
    peer_scale: Option<u8>,
    our_scale: Option<u8>,
    /// Our first TSval.
    clock: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Side {
    base: Option<SeqNum>,
    next: i64,
    window: u16,
}

impl Side {
    fn absolute(&self, number: i64) -> SeqNum {
        SeqNum(self.base.unwrap_or(SeqNum(0)).0.wrapping_add(number as u32))
    }

    fn relative(&self, number: SeqNum) -> i64 {
        match self.base {
            Some(base) => i64::from(number.distance(base)),
            None => i64::from(number.0),
        }
    }

    fn advance(&mut self, end: i64, window: u16) {
        self.next = self.next.max(end);
        self.window = window;
    }
}

impl Flow {
    pub(crate) fn new(our_port: u16, peer_port: u16, peer_iss: SeqNum) -> Self {
        let side = |base| Side { base, next: 0, window: u16::MAX };
        Self { our_port, peer_port, peer: side(Some(peer_iss)), ours: side(None), edge: 0, peer_scale: None, our_scale: None, clock: None }
    }

    /// The bytes-to-be of what the script lets the peer send.
    pub(crate) fn packet(&mut self, words: &Words) -> Packet {
        let seq = words.seq.unwrap_or(self.peer.next);
        let window = words.window.unwrap_or(self.peer.window);
        let header = Segment {
            source_port: self.peer_port,
            destination_port: self.our_port,
            seq: self.peer.absolute(seq),
            ack: words.ack.map_or(SeqNum(0), |ack| self.ours.absolute(ack)),
            flags: words.flags,
            window,
            urgent: words.urgent,
            options: self.wire_options(&words.options),
            payload_len: words.len,
            segment_size: 0,
        };
        if words.flags.has(Flags::SYN) {
            self.peer_scale = words.options.window_scale;
        }
        if words.route.fresh {
            self.peer = Side { base: Some(header.seq), next: 0, window };
        }
        let seq = if words.route.fresh { 0 } else { seq };
        if !words.flags.has(Flags::RST) {
            self.peer.advance(seq + i64::from(header.len()), window);
        }
        let payload = words.payload.bytes(seq + i64::from(words.flags.has(Flags::SYN)), words.len as usize);
        Packet { header, payload, raw_options: words.options.raw.clone() }
    }

    /// What the engine sent, in a script's words. Its first SYN, and one that is `fresh`, begins the count.
    pub(crate) fn words(&mut self, packet: &Packet, fresh: bool) -> Words {
        let header = &packet.header;
        if header.flags.has(Flags::SYN) && (fresh || self.ours.base.is_none()) {
            self.ours = Side { base: Some(header.seq), next: 0, window: header.window };
            self.clock = None;
        }
        if self.clock.is_none() && !header.flags.has(Flags::RST) {
            self.clock = header.options.timestamps.map(|timestamps| timestamps.value);
        }
        Words {
            flags: header.flags,
            seq: Some(self.ours.relative(header.seq)),
            len: header.payload_len,
            ack: header.flags.has(Flags::ACK).then(|| self.peer.relative(header.ack)),
            window: Some(header.window),
            urgent: header.urgent,
            options: self.option_words(&header.options),
            route: Route { fresh, ..Route::default() },
            payload: super::segment::Payload::Stream,
        }
    }

    /// What the script expects, with everything filled in that it left out.
    pub(crate) fn complete(&self, words: &Words) -> Words {
        Words {
            seq: Some(words.seq.unwrap_or(self.ours.next)),
            window: Some(words.window.unwrap_or_else(|| self.standing_window(words))),
            route: Route { fresh: words.route.fresh, ..Route::default() },
            ..words.clone()
        }
    }

    /// The window with which the right edge stays where it is. Resets have none, SYNs the largest.
    fn standing_window(&self, words: &Words) -> u16 {
        if words.flags.has(Flags::RST) {
            return 0;
        }
        let Some(ack) = words.ack.filter(|_| !words.flags.has(Flags::SYN)) else { return u16::MAX };
        let bytes = u64::try_from(self.edge - ack).unwrap_or(0);
        u16::try_from(bytes.div_ceil(1 << self.scale())).unwrap_or(u16::MAX)
    }

    /// By how much our window fields are scaled.
    fn scale(&self) -> u8 {
        self.our_scale.filter(|_| self.peer_scale.is_some()).unwrap_or(0)
    }

    /// The engine has sent this.
    pub(crate) fn on_sent(&mut self, words: &Words) {
        if words.flags.has(Flags::RST) {
            return;
        }
        let (is_syn, window) = (words.flags.has(Flags::SYN), words.window.unwrap_or(0));
        let space = words.len + u32::from(is_syn) + u32::from(words.flags.has(Flags::FIN));
        self.ours.advance(words.seq.unwrap_or(0) + i64::from(space), window);
        if is_syn {
            self.our_scale = words.options.window_scale;
        }
        let scale = if is_syn { 0 } else { self.scale() };
        self.edge = words.ack.unwrap_or(1) + (i64::from(window) << scale);
    }

    /// One of our numbers, as scripts count it.
    pub(crate) fn our_number(&self, number: SeqNum) -> i64 {
        self.ours.relative(number)
    }

    /// The same the other way round.
    pub(crate) fn our_absolute(&self, number: i64) -> SeqNum {
        self.ours.absolute(number)
    }

    /// One of the peer's numbers, as scripts count it.
    pub(crate) fn peer_number(&self, number: SeqNum) -> i64 {
        self.peer.relative(number)
    }

    fn wire_options(&self, words: &OptionWords) -> Options {
        let mut sack = SackBlocks::default();
        for (left, right) in &words.sack {
            assert!(sack.push(SackBlock { left: self.ours.absolute(*left), right: self.ours.absolute(*right) }), "at most four blocks");
        }
        let echo =
            |echo: i64| self.clock.filter(|_| echo != 0).map_or(echo as u32, |clock| clock.wrapping_add(echo as u32).wrapping_sub(1));
        Options {
            mss: words.mss,
            window_scale: words.window_scale,
            sack_permitted: words.sack_permitted,
            timestamps: words.timestamps.map(|(value, echoed)| Timestamps { value: value as u32, echo: echo(echoed) }),
            sack,
            malformed: false,
        }
    }

    fn option_words(&self, options: &Options) -> OptionWords {
        let value = |value: u32| match self.clock {
            Some(clock) if value != 0 => i64::from(SeqNum(value).distance(SeqNum(clock))) + 1,
            _ => i64::from(value),
        };
        OptionWords {
            mss: options.mss,
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
            timestamps: options.timestamps.map(|timestamps| (value(timestamps.value), i64::from(timestamps.echo))),
            sack: options.sack.as_slice().iter().map(|block| (self.peer.relative(block.left), self.peer.relative(block.right))).collect(),
            raw: None,
        }
    }
}
