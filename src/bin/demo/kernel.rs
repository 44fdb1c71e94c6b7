//! The same ladder with the Linux kernel's TCP on the right: an engine driven by hand over AF_PACKET, in real time, one end of a veth pair for
//! each. This process has root's powers over its own network only.
//!
//! The kernel's column is its own table; its sequence numbers are those that its segments show, since it tells them to nobody.

use crate::host::Host;
use crate::ladder::{Departure, Ladder, View};
use crate::packet::{Ends, Packet, Side};
use crate::sockets;
use crate::stage::{Fate, Stage};
use crate::track::Tracker;
use bytes::BytesMut;
use mio::unix::SourceFd;
use mio::{Events as PollEvents, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant as Moment};
use synfin::device::namespace::Veth;
use synfin::device::{Device, Notify, PacketSocket, Readiness, Receiver, Transmitter};
use synfin::proto::link::RECEIVE_ROOM;
use synfin::proto::{Config, Engine, Events, Frame, FrameBytes, Instant, Link, SocketId, State, TxFrame, netstat};

/// Plays the connection with the kernel.
pub(crate) fn play(stage: &mut Stage) -> io::Result<()> {
    stage.screen.paragraph(&[
        "The same with the Linux kernel's TCP as B, in real time, over AF_PACKET, in a network namespace without root.",
        "  A is a synfin engine. Of B, the states are those of /proc/net/tcp, una/nxt/rcv what its segments say.",
    ])?;
    let veth = match Veth::create(KERNEL_SIDE, OUR_SIDE, 1500) {
        Ok(veth) => veth,
        Err(error) => {
            return stage
                .screen
                .paragraph(&[&format!("This kernel gives no pair of virtual interfaces ({error}); as root: modprobe veth")]);
        }
    };
    stage.screen.record_while_stepping();
    let outcome = connection(stage, &veth);
    stage.screen.replay()?;
    veth.delete()?;
    outcome
}

fn connection(stage: &mut Stage, veth: &Veth) -> io::Result<()> {
    veth.address(KERNEL_SIDE, "10.9.0.1/24")?;
    let server = TcpListener::bind(KERNEL)?;
    let mut wire = Wire::open(stage)?;
    Ladder::begin(&mut wire.stage.screen, [" A 10.9.0.2 synfin", "Linux 10.9.0.1 B "])?;

    wire.headline("1. Handshake. Two implementations that have never met agree in three segments.")?;
    let now = wire.now();
    let a = wire.host.engine.connect(now, KERNEL, None, None).map_err(io::Error::other)?;
    wire.wait("the handshake", |wire| wire.host.engine.connected(a).is_ok())?;
    wire.settle()?;
    let (mut b, _) = server.accept()?;
    drop(server);
    b.set_nodelay(true)?;
    b.set_read_timeout(Some(PATIENCE))?;

    wire.headline("2. Echo. The kernel may wait up to 40 ms before it acknowledges, in the hope that an answer can carry the ACK.")?;
    let question = b"hello, Linux";
    let now = wire.now();
    wire.host.engine.send(now, a, question).map_err(io::Error::other)?;
    wire.settle()?;
    let mut heard = [0; 12];
    b.read_exact(&mut heard)?;
    b.write_all(&heard)?;
    wire.read(a, question.len())?;

    wire.headline("3. Half-close. A has nothing more to say; the kernel goes on, and A still listens.")?;
    let now = wire.now();
    wire.host.engine.shutdown(now, a).map_err(io::Error::other)?;
    wire.settle()?;
    if b.read(&mut heard)? != 0 {
        return Err(io::Error::other("the kernel read data where the stream ends"));
    }
    b.write_all(b"data after your FIN")?;
    wire.read(a, 19)?;
    wire.tables()?;

    wire.headline("4. Four-way close. The kernel's application closes, too: its FIN, our last ACK, our TIME-WAIT.")?;
    drop(b);
    wire.wait("the kernel's FIN", |wire| wire.host.engine.events(a).has(Events::READ_CLOSED))?;
    wire.settle()?;
    wire.tables()?;
    the_other_way_round(&mut wire)
}

/// The kernel connects and closes first: TIME-WAIT is on its side.
fn the_other_way_round(wire: &mut Wire<'_>) -> io::Result<()> {
    wire.headline("5. The other way round: the kernel connects to a synfin listener and closes first; now it is the one to rest.")?;
    let now = wire.now();
    let listener = wire.host.engine.listen(now, OURS, 8).map_err(io::Error::other)?;
    let dialling = std::thread::spawn(|| TcpStream::connect_timeout(&OURS, PATIENCE));
    let mut accepted = None;
    wire.wait("the kernel's connection", |wire| {
        let now = wire.now();
        accepted = accepted.or_else(|| wire.host.engine.accept(now, listener).ok());
        accepted.is_some()
    })?;
    let Some((a, _)) = accepted else { return Ok(()) };
    let b = dialling.join().map_err(|_| io::Error::other("the kernel's side ended badly"))??;
    wire.settle()?;
    drop(b);
    wire.wait("the kernel's FIN", |wire| wire.host.engine.events(a).has(Events::READ_CLOSED))?;
    wire.settle()?;
    let now = wire.now();
    wire.host.engine.shutdown(now, a).map_err(io::Error::other)?;
    wire.wait("the last ACK", |wire| wire.host.engine.close_reason(a).is_some())?;
    wire.tables()
}

/// An engine, its end of the veth pair, and the ladder.
struct Wire<'a> {
    stage: &'a mut Stage,
    ladder: Ladder,
    host: Host,
    link: Link,
    poll: Poll,
    receiver: Box<dyn Receiver>,
    transmitter: Box<dyn Transmitter>,
    began: Moment,
}

impl<'a> Wire<'a> {
    #[expect(clippy::disallowed_methods, reason = "the kernel lives in real time, so its peer has to")]
    fn open(stage: &'a mut Stage) -> io::Result<Self> {
        let socket = PacketSocket::open(OUR_SIDE, &[OURS.ip()])?.without_super_packets();
        let link = socket.link();
        let (mut receiver, transmitter) = Box::new(socket).split();
        let poll = Poll::new()?;
        let Readiness::Descriptor(descriptor) = receiver.readiness(Notify::new(|| {})) else {
            return Err(io::Error::other("a packet socket is a descriptor"));
        };
        poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)?;
        let mut engine = Engine::new(config(), stage.random.secret(), Instant::START);
        engine.set_link(Instant::START, Some(link));
        engine.add_address(Instant::START, format!("{}/24", OURS.ip()).parse().map_err(io::Error::other)?);
        let began = Moment::now();
        Ok(Self { stage, ladder: Ladder::default(), host: Host::new(engine), link, poll, receiver, transmitter, began })
    }

    #[expect(clippy::disallowed_methods, reason = "the kernel lives in real time, so its peer has to")]
    fn now(&self) -> Instant {
        Instant::START + self.began.elapsed()
    }

    /// Turns until `is_done`.
    fn wait(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) -> io::Result<()> {
        let end = self.now() + PATIENCE;
        while !is_done(self) {
            if self.now() > end {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not come")));
            }
            self.turn(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Turns until neither side has said anything for a while.
    fn settle(&mut self) -> io::Result<()> {
        let mut end = self.now() + QUIET;
        while self.now() < end {
            if self.turn(end - self.now())? > 0 {
                end = self.now() + QUIET;
            }
        }
        Ok(())
    }

    fn read(&mut self, id: SocketId, count: usize) -> io::Result<()> {
        let mut total = 0;
        self.wait("the answer", |wire| {
            let now = wire.now();
            total += wire.host.engine.recv(now, id, &mut [0; 256]).unwrap_or(0);
            total >= count
        })?;
        self.settle()
    }

    /// Sends what is to be sent, waits for at most `limit`, takes what has come; says how many frames passed.
    fn turn(&mut self, limit: Duration) -> io::Result<usize> {
        let sent = self.transmit()?;
        let mut passed = sent + self.receive()?;
        if passed == 0 {
            let now = self.now();
            let limit = self.host.engine.deadline().map_or(limit, |deadline| limit.min(deadline - now));
            self.poll.poll(&mut PollEvents::with_capacity(1), Some(limit))?;
            passed += self.receive()?;
        }
        let now = self.now();
        self.host.engine.advance(now);
        passed += self.transmit()?;
        Ok(passed)
    }

    fn transmit(&mut self) -> io::Result<usize> {
        let (now, mut frames) = (self.now(), Vec::new());
        let _ = self.host.engine.transmit(now, &mut frames);
        let count = frames.len();
        for frame in frames {
            self.send(frame)?;
        }
        Ok(count)
    }

    fn send(&mut self, frame: TxFrame) -> io::Result<()> {
        let bytes = frame.to_vec();
        let number = self.depart(Side::Left, &bytes)?;
        self.transmitter.transmit(&mut VecDeque::from([frame]))?;
        let_the_kernel_look();
        self.arrive(number, Side::Left, &bytes)
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut count = 0;
        loop {
            let mut buffer = BytesMut::with_capacity(RECEIVE_ROOM);
            let received = match self.receiver.receive(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error),
            };
            count += 1;
            let (now, bytes) = (self.now(), buffer.freeze());
            let number = self.depart(Side::Right, &bytes)?;
            let frame = Frame { bytes: FrameBytes::Owned(bytes.clone()), checksum: received.checksum, segment_size: received.segment_size };
            self.host.engine.receive(now, frame);
            self.arrive(number, Side::Right, &bytes)?;
        }
    }

    /// Draws the departure of a frame.
    fn depart(&mut self, side: Side, bytes: &[u8]) -> io::Result<u64> {
        let now = self.now();
        let number = self.stage.record(now.as_nanos(), side.name(), Fate::Delivered, bytes)?;
        let packet = Packet::decode(self.link.medium, bytes);
        let (host, ends) = (&mut self.host, packet.ends(side));
        let departure = Departure { number, nanos: now.as_nanos(), side, packet, fate: Fate::Delivered };
        self.ladder.depart(&mut self.stage.screen, departure, |tracker| column(host, (now, side), ends, tracker))?;
        Ok(number)
    }

    /// Draws the arrival of a frame.
    fn arrive(&mut self, number: u64, from: Side, bytes: &[u8]) -> io::Result<()> {
        let (now, ends) = (self.now(), Packet::decode(self.link.medium, bytes).ends(from));
        let host = &mut self.host;
        self.ladder.arrive(&mut self.stage.screen, (number, now.as_nanos()), |tracker| column(host, (now, from.other()), ends, tracker))
    }

    fn headline(&mut self, text: &str) -> io::Result<()> {
        self.ladder.flush(&mut self.stage.screen)?;
        self.stage.screen.headline(text)
    }

    /// Our table and the kernel's.
    fn tables(&mut self) -> io::Result<()> {
        self.ladder.flush(&mut self.stage.screen)?;
        let rows: Vec<_> = self.host.engine.netstat(self.now()).iter().map(ToString::to_string).collect();
        let (source, listing) = sockets::listing()?;
        let screen = &mut self.stage.screen;
        screen.paragraph(&["  A, engine.netstat():"])?;
        std::iter::once(netstat::HEADER).chain(rows.iter().map(String::as_str)).try_for_each(|row| screen.line(&format!("     {row}")))?;
        screen.line(&format!("  B, {source}:"))?;
        listing.iter().try_for_each(|row| screen.line(&format!("     {row}")))
    }
}

/// A host at this moment: the engine as it says, the kernel as its table says.
fn column(host: &mut Host, (now, side): (Instant, Side), ends: Option<Ends>, tracker: &Tracker) -> View {
    match (side, ends) {
        (Side::Left, ends) => host.view(now, side, ends, tracker),
        (Side::Right, Some(ends)) => View { state: kernel_state(ends), space: tracker.space(side, ends) },
        (Side::Right, None) => View::default(),
    }
}

fn kernel_state((remote, local): Ends) -> String {
    let Ok(rows) = sockets::table() else { return "?".to_owned() };
    let state = match rows.iter().find(|row| row.local == local && row.remote == remote) {
        Some(row) => row.state,
        None if rows.iter().any(|row| row.state == State::Listen && row.local.port() == local.port()) => State::Listen,
        None => State::Closed,
    };
    state.rfc_name().to_owned()
}

fn config() -> Config {
    let mut config = Config::default();
    config.receive_buffer = 65_535;
    config
}

/// The kernel takes a frame in within the call that sends it, or very soon after on another core.
#[expect(clippy::disallowed_methods, reason = "nothing tells when the kernel has looked at a frame; a late look only shows an older state")]
fn let_the_kernel_look() {
    std::thread::sleep(Duration::from_millis(1));
}

const KERNEL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)), 7);
const OURS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)), 8080);
/// The interfaces.
const KERNEL_SIDE: &str = "demo0";
const OUR_SIDE: &str = "demo1";
/// Longer than anything takes on a machine that is not broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than the kernel and the engine delay an ACK.
const QUIET: Duration = Duration::from_millis(60);
