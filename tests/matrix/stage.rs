//! One connection on a stage: brought into each of its states, given one event, and asked what it did.

use synfin::proto::wire::{Flags, Segment, SeqNum};
use synfin::proto::{CloseReason, Config, RecvError, SocketId, State};

use crate::host::{Family, Host, Packet};

/// The states as starting points. SYN-RECEIVED has two: who began matters (RFC 9293 MUST-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Start {
    Closed,
    Listen,
    SynSent,
    SynReceivedPassive,
    SynReceivedActive,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl Start {
    /// All of them, in the RFC's order.
    pub(crate) const ALL: [Self; 12] = [
        Self::Closed,
        Self::Listen,
        Self::SynSent,
        Self::SynReceivedPassive,
        Self::SynReceivedActive,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
    ];

    /// How to get there from CLOSED.
    const fn path(self) -> &'static [Event] {
        use Event::{Ack, Close, Connect, Fin, Listen, Syn, SynAck};
        match self {
            Self::Closed => &[],
            Self::Listen => &[Listen],
            Self::SynSent => &[Connect],
            Self::SynReceivedPassive => &[Listen, Syn],
            Self::SynReceivedActive => &[Connect, Syn],
            Self::Established => &[Connect, SynAck],
            Self::FinWait1 => &[Connect, SynAck, Close],
            Self::FinWait2 => &[Connect, SynAck, Close, Ack],
            Self::CloseWait => &[Connect, SynAck, Fin],
            Self::Closing => &[Connect, SynAck, Close, Fin],
            Self::LastAck => &[Connect, SynAck, Fin, Close],
            Self::TimeWait => &[Connect, SynAck, Close, Ack, Fin],
        }
    }

    /// The RFC's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN-SENT",
            Self::SynReceivedPassive => "SYN-RECEIVED (passive)",
            Self::SynReceivedActive => "SYN-RECEIVED (active)",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        }
    }
}

/// What happens, in the words of RFC 9293 figure 5. Segments are in order and acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Abort,
    /// It acknowledges everything that was sent.
    Ack,
    Close,
    Connect,
    /// It acknowledges nothing new.
    Fin,
    /// It acknowledges everything that was sent.
    FinAck,
    Listen,
    Release,
    Reset,
    Syn,
    SynAck,
    /// Nothing happens for a day.
    Time,
}

impl Event {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Abort,
        Self::Ack,
        Self::Close,
        Self::Connect,
        Self::Fin,
        Self::FinAck,
        Self::Listen,
        Self::Release,
        Self::Reset,
        Self::Syn,
        Self::SynAck,
        Self::Time,
    ];
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) host: Host,
    pub(crate) listener: Option<SocketId>,
    pub(crate) socket: Option<SocketId>,
    /// Our first number, once seen, and the next one.
    pub(crate) iss: SeqNum,
    pub(crate) snd_nxt: SeqNum,
    /// What of it the peer has acknowledged.
    pub(crate) snd_una: SeqNum,
    /// The peer's next number.
    pub(crate) rcv_nxt: SeqNum,
}

impl Stage {
    /// A connection in this state.
    pub(crate) fn set(start: Start, config: &Config, family: Family) -> Self {
        let mut stage = Self {
            host: Host::new(config, family),
            listener: None,
            socket: None,
            iss: SeqNum(0),
            snd_nxt: SeqNum(0),
            snd_una: SeqNum(0),
            rcv_nxt: PEER_ISS,
        };
        for event in start.path() {
            stage.apply(*event);
        }
        stage
    }

    /// Lets an event happen and returns what was sent for it.
    pub(crate) fn apply(&mut self, event: Event) -> Vec<Segment> {
        let (engine, now) = (&mut self.host.engine, self.host.now);
        match (event, self.socket) {
            (Event::Listen, _) => self.listener = engine.listen(now, self.host.family.host(OUR_PORT), 8).ok().or(self.listener),
            (Event::Connect, None) if self.listener.is_none() => {
                let (remote, local) = (self.host.family.peer(PEER_PORT), self.host.family.host(OUR_PORT));
                self.socket = engine.connect(now, remote, Some(local), None).ok();
            }
            (Event::Close, Some(socket)) => drop(engine.shutdown(now, socket)),
            (Event::Abort, Some(socket)) => engine.abort(now, socket),
            (Event::Release, _) => {
                for socket in [self.socket, self.listener].into_iter().flatten() {
                    engine.release(now, socket);
                }
            }
            (Event::Time, _) => return self.pass_a_day(),
            (Event::Ack, _) => return self.segment(Flags::ACK, self.snd_nxt),
            (Event::Fin, _) => return self.segment(Flags::FIN | Flags::ACK, self.snd_una),
            (Event::FinAck, _) => return self.segment(Flags::FIN | Flags::ACK, self.snd_nxt),
            (Event::Reset, _) => return self.segment(Flags::RST | Flags::ACK, self.snd_nxt),
            (Event::Syn, _) => return self.segment(Flags::SYN, SeqNum(0)),
            (Event::SynAck, _) => return self.segment(Flags::SYN | Flags::ACK, self.snd_nxt),
            (Event::Abort | Event::Close | Event::Connect, _) => {}
        }
        self.collect()
    }

    fn segment(&mut self, flags: Flags, ack: SeqNum) -> Vec<Segment> {
        let header = Segment { seq: self.rcv_nxt, ack, flags, window: u16::MAX, ..Segment::default() };
        if flags.has_any(Flags::SYN | Flags::FIN) {
            self.rcv_nxt += 1;
        }
        if flags.has(Flags::ACK) {
            self.snd_una = ack;
        }
        self.receive(header, Vec::new())
    }

    /// A segment from the peer; returns what was sent for it.
    pub(crate) fn receive(&mut self, header: Segment, payload: Vec<u8>) -> Vec<Segment> {
        let header = Segment { source_port: PEER_PORT, destination_port: OUR_PORT, ..header };
        self.host.receive(&Packet { header, payload, raw_options: None });
        self.collect()
    }

    fn collect(&mut self) -> Vec<Segment> {
        if let Some(listener) = self.listener
            && self.socket.is_none()
        {
            self.socket = self.host.engine.accept(self.host.now, listener).ok().map(|(socket, _)| socket);
        }
        let sent: Vec<Segment> = self.host.sent().iter().map(|packet| packet.header).collect();
        for segment in sent.iter().filter(|segment| !segment.flags.has(Flags::RST)) {
            if segment.flags.has(Flags::SYN) {
                self.iss = segment.seq;
                self.snd_una = segment.seq;
            }
            let end = segment.end();
            self.snd_nxt = if self.snd_nxt == SeqNum(0) { end } else { self.snd_nxt.max(end) };
        }
        sent
    }

    fn pass_a_day(&mut self) -> Vec<Segment> {
        let end = self.host.now + DAY;
        let mut sent = Vec::new();
        while self.host.step(end) {
            sent.extend(self.collect());
        }
        self.host.now = end;
        sent
    }

    /// The state of the connection; LISTEN as long as there is none, and CLOSED without a listener.
    pub(crate) fn state(&self) -> State {
        if let Some(state) = self.socket.and_then(|socket| self.host.engine.state(socket)) {
            return state;
        }
        let rows = self.host.engine.netstat(self.host.now);
        let connection = rows.iter().find(|row| row.remote == Some(self.host.family.peer(PEER_PORT)));
        connection.or_else(|| rows.first()).map_or(State::Closed, |row| row.state)
    }

    /// Whether a connection in SYN-RECEIVED is one that we began.
    pub(crate) fn start(&self) -> Start {
        match self.state() {
            State::Closed => Start::Closed,
            State::Listen => Start::Listen,
            State::SynSent => Start::SynSent,
            State::SynReceived if self.socket.is_some() => Start::SynReceivedActive,
            State::SynReceived => Start::SynReceivedPassive,
            State::Established => Start::Established,
            State::FinWait1 => Start::FinWait1,
            State::FinWait2 => Start::FinWait2,
            State::CloseWait => Start::CloseWait,
            State::Closing => Start::Closing,
            State::LastAck => Start::LastAck,
            State::TimeWait => Start::TimeWait,
        }
    }

    /// Bytes that can be read, and whether the end of the stream follows them.
    pub(crate) fn read(&mut self) -> (usize, Option<&'static str>) {
        let Some(socket) = self.socket else { return (0, None) };
        let (mut total, mut buffer) = (0, [0; 64]);
        loop {
            match self.host.engine.recv(self.host.now, socket, &mut buffer) {
                Ok(0) => return (total, Some("end")),
                Ok(read) => total += read,
                Err(RecvError::Closed(_)) => return (total, Some("error")),
                Err(_) => return (total, None),
            }
        }
    }

    /// Why the connection is over.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.host.engine.close_reason(self.socket?)
    }
}

/// The peer's first number.
pub(crate) const PEER_ISS: SeqNum = SeqNum(1_000_000);

/// The peer's port.
const PEER_PORT: u16 = 40_000;

/// Our port, listening or connecting.
const OUR_PORT: u16 = 80;

/// Longer than any time-out by default, keepalive's excepted.
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
