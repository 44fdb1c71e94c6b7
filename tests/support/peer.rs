//! One engine against a peer that is a script: it opens connections, brings them into any state, and says whatever it likes.

use std::net::SocketAddr;
use std::time::Duration;

use synfin::proto::wire::{Flags, Options, Segment, SeqNum, Timestamps};
use synfin::proto::{Checksum, Cidr, Config, Engine, Frame, Instant, Link, Medium, SocketId, State, cut};

use crate::packet;

/// The engine's address and port, and the peer's.
pub(crate) const HOST: &str = "10.0.0.1:7";
pub(crate) const PEER: &str = "10.0.0.2:40000";

/// The engine, the time, and the peer's view of things.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) now: Instant,
    pub(crate) engine: Engine,
    pub(crate) listener: SocketId,
    /// The engine's end and the peer's of what is opened from now on.
    pub(crate) host: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// What the engine said: a segment with its payload.
pub(crate) type Said = (Segment, Vec<u8>);

/// A connection as the peer sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Option<SocketId>,
    pub(crate) host: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// What the peer sends next, and what it expects next.
    pub(crate) nxt: SeqNum,
    pub(crate) expected: SeqNum,
    pub(crate) timestamps: Option<Timestamps>,
}

impl Connection {
    /// A segment in its place.
    pub(crate) fn segment(&self, flags: Flags) -> Segment {
        let options = Options { timestamps: self.timestamps, ..Options::default() };
        Segment { seq: self.nxt, ack: self.expected, flags, window: 60_000, options, ..Segment::default() }
    }
}

impl Peer {
    pub(crate) fn new(config: &Config) -> Self {
        let now = Instant::from_nanos(3_000_000_000);
        let mut engine = Engine::new(config.clone(), [9; 32], now);
        engine.set_link(now, Some(Link::new(Medium::Ip, 1500)));
        engine.add_address(now, "10.0.0.1/24".parse::<Cidr>().expect("a test sets this up"));
        engine.add_address(now, "fd00::1/64".parse::<Cidr>().expect("a test sets this up"));
        let listener = engine.listen(now, "[::]:7".parse().expect("a test sets this up"), 64).expect("a test sets this up");
        let [host, remote] = [HOST, PEER].map(|text| text.parse().expect("a literal"));
        Self { now, engine, listener, host, remote }
    }

    /// Puts a frame before the engine and returns what it says.
    pub(crate) fn inject(&mut self, frame: &[u8], checksum: Checksum) -> Vec<Said> {
        self.engine.receive(self.now, Frame { checksum, ..Frame::borrowed(frame) });
        self.hear()
    }

    /// Says a segment of a connection.
    pub(crate) fn say(&mut self, connection: &Connection, segment: Segment, payload: &[u8]) -> Vec<Said> {
        self.inject(&packet::packet(connection.peer, connection.host, &segment, payload), Checksum::Unknown)
    }

    /// What the engine has to say, segment by segment.
    pub(crate) fn hear(&mut self) -> Vec<Said> {
        self.hear_packets()
            .iter()
            .filter(|packet| is_tcp(packet))
            .map(|packet| packet::parse(packet))
            .map(|(_, said, text)| (said, text))
            .collect()
    }

    /// What the engine has to say, as bytes.
    pub(crate) fn hear_packets(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let _ = self.engine.transmit(self.now, &mut frames);
        let segments = frames.iter().flat_map(|frame| cut::cut(frame).collect::<Vec<_>>());
        segments
            .map(|mut segment| {
                cut::complete(&mut segment);
                segment.to_vec()
            })
            .collect()
    }

    /// Lets time pass, and returns what the engine said meanwhile.
    pub(crate) fn pass(&mut self, duration: Duration) -> Vec<Said> {
        let end = self.now + duration;
        let mut said = Vec::new();
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.advance(self.now);
            said.extend(self.hear());
        }
        self.now = end;
        said
    }

    /// Opens a connection from `port`, with these options in the SYN, and has the application accept it.
    pub(crate) fn open(&mut self, port: u16, iss: SeqNum, options: Options) -> Connection {
        let mut connection = self.half_open(port, iss, options);
        let ack = connection.segment(Flags::ACK);
        self.say(&connection, ack, &[]);
        connection.socket = self.engine.accept(self.now, self.listener).ok().map(|(socket, _)| socket);
        connection
    }

    /// Sends a SYN and hears the SYN,ACK.
    pub(crate) fn half_open(&mut self, port: u16, iss: SeqNum, options: Options) -> Connection {
        let (mut peer, host) = (self.remote, self.host);
        peer.set_port(port);
        let mut connection = Connection { socket: None, host, peer, nxt: iss, expected: SeqNum(0), timestamps: None };
        let syn = Segment { ack: SeqNum(0), options, ..connection.segment(Flags::SYN) };
        let said = self.say(&connection, syn, &[]);
        connection.nxt = iss + 1;
        if let Some((answer, _)) = said.first() {
            connection.expected = answer.seq + 1;
            connection.timestamps = answer.options.timestamps.map(|theirs| Timestamps { value: 1000, echo: theirs.value });
        }
        connection
    }

    /// A connection in `state`, opened from `port`.
    pub(crate) fn in_state(&mut self, state: State, port: u16, iss: SeqNum, options: Options) -> Connection {
        if state == State::SynReceived {
            return self.half_open(port, iss, options);
        }
        if state == State::SynSent {
            return self.syn_sent(port, iss);
        }
        let mut connection = self.open(port, iss, options);
        let Some(socket) = connection.socket else { return connection };
        let they_close_first = matches!(state, State::CloseWait | State::LastAck);
        if they_close_first {
            self.fin(&mut connection);
        }
        if !matches!(state, State::Established | State::CloseWait) {
            self.engine.shutdown(self.now, socket).expect("it is connected");
            self.hear();
        }
        if matches!(state, State::FinWait2 | State::TimeWait) {
            connection.expected += 1;
            let ack = connection.segment(Flags::ACK);
            self.say(&connection, ack, &[]);
        }
        if matches!(state, State::Closing | State::TimeWait) {
            self.fin(&mut connection);
        }
        connection
    }

    fn syn_sent(&mut self, port: u16, iss: SeqNum) -> Connection {
        let mut peer = self.remote;
        peer.set_port(port);
        let socket = self.engine.connect(self.now, peer, None, None).ok();
        let expected = self.hear().first().map_or(SeqNum(0), |(syn, _)| syn.seq + 1);
        let host = socket.and_then(|socket| self.engine.local_addr(socket)).unwrap_or(self.host);
        Connection { socket, host, peer, nxt: iss, expected, timestamps: None }
    }

    fn fin(&mut self, connection: &mut Connection) {
        let fin = connection.segment(Flags::FIN | Flags::ACK);
        self.say(connection, fin, &[]);
        connection.nxt += 1;
    }
}

fn is_tcp(packet: &[u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.get(9) == Some(&6),
        Some(6) => packet.get(6) == Some(&6),
        _ => false,
    }
}
